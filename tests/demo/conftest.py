"""Databases for the demo's tests: fresh ones, with or without a small shop."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from psycopg import sql

from upwell.demo.server import Server
from upwell.demo.shop import open_shop

LONDON = ZoneInfo("Europe/London")
NOON = datetime(2026, 6, 10, 11, 0, tzinfo=UTC)


@pytest.fixture
def new_database(postgres: Server) -> Iterator[Callable[[], str]]:
    """Makes databases that go away after the test; each call returns the URL of another."""
    names: list[str] = []

    def create() -> str:
        names.append(f"demo_{uuid.uuid4().hex[:12]}")
        admin.execute(sql.SQL("create database {}").format(sql.Identifier(names[-1])))
        return postgres.url_of(names[-1])

    with psycopg.connect(postgres.url, autocommit=True) as admin:
        yield create
        for name in names:
            admin.execute(
                sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
            )


@pytest.fixture
def small_shop(new_database: Callable[[], str]) -> Callable[[], str]:
    """Opens small shops, all alike; each call returns the URL of another."""

    def create() -> str:
        url = new_database()
        with psycopg.connect(url, autocommit=True) as connection:
            open_shop(
                connection, seed=3, now=NOON, zone=LONDON, days=6, orders_a_day=80, customers=60
            )
        return url

    return create


@pytest.fixture
def shop_connection(small_shop: Callable[[], str]) -> Iterator[psycopg.Connection[Any]]:
    """A connection to a small shop."""
    with psycopg.connect(small_shop(), autocommit=True) as connection:
        yield connection
