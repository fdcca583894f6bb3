"""Capture: from the slot to the committed store, beside a bare receiver, Debezium and rows.

The log is written once a transaction size and read by every run of every kind through a slot of its
own. Server and receiver share the machine. Every run is checked: all rows counted, and where rows
are stored, their checksum equal to the source's.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import peers
from benchmarks.pages import Page, Table
from benchmarks.programs import WrongRunError, told_by
from benchmarks.sales import (
    PUBLICATION,
    SEED,
    TABLE,
    Log,
    ServerTime,
    running_server,
    slot_copy,
    written_log,
)
from benchmarks.series import Series, Spread, spread, verdict

_SLOT = "reading"


@dataclass(frozen=True)
class Kind:
    """A way to read the log."""

    name: str
    program: str
    over_tcp: bool

    @property
    def socket(self) -> str:
        return "TCP" if self.over_tcp else "Unix"


KINDS = (
    Kind("bare receiver, Unix", "bare", over_tcp=False),
    Kind("Upwell, decoded only, Unix", "decoded", over_tcp=False),
    Kind("Upwell, Unix", "upwell", over_tcp=False),
    Kind("row by row, Unix", "rows", over_tcp=False),
    Kind("bare receiver, TCP", "bare", over_tcp=True),
    Kind("Upwell, TCP", "upwell", over_tcp=True),
    Kind("row by row, TCP", "rows", over_tcp=True),
    Kind("Debezium, TCP", "debezium", over_tcp=True),
)


@dataclass(frozen=True)
class Run:
    """One reading of the log. ``rows`` are those the clock ran for."""

    rows: int
    seconds: float
    cpu_seconds: float
    server_cpu_seconds: float
    versions: int | None

    @property
    def rows_a_second(self) -> float:
        return self.rows / self.seconds

    @property
    def rows_a_cpu_second(self) -> float:
        return self.rows / self.cpu_seconds


@dataclass(frozen=True)
class Budget:
    """A ratio of two kinds that must be reached, in rows a second or a processor second."""

    kind: str
    to: str
    least: float
    per_cpu_second: bool = False

    def figure(self, run: Run) -> float:
        return run.rows_a_cpu_second if self.per_cpu_second else run.rows_a_second


BUDGETS = (
    Budget("Upwell, Unix", "bare receiver, Unix", 0.85),
    Budget("Upwell, TCP", "Debezium, TCP", 15, per_cpu_second=True),
    Budget("Upwell, TCP", "row by row, TCP", 1),
    Budget("Upwell, Unix", "row by row, Unix", 1),
)


def measure(
    *, rows: int = 1_000_000, sizes: Sequence[int] = (1000, 10, 1), rounds: int = 5
) -> Page:
    """All kinds over logs of each transaction size."""
    missing: dict[str, str] = {}
    try:
        peers.require_program("java", "Debezium needs a JVM, 17 or newer")
        debezium: Path | None = peers.environment(peers.CAPTURE)
    except peers.NotRunError as reason:
        debezium, missing["Debezium, TCP"] = None, str(reason)
    kinds = [kind for kind in KINDS if kind.name not in missing]
    rates, pairs = [], []
    with running_server() as server:
        for size in sizes:
            with written_log(server, rows, size) as log:
                series = _series(log, kinds, rounds, debezium)
            rates += [_rates(size, kind, series.runs[kind.name]) for kind in kinds]
            pairs += [_pair(size, budget, series) for budget in BUDGETS if budget.to not in missing]
    return Page(
        f"From PostgreSQL's log to the store. Each run reads {rows:,} inserted rows of 12 columns; "
        f"{rounds} rounds of all kinds, each round beginning with another kind. Cells: median "
        "(least–greatest). Client CPU is the whole reading process, server CPU the sessions that "
        "ended in the run. Every run had all rows, and every stored table the source's checksum.",
        f"{rows:,} rows, about 230 bytes each in the log, seed {SEED} (`benchmarks/sales.sql`)",
        "python -m benchmarks capture",
        [
            Table(_RATE_COLUMNS, rates, "Rates"),
            Table(
                ("rows a transaction", "pair", "per", "ratio", "budget", ""),
                pairs,
                "Pairs, round by round",
            ),
        ],
        notes=[*_NOTES, *(f"{name} was not run: {reason}." for name, reason in missing.items())],
    )


_RATE_COLUMNS = (
    "rows a transaction",
    "kind",
    "rows/s",
    "rows per client CPU s",
    "client CPU s",
    "server CPU s",
    "commits here",
)
_NOTES = (
    "The bare receiver reads blocks of 64 KiB and counts rows; it stores nothing.",
    (
        "Upwell is the engine without models: change log, current table and position in one "
        'commit, with the checkpoints that fall due. "Decoded only" stores nothing.'
    ),
    (
        "Row by row is psycopg in text with one conversion a value, Arrow batches into one DuckDB "
        "table, half of what Upwell writes."
    ),
    (
        "Debezium hands JSON to a handler that does nothing; its time before the first batch is "
        "left out. Values were counted, not compared."
    ),
    (
        "A receiver that waits on a TCP socket makes every small send of the server dearer, so a "
        "bare receiver on TCP is no upper bound."
    ),
)


def _series(log: Log, kinds: Sequence[Kind], rounds: int, debezium: Path | None) -> Series[Run]:
    by_name = {kind.name: kind for kind in kinds}
    series: Series[Run] = Series(list(by_name), rounds)
    series.measure(lambda name: _run(by_name[name], log, debezium))
    return series


def _run(kind: Kind, log: Log, debezium: Path | None) -> Run:
    """One reading, checked."""
    options: dict[str, object] = {
        "url": log.url(over_tcp=kind.over_tcp),
        "slot": _SLOT,
        "rows": log.rows,
    }
    program: tuple[object, ...]
    if kind.program == "debezium":
        program = (debezium, "benchmarks.debezium")
        options |= {"publication": PUBLICATION, "table": TABLE}
    else:
        program = (sys.executable, "benchmarks.receivers", kind.program)
        options |= {"first": log.first, "transactions": log.transactions}
    with ServerTime(log.server) as server, slot_copy(log, _SLOT):
        told = told_by(*program, options=options)
    rows, checksum = log.checksum
    if told["rows"] != rows or told.get("checksum", [rows, str(checksum)]) != [rows, str(checksum)]:
        raise WrongRunError(f"{kind.name}: {told}, but the source has {log.checksum}")
    return Run(
        told.get("timed_rows", rows),
        told["seconds"],
        told["cpu_seconds"],
        server.seconds,
        told.get("versions"),
    )


def _rates(size: int, kind: Kind, runs: Sequence[Run]) -> tuple[object, ...]:
    def shown(figures: list[float], form: str = ",.0f") -> str:
        return spread(figures).show(form)

    versions = [float(run.versions) for run in runs if run.versions is not None]
    return (
        f"{size:,}",
        kind.name,
        shown([run.rows_a_second for run in runs]),
        shown([run.rows_a_cpu_second for run in runs]),
        shown([run.cpu_seconds for run in runs], ".2f"),
        shown([run.server_cpu_seconds for run in runs], ".2f"),
        shown(versions) if versions else "",
    )


def _pair(size: int, budget: Budget, series: Series[Run]) -> tuple[object, ...]:
    ratio: Spread = series.ratio(budget.kind, budget.to, budget.figure)
    return (
        f"{size:,}",
        f"{budget.kind} ÷ {budget.to}",
        "client CPU s" if budget.per_cpu_second else "s",
        ratio.show(".2f"),
        f"{budget.least:g}",
        verdict(ratio, budget.least),
    )
