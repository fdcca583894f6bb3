"""Fresh databases on a MariaDB server."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.mariadb import Server
from tests.sources.mysql.replica import Replica
from upwell.sources.mysql import MySQLSource


@dataclass
class Database:
    """A database of a test's own, with an ordinary connection to it."""

    server: Server
    name: str
    connection: Any
    sources: list[MySQLSource] = field(default_factory=list)
    replicas: list[Replica] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.server.url_of(self.name)

    def run(self, *statements: str) -> None:
        with self.connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(query)
            return list(cursor.fetchall())

    def value(self, query: str) -> Any:
        return self.rows(query)[0][0]

    def source(self, *tables: str, url: str | None = None) -> MySQLSource:
        """A source over these tables, closed with the database."""
        self.sources.append(MySQLSource("shop", url or self.url, tables))
        return self.sources[-1]

    def replica(self, *tables: str) -> Replica:
        """A replica that follows these tables from now on, empty yet."""
        self.replicas.append(Replica(self.source(*tables), self.url, tables))
        return self.replicas[-1]


@pytest.fixture
def database(mariadb: Server) -> Iterator[Database]:
    """A database on the shared server."""
    made = make_database(mariadb)
    yield made
    drop_database(made)


@pytest.fixture
def own_server(mariadb: Server) -> Iterator[Server]:
    """A server that a test may stop, break and set otherwise. ``mariadb`` skips where none is."""
    assert mariadb.process_id  # or the test was skipped
    with tempfile.TemporaryDirectory(prefix="upwell-test-") as name, Server(Path(name)) as server:
        yield server


@pytest.fixture
def own_database(own_server: Server) -> Iterator[Database]:
    """A database on a server of the test's own."""
    made = make_database(own_server)
    yield made
    for source in made.sources:
        source.close()


def seldom(values: Iterable[str], *often: str) -> list[Any]:
    """Parameters of a test of which only those named run in the ordinary suite."""
    torture = pytest.mark.torture
    return [each if each in often else pytest.param(each, marks=torture) for each in values]


def make_database(server: Server) -> Database:
    """A new database; what its tables do not say is in utf8mb4."""
    name = f"shop_{uuid.uuid4().hex[:8]}"
    connection = server.connect()
    with connection.cursor() as cursor:
        cursor.execute(f"create database {name} character set utf8mb4")
    connection.select_db(name)
    return Database(server, name, connection)


def drop_database(database: Database) -> None:
    for replica in database.replicas:
        replica.close()
    for source in database.sources:
        source.close()
    database.run(f"drop database if exists {database.name}")
    database.connection.close()
