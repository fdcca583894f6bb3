"""The verbs that keep data whole: ``resync``, ``drift``, ``pause``, ``resume``, ``scrub``,
``backup`` and ``restore``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import structlog
from rich.table import Table

from upwell.backup import back_up
from upwell.backup import restore as put_back
from upwell.cli.access import opened, project_in
from upwell.cli.output import answer, console
from upwell.core.errors import UsageError
from upwell.durability import look
from upwell.feed.channel import EngineClient
from upwell.ingest.tables import captured_tables, log_name
from upwell.project.values import Project
from upwell.project_lake import find_project_lake, project_lake_held
from upwell.store.drift import TABLE
from upwell.store.hot import open_read_only
from upwell.store.lake.repair import Known, Repaired, repair
from upwell.store.lake.scrub import Scrubbed
from upwell.store.lake.scrub import scrub as look_through
from upwell.store.place import StatePlace

#: How often the engine is asked whether it has done what it was asked for.
_LOOK_SECONDS = 0.2


def resync(folder: Path, names: Sequence[str], *, anew: bool, as_json: bool) -> None:
    """Have the running engine compare tables with their source; waits until it has."""
    data = _read_again(_engine(folder), "resync", {"names": list(names), "anew": anew})
    answer(data, as_json=as_json, show=_show_resync, ok=not data["not_read"])


def _engine(folder: Path) -> EngineClient:
    return EngineClient(StatePlace(project_in(folder).folder).find_socket())


def _read_again(client: EngineClient, verb: str, question: dict[str, Any]) -> dict[str, Any]:
    """Have tables compared or read, and wait for it: the ones that were, and the others."""
    before = client.ask("readings")["readings"]
    asked = client.ask(verb, question)["names"]
    done = _wait(client, asked)
    tables = [
        {"name": name, **done[name]}
        for name in asked
        if name in done and done[name] != before.get(name)
    ]
    left = sorted(set(asked) - {table["name"] for table in tables})
    return {"tables": tables, "not_read": left}


def _wait(client: EngineClient, names: Sequence[str]) -> Mapping[str, Any]:
    """Until the engine has done with tables; how each was last read."""
    while True:
        found = client.ask("readings")
        if not set(names) & set(found["waiting"]):
            return dict(found["readings"])
        time.sleep(_LOOK_SECONDS)


def pause(folder: Path, names: Sequence[str], *, as_json: bool) -> None:
    """Have the running engine let tables stand still; waits until they do."""
    client = _engine(folder)
    asked = client.ask("pause", {"names": list(names)})["names"]
    _wait(client, asked)
    answer({"paused": asked}, as_json=as_json, show=_show_paused)


def _show_paused(data: Mapping[str, Any]) -> None:
    for name in data["paused"]:
        console.print(
            f"[green]✓[/] {name} is paused. What reads it stays at its last result until "
            f"`upwell resume {name}`",
            highlight=False,
        )


def resume(folder: Path, names: Sequence[str], *, as_json: bool) -> None:
    """Have the running engine follow paused tables again; waits until it does."""
    data = _read_again(_engine(folder), "resume", {"names": list(names)})
    answer(data, as_json=as_json, show=_show_resumed, ok=not data["not_read"])


def _show_resumed(data: Mapping[str, Any]) -> None:
    for table in data["tables"]:
        console.print(
            f"[green]✓[/] {table['name']} is followed again: {table['rows']:,} rows, "
            f"{table['differing']:,} had changed; read {table['parts_read']:,} of "
            f"{table['parts']:,} parts",
            highlight=False,
        )
    for name in data["not_read"]:
        console.print(
            f"[red]✗[/] {name} is not followed yet: `upwell status` says why", highlight=False
        )


def drift(folder: Path, *, as_json: bool) -> None:
    """What comparisons of tables with their sources found, of a running or stopped project."""
    project = project_in(folder)
    with opened(project) as access:
        tables = access.status()["tables"]
        _, found = access.tables([TABLE])
    zone = ZoneInfo(project.settings.time.zone)

    def moment(at_us: int | None) -> datetime | None:
        return None if at_us is None else datetime.fromtimestamp(at_us / 1e6, zone)

    rows = sorted(found[TABLE].to_pylist(), key=lambda row: row["compared_at"], reverse=True)
    newest = {row["source_table"]: row for row in reversed(rows)}
    data = {
        "tables": [
            {
                "name": table["name"],
                "compared_at": moment(table["compared_at_us"]),
                "next_at": moment(table["compare_at_us"]),
                **{
                    name: newest[table["name"]][name] if table["name"] in newest else None
                    for name in ("ranges", "ranges_read", "rows")
                },
            }
            for table in tables
        ],
        "drift": [
            {**row, "compared_at": row["compared_at"].astimezone(zone)}
            for row in rows
            if row["rows_missing"] + row["rows_unexpected"] + row["rows_altered"]
        ],
    }
    answer(data, as_json=as_json, show=_show_drift)


def _show_drift(data: Mapping[str, Any]) -> None:
    tables = Table("table", "last compared", "rows", "next", box=None, pad_edge=False)
    for table in data["tables"]:
        rows = "" if table["rows"] is None else f"{table['rows']:,}"
        tables.add_row(
            table["name"],
            _minute(table["compared_at"], "never"),
            rows,
            _minute(table["next_at"], "not by itself"),
        )
    console.print(tables)
    console.print()
    if not data["drift"] and any(table["compared_at"] for table in data["tables"]):
        console.print("[green]✓[/] no row was ever found to differ from its source")
    for found in data["drift"]:
        kinds = [
            f"{found[f'rows_{kind}']:,} {kind}"
            for kind in ("missing", "unexpected", "altered")
            if found[f"rows_{kind}"]
        ]
        console.print(
            f"[yellow]![/] {found['source_table']}, {_minute(found['compared_at'], '')}: "
            f"{', '.join(kinds)} of {found['rows']:,} rows; mended in version "
            f"{found['version']:,}",
            highlight=False,
        )


def _minute(at: datetime | None, otherwise: str) -> str:
    return otherwise if at is None else f"{at:%Y-%m-%d %H:%M}"


def _show_resync(data: Mapping[str, Any]) -> None:
    for table in data["tables"]:
        console.print(
            f"[green]✓[/] {table['name']}: {table['rows']:,} rows, {table['differing']:,} "
            f"differed; read {table['parts_read']:,} of {table['parts']:,} parts",
            highlight=False,
        )
    for name in data["not_read"]:
        console.print(f"[red]✗[/] {name} was not read: `upwell status` says why", highlight=False)


def scrub(folder: Path, *, mend: bool, as_json: bool) -> None:
    """Check every file of the lake. Exit code 1 where something is damaged and stays so."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    project = project_in(folder)
    lake = find_project_lake(project)
    if lake is None:
        raise UsageError(
            "no_lake",
            "Scrubbing the lake: this project has none yet.",
            where=str(project.folder),
            next_step="Start `upwell run` first.",
        )
    found = look_through(lake)
    repaired = _mended(project, found) if mend and found.damages else []
    left = len(found.damages) - sum(each.outcome != "unrecoverable" for each in repaired)
    data = {
        **msgspec.to_builtins(found),
        "repaired": [
            {**msgspec.to_builtins(each), "rows_lost": each.rows_lost} for each in repaired
        ],
    }
    answer(data, as_json=as_json, show=_show_scrub, ok=not left)


