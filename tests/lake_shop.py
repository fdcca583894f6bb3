"""A hot store whose versions a test writes, and a lake beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from tests.stored import create
from upwell.core.position import Position
from upwell.core.schema import Column, TableSchema
from upwell.core.sql import quote_table, quoted_list
from upwell.durability import look
from upwell.ingest.tables import log_name
from upwell.store import ledger
from upwell.store.hot import HotStore
from upwell.store.lake.catalog import Access
from upwell.store.lake.lake import Lake, open_lake
from upwell.store.lake.writer import LakeWriter

PROJECT = "shop"
ORDERS = TableSchema(
    "shop.orders",
    (Column("id", "INTEGER", nullable=False), Column("note", "VARCHAR")),
    ("id",),
)
START_US = 1_780_000_000_000_000

Row = tuple[Any, ...]


@dataclass
class LakeShop:
    """``sold`` makes a version in which rows go and come; ``flush`` makes a round of the lake."""

    folder: Path
    schemas: Sequence[TableSchema] = (ORDERS,)
    version: int = 0
    store: HotStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = self.open_store("hot.duckdb")
        with self.store.transaction() as connection:
            for schema in self.schemas:
                create(connection, schema)
            ledger.write_identity(connection, PROJECT, "cluster-1")
        self.store.checkpoint()

    def open_store(self, name: str) -> HotStore:
        store = HotStore(self.folder / name, zone="Europe/London")
        ledger.prepare(store.writer)
        return store

    def open_lake(self) -> Lake:
        return open_lake("lake", self.folder, Access())

    def write(
        self, come: Sequence[Row] = (), gone: Sequence[Row] = (), *, schema: TableSchema = ORDERS
    ) -> int:
        """A version in which rows ended and began; its number."""
        self.version += 1
        at = START_US + self.version * 1_000_000
        position = Position(f"{self.version:08d}")
        log, current = quote_table(log_name(schema.name)), quote_table(schema.name)
        names = quoted_list(schema.column_names)
        marks = ", ".join("?" for _ in schema.columns)
        same = " AND ".join(f"{name} = ?" for name in schema.key)
        with self.store.transaction() as connection:
            for rows, weight in ((gone, -1), (come, 1)):
                for row in rows:
                    connection.execute(
                        f"INSERT INTO {log} ({names}, _version, _position, _committed_at, "
                        f"_received_at, _weight) VALUES ({marks}, ?, ?, make_timestamptz(?), "
                        f"make_timestamptz(?), ?)",
                        [*row, self.version, position, at, at, weight],
                    )
                    if weight < 0:
                        key = [row[schema.column_names.index(name)] for name in schema.key]
                        connection.execute(f"DELETE FROM {current} WHERE {same}", key)
                    else:
                        connection.execute(f"INSERT INTO {current} VALUES ({marks})", row)
            ledger.append(
                connection,
                self.version,
                at,
                {PROJECT: ledger.SourceProgress(position, at, 1, len(come) + len(gone))},
            )
        return self.version

    def flush(self, writer: LakeWriter) -> None:
        with self.store.view() as connection:
            mark, logs = look(connection)
            writer.flush(connection, logs, mark)


def rows_of(connection: duckdb.DuckDBPyConnection, table: str) -> list[str]:
    """A table's rows as texts, sorted: for comparing whatever the types are."""
    found = connection.execute(f"SELECT t::VARCHAR FROM {quote_table(table)} AS t ORDER BY 1")
    return [text for (text,) in found.fetchall()]
