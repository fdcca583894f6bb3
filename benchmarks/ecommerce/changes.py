"""Batches of changes as a source gives them: the cases that the models are measured on.

Facts change as in a shop that is alive: of a hundred, seventy new items of recent orders, twenty
changed and ten deleted, either among the newest items or scattered over the whole history. A single
fact change is an update, the dearest kind. What a batch changes it looks up in the store first, so
that every change is one; that is not part of what is measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from benchmarks.ecommerce.shop import CATEGORIES, LAYOUTS, PRODUCTS, REGION_NAMES, REGIONS
from upwell.core.position import Position
from upwell.core.protocols import Operation, SourceBatch, TableChanges, Transactions
from upwell.core.sql import quote_table, quoted_list

Draw = Callable[[duckdb.DuckDBPyConnection, np.random.Generator], TableChanges]
"""Changes of one table, drawn from the store as it stands."""


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of batch. ``runs`` of it are measured after one that is not, if ``warms_up``."""

    name: str
    draw: Draw
    runs: int
    warms_up: bool = True


def cases(runs: int = 5) -> tuple[Case, ...]:
    """All cases, from the smallest batch to the one that touches a twentieth of all facts."""
    few = max(1, runs // 2)
    return (
        Case("1 fact change", lambda c, r: order_items(c, r, 1, recent=True), runs),
        Case("100 recent", lambda c, r: order_items(c, r, 100, recent=True), runs),
        Case("100 scattered", lambda c, r: order_items(c, r, 100, recent=False), runs),
        Case("10k recent", lambda c, r: order_items(c, r, 10_000, recent=True), runs),
        Case("10k scattered", lambda c, r: order_items(c, r, 10_000, recent=False), few),
        Case("1 customer", lambda c, r: customers(c, r, 1), runs),
        Case("100 customers", lambda c, r: customers(c, r, 100), runs),
        Case("1 product", lambda c, r: products(c, r, 1), runs),
        Case("100 products", lambda c, r: products(c, r, 100), few),
        Case("1 region", lambda c, r: regions(c, r, 1), 1, warms_up=False),
    )


def batch_of(*changes: TableChanges, number: int) -> SourceBatch:
    """One source transaction that makes the changes."""
    at_us = number * 1_000_000
    position = Position(f"{number:012}")
    transactions = Transactions((position,), np.array([at_us], np.int64))
    return SourceBatch(position, transactions, changes, at_us, at_us)


# ── facts ────────────────────────────────────────────────────────────────────────────────────────


def order_items(
    connection: duckdb.DuckDBPyConnection, random: np.random.Generator, count: int, *, recent: bool
) -> TableChanges:
    """New, changed and deleted order items, 7 to 2 to 1; one alone is changed."""
    updated, deleted = (1, 0) if count == 1 else (count // 5, count // 10)
    created = count - updated - deleted
    top, orders = _one(
        connection,
        "SELECT (SELECT max(item_id) FROM shop.order_items),"
        " (SELECT max(order_id) FROM shop.orders)",
    )
    width = max(top // 50, 4 * count) if recent else top
    known = _existing_items(connection, random, top + 1 - min(width, top), top + 1, 4 * count)
    chosen = known.take(random.permutation(known.num_rows)[: updated + deleted])
    of_orders = max(orders // 365, 4 * created)  # wide enough for baskets to stay baskets
    recent_orders = random.integers(max(orders + 1 - of_orders, 0), orders + 1, created)
    item_ids = np.concatenate(
        [chosen.column("item_id").to_numpy(), np.arange(top + 1, top + 1 + created)]
    )
    order_ids = np.concatenate([chosen.column("order_id").to_numpy(), recent_orders])
    given = updated + deleted + created
    rows = pa.table(
        {
            "item_id": item_ids,
            "order_id": order_ids,
            "product_id": random.integers(0, PRODUCTS, given),
            "qty": random.integers(1, 6, given).astype(np.int32),
            "price": _prices(random, given),
        }
    )
    operations = np.repeat(
        np.array([Operation.UPDATE, Operation.DELETE, Operation.INSERT], np.int8),
        [updated, deleted, created],
    )
    return _changes("shop.order_items", rows, operations)


def _existing_items(
    connection: duckdb.DuckDBPyConnection,
    random: np.random.Generator,
    low: int,
    high: int,
    wanted: int,
) -> pa.Table:
    """Some of the items with numbers from ``low`` to ``high`` that are still there."""
    keys = np.unique(random.integers(low, high, wanted))
    connection.register("_keys", pa.table({"item_id": keys}))
    found = connection.execute(
        "SELECT item_id, order_id FROM shop.order_items SEMI JOIN _keys USING (item_id)"
        " ORDER BY item_id"
    ).to_arrow_table()
    connection.unregister("_keys")
    return found


def _prices(random: np.random.Generator, count: int) -> pa.Array:
    return pa.array(random.integers(100, 20_000, count) / 100).cast(pa.decimal128(12, 2))


# ── dimensions ───────────────────────────────────────────────────────────────────────────────────


def customers(
    connection: duckdb.DuckDBPyConnection, random: np.random.Generator, count: int
) -> TableChanges:
    """Customers who move to another region, whose name is another too."""
    return _updated(
        connection, random, "shop.customers", count, f"(region_id + 1) % {REGIONS} AS region_id"
    )


def products(
    connection: duckdb.DuckDBPyConnection, random: np.random.Generator, count: int
) -> TableChanges:
    """Products that change category."""
    category = f"'cat_' || (CAST(category[5:] AS INTEGER) + 1) % {CATEGORIES}"
    return _updated(connection, random, "shop.products", count, f"{category} AS category")


def regions(
    connection: duckdb.DuckDBPyConnection, random: np.random.Generator, count: int
) -> TableChanges:
    """Regions that take another region's name."""
    region = f"'region_' || (CAST(region[8:] AS INTEGER) + 1) % {REGION_NAMES}"
    return _updated(connection, random, "shop.regions", count, f"{region} AS region")


def _updated(
    connection: duckdb.DuckDBPyConnection,
    random: np.random.Generator,
    table: str,
    count: int,
    assignment: str,
) -> TableChanges:
    """``count`` rows of a table with one column replaced."""
    (key,) = LAYOUTS[table].key
    (rows,) = _one(connection, f"SELECT count(*) FROM {quote_table(table)}")
    keys = random.choice(rows, count, replace=False)
    found = connection.execute(
        f"SELECT * REPLACE ({assignment}) FROM {quote_table(table)}"
        f" WHERE list_contains(?::BIGINT[], {quoted_list([key])})",
        [keys.tolist()],
    ).to_arrow_table()
    return _changes(table, found, np.full(found.num_rows, Operation.UPDATE, np.int8))


def _changes(
    table: str, rows: pa.Table, operations: np.ndarray[tuple[int], np.dtype[np.int8]]
) -> TableChanges:
    return TableChanges(
        LAYOUTS[table],
        rows,
        operations,
        np.zeros(rows.num_rows, np.int32),
        np.empty(0, np.int64),
    )


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[int, ...]:
    return tuple(connection.execute(query).fetchone() or ())
