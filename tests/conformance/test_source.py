"""What every source promises, held against the scripted one and PostgreSQL."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Protocol

import psycopg
import pyarrow as pa
import pytest

from upwell.core.position import Position
from upwell.core.protocols import Operation, Source, SourceBatch, Stream, TableChanges
from upwell.core.schema import Column, TableSchema
from upwell.demo.server import Server
from upwell.sources.postgres import PostgresSource
from upwell.testing import MemorySource, changed_rows, one_transaction

ORDERS = TableSchema("shop.orders", (Column("id", "INTEGER", nullable=False),), ("id",))


class Shop(Protocol):
    """A source, and the till behind it. It begins with order 0."""

    source: Source

    def sell(self, *ids: int) -> None:
        """One transaction that writes these orders."""
        ...


class Scripted:
    def __init__(self) -> None:
        self._memory = MemorySource("shop", [(ORDERS, orders(0))])
        self._count = 0
        self.source: Source = self._memory

    def sell(self, *ids: int) -> None:
        self._count += 1
        at_us = time.time_ns() // 1000
        changes = changed_rows(ORDERS, orders(*ids))
        self._memory.add(one_transaction(f"{self._count:08}", changes, committed_at_us=at_us))


class Postgres:
    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._connection.execute("drop table if exists orders")
        self._connection.execute("create table orders (id int primary key)")
        self.sell(0)
        self.postgres = PostgresSource("shop", url, ["orders"], slot="conformance")
        self.source: Source = self.postgres

    def sell(self, *ids: int) -> None:
        values = ", ".join(f"({number})" for number in ids)
        self._connection.execute(f"insert into orders values {values}".encode())

    def close(self) -> None:
        self.source.close()
        deadline = time.monotonic() + 30
        while self._connection.execute(
            "select pg_terminate_backend(active_pid) from pg_replication_slots"
            " where slot_name = 'conformance' and active"
        ).fetchone():
            assert time.monotonic() < deadline
        self._connection.execute(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots"
            " where slot_name = 'conformance'"
        )
        self._connection.execute("drop publication if exists conformance")
        self._connection.execute("drop table orders")
        self._connection.close()


def orders(*ids: int) -> pa.Table:
    return pa.table({"id": pa.array(ids, pa.int32())})


@pytest.fixture(params=["scripted", pytest.param("postgres", marks=pytest.mark.postgres)])
def shop(request: pytest.FixtureRequest) -> Iterator[Shop]:
    if request.param == "scripted":
        yield Scripted()
        return
    server: Server = request.getfixturevalue("postgres")
    postgres = Postgres(server.url)
    yield postgres
    postgres.close()


def begin(shop: Shop) -> Position:
    """Read the tables away: a position to stream from."""
    snapshot = shop.source.snapshot()
    list(snapshot.read(ORDERS.name))
    snapshot.keep()
    snapshot.close()
    return snapshot.position


def gather(stream: Stream, changes: int) -> list[SourceBatch]:
    """The batches up to this many changes."""
    batches: list[SourceBatch] = []
    deadline = time.monotonic() + 20
    while sum(ids_of(batches).values()) < changes:
        assert time.monotonic() < deadline
        batch = stream.poll(1.0)
        batches += [batch] if batch is not None else []
    return batches


def ids_of(batches: list[SourceBatch]) -> Counter[Any]:
    found: Counter[Any] = Counter()
    for batch in batches:
        for change in batch.changes:
            assert isinstance(change, TableChanges)
            assert set(change.operations.tolist()) == {Operation.INSERT}
            found.update(change.rows.column("id").to_pylist())
    return found


def test_the_snapshot_holds_the_tables_as_they_stood(shop: Shop) -> None:
    assert [schema.name for schema in shop.source.tables] == [ORDERS.name]
    assert shop.source.tables[0].key == ("id",)
    snapshot = shop.source.snapshot()
    shop.sell(1)
    parts = list(snapshot.read(ORDERS.name))
    assert [row for part in parts for row in part.column("id").to_pylist()] == [0]
    snapshot.keep()
    snapshot.close()


def test_the_stream_joins_the_snapshot_without_gap_or_double(shop: Shop) -> None:
    snapshot = shop.source.snapshot()
    shop.sell(1)
    list(snapshot.read(ORDERS.name))
    snapshot.keep()
    snapshot.close()
    shop.sell(2)
    stream = shop.source.stream(snapshot.position)
    assert ids_of(gather(stream, 2)) == Counter([1, 2])
    stream.close()


def test_positions_rise_and_transactions_stay_whole(shop: Shop) -> None:
    stream = shop.source.stream(begin(shop))
    for first in (10, 20, 30):
        shop.sell(first, first + 1)
    batches = [batch for batch in gather(stream, 6) if batch.changes]
    positions = [batch.position for batch in batches]
    assert positions == sorted(set(positions))
    for batch in batches:
        (change,) = batch.changes
        assert isinstance(change, TableChanges)
        counts = Counter(change.transaction.tolist())
        assert counts == Counter(dict.fromkeys(range(len(batch.transactions)), 2))
        assert batch.transactions.positions[-1] <= batch.position
        assert batch.complete_through_us >= batch.transactions.committed_at_us.max()
    stream.close()


def test_a_stream_begun_again_gives_what_lies_after_its_position(shop: Shop) -> None:
    stream = shop.source.stream(begin(shop))
    shop.sell(1)
    position = gather(stream, 1)[-1].position
    stream.acknowledge(position)
    stream.close()
    shop.sell(2)
    again = shop.source.stream(position)
    assert ids_of(gather(again, 1)) == Counter([2])
    again.close()


def test_what_was_not_acknowledged_is_given_again(shop: Shop) -> None:
    position = begin(shop)
    stream = shop.source.stream(position)
    shop.sell(1)
    gather(stream, 1)
    stream.close()
    again = shop.source.stream(position)
    assert ids_of(gather(again, 1)) == Counter([1])
    again.close()


def test_time_goes_on_while_nothing_happens(shop: Shop) -> None:
    stream = shop.source.stream(begin(shop))
    times: list[int] = []
    deadline = time.monotonic() + 20
    while len(times) < 3:
        assert time.monotonic() < deadline
        batch = stream.poll(1.0)
        if batch is not None:
            assert not batch.changes
            times.append(batch.complete_through_us)
    assert times == sorted(set(times))
    stream.close()
