"""The shop in PostgreSQL: whole or not there, and fit for what people do in it."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from psycopg.rows import dict_row

from upwell.core.errors import UsageError
from upwell.demo.shop import TABLES, create_schema, has_shop, open_shop

from .conftest import NOON

pytestmark = pytest.mark.postgres


def value(connection: psycopg.Connection[Any], query: str) -> Any:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def test_every_row_of_the_history_is_loaded(new_database: Callable[[], str]) -> None:
    with psycopg.connect(new_database(), autocommit=True) as connection:
        loaded = open_shop(
            connection, seed=3, now=NOON, zone=ZoneInfo("UTC"), days=3, orders_a_day=50, customers=9
        )
        assert tuple(loaded) == TABLES
        for table, rows in loaded.items():
            assert value(connection, f"select count(*) from {table}") == rows


def test_a_shop_opens_over_a_connection_that_gives_rows_as_dictionaries(
    new_database: Callable[[], str],
) -> None:
    with psycopg.connect(new_database(), autocommit=True, row_factory=dict_row) as connection:
        assert not has_shop(connection)
        open_shop(connection, seed=3, now=NOON, zone=ZoneInfo("UTC"), days=1, customers=9)
        assert has_shop(connection)


def test_new_rows_get_ids_after_those_of_the_history(
    shop_connection: psycopg.Connection[Any],
) -> None:
    last = value(shop_connection, "select max(id) from orders")
    new = value(shop_connection, "insert into orders (customer_id) values (1) returning id")
    assert new == last + 1


def test_a_second_shop_is_refused_and_the_first_left_alone(
    shop_connection: psycopg.Connection[Any],
) -> None:
    orders = value(shop_connection, "select count(*) from orders")
    with pytest.raises(UsageError, match="already holds a shop"):
        open_shop(shop_connection, seed=3, now=NOON, zone=ZoneInfo("UTC"))
    assert value(shop_connection, "select count(*) from orders") == orders


def test_a_load_that_fails_leaves_no_shop(new_database: Callable[[], str]) -> None:
    with psycopg.connect(new_database(), autocommit=True) as connection:
        connection.execute("create domain order_status as text")  # the schema's type is taken
        with pytest.raises(psycopg.errors.DuplicateObject):
            open_shop(connection, seed=3, now=NOON, zone=ZoneInfo("UTC"), days=2)
        assert not has_shop(connection)


def test_the_schema_alone_is_an_empty_shop_on_every_server(postgres_server: Any) -> None:
    with psycopg.connect(postgres_server.url) as connection:  # rolled back, never committed
        create_schema(connection)
        assert has_shop(connection)
        assert all(value(connection, f"select count(*) from {table}") == 0 for table in TABLES)
        connection.rollback()


def test_deleting_an_order_deletes_its_items_payments_and_refunds(
    shop_connection: psycopg.Connection[Any],
) -> None:
    order = value(shop_connection, "select order_id from refunds limit 1")
    shop_connection.execute("delete from orders where id = %s", [order])
    for table in ("order_items", "payments", "refunds"):
        assert value(shop_connection, f"select count(*) from {table} where order_id = {order}") == 0


def test_refunds_can_be_truncated_alone(shop_connection: psycopg.Connection[Any]) -> None:
    shop_connection.execute("truncate refunds")
    assert value(shop_connection, "select count(*) from refunds") == 0


def test_what_an_order_names_cannot_be_deleted(shop_connection: psycopg.Connection[Any]) -> None:
    for table in ("customers", "products"):
        named = {"customers": "orders.customer_id", "products": "order_items.product_id"}[table]
        column = f"select {named} from {named.split('.')[0]}"
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            shop_connection.execute(f"delete from {table} where id in ({column})")


def test_a_refund_needs_a_line_that_was_sold(shop_connection: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        shop_connection.execute(
            "insert into refunds (order_id, product_id, amount)"
            " select order_id, 1 + (select max(id) from products), %s from order_items limit 1",
            [Decimal(1)],
        )
