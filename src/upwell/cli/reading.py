"""The tables that a query names, as they are now or as they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pyarrow as pa

from upwell.cli.access import Access, Found, known_layouts
from upwell.core.errors import UsageError
from upwell.core.schema import TableSchema
from upwell.ingest.tables import log_name
from upwell.past import HISTORY, Logs, Moment, derivation, table_of
from upwell.project.values import Project
from upwell.project_lake import find_project_lake
from upwell.wiring import plan_project


def read(project: Project, access: Access, named: Sequence[str], as_of: str | None) -> Found:
    """The tables named, as of a moment (see ``read_moment``) or as they are."""
    if as_of is None:
        return _read_now(project, access, named)
    return _read_as_of(project, access, named, read_moment(as_of, project.settings.time.zone))


def _read_now(project: Project, access: Access, named: Sequence[str]) -> Found:
    """All at one version; a change log or a history whole, whatever part of it is in the lake."""
    layouts = known_layouts(project)[0]
    past = {name: table for name in named if (table := table_of(name, layouts)) is not None}
    if not past:
        version, tables = access.tables(named)
        return Found(version, tables)
    hot_logs = {log_name(table) for table in past.values()}
    plain = [name for name in named if name not in past]
    version, tables = access.tables([*plain, *sorted(hot_logs)])
    logs = _logs(project, access, layouts, version, {name: tables[name] for name in hot_logs})
    read = {
        name: logs.history(table) if name.endswith(HISTORY) else logs.whole(table)
        for name, table in past.items()
    }
    return Found(version, {name: tables[name] for name in plain} | read)


def _read_as_of(project: Project, access: Access, named: Sequence[str], moment: Moment) -> Found:
    """Captured tables as they stood then; models are computed from them with today's text."""
    layouts = known_layouts(project)[0]
    time = moment.time or datetime.now(UTC)
    wanted = derivation(
        plan_project(project, dict(layouts)), named, int(time.timestamp() * 1_000_000)
    )
    version, hot = access.tables([log_name(table) for table in wanted.tables])
    logs = _logs(project, access, layouts, version, hot)
    tables = {table: logs.as_of(table, moment) for table in wanted.tables}
    return Found(moment.version or version, tables, wanted.models)


def _logs(
    project: Project,
    access: Access,
    layouts: Mapping[str, TableSchema],
    version: int,
    hot: Mapping[str, pa.Table],
) -> Logs:
    zone, lake = project.settings.time.zone, find_project_lake(project)
    return Logs(zone, layouts, access.logs(), version, hot, lake)


def read_moment(text: str, zone: str) -> Moment:
    """``1234`` is a version; anything else a time, of the business's clock if it names no zone.

    Raises UsageError for what is neither, and for a time to come.
    """
    if text.isdecimal():
        return Moment(version=int(text))
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            "not_a_moment",
            f"Reading --as-of: {text!r} is neither a version nor a time.",
            next_step="Write for instance 1234, 2026-03-31 or 2026-03-31T18:00+02:00.",
        ) from error
    if time.tzinfo is None:
        time = time.replace(tzinfo=ZoneInfo(zone))
    if time > datetime.now(UTC):
        raise UsageError(
            "moment_to_come",
            f"Reading --as-of: {text} has not come yet.",
            next_step="Ask for a time in the past, or leave --as-of out.",
        )
    return Moment(time=time.astimezone(UTC))
