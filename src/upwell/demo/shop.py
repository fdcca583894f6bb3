"""Opens the sample shop: its schema and its history, written into an empty database.

All in one transaction, so that whoever looks sees no shop or a whole one. Refuses a database that
already has a shop, or any table of its names.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import datetime
from importlib.resources import files
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pyarrow as pa
import pyarrow.csv
from psycopg import sql

from upwell.core.errors import UsageError
from upwell.demo import history

TABLES = ("customers", "products", "orders", "order_items", "payments", "refunds")


Shop = psycopg.Connection[Any]  # rows of any shape: none of them is looked at


def create_schema(connection: Shop) -> None:
    """The shop's tables, empty. Needs a database without a shop."""
    _create_tables(connection)
    _run(connection, "references.sql")


def _create_tables(connection: Shop) -> None:
    if has_shop(connection):
        raise UsageError(
            "shop_exists",
            "this database already holds a shop",
            where=f"database {connection.info.dbname}",
            next_step="use it as it is, or name an empty database",
        )
    _run(connection, "schema.sql")


def _run(connection: Shop, script: str) -> None:
    connection.execute(files("upwell.demo").joinpath(script).read_bytes())


def has_shop(connection: Shop) -> bool:
    """Whether any of the shop's tables is there."""
    found = connection.execute(
        "select 1 from pg_tables where schemaname = 'public' and tablename = any(%s)",
        [list(TABLES)],
    )
    return found.fetchone() is not None


def open_shop(
    connection: Shop,
    *,
    seed: int,
    now: datetime,
    zone: ZoneInfo,
    days: int = history.DAYS,
    orders_a_day: int = history.ORDERS_A_DAY,
    customers: int = history.CUSTOMERS,
) -> dict[str, int]:
    """Schema and history in one transaction; returns the number of rows of each table."""
    tables = history.generate(
        seed=seed, now=now, zone=zone, days=days, orders_a_day=orders_a_day, customers=customers
    )
    with connection.transaction():
        _create_tables(connection)
        _load(connection, tables)
        _run(connection, "references.sql")
    connection.execute("analyze")
    return {name: table.num_rows for name, table in tables.items()}


def _load(connection: Shop, tables: Mapping[str, pa.Table]) -> None:
    for name, rows in tables.items():
        columns = sql.SQL(", ").join(map(sql.Identifier, rows.column_names))
        copy = sql.SQL("copy {} ({}) from stdin (format csv)").format(sql.Identifier(name), columns)
        buffer = io.BytesIO()
        without_header = pa.csv.WriteOptions(include_header=False)
        pa.csv.write_csv(rows, buffer, without_header)
        with connection.cursor().copy(copy) as channel:
            channel.write(buffer.getbuffer())
        connection.execute(
            "select setval(pg_get_serial_sequence(%s, 'id'), %s)",
            [name, max(rows.num_rows, 1)],
        )
