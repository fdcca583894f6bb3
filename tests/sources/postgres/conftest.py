"""Fresh databases, and a replica that follows a source row by row."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import psycopg
import pytest
from psycopg import sql

from upwell.core.position import Position
from upwell.core.protocols import SourceTable
from upwell.demo.server import Server
from upwell.sources.postgres import PostgresSource
from upwell.sources.postgres.copy import PostgresCopy
from upwell.sources.postgres.stream import PostgresStream

from .replica import Replica


@dataclass
class Database:
    """A database of a test's own, with an ordinary connection to it."""

    server: Server
    name: str
    connection: psycopg.Connection
    sources: list[PostgresSource] = field(default_factory=list)
    copies: list[PostgresCopy] = field(default_factory=list)
    number: str = field(default_factory=lambda: uuid.uuid4().hex[:12])

    @property
    def url(self) -> str:
        return self.server.url_of(self.name)

    @property
    def slot(self) -> str:
        return f"upwell_{self.number}"

    def run(self, statements: str) -> None:
        self.connection.execute(statements.encode())

    def value(self, query: str) -> object:
        row = self.connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]

    def source(self, *tables: str, url: str | None = None) -> PostgresSource:
        """A source over these tables, closed with the database."""
        self.sources.append(PostgresSource("shop", url or self.url, tables, slot=self.slot))
        return self.sources[-1]

    def start(self, *tables: str) -> Position:
        """Have the log kept from now on: a position from which to stream."""
        source = self.source(*tables)
        return source.begin(self.tables()).position

    def read_into(self, replica: Replica, *tables: str) -> Position:
        """Read the tables into ``replica``: a position from which to stream."""
        position = self.start(*tables)
        for table in self.tables():
            replica.load(self.copy(), table)
        return position

    def tables(self) -> list[SourceTable]:
        """The tables of the newest source, in the states they are in now."""
        return list(self.sources[-1].look().tables.values())

    def stream(self, position: Position) -> PostgresStream:
        """The changes of the tables of the newest source, in the states they are in now."""
        return self.sources[-1].stream(position, self.tables())

    def copy(self) -> PostgresCopy:
        """What reads the tables of the newest source, closed with the database."""
        self.copies.append(self.sources[-1].copy())
        return self.copies[-1]

    def close(self) -> None:
        """Let go of what was opened over the database."""
        for copy in self.copies:
            copy.close()
        for source in self.sources:
            source.close()

    def forget(self) -> None:
        """And of what was set up here to be followed."""
        self.close()
        self.run(_FORGET.format(slot=self.slot))


NewDatabase = Callable[[Server], Database]


@pytest.fixture(scope="session")
def database_names() -> dict[str, str]:
    """One database for the session on each server: making one anew takes longer than most tests."""
    return {}


@contextmanager
def emptied(server: Server, names: dict[str, str]) -> Iterator[Database]:
    """The session's database on ``server``, with nothing in it; its slots go away behind it."""
    if server.url not in names:
        names[server.url] = f"capture_{uuid.uuid4().hex[:8]}"
        with psycopg.connect(server.url, autocommit=True) as admin:
            made_name = sql.Identifier(names[server.url])
            admin.execute(sql.SQL("create database {}").format(made_name))
    name = names[server.url]
    with _connected(server.url_of(name)) as connection:
        database = Database(server, name, connection)
        try:
            database.run("drop schema if exists public, sales cascade; create schema public")
            yield database
        finally:
            database.forget()


@pytest.fixture
def new_database(database_names: dict[str, str]) -> Iterator[NewDatabase]:
    """Gives databases that are empty before the test, and whose slots go away after it."""
    with ExitStack() as made:
        yield lambda server: made.enter_context(emptied(server, database_names))


def _connected(url: str) -> psycopg.Connection:
    return psycopg.connect(url, autocommit=True)


_FORGET = """
    do $$ begin
      while exists (select from pg_replication_slots where slot_name = '{slot}' and active) loop
        perform pg_terminate_backend(active_pid) from pg_replication_slots
          where slot_name = '{slot}' and active;
      end loop;
      perform pg_drop_replication_slot(slot_name) from pg_replication_slots
        where slot_name = '{slot}';
    end $$;
    drop publication if exists {slot};
"""


@pytest.fixture
def database(postgres_server: Server, new_database: NewDatabase) -> Database:
    """A database on each of the servers."""
    return new_database(postgres_server)


@pytest.fixture
def database_18(postgres: Server, new_database: NewDatabase) -> Database:
    """A database on the embedded server alone."""
    return new_database(postgres)