def _mended(project: Project, found: Scrubbed) -> list[Repaired]:
    """Repair with the lake held: raises EnvironmentFault while Upwell runs."""
    place = StatePlace(project.folder)
    with place.held(), project_lake_held(project) as (writer, _):
        assert writer is not None  # noqa: S101 - a lake was found
        through, epoch = writer.mark.version, writer.epoch
        if not place.hot_store.exists():
            return repair(writer.lake, found.damages, through=through, epoch=epoch, known=None)
        connection = open_read_only(place.hot_store, zone=project.settings.time.zone)
        try:
            connection.begin()
            tables = {log_name(name): name for name in captured_tables(connection)}
            known = Known(connection, look(connection)[1], tables)
            return repair(writer.lake, found.damages, through=through, epoch=epoch, known=known)
        finally:
            connection.close()


def _show_scrub(data: Mapping[str, Any]) -> None:
    console.print(
        f"{data['files']:,} files of {data['tables']} tables, {data['rows']:,} rows, "
        f"{data['bytes'] / 2**20:,.1f} MB: "
        + ("[green]all as written[/]" if not data["damages"] else "[red]damaged[/]"),
        highlight=False,
    )
    outcomes = {each["damage"]["location"]: each for each in data["repaired"]}
    for damage in data["damages"]:
        console.print(f"[red]✗[/] {damage['table']}: {damage['location']}", highlight=False)
        console.print(f"    {damage['how']}: {damage['what']}", highlight=False, markup=False)
        console.print(
            f"    it held {damage['rows']:,} rows of versions {damage['first_version']} to "
            f"{damage['last_version']}, positions {damage['first_position']} to "
            f"{damage['last_position']}",
            style="dim",
            highlight=False,
        )
        mended = outcomes.get(damage["location"])
        if mended is not None:
            console.print(
                f"    {mended['outcome']}, {mended['rows_lost']:,} rows of history lost"
                + (
                    f"; the damaged file is kept as {mended['kept_as']}"
                    if mended["kept_as"]
                    else ""
                ),
                highlight=False,
            )
    if data["damages"] and not data["repaired"]:
        console.print("Stop `upwell run`, then `upwell scrub --repair`.")


def backup(folder: Path, archive: Path, *, as_json: bool) -> None:
    """Write what neither lake nor source hold into an archive."""
    contents = back_up(project_in(folder), archive)
    data = {**msgspec.to_builtins(contents), "archive": str(archive)}
    answer(data, as_json=as_json, show=_show_backup)


def _show_backup(data: Mapping[str, Any]) -> None:
    size = sum(each["size_bytes"] for each in data["files"])
    console.print(f"{len(data['files'])} files, {size / 1024:,.1f} KB → {data['archive']}")
    if data["lake"]:
        console.print(f"The data itself is in the lake: {data['lake']}", style="dim")


def restore(archive: Path, folder: Path, *, as_json: bool) -> None:
    """Put a backup into an empty folder."""
    contents = put_back(archive, folder)
    data = {**msgspec.to_builtins(contents), "folder": str(folder)}
    answer(data, as_json=as_json, show=_show_restored)


def _show_restored(data: Mapping[str, Any]) -> None:
    console.print(f"{len(data['files'])} files of {data['project']} → {data['folder']}")
    console.print(
        f"`upwell run --project {data['folder']}` rebuilds the rest from the lake "
        f"({data['lake'] or 'none: from the source'})."
    )
