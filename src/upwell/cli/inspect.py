"""The verbs that look: ``validate``, ``status``, ``query``, ``explain``, ``prove``, ``verify``."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from rich.table import Table

from upwell.cli.access import Found, known_layouts, opened, project_in
from upwell.cli.output import answer, console, quiet
from upwell.core.errors import UsageError
from upwell.core.sql import connect
from upwell.project.read import warnings
from upwell.requirements.measurements import MinuteLatencies, RecordedMinutes
from upwell.requirements.verify import Outcome
from upwell.requirements.verify import verify as judge
from upwell.serve.reader.confined import SQL_TYPE, Limits, run_confined
from upwell.serve.reader.statement import tables_named
from upwell.store import freshness
from upwell.transform.plan.models import check_texts
from upwell.wiring import plan_project

#: What a statement of the command line may use: its tables may be whole histories.
_OF_THE_PAST = ("__log", "__history")
_LIMITS = Limits(memory="4GB", seconds=300)
FORMATS = ("table", "csv", "json", "parquet", "arrow")
_SHOWN_ROWS = 1000
#: Rows that differed from the source are told for so long: nobody may have looked that day.
_TOLD_DAYS = 7
_GOOD, _BAD = "[green]✓[/]", "[red]✗[/]"


def validate(folder: Path, *, as_json: bool) -> None:
    """Read and check everything a project says, as far as its tables are known."""
    project = project_in(folder)
    layouts, origin = known_layouts(project)
    if layouts:
        plan_project(project, layouts)
    else:
        check_texts(list(project.models.values()))
    data = {
        "project": project.settings.name,
        "models": sorted(project.models),
        "metrics": sorted(project.metrics),
        "dashboards": sorted(project.dashboards),
        "requirements": [
            requirement.id
            for file in project.requirements.values()
            for requirement in file.requirements
        ],
        "tables_from": origin,
        "warnings": warnings(project),
    }
    answer(data, as_json=as_json, show=_show_valid)


def _show_valid(data: Mapping[str, Any]) -> None:
    console.print(f"{_GOOD} project [bold]{data['project']}[/] holds together")
    for kind in ("models", "metrics", "dashboards", "requirements"):
        console.print(f"  {kind:<13} {', '.join(data[kind]) or 'none'}", highlight=False)
    known = f"checked against the tables of the {data['tables_from']}"
    missing = "no tables known yet (no data, source away): columns and types are not checked"
    console.print(f"  {known if data['tables_from'] else missing}", style="dim")
    for warning in data["warnings"]:
        console.print(f"[yellow]![/] {warning}", highlight=False)


def status(folder: Path, *, as_json: bool) -> None:
    """Freshness and health of a project."""
    with opened(project_in(folder)) as access:
        data = access.status()
    answer(data, as_json=as_json, show=_show_status)


def _show_status(data: Mapping[str, Any]) -> None:
    state = "[green]running[/]" if data["running"] else "[yellow]not running[/]"
    console.print(f"{state}, version {data['version']:,}")
    if data["trouble"]:
        console.print(f"{_BAD} {data['trouble']}", highlight=False)
    sources = Table(
        "source", "age", "position", "log kept", "failover", "trouble", box=None, pad_edge=False
    )
    for source in data["sources"]:
        kept = f"{source['burden']['retained_bytes'] / 1e6:,.0f} MB" if source["burden"] else ""
        sources.add_row(
            source["name"],
            _age(source["age_ms"]),
            source["position"],
            kept,
            _failover(source["failover"]),
            source["trouble"],
        )
    for reading in data["reading"]:
        console.print(
            f"[yellow]…[/] {reading['name']} is being "
            f"{'compared' if reading['is_followed'] else 'read'}: {reading['stored']:,} of "
            f"{reading['parts']:,} parts",
            highlight=False,
        )
    columns = ("table or model", "rows", "refresh", "compared with source")
    rows = Table(*columns, box=None, pad_edge=False)
    for table in data["tables"]:
        state = "stands still" if table["trouble"] else "captured"
        state = "paused" if table["is_paused"] else state
        rows.add_row(table["name"], f"{table['rows']:,}", state, _compared(table))
    for model in data["models"]:
        rows.add_row(model["name"], f"{model['rows']:,}", model["refresh"], "")
    console.print(sources)
    console.print()
    console.print(rows)
    for table in data["tables"]:
        if _differed_lately(table):
            found = table["differed"]
            console.print(
                f"[yellow]![/] {table['name']}: {found['rows']:,} rows differed from the source "
                f"{_ago(found['at_us'])}, and were mended in version {found['version']:,}: "
                "upwell drift",
                highlight=False,
            )
    if data["quarantined"]:
        console.print(
            f"[yellow]![/] {data['quarantined']} rows in quarantine: "
            'upwell query "select * from upwell.quarantine"'
        )


def _compared(table: Mapping[str, Any]) -> str:
    return "not yet" if table["compared_at_us"] is None else _ago(table["compared_at_us"])


def _differed_lately(table: Mapping[str, Any]) -> bool:
    found = table["differed"]
    return found is not None and time.time() - found["at_us"] / 1e6 < _TOLD_DAYS * 86400


def _ago(at_us: int) -> str:
    minutes = max(0, int(time.time() - at_us / 1e6)) // 60
    if not minutes:
        return "just now"
    if minutes < 120:
        return f"{minutes} min ago"
    return f"{minutes // 60} h ago" if minutes < 48 * 60 else f"{minutes // 1440} days ago"


def _failover(known: Mapping[str, Any] | None) -> str:
    """What is known of whether a standby could take over; no more than that."""
    if known is None:
        return ""
    if not known["is_offered"]:
        return "no failover slot"
    if known["is_synced"] is None:
        return f"not known: {known['why'] or 'no standby is asked'}"
    return "slot synchronised" if known["is_synced"] else known["why"]


def _age(age_ms: int | None) -> str:
    if age_ms is None:
        return "unknown"
    if age_ms < 10_000:
        return f"{age_ms} ms"
    return f"{age_ms / 1000:,.0f} s"


def query(folder: Path, sql: str, *, output: str, as_of: str | None = None) -> None:
    """Run one SELECT in a confined reader over the tables it names, at one version.

    ``as_of``: over the tables as they stood at a version or time, models computed from them anew.
    """
    if output not in FORMATS:
        raise UsageError(
            "unknown_format",
            f"Printing a result as {output!r}: no such format.",
            next_step=f"Choose one of {', '.join(FORMATS)}.",
        )
    project = project_in(folder)
    named = tables_named(sql)
    with opened(project) as access:
        if as_of is None and not any(name.endswith(_OF_THE_PAST) for name in named):
            found = Found(*access.tables(named))
        else:  # what reads the lake takes a second to load
            from upwell.cli import reading

            found = reading.read(project, access, named, as_of)
    result = run_confined(
        sql, found.tables, zone=project.settings.time.zone, models=found.models, limits=_LIMITS
    )
    _WRITERS[output](found.version, result)


def _write_json(version: int, result: pa.Table) -> None:
    columns = [
        {"name": field.name, "type": field.metadata[SQL_TYPE].decode()} for field in result.schema
    ]
    data = {"version": version, "columns": columns, "rows": _rows(result)}
    answer(data, as_json=True, show=quiet)


def _write_table(version: int, result: pa.Table) -> None:
    shown = Table(*result.column_names, box=None, pad_edge=False, header_style="bold")
    for row in _rows(result.slice(0, _SHOWN_ROWS)):
        shown.add_row(*("" if value is None else str(value) for value in row.values()))
    console.print(shown)
    cut = f", the first {_SHOWN_ROWS:,} shown" if result.num_rows > _SHOWN_ROWS else ""
    console.print(f"{result.num_rows:,} rows{cut} at version {version:,}", style="dim")


def _rows(result: pa.Table) -> list[dict[str, Any]]:
    columns = [_values(column) for column in result.columns]
    return [dict(zip(result.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


def _values(column: pa.ChunkedArray) -> list[Any]:
    """A column as Python values, or as DuckDB's text where Python cannot hold one of them.

    Those are times of nanoseconds, before year 1, and infinite ones.
    """
    try:
        values: list[Any] = column.to_pylist()
    except (OverflowError, ValueError):
        connection = connect(zone=getattr(column.type, "tz", None) or "UTC", threads=1)
        try:
            connection.register("shown", pa.table({"value": column}))
            found = connection.execute("SELECT CAST(value AS VARCHAR) FROM shown").fetchall()
        finally:
            connection.close()
        return [text for (text,) in found]
    return values


def _write_csv(_version: int, result: pa.Table) -> None:
    pyarrow.csv.write_csv(result, sys.stdout.buffer)


def _write_parquet(_version: int, result: pa.Table) -> None:
    pyarrow.parquet.write_table(result, sys.stdout.buffer)


def _write_arrow(_version: int, result: pa.Table) -> None:
    with pa.ipc.new_stream(sys.stdout.buffer, result.schema) as writer:
        writer.write_table(result)


_WRITERS = {
    "table": _write_table,
    "json": _write_json,
    "csv": _write_csv,
    "parquet": _write_parquet,
    "arrow": _write_arrow,
}


def explain(folder: Path, name: str, *, as_json: bool) -> None:
    """How one model refreshes, and why."""
    with opened(project_in(folder)) as access:
        data = access.explain(name)
    answer(data, as_json=as_json, show=lambda found: print(found["text"]))


def prove(folder: Path, names: Sequence[str], *, as_json: bool) -> None:
    """Compare models with their full recompute. Exit code 1 where one differs."""
    with opened(project_in(folder)) as access:
        data = access.prove(names)
    holds = all(model["holds"] for model in data["models"])
    answer({**data, "proved": holds}, as_json=as_json, show=_show_proofs, ok=holds)


def _show_proofs(data: Mapping[str, Any]) -> None:
    for model in data["models"]:
        if model["holds"]:
            console.print(
                f"{_GOOD} {model['model']}: {model['rows']:,} rows equal the full recompute "
                f"[dim]({model['seconds']:.2f} s)[/]",
                highlight=False,
            )
            continue
        if model["reason"]:
            console.print(f"{_BAD} {model['model']} stays as it was: {model['reason']}")
            continue
        console.print(
            f"{_BAD} {model['model']}: {model['missing']:,} rows missing, "
            f"{model['unexpected']:,} unexpected",
            highlight=False,
        )
        for sample in model["sample"]:
            side = "unexpected" if sample["weight"] > 0 else "missing"
            values = zip(model["columns"], sample["values"], strict=True)
            console.print(f"    {side}: " + ", ".join(f"{k}={v}" for k, v in values), markup=False)


def verify(folder: Path, *, as_json: bool) -> None:
    """Hold every requirement against what was measured. Exit code 1 where one is not met."""
    project = project_in(folder)
    with opened(project) as access:
        _, tables = access.tables([freshness.TABLE])
    measured = RecordedMinutes(
        [MinuteLatencies(*minute) for minute in freshness.recorded(tables[freshness.TABLE])]
    )
    verdicts = judge(project, measured, now_us=time.time_ns() // 1000)
    data = {"requirements": msgspec.to_builtins(verdicts)}
    met = all(verdict.outcome is not Outcome.NOT_MET for verdict in verdicts)
    answer(data, as_json=as_json, show=_show_verdicts, ok=met)


_COLOURS = {Outcome.MET: "green", Outcome.NOT_MET: "red", Outcome.NOT_MEASURED: "yellow"}


def _show_verdicts(data: Mapping[str, Any]) -> None:
    if not data["requirements"]:
        console.print("this project states no requirements (requirements/*.yaml)", style="dim")
    for verdict in data["requirements"]:
        colour = _COLOURS[Outcome(verdict["outcome"])]
        console.print(
            f"[bold]{verdict['requirement']}[/]  [{colour}]{verdict['outcome']}[/]  "
            f"{verdict['stakeholder']}: {verdict['asked']}",
            highlight=False,
        )
        console.print(f"       {verdict['evidence']}", style="dim", highlight=False)
