"""Upwell: ingest, models and ledger of one version in one transaction, on one thread."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.contenders import tables
from benchmarks.contenders.loop import Changes
from benchmarks.ecommerce.changes import batch_of
from benchmarks.ecommerce.shop import LAYOUTS, TABLES, ZONE, create, read_models
from upwell.core.protocols import Operation, TableChanges
from upwell.core.sql import quote_table
from upwell.ingest.apply import Ingest
from upwell.store import ledger
from upwell.store.hot import HotStore
from upwell.transform.plan import plan_models
from upwell.transform.refresh import Refresher, build


class Contender:
    """A hot store with both models, written to as the engine writes."""

    def __init__(self, folder: Path) -> None:
        self._store = HotStore(folder / "hot.duckdb", zone=ZONE)
        self._plan = plan_models(read_models(("fact", "hourly")), TABLES)
        self._ingest = Ingest(self._store.writer, LAYOUTS)
        self._refresher = Refresher(self._store.writer, self._plan)
        self._version = 0
        self._deltas: dict[str, pa.Table] = {}

    def start(self, base: Path) -> None:
        ledger.prepare(self._store.writer)
        connection = self._store.writer
        for table in TABLES:
            create(connection, table)
            rows = pq.read_table(base / f"{table.name.removeprefix('shop.')}.parquet")
            connection.register("_rows", rows)
            connection.execute(f"INSERT INTO {quote_table(table.name)} BY NAME FROM _rows")
            connection.unregister("_rows")
        with self._store.transaction():
            build(connection, self._plan, [model.name for model in self._plan.models], 0)
        self._store.checkpoint()
        self._store.use_threads(1)

    def take_in(self, changes: Changes) -> None:
        self._version += 1
        batch = batch_of(*_table_changes(changes), number=self._version)
        self._store.writer.begin()
        self._deltas = self._ingest.apply(batch, self._version)
        progress = ledger.SourceProgress(batch.position, batch.complete_through_us)
        ledger.append(self._store.writer, self._version, self._version, {"shop": progress})

    def refresh(self) -> None:
        self._refresher.apply(self._deltas, self._version)
        self._store.writer.commit()

    def export(self, to: Path) -> None:
        tables.export(self._store.writer, "main", to)

    def cpu_seconds(self) -> float:
        return time.process_time()


def _table_changes(changes: Changes) -> list[TableChanges]:
    numbers = {operation.name.lower(): operation.value for operation in Operation}
    found = []
    for table, rows in changes.items():
        names = pc.index_in(rows.column("operation"), pa.array(list(numbers)))
        operations = np.array(list(numbers.values()), np.int8)[names.to_numpy()]
        found.append(
            TableChanges(
                LAYOUTS[f"shop.{table}"],
                rows.drop_columns("operation"),
                operations,
                np.zeros(rows.num_rows, np.int32),
                np.empty(0, np.int64),
            )
        )
    return found
