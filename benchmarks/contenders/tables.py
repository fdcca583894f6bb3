"""The base tables in a DuckDB file, as an extract-and-load tool keeps them up to date."""

from __future__ import annotations

from pathlib import Path

import duckdb

from benchmarks.contenders.loop import Changes

#: Each table and its key.
KEYS = {
    "regions": "region_id",
    "customers": "customer_id",
    "products": "product_id",
    "orders": "order_id",
    "order_items": "item_id",
}


def load(connection: duckdb.DuckDBPyConnection, base: Path, more: str = "") -> None:
    """Create the schema ``shop`` out of Parquet files. ``more``: columns to add, as SQL."""
    connection.execute("CREATE SCHEMA shop")
    for table, key in KEYS.items():
        columns = f"*, {more}" if more else "*"
        connection.execute(
            f"CREATE TABLE shop.{table} AS SELECT {columns}"
            f" FROM read_parquet('{base / table}.parquet') ORDER BY {key}"
        )


def take_in(connection: duckdb.DuckDBPyConnection, changes: Changes, more: str = "") -> None:
    """Apply a batch in one transaction; ``more`` as in ``load``."""
    connection.begin()
    for table, rows in changes.items():
        key = KEYS[table]
        columns = ["*", "EXCLUDE (operation)", f", {more}" if more else ""]
        connection.register("_changes", rows)
        connection.execute(
            f"DELETE FROM shop.{table} WHERE {key} IN"
            f" (SELECT {key} FROM _changes WHERE operation <> 'insert')"
        )
        connection.execute(
            f"INSERT INTO shop.{table} BY NAME SELECT {' '.join(columns)}"
            " FROM _changes WHERE operation <> 'delete'"
        )
        connection.unregister("_changes")
    connection.commit()


def export(connection: duckdb.DuckDBPyConnection, schema: str, to: Path) -> None:
    """Write both models out."""
    for model in ("fact", "hourly"):
        connection.execute(f"COPY {schema}.{model} TO '{to / model}.parquet' (FORMAT parquet)")
