"""Snapshot: a table of PostgreSQL into a DuckDB file, Upwell beside other ways.

Each copy ends with its rows committed and the file's log folded in, and is checked: the checksum
over all rows must equal the source's. Upwell's copy is the start of its engine: slot, publication,
parts read beside the stream, change log, current table, position.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb

from benchmarks import peers
from benchmarks.pages import Page, Table
from benchmarks.programs import WrongRunError, told_by
from benchmarks.receivers import Meter
from benchmarks.sales import (
    SEED,
    TABLE,
    ServerTime,
    checksum_of,
    make_table,
    running_server,
    url_of,
)
from benchmarks.series import Series
from upwell.core.protocols import Checksum
from upwell.core.schema import TableSchema
from upwell.core.sql import quote_table
from upwell.demo.server import Server
from upwell.engine import Engine
from upwell.feed.hub import FeedHub
from upwell.models import Models
from upwell.sources.postgres.checksum import checksum_sql
from upwell.sources.postgres.replication import drop_slot
from upwell.sources.postgres.session import session
from upwell.sources.postgres.source import PostgresSource, slot_name
from upwell.start import begin_following, open_source, open_store
from upwell.store import ledger
from upwell.store.place import StatePlace
from upwell.table_states import TableStates
from upwell.wiring import SourceSetting

UPWELL = "Upwell"
KINDS = {
    UPWELL: "",
    "DuckDB's extension for PostgreSQL": "extension",
    "ADBC": "adbc",
    "COPY to CSV, read_csv": "csv",
}
BUDGET_ROWS_A_SECOND = 500_000


@dataclass(frozen=True)
class Run:
    """One copy."""

    rows: int
    seconds: float
    cpu_seconds: float
    server_cpu_seconds: float

    @property
    def rows_a_second(self) -> float:
        return self.rows / self.seconds


def measure(*, rows: int = 1_000_000, rounds: int = 5) -> Page:
    """All ways to copy one table."""
    missing: dict[str, str] = {}
    python = Path(sys.executable)
    try:
        python = peers.environment(peers.CAPTURE)
        peers.require_program("psql", "it writes the CSV file")
    except peers.NotRunError as reason:
        missing = {kind: str(reason) for kind, program in KINDS.items() if program}
    kinds = [kind for kind in KINDS if kind not in missing]
    series: Series[Run] = Series(kinds, rounds)
    with running_server() as server:
        make_table(server, rows, filled=True)
        checksum = checksum_of(server)
        schema = _schema(server)
        series.measure(lambda kind: _run(kind, server, python, schema, checksum))
    return Page(
        f"{rows:,} rows of 12 columns from PostgreSQL into a DuckDB file, over the Unix socket; "
        f"{rounds} rounds of all kinds, each round beginning with another kind. Cells: median "
        "(least–greatest). Every copy had the source's checksum.",
        f"{rows:,} rows, seed {SEED} (`benchmarks/sales.sql`)",
        "python -m benchmarks snapshot",
        [
            Table(
                ("way", "rows/s", "client CPU s", "server CPU s", "of the extension's rate"),
                [_row(kind, series) for kind in kinds],
            )
        ],
        versions={"DuckDB of the other ways": "1.5.5, the newest its extension fits"},
        notes=[
            f"Budget: {BUDGET_ROWS_A_SECOND:,} rows/s.",
            _TWICE,
            *(f"{kind} was not run: {reason}." for kind, reason in missing.items()),
        ],
    )


_TWICE = (
    "Upwell writes every row twice, into the change log and the current table, and sets up "
    "publication and slot; the others write one table."
)


def _row(kind: str, series: Series[Run]) -> tuple[str, ...]:
    best = "DuckDB's extension for PostgreSQL"
    ratio = ""
    if best in series.kinds:
        ratio = series.ratio(kind, best, lambda run: run.rows_a_second).show(".2f")
    return (
        kind,
        series.spread(kind, lambda run: run.rows_a_second).show(),
        series.spread(kind, lambda run: run.cpu_seconds).show(".2f"),
        series.spread(kind, lambda run: run.server_cpu_seconds).show(".2f"),
        ratio,
    )


def _run(kind: str, server: Server, python: Path, schema: TableSchema, checksum: Checksum) -> Run:
    url = url_of(server, over_tcp=False)
    with (
        tempfile.TemporaryDirectory(prefix="upwell-bench-") as folder,
        ServerTime(server) as server_time,
    ):
        file = Path(folder) / "copy.duckdb"
        if kind == UPWELL:
            told = told_by(
                sys.executable, "benchmarks.snapshot", options={"url": url, "folder": folder}
            )
            file, table = StatePlace(Path(folder)).hot_store, schema.name
        else:
            layout = json.dumps([[column.name, column.type] for column in schema.columns])
            options = {"url": url, "store": file, "layout": layout}
            told = told_by(python, "benchmarks.copiers", KINDS[kind], options=options)
            table = TABLE
        found = _checksum(file, table, schema)
    if found != checksum:
        raise WrongRunError(f"{kind}: {found}, but the source has {checksum}")
    return Run(checksum[0], told["seconds"], told["cpu_seconds"], server_time.seconds)


def _schema(server: Server) -> TableSchema:
    source = PostgresSource("shop", url_of(server, over_tcp=False), [TABLE], slot="unused")
    (table,) = source.look().tables.values()
    return table.schema


def _checksum(file: Path, table: str, schema: TableSchema) -> Checksum:
    with duckdb.connect(str(file), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.execute(checksum_sql(schema, quote_table(table))).fetchone()
    assert found is not None  # noqa: S101 - an aggregate has one row
    return Checksum(int(found[0]), int(found[1]))


# ── Upwell's copy, in a process of its own ───────────────────────────────────────────────────────


def copy(url: str, folder: Path) -> Mapping[str, float]:
    """As the engine begins: a new store, the source's table read into it beside its stream, and
    the log folded in.
    """
    name = slot_name("benchmark", "shop")
    setting = SourceSetting(
        "shop",
        lambda identity: PostgresSource("shop", url, [TABLE], slot=name, known=identity),
        frozenset({f"shop.{TABLE}"}),
    )
    meter = Meter()
    meter.start()
    store = open_store(StatePlace(folder), zone="UTC", report=_ignore)
    source = open_source(store, setting)
    states = TableStates(store)
    following = begin_following(store, states, source, setting, _ignore)
    hub = FeedHub(
        store.view,
        version=ledger.latest_version(store.writer),
        schema_of=states.layouts.__getitem__,
    )
    stop = threading.Event()

    def stop_when_read(event: str, **_facts: object) -> None:
        if event == "snapshot_finished":
            stop.set()

    models = Models(store, [], _ignore)
    Engine(store, hub, [following], states, models, report=stop_when_read).run(stop)
    meter.stop()
    source.close()
    store.close()
    with session(url, read_only=False) as connection:
        drop_slot(connection, name)
    return {"seconds": meter.seconds, "cpu_seconds": meter.cpu_seconds}


def _ignore(_event: str, **_facts: object) -> None:
    """Progress is of no interest here."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.snapshot", description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--folder", required=True, type=Path)
    given = parser.parse_args()
    sys.stdout.write(json.dumps(copy(given.url, given.folder)) + "\n")


if __name__ == "__main__":
    main()
