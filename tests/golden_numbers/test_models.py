"""The sample project's models, recomputed in full over the golden shop, give the golden numbers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import duckdb
import pytest

from upwell.core.sql import connect
from upwell.demo.template import template_files

from . import shop
from .shop import board, pounds, utc

EVERYTHING = utc("2026-12-31 12:00")
YEAR = "365d"


@pytest.fixture(scope="module")
def store() -> Iterator[duckdb.DuckDBPyConnection]:
    """The golden shop's tables as ``shop.…``, and every model of the template as a view."""
    with connect(zone="Europe/London") as connection:
        connection.execute("create schema shop")
        _create_tables(connection)
        texts = {
            path.stem: text for path, text in template_files().items() if path.suffix == ".sql"
        }
        for name in ("sale_lines", "order_categories", "daily_sales", "customer_value"):
            connection.execute(f"create view {name} as {texts.pop(name)}")
        assert not texts, "a model without a test"
        yield connection


def _create_tables(connection: duckdb.DuckDBPyConnection) -> None:
    money = "decimal(12, 2)"
    _create(connection, "customers", "id bigint, region text", list(shop.CUSTOMERS.items()))
    _create(connection, "products", "id bigint, category text", list(shop.PRODUCTS.items()))
    _create(
        connection,
        "orders",
        "id bigint, customer_id bigint, status text, placed_at timestamptz",
        [(order.id, order.customer, order.status, order.placed_at) for order in shop.ORDERS],
    )
    lines = [(order.id, line) for order in shop.ORDERS for line in order.lines]
    _create(
        connection,
        "order_items",
        f"order_id bigint, product_id bigint, quantity integer, unit_price {money},"
        f" discount {money}",
        [(order, of.product, of.quantity, of.price, of.discount) for order, of in lines],
    )
    _create(
        connection,
        "refunds",
        f"order_id bigint, product_id bigint, amount {money}",
        [(order, of.product, of.refund) for order, of in lines if of.refund],
    )


def _create(
    connection: duckdb.DuckDBPyConnection, table: str, columns: str, rows: list[tuple[object, ...]]
) -> None:
    connection.execute(f"create table shop.{table} ({columns})")
    marks = ", ".join("?" * len(rows[0]))
    connection.executemany(f"insert into shop.{table} values ({marks})", rows)


def rows(store: duckdb.DuckDBPyConnection, query: str) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = store.execute(query).fetchall()
    return found


@pytest.mark.parametrize(
    ("now", "begins"),
    [
        (utc("2026-03-29 22:59:59"), utc("2026-03-23 00:00")),
        (utc("2026-06-07 11:00"), utc("2026-05-31 23:00")),
        (utc("2026-10-25 23:59:59"), utc("2026-10-18 23:00")),
    ],
)
def test_a_week_of_order_categories_is_the_golden_board(
    store: duckdb.DuckDBPyConnection, now: datetime, begins: datetime
) -> None:
    golden = board(now, "7d")
    (totals,) = store.execute(
        "select sum(net_amount), count(distinct order_id), sum(units) from order_categories"
        " where placed_at >= ? and placed_at <= ?",
        [begins, now],
    ).fetchall()
    assert totals == (golden.net_sales, golden.orders, golden.units)


def test_every_category_and_region_has_its_golden_sum(store: duckdb.DuckDBPyConnection) -> None:
    golden = board(EVERYTHING, YEAR)
    for column, expected in (("category", golden.by_category), ("region", golden.by_region)):
        query = f"select {column}, sum(net_amount) from order_categories group by all"
        assert dict(rows(store, query)) == expected


def test_daily_sales_counts_days_by_the_clock_of_the_business(
    store: duckdb.DuckDBPyConnection,
) -> None:
    golden = board(EVERYTHING, YEAR).by_day
    days = rows(store, "select day, category, net_amount from daily_sales")
    assert {(str(day), category): net for day, category, net in days} == golden


def test_daily_sales_counts_an_order_once_in_each_of_its_categories(
    store: duckdb.DuckDBPyConnection,
) -> None:
    first_of_june = "from daily_sales where day = '2026-06-01' order by category"
    assert rows(store, f"select category, orders, units, average_amount {first_of_june}") == [
        ("Books", 2, 3, 12.25),
        ("Garden", 1, 1, 20.0),
    ]


def test_customer_value_is_net_of_refunds_and_without_cancelled_orders(
    store: duckdb.DuckDBPyConnection,
) -> None:
    expected: dict[int, tuple[set[int], Decimal]] = {}
    for order in shop.ORDERS:
        if order.status == "cancelled":
            continue
        ids, total = expected.get(order.customer, (set[int](), pounds("0")))
        nets = [line.quantity * line.price - line.discount - line.refund for line in order.lines]
        expected[order.customer] = (ids | {order.id}, total + sum(nets))
    found = rows(store, "select customer_id, orders, net_amount, region from customer_value")
    assert {customer: (orders, net, region) for customer, orders, net, region in found} == {
        customer: (len(ids), total, shop.CUSTOMERS[customer])
        for customer, (ids, total) in expected.items()
    }


def test_models_declare_keys_that_hold(store: duckdb.DuckDBPyConnection) -> None:
    for model, key in (
        ("order_categories", "order_id, category"),
        ("daily_sales", "day, category"),
        ("customer_value", "customer_id"),
    ):
        assert rows(store, f"select {key} from {model} group by all having count(*) > 1") == []
