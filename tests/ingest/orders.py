"""A table of orders, under three layouts, and what a store has of it."""

from __future__ import annotations

from typing import Any

import duckdb
import pyarrow as pa

from upwell.core.schema import Column, TableSchema

ID, NOTE, SIZE = (
    Column("id", "INTEGER", nullable=False),
    Column("note", "VARCHAR"),
    Column("size", "DECIMAL(5,1)"),
)
ORDERS = TableSchema("shop.orders", (ID, NOTE), ("id",))
SIZED = TableSchema("shop.orders", (ID, NOTE, SIZE), ("id",))
BARE = TableSchema("shop.orders", (ID,), ("id",))


def rows(*values: tuple[int, str | None]) -> pa.Table:
    ids, notes = [each[0] for each in values], [each[1] for each in values]
    return pa.table({"id": pa.array(ids, pa.int32()), "note": pa.array(notes, pa.string())})


def current(connection: duckdb.DuckDBPyConnection) -> list[Any]:
    return connection.execute("FROM shop.orders ORDER BY id").fetchall()


def summed(connection: duckdb.DuckDBPyConnection) -> list[Any]:
    """What the change log sums up to."""
    return connection.execute(
        "SELECT COLUMNS(c -> c NOT LIKE '\\_%' ESCAPE '\\') FROM shop.orders__log "
        "GROUP BY ALL HAVING sum(_weight) <> 0 ORDER BY id"
    ).fetchall()
