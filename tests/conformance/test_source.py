"""What every source promises, held against the scripted one, databases, and one screened."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Protocol

import duckdb
import psycopg
import pyarrow as pa
import pytest

from tests.conformance.gathered import gather, ids_of
from tests.sources.mysql.shop import Mariadb
from upwell.core.errors import LayoutChangedError
from upwell.core.position import Position
from upwell.core.protocols import (
    Checksum,
    CopiedRows,
    Copy,
    KeyRange,
    LayoutChange,
    Source,
    SourceTable,
    TableChanges,
)
from upwell.core.schema import Column, TableSchema
from upwell.security.predicate import parse_predicate
from upwell.security.rule import Rule
from upwell.security.screen import Screen
from upwell.security.source import ScreenedSource
from upwell.sources.postgres import PostgresSource
from upwell.testing import MemorySource, changed_rows, one_transaction

ORDERS = TableSchema("shop.orders", (Column("id", "INTEGER", nullable=False),), ("id",))


class Shop(Protocol):
    """A source, and the till behind it. It begins with order 0."""

    source: Source

    def sell(self, *ids: int) -> None:
        """One transaction that writes these orders."""
        ...


class Database(Shop, Protocol):
    """One whose tables do not stay as they began, unlike those of a script."""

    def add_column(self) -> None:
        """A column whose value is 7 in all rows there are."""
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
        self._connection.execute(f"insert into orders (id) values {values}".encode())

    def add_column(self) -> None:
        self._connection.execute("alter table orders add kind int default 7")

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


DATABASES = [
    pytest.param("postgres", marks=pytest.mark.postgres),
    pytest.param("mariadb", marks=pytest.mark.mariadb),
]


@contextlib.contextmanager
def opened(request: pytest.FixtureRequest) -> Iterator[Database]:
    server = request.getfixturevalue(request.param)
    made = Postgres(server.url) if request.param == "postgres" else Mariadb(server)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    with opened(request) as made:
        yield made


@pytest.fixture(params=["scripted", "screened", *DATABASES])
def shop(request: pytest.FixtureRequest) -> Iterator[Shop]:
    if request.param == "scripted":
        yield Scripted()
        return
    if request.param == "screened":
        screened = Scripted()
        rule = Rule(rows=parse_predicate("id >= 0"))
        screened.source = ScreenedSource(screened.source, Screen({ORDERS.name: rule}, ""))
        yield screened
        return
    with opened(request) as made:
        yield made


def tables_of(shop: Shop) -> list[SourceTable]:
    return list(shop.source.look().tables.values())


def begin(shop: Shop) -> tuple[Position, list[SourceTable]]:
    """Have the log kept: a position to stream from, and the tables in the states they are in."""
    tables = tables_of(shop)
    return shop.source.begin(tables).position, tables


@pytest.fixture
def copy(shop: Shop) -> Iterator[Copy]:
    """What reads the tables."""
    copy = shop.source.copy()
    yield copy
    copy.close()


def rows_of(read: CopiedRows) -> list[Any]:
    assert not read.refused
    return [value for batch in read.rows for value in batch.column("id").to_pylist()]


def test_a_look_tells_the_tables_and_that_nothing_has_become_of_them(shop: Shop) -> None:
    looked = shop.source.look()
    assert {name: table.name for name, table in looked.tables.items()} == {ORDERS.name: ORDERS.name}
    assert looked.tables[ORDERS.name].schema.key == ("id",)
    assert (looked.unfit, looked.changes) == ({}, {})
    shop.sell(1)
    again = shop.source.look(list(looked.tables.values()))
    assert [each.schema for each in again.tables.values()] == [ORDERS]
    assert (again.unfit, again.changes) == ({}, {})


def test_a_beginning_tells_where_when_and_in_which_source(shop: Shop) -> None:
    before_us = time.time_ns() // 1000
    first = shop.source.begin(tables_of(shop))
    second = shop.source.begin(tables_of(shop))
    assert first.identity == second.identity
    assert second.position >= first.position
    assert abs(first.at_us - before_us) < 60_000_000


def test_what_is_followed_can_be_told_again(shop: Shop) -> None:
    _, tables = begin(shop)
    assert list(shop.source.follow_only(tables)) == []
    assert list(shop.source.follow_only(tables)) == []


def test_a_copy_holds_the_tables_as_they_stand(shop: Shop, copy: Copy) -> None:
    (table,) = tables_of(shop)
    plan = copy.plan(table, 1 << 20)
    reads = [copy.read(table, part) for part in plan.parts]
    assert [value for read in reads for value in rows_of(read)] == [0]
    assert plan.estimated_rows >= 0
    for part in plan.parts:  # as often as one likes
        assert copy.read(table, part).rows == reads[plan.parts.index(part)].rows


def test_parts_and_stream_make_the_table_where_the_streams_rows_win(shop: Shop, copy: Copy) -> None:
    position, (table,) = begin(shop)
    stream = shop.source.stream(position, [table])
    shop.sell(1)
    copied: set[Any] = set()
    number = 1
    reached = position
    for part in copy.plan(table, 1).parts:
        number += 1
        shop.sell(number)
        read = copy.read(table, part)
        copied.update(rows_of(read))
        reached = max(reached, read.position)
    number += 1
    shop.sell(number)
    batches = gather(stream, number)
    assert batches[-1].position >= reached
    streamed = ids_of(batches)
    assert streamed == Counter(range(1, number + 1))  # each once
    assert copied | set(streamed) == set(range(number + 1))
    assert copied - set(streamed) == {0}
    stream.close()


def test_what_the_stream_gave_before_a_plan_shows_in_every_reading_after_it(
    database: Database,
) -> None:
    shop = database
    position, (table,) = begin(shop)
    stream = shop.source.stream(position, [table])
    shop.sell(*range(1, 500))
    gather(stream, 499)
    copy = shop.source.copy()
    parts = copy.plan(table, 1).parts
    assert sorted(value for part in parts for value in rows_of(copy.read(table, part))) == list(
        range(500)
    )
    copy.close()
    stream.close()


def test_rows_are_read_by_their_keys_as_far_as_they_are_there(shop: Shop, copy: Copy) -> None:
    (table,) = tables_of(shop)
    assert rows_of(copy.read_rows(table, orders(0, 77))) == [0]
    assert rows_of(copy.read_rows(table, orders(77))) == []


def test_a_copy_of_a_table_that_changed_ends(database: Database) -> None:
    shop, copy = database, database.source.copy()
    (table,) = tables_of(shop)
    parts = copy.plan(table, 1 << 20).parts
    shop.add_column()
    for act in (
        lambda: copy.plan(table, 1 << 20),
        lambda: copy.read(table, parts[0]),
        lambda: copy.read_rows(table, orders(0)),
    ):
        with pytest.raises(LayoutChangedError):
            act()
    (change,) = shop.source.look([table]).changes.values()
    assert change.now.schema.column_names == ("id", "kind")
    assert rows_of(copy.read(change.now, copy.plan(change.now, 1 << 20).parts[0])) == [0]
    copy.close()


def test_what_has_become_of_a_table_comes_first_in_its_stream(database: Database) -> None:
    shop = database
    position, tables = begin(shop)
    shop.add_column()
    stream = shop.source.stream(position, tables)
    batch = stream.poll(10)
    assert batch is not None
    (change,) = batch.changes
    assert isinstance(change, LayoutChange)
    assert change.fills is not None
    assert (change.table, change.fills.to_pylist()) == (ORDERS.name, [{"kind": 7}])
    assert batch.position >= position
    stream.close()
    stream = shop.source.stream(batch.position, [change.now])
    shop.sell(1)
    assert ids_of(gather(stream, 1)) == Counter([1])
    stream.close()


def test_positions_rise_and_transactions_stay_whole(shop: Shop) -> None:
    stream = shop.source.stream(*begin(shop))
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
    position, tables = begin(shop)
    stream = shop.source.stream(position, tables)
    shop.sell(1)
    position = gather(stream, 1)[-1].position
    stream.acknowledge(position)
    stream.close()
    shop.sell(2)
    again = shop.source.stream(position, tables)
    assert ids_of(gather(again, 1)) == Counter([2])
    again.close()


def test_what_was_not_acknowledged_is_given_again(shop: Shop) -> None:
    position, tables = begin(shop)
    stream = shop.source.stream(position, tables)
    shop.sell(1)
    gather(stream, 1)
    stream.close()
    again = shop.source.stream(position, tables)
    assert ids_of(gather(again, 1)) == Counter([1])
    again.close()


def test_time_goes_on_while_nothing_happens(shop: Shop) -> None:
    stream = shop.source.stream(*begin(shop))
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


# ── comparing ────────────────────────────────────────────────────────────────────────────────────


def stored(shop: Shop, ids: pa.Table) -> Checksum:
    """The checksum of rows as the hot store computes it."""
    with duckdb.connect() as store:
        store.register("kept", ids)
        found = store.execute(shop.source.checksum_sql(ORDERS, "kept")).fetchone()
    assert found is not None
    return Checksum(int(found[0]), int(found[1]))


def test_only_a_range_of_keys_that_differs_is_read(database: Database) -> None:
    shop, copy = database, database.source.copy()
    position, (table,) = begin(shop)
    shop.sell(1, 2, 3, 10, 11)
    assert shop.source.has_ordered_keys(table.schema)
    for begin_at, end_at, ids in (
        (None, ("2",), (0, 1)),
        (("2",), ("11",), (2, 3, 10)),
        (("11",), None, (11,)),
        (None, None, (0, 1, 2, 3, 10, 11)),
    ):
        keys = KeyRange(begin_at, end_at)
        same = copy.compare(table, keys, stored(shop, orders(*ids)))
        assert not isinstance(same, CopiedRows)
        assert same >= position
        other = copy.compare(table, keys, stored(shop, orders(*ids, 77)))
        assert isinstance(other, CopiedRows)
        assert rows_of(other) == list(ids)
        assert other.position >= position
    shop.add_column()
    with pytest.raises(LayoutChangedError):
        copy.compare(table, KeyRange(None, None), Checksum(0, 0))
    copy.close()


def test_a_stream_tells_what_following_costs(database: Database) -> None:
    stream = database.source.stream(*begin(database))
    deadline = time.monotonic() + 20
    while (burden := stream.burden) is None:
        assert time.monotonic() < deadline
        stream.poll(0.2)
    assert burden.connections >= 1
    assert burden.retained_bytes >= 0
    stream.close()


def test_a_source_that_was_released_can_be_begun_again(shop: Shop) -> None:
    stream = shop.source.stream(*begin(shop))
    stream.close()
    shop.source.release()
    stream = shop.source.stream(*begin(shop))
    shop.sell(5)
    assert ids_of(gather(stream, 1)) == Counter([5])
    stream.close()
