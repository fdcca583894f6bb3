"""A PostgreSQL server with a table of sales, and its log cut into transactions of a given size.

The log is written once and read by every run: each gets a copy of the slot that was made before the
first sale. The server is set as for production, but commits do not wait for the disk while the log
is written, and silent receivers are not dropped.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psycopg

from benchmarks.folders import passing_folder
from benchmarks.processes import ended_children_cpu_seconds
from upwell.core.position import Position
from upwell.core.protocols import Checksum
from upwell.demo.server import Server
from upwell.sources.postgres.checksum import row_checksums
from upwell.sources.postgres.wal import lsn_of, position_of

SEED = 7
TABLE = "sales"
PUBLICATION = "sales"
_DATABASE = "sales"
_SLOT = "before_sales"
_SETTINGS = {
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",
    "synchronous_commit": "off",
    "wal_sender_timeout": "0",
    "autovacuum": "off",
}
_STATEMENTS = Path(__file__).with_suffix(".sql")


@dataclass(frozen=True)
class Log:
    """A written log: how many rows in transactions of how many, and what the table then holds."""

    server: Server
    rows: int
    transaction_rows: int
    checksum: Checksum
    first: Position  # where the slot begins

    @property
    def transactions(self) -> int:
        return -(-self.rows // self.transaction_rows)

    def url(self, *, over_tcp: bool) -> str:
        return url_of(self.server, over_tcp=over_tcp)


def url_of(server: Server, *, over_tcp: bool) -> str:
    """The database, over TCP on loopback or over the Unix socket."""
    return server.url_of(_DATABASE) if over_tcp else server.socket_url_of(_DATABASE)


@contextmanager
def running_server() -> Iterator[Server]:
    """A server in a folder that goes with it."""
    with passing_folder() as folder, Server(folder / "server", settings=_SETTINGS) as server:
        yield server


def make_table(server: Server, rows: int, *, filled: bool = False) -> None:
    """The database anew, with ``rows`` sales to come, or in already."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"drop database if exists {_DATABASE} with (force)")
        connection.execute(f"create database {_DATABASE}")
    with _connected(server) as connection:
        connection.execute(_statement("tables"))
        connection.execute(_statement("pool", seed=SEED, rows=rows))
        if filled:
            connection.execute("insert into sales select * from pool")
        connection.execute("vacuum analyze")


@contextmanager
def written_log(server: Server, rows: int, transaction_rows: int) -> Iterator[Log]:
    """Sell ``rows`` in transactions of ``transaction_rows``; the log goes afterwards."""
    sys.stderr.write(f"  writing {rows:,} rows in transactions of {transaction_rows:,}\n")
    make_table(server, rows)
    with _connected(server) as connection:
        created = connection.execute(
            "select lsn::text from pg_create_logical_replication_slot(%s, 'pgoutput')", [_SLOT]
        ).fetchone()
        assert created is not None  # noqa: S101 - a function call has one row
        connection.execute(_statement("sell", rows=rows, size=transaction_rows))
        connection.execute("checkpoint")
        try:
            yield Log(
                server,
                rows,
                transaction_rows,
                checksum_of(server),
                position_of(lsn_of(created[0])),
            )
        finally:
            _drop_slot(connection, _SLOT)


def checksum_of(server: Server) -> Checksum:
    """Rows of the table and the sum of their checksums, as PostgreSQL computes them."""
    sums = row_checksums(url_of(server, over_tcp=False), "shop", [TABLE])
    return sums[f"shop.{TABLE}"]


@contextmanager
def slot_copy(log: Log, name: str) -> Iterator[None]:
    """A slot ``name`` that begins before the first sale."""
    with _connected(log.server) as connection:
        connection.execute("select pg_copy_logical_replication_slot(%s, %s)", [_SLOT, name])
        try:
            yield
        finally:
            _drop_slot(connection, name)


class ServerTime:
    """Processor time of the server's sessions that ended inside."""

    def __init__(self, server: Server) -> None:
        self._pid = server.pid or 0
        self.seconds = 0.0

    def __enter__(self) -> Self:
        self._before = ended_children_cpu_seconds(self._pid)
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = ended_children_cpu_seconds(self._pid) - self._before


def _drop_slot(connection: psycopg.Connection, name: str) -> None:
    """Once its reader is gone, which the server notices within a moment."""
    deadline = time.monotonic() + 10
    active = "select 1 from pg_replication_slots where slot_name = %s and active"
    while connection.execute(active, [name]).fetchone() and time.monotonic() < deadline:
        time.sleep(0.02)
    connection.execute("select pg_drop_replication_slot(%s)", [name])


def _connected(server: Server) -> psycopg.Connection:
    return psycopg.connect(url_of(server, over_tcp=False), autocommit=True)


def _statement(name: str, **values: int) -> bytes:
    """A named statement of the file beside this module, with its numbers filled in."""
    text = _STATEMENTS.read_text(encoding="utf-8")
    for part in text.split("-- name: ")[1:]:
        title, _, statement = part.partition("\n")
        if title.strip() == name:
            for key, value in values.items():
                statement = statement.replace(f":{key}", str(value))
            return statement.encode()
    raise KeyError(name)
