"""Rebuild: a hot store and its models made anew from the lake, beside a plain load of its files."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import duckdb

from benchmarks.ecommerce.shop import LAYOUTS, TABLES, ZONE, open_copy, read_models
from benchmarks.models import KEPT
from benchmarks.pages import Page, Table
from benchmarks.programs import WrongRunError
from benchmarks.series import Series
from upwell.core.position import Position
from upwell.core.schema import TableSchema
from upwell.core.sql import literal, quote_table, quoted_list
from upwell.durability import look
from upwell.ingest.tables import log_name
from upwell.models import Ground, Models, Work
from upwell.rebuild import begin_logs_anew
from upwell.start import open_store
from upwell.store import ledger
from upwell.store.hot import HotStore
from upwell.store.lake.catalog import Access
from upwell.store.lake.lake import Lake, open_lake
from upwell.store.lake.objects import path_of
from upwell.store.lake.writer import LakeWriter
from upwell.store.place import StatePlace

PROJECT, SOURCE = "rebuild", "shop"
THREADS = 2
BUDGET_SECONDS = 180

WHOLE, PLAIN = "Upwell", "plain load"


Digest = tuple[int, int]
"""How many rows a table has, and the sum of their hashes."""


@dataclass(frozen=True)
class Run:
    """One rebuild: until the tables stand, and until the models do."""

    tables_seconds: float
    models_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        return self.tables_seconds + self.models_seconds


def measure(*, rows: int = 10_000_000, rounds: int = 3) -> Page:
    """A shop of so many order items, of which a tenth changed once."""
    with _lake(rows) as (folder, wanted, logged):
        series: Series[Run] = Series([WHOLE, PLAIN], rounds)
        series.measure(lambda kind: _run(kind, folder, wanted))
        bytes_ = sum(file.stat().st_size for file in (folder / "lake").rglob("*.parquet"))
        standing = sum(count for count, _ in wanted.values())
    seconds = series.spread(WHOLE, lambda run: run.seconds)
    return Page(
        f"A hot store that was deleted, made anew from a lake of {logged:,} logged rows "
        f"({bytes_ / 2**20:.0f} MiB) in five tables, {standing:,} of them standing, "
        "and nine models built on it. The plain load reads the same files into tables with DuckDB "
        "and checks, sums and builds nothing. Cells: median (least–greatest) of "
        f"{rounds} runs in turns. After each run every table had the rows it had before.",
        f"`benchmarks/ecommerce`, {rows:,} order items, a tenth of them changed once",
        "python -m benchmarks rebuild",
        [
            Table(
                ("", "tables s", "models s", "together s"),
                [
                    (
                        kind,
                        series.spread(kind, lambda run: run.tables_seconds).show(".1f"),
                        series.spread(kind, lambda run: run.models_seconds).show(".1f"),
                        series.spread(kind, lambda run: run.seconds).show(".1f"),
                    )
                    for kind in series.kinds
                ],
            )
        ],
        notes=[
            f"Budget: {BUDGET_SECONDS} s for ten million rows; {_verdict(seconds.median)}.",
        ],
    )


def _verdict(seconds: float) -> str:
    return "reached" if seconds <= BUDGET_SECONDS else "missed"


@contextmanager
def _lake(items: int) -> Iterator[tuple[Path, dict[str, Digest], int]]:
    """A folder with a lake, what stands of each table, and how many rows its logs have."""
    KEPT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=KEPT) as name:
        folder = Path(name)
        store = open_copy(items, folder, KEPT)
        with store.transaction() as connection:
            _append(connection, 1)
        begin_logs_anew(store)
        writer = LakeWriter(_open_lake(folder), PROJECT)
        _flush(store, writer)
        with store.transaction() as connection:
            _change_a_tenth(connection)
            _append(connection, 2)
        _flush(store, writer)
        wanted = {table.name: _digest(store, table) for table in TABLES}
        logged = sum(file.record_count for table in writer.tables() for file in table.files)
        store.close()
        yield folder, wanted, logged


def _change_a_tenth(connection: duckdb.DuckDBPyConnection) -> None:
    columns, tenth = "item_id, order_id, product_id, qty, price", "item_id % 10 = 0"
    log = quote_table(log_name("shop.order_items"))
    for weight in (-1, 1):
        connection.execute(
            f"INSERT INTO {log} SELECT {columns}, 2, '2', now(), now(), {weight} "
            f"FROM shop.order_items WHERE {tenth}"
        )
        if weight < 0:
            connection.execute(f"UPDATE shop.order_items SET qty = qty + 1 WHERE {tenth}")


def _append(connection: duckdb.DuckDBPyConnection, version: int) -> None:
    progress = ledger.SourceProgress(Position(str(version)), version)
    ledger.append(connection, version, version, {SOURCE: progress})
    ledger.write_identity(connection, SOURCE, "cluster")


def _flush(store: HotStore, writer: LakeWriter) -> None:
    with store.view() as connection:
        mark, logs = look(connection)
        writer.flush(connection, logs, mark)


def _digest(store: HotStore, table: TableSchema) -> Digest:
    row = f"hash({quoted_list(table.column_names)})"
    rows, total = store.writer.execute(
        f"SELECT count(*), sum({row}) FROM {quote_table(table.name)}"
    ).fetchall()[0]
    return rows, total


def _open_lake(folder: Path) -> Lake:
    return open_lake("lake", folder, Access())


def _run(kind: str, folder: Path, wanted: dict[str, Digest]) -> Run:
    place = StatePlace(folder)
    shutil.rmtree(place.state, ignore_errors=True)
    place.state.mkdir()
    return _rebuilt(place, folder, wanted) if kind == WHOLE else _loaded(place, folder)


def _rebuilt(place: StatePlace, folder: Path, wanted: dict[str, Digest]) -> Run:
    begun = time.monotonic()
    store = open_store(place, zone=ZONE, report=_silent, lake=_open_lake(folder))
    try:
        store.use_threads(THREADS)
        tables_at = time.monotonic()
        models = Models(store, read_models(), _silent)
        models.renew(Ground(LAYOUTS), partial(_make_version, store))
        models_at = time.monotonic()
        for table in TABLES:
            if _digest(store, table) != wanted[table.name]:
                raise WrongRunError(f"{table.name} is another than it was")
    finally:
        store.close()
    return Run(tables_at - begun, models_at - tables_at)


def _make_version(store: HotStore, work: Work, _anew: frozenset[str]) -> None:
    with store.transaction() as connection:
        work(connection)
        _append(connection, ledger.latest_version(connection) + 1)


def _loaded(place: StatePlace, folder: Path) -> Run:
    lake = _open_lake(folder)
    begun = time.monotonic()
    with duckdb.connect(place.hot_store, config={"threads": THREADS}) as connection:
        tables = [lake.table(log_name(each.name)) for each in TABLES]
        for number, table in enumerate(tables):
            paths = [path_of(file.file_path) for file in (table.files if table else ())]
            listed = ", ".join(literal(str(path)) for path in paths)
            connection.execute(f"CREATE TABLE t{number} AS FROM read_parquet([{listed}])")
        connection.execute("CHECKPOINT")
    return Run(time.monotonic() - begun)


def _silent(*_: object, **__: object) -> None:
    """Progress is of no interest here."""
