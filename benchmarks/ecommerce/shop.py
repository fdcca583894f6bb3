"""The source tables: five of them, as large as asked for, the same rows every time.

Sizes follow the number of order items: four items an order, twenty a customer; regions and products
do not grow. Tables are made as ingest makes them (no index, in the order of the key), only filled
by SQL instead of a copy; the change logs begin empty. A finished file is kept and copied, so
that ten million items are generated once.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb

from upwell.core.protocols import SourceTable
from upwell.core.schema import Column, TableSchema
from upwell.core.sql import quote_table
from upwell.ingest import tables
from upwell.ingest.tables import Captured
from upwell.project.model_file import parse_model
from upwell.project.values import Model
from upwell.store import ledger
from upwell.store.hot import HotStore

ZONE = "UTC"
REGIONS = 20
REGION_NAMES = 5
PRODUCTS = 20_000
CATEGORIES = 12

_HERE = Path(__file__).parent

TABLES = (
    TableSchema(
        "shop.regions",
        (Column("region_id", "INTEGER", nullable=False), Column("region", "VARCHAR")),
        ("region_id",),
    ),
    TableSchema(
        "shop.customers",
        (
            Column("customer_id", "BIGINT", nullable=False),
            Column("region_id", "INTEGER", nullable=False),
            Column("name", "VARCHAR"),
            Column("segment", "VARCHAR"),
        ),
        ("customer_id",),
    ),
    TableSchema(
        "shop.products",
        (
            Column("product_id", "BIGINT", nullable=False),
            Column("name", "VARCHAR"),
            Column("category", "VARCHAR"),
            Column("list_price", "DECIMAL(12,2)"),
        ),
        ("product_id",),
    ),
    TableSchema(
        "shop.orders",
        (
            Column("order_id", "BIGINT", nullable=False),
            Column("customer_id", "BIGINT", nullable=False),
            Column("order_ts", "TIMESTAMP", nullable=False),
            Column("status", "VARCHAR"),
        ),
        ("order_id",),
    ),
    TableSchema(
        "shop.order_items",
        (
            Column("item_id", "BIGINT", nullable=False),
            Column("order_id", "BIGINT", nullable=False),
            Column("product_id", "BIGINT", nullable=False),
            Column("qty", "INTEGER"),
            Column("price", "DECIMAL(12,2)"),
        ),
        ("item_id",),
    ),
)

LAYOUTS = {table.name: table for table in TABLES}

#: The nine models in the order in which they are shown.
MODELS = (
    "fact",
    "hourly",
    "daily",
    "customer_days",
    "daily_customers",
    "product_revenue",
    "top_products",
    "lifetime",
    "pairs",
)


def read_models(names: tuple[str, ...] = MODELS) -> list[Model]:
    """The models called ``names``, read as a project's are."""
    files = [_HERE / "models" / f"{name}.sql" for name in names]
    return [parse_model(file.read_text(encoding="utf-8"), f"models/{file.name}") for file in files]


def open_copy(items: int, folder: Path, kept: Path) -> HotStore:
    """A store of its own in ``folder`` with the shop in it.

    ``kept`` is a folder for finished shops: one that is there is copied, else it is made there.
    """
    finished = kept / f"shop-{items}-{ledger.FORMAT}.duckdb"
    if not finished.exists():
        kept.mkdir(parents=True, exist_ok=True)
        unfinished = finished.with_suffix(".unfinished")
        unfinished.unlink(missing_ok=True)
        _generate(items, unfinished)
        unfinished.rename(finished)
    copy = folder / "hot.duckdb"
    shutil.copyfile(finished, copy)
    return HotStore(copy, zone=ZONE)


def _generate(items: int, path: Path) -> None:
    store = HotStore(path, zone=ZONE)
    try:
        ledger.prepare(store.writer)
        with store.transaction() as connection:
            for table in TABLES:
                create(connection, table)
        store.checkpoint()
        for table in TABLES:
            query, parameters = rows_of(table.name, items)
            store.writer.execute(f"INSERT INTO {quote_table(table.name)} {query}", parameters)
        store.checkpoint()
    finally:
        store.close()


def create(connection: duckdb.DuckDBPyConnection, table: TableSchema) -> None:
    """A captured table, empty, of a source that keeps no states."""
    tables.create(connection, Captured(SourceTable(table, ""), tables.new_log()))


def rows_of(table: str, items: int) -> tuple[str, dict[str, int]]:
    """The query that gives a table's rows, with its parameters."""
    query = (_HERE / "rows" / f"{table.removeprefix('shop.')}.sql").read_text(encoding="utf-8")
    sizes = {
        "items": items,
        "orders": items // 4,
        "customers": customers_of(items),
        "products": PRODUCTS,
        "categories": CATEGORIES,
        "regions": REGIONS,
    }
    return query, {name: size for name, size in sizes.items() if f"${name}" in query}


def customers_of(items: int) -> int:
    return max(items // 20, 10)
