"""Which tables a project publishes in its lake, and the slow clock on which that is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import duckdb
import structlog

from upwell.core.errors import ProjectError, UpwellError
from upwell.core.schema import TableSchema
from upwell.ingest.tables import captured_tables
from upwell.models import read_results
from upwell.project.settings import Lake
from upwell.project.values import Project
from upwell.store.lake.publish import TIMES, Publication, Published, Publisher
from upwell.store.lake.tables import OvertakenError

log = structlog.get_logger(__name__)

#: What could not be published is tried again this soon.
RETRY_SECONDS = 60.0

Layouts = Callable[[duckdb.DuckDBPyConnection], Mapping[str, TableSchema]]
"""The layouts of the tables with rows that a connection sees, by SQL name."""


class Publishing:
    """Publishes ``tables``, as ``published_tables`` gives them, every so often.

    Called in the rounds' thread, after a round, with its view.
    """

    def __init__(
        self,
        publisher: Publisher,
        tables: Mapping[str, str | None],
        layouts: Layouts,
        *,
        seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._publisher = publisher
        self._tables = tables
        self._layouts = layouts
        self._seconds = seconds
        self._monotonic = monotonic
        self._next_at = monotonic()
        self._version = -1
        self._troubles = ""

    def after_round(
        self,
        connection: duckdb.DuckDBPyConnection,
        version: int,
        await_gap: Callable[[], None] = lambda: None,
    ) -> str:
        """Publish if it is time to; what is not published as it should be and why, a line each.

        Raises OvertakenError. Whatever else goes wrong with one table leaves it as it was
        published before, and the others go on. So does one that has no rows yet. A gap is waited
        for before each.
        """
        now = self._monotonic()
        if now < self._next_at or version == self._version:
            return self._troubles
        done, troubles = Publication(), []
        layouts = self._layouts(connection)
        for name, month in self._tables.items():
            if name not in layouts:
                continue
            await_gap()
            each = Published(name, layouts[name].columns, _time(layouts[name], month))
            try:
                self._publisher.publish(connection, each, done)
            except OvertakenError:
                raise
            except (UpwellError, duckdb.Error) as error:
                why = error.in_a_line if isinstance(error, UpwellError) else str(error)
                log.warning("not_published", table=name, why=why)
                troubles.append(f"{name} in the lake stays as it was published: {why}")
        self._publisher.withdraw(self._tables, done)
        if not troubles:
            self._version = version
        self._next_at = now + (min(self._seconds, RETRY_SECONDS) if troubles else self._seconds)
        seconds = round(self._monotonic() - now, 3)
        log.info(
            "published",
            version=version,
            parts=done.parts,
            rows=done.rows,
            bytes=done.bytes,
            withdrawn=done.removed,
            seconds=seconds,
        )
        self._troubles = "\n".join(troubles)
        return self._troubles


def published_tables(project: Project, setting: Lake) -> Mapping[str, str | None]:
    """What the settings say is to be published, each with the time by whose months it is parted.

    That is every model, where they say nothing. A model that metrics are taken from is parted by
    the time of these.
    """
    months = {**_times_of_metrics(project), **setting.publish_by_month}
    names = setting.publish if setting.publish is not None else tuple(project.models)
    return {name: months.get(name) for name in names}


def seen_layouts(connection: duckdb.DuckDBPyConnection) -> dict[str, TableSchema]:
    """See ``Layouts``: the captured tables, and the models that have a result."""
    results = read_results(connection)
    return {**captured_tables(connection), **{name: each.schema for name, each in results.items()}}


def check_months(setting: Lake, layouts: Mapping[str, TableSchema]) -> None:
    """Raise ProjectError where a table is to be parted by a time that it does not have."""
    for name, column in setting.publish_by_month.items():
        schema = layouts.get(name)
        if schema is not None and _time(schema, column) is None:
            times = [each.name for each in schema.columns if each.type in TIMES]
            raise ProjectError(
                "project_mismatch",
                f"Publishing {name} by month: it has no time `{column}`.",
                where="upwell.yaml: lake.publish_by_month",
                next_step=f"Its times are: {', '.join(times) or 'none'}.",
            )


def _times_of_metrics(project: Project) -> dict[str, str]:
    times = {}
    for semantic in project.semantic_models.values():
        for dimension in semantic.dimensions:
            if dimension.name == semantic.defaults.agg_time_dimension:
                times[semantic.model] = dimension.expr or dimension.name
    return times


def _time(schema: TableSchema, wanted: str | None) -> str | None:
    """The column to part by, if there is one of that name with a time in it."""
    types = {column.name: column.type for column in schema.columns}
    return wanted if wanted is not None and types.get(wanted) in TIMES else None
