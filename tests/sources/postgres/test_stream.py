"""The stream: whole transactions in order, from any position, without gap or double."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pyarrow as pa
import pytest

from upwell.core.position import Position
from upwell.core.protocols import LayoutChange, SourceBatch, TableChanges, Truncation
from upwell.sources.asking import Asking
from upwell.sources.postgres import PostgresSource
from upwell.sources.postgres.checksum import row_checksums, wal_position
from upwell.sources.postgres.stream import PostgresStream

from .conftest import Database
from .replica import Replica, copied, reached

pytestmark = pytest.mark.postgres


def changes_of(batches: list[SourceBatch]) -> list[TableChanges | Truncation]:
    """Changes of rows; those of layouts are in ``layouts_of``."""
    changes = (change for batch in batches for change in batch.changes)
    return [change for change in changes if not isinstance(change, LayoutChange)]


def layouts_of(batches: list[SourceBatch]) -> list[LayoutChange]:
    changes = (change for batch in batches for change in batch.changes)
    return [change for change in changes if isinstance(change, LayoutChange)]


def gather(stream: PostgresStream, database: Database) -> list[SourceBatch]:
    """Every batch up to where the source's log stands now."""
    target = wal_position(database.url)
    batches: list[SourceBatch] = []
    deadline = time.monotonic() + 30
    while not batches or batches[-1].position < target:
        assert time.monotonic() < deadline
        batch = stream.poll(1.0)
        if batch is not None:
            batches.append(batch)
    return batches


def confirmed(database: Database) -> Position:
    query = "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = '{}'"
    text = str(database.value(query.format(database.slot)))
    high, low = text.split("/")
    return Position(f"{int(high, 16):08X}/{int(low, 16):08X}")


def test_a_truncation_stands_between_the_changes_around_it(database: Database) -> None:
    database.run("create table a (id int primary key); create table b (id int primary key)")
    stream = database.stream(database.start("a", "b"))
    database.run(
        "begin; insert into a values (1); insert into b values (1); truncate a;"
        "insert into a values (2); commit"
    )
    changes = changes_of(gather(stream, database))
    of_a = [change for change in changes if change.table == "shop.a"]
    assert [type(change) for change in of_a] == [TableChanges, Truncation, TableChanges]
    assert [change for change in changes if change.table == "shop.b"]


def test_one_truncate_of_many_tables_truncates_each(database: Database) -> None:
    database.run("create table a (id int primary key); create table b (id int primary key)")
    stream = database.stream(database.start("a", "b"))
    database.run("truncate a, b")
    changes = changes_of(gather(stream, database))
    assert [type(change) for change in changes] == [Truncation, Truncation]
    assert {change.table for change in changes} == {"shop.a", "shop.b"}


def test_a_new_layout_inside_a_transaction_starts_new_changes(database: Database) -> None:
    database.run("create table a (id int primary key, x int)")
    stream = database.stream(database.start("a"))
    database.run(
        "begin; insert into a values (1, 10); alter table a add y text;"
        "insert into a values (2, 20, 'why'); alter table a add z int;"
        "insert into a values (3, 30, 'so', 9); commit"
    )
    changes = changes_of(gather(stream, database))
    assert [change.schema.column_names for change in changes] == [
        ("id", "x"),
        ("id", "x", "y"),
        ("id", "x", "y", "z"),
    ]
    rows = [change.rows.to_pylist() for change in changes if isinstance(change, TableChanges)]
    assert rows == [
        [{"id": 1, "x": 10}],
        [{"id": 2, "x": 20, "y": "why"}],
        [{"id": 3, "x": 30, "y": "so", "z": 9}],
    ]


def test_the_same_layout_announced_again_does_not_split(database: Database) -> None:
    database.run("create table a (id int primary key)")
    stream = database.stream(database.start("a"))
    database.run("begin; insert into a values (1); analyze a; insert into a values (2); commit")
    (change,) = changes_of(gather(stream, database))
    assert isinstance(change, TableChanges)
    assert change.rows.num_rows == 2


def test_changes_of_a_table_keep_their_order_among_those_of_others(database: Database) -> None:
    database.run("create table a (id int primary key, n int); create table b (id int primary key)")
    stream = database.stream(database.start("a", "b"))
    database.run("insert into a values (1, 0)")
    for number in range(1, 6):
        database.run(f"begin; update a set n = {number}; insert into b values ({number}); commit")
    seen: list[int] = []
    for change in changes_of(gather(stream, database)):
        if change.table == "shop.a":
            assert isinstance(change, TableChanges)
            seen += change.rows.column("n").to_pylist()
    assert seen == [0, 1, 2, 3, 4, 5]


def test_moved_keys_come_with_the_key_they_left(database: Database) -> None:
    database.run("create table a (id int, part text, n int, primary key (part, id))")
    stream = database.stream(database.start("a"))
    database.run("insert into a values (1, 'x', 0), (2, 'x', 0)")
    database.run("begin; update a set n = 1; update a set part = 'y' where id = 2; commit")
    batches = gather(stream, database)
    moved = [
        (change.old_key_rows.tolist(), change.old_keys.to_pylist())
        for change in changes_of(batches)
        if isinstance(change, TableChanges) and change.old_keys is not None
    ]
    assert len(moved) == 1
    assert moved[0][1] == [{"part": "x", "id": 2}]


def test_a_table_with_a_wider_replica_identity_is_followed_by_its_key(database: Database) -> None:
    database.run(
        "create table a (id int primary key, code text not null, n int);"
        "create unique index wide on a (code, id); alter table a replica identity using index wide"
    )
    stream = database.stream(database.start("a"))
    database.run("insert into a values (1, 'x', 0), (2, 'y', 0), (3, 'z', 0)")
    database.run("update a set code = 'w' where id = 1; update a set id = 9 where id = 2")
    database.run("delete from a where id = 3")
    replica = Replica()
    replica.follow(stream, reached(wal_position(database.url)))
    expected = row_checksums(database.url, "shop", ["a"])["shop.a"]
    assert replica.checksum("shop.a") == expected


def test_a_long_key_that_was_toasted_is_followed(database: Database) -> None:
    database.run(
        "create table a (code text primary key, big text, n int);"
        "alter table a alter code set storage external"
    )
    stream = database.stream(database.start("a"))
    database.run("insert into a values (repeat('k', 2500), repeat('b', 9000), 0)")
    database.run("update a set n = 1; update a set n = 2, code = repeat('l', 2500)")
    replica = Replica()
    replica.follow(stream, reached(wal_position(database.url)))
    expected = row_checksums(database.url, "shop", ["a"])["shop.a"]
    assert replica.checksum("shop.a") == expected


def test_a_delete_carries_the_key_alone_though_the_source_sends_the_row(
    database_18: Database,
) -> None:
    database_18.run("create table a (id int primary key, t text); insert into a values (1, 'x')")
    database_18.run("alter table a replica identity full")
    stream = database_18.stream(database_18.start("a"))
    database_18.run("delete from a")
    (change,) = changes_of(gather(stream, database_18))
    assert isinstance(change, TableChanges)
    assert change.rows.to_pylist() == [{"id": 1, "t": None}]


def test_rows_of_inheriting_tables_belong_to_neither_copy_nor_stream(database: Database) -> None:
    database.run("create table a (id int primary key); create table child () inherits (a)")
    database.run("insert into a values (1); insert into child values (2)")
    stream = database.stream(database.start("a"))
    (table,) = database.tables()
    rows = [row for batch in copied(database.copy(), table) for row in batch.to_pylist()]
    database.run("insert into child values (3); insert into a values (4)")
    for change in changes_of(gather(stream, database)):
        assert isinstance(change, TableChanges)
        rows += change.rows.to_pylist()
    assert [row["id"] for row in rows] == [1, 4]


def test_a_table_of_another_schema_has_its_schema_in_its_name(database: Database) -> None:
    database.run('create schema sales; create table sales."Odd ""name%" (id int primary key)')
    database.run('insert into sales."Odd ""name%" values (1)')
    name = 'sales.Odd "name%'
    stream = database.stream(database.start(name))
    (table,) = database.tables()
    assert table.name == 'shop.sales__Odd "name%'
    assert [batch.num_rows for batch in copied(database.copy(), table)] == [1]
    database.run('insert into sales."Odd ""name%" values (2)')
    assert [change.table for change in changes_of(gather(stream, database))] == [
        'shop.sales__Odd "name%'
    ]


def test_generated_columns_are_left_out_of_copy_and_stream_alike(database: Database) -> None:
    database.run(
        "create table a (id int primary key, twice int generated always as (id * 2) stored);"
        "insert into a values (1)"
    )
    stream = database.stream(database.start("a"))
    (table,) = database.tables()
    assert table.schema.column_names == ("id",)
    assert [batch.schema.names for batch in copied(database.copy(), table)] == [["id"]]
    database.run("insert into a values (2)")
    assert changes_of(gather(stream, database))[0].schema.column_names == ("id",)


def test_a_transaction_beyond_a_batch_stays_whole(database: Database) -> None:
    database.run("create table a (id int primary key, t text, n numeric(12,2))")
    stream = database.stream(database.start("a"))
    database.run("insert into a select i, repeat('x', 80), i from generate_series(1, 200000) i")
    (batch,) = [batch for batch in gather(stream, database) if batch.changes]
    assert len(batch.transactions) == 1
    (change,) = batch.changes
    assert isinstance(change, TableChanges)
    assert change.rows.num_rows == 200_000
    ids: pa.ChunkedArray = change.rows.column("id")
    assert ids.to_numpy().tolist() == list(range(1, 200_001))


def test_many_transactions_are_cut_into_batches_at_commits(database_18: Database) -> None:
    database_18.run("create table a (id int primary key, t text)")
    stream = database_18.stream(database_18.start("a"))
    database_18.run(
        "do $$ begin for i in 1..60 loop"
        "  insert into a select i * 1000 + j, repeat('x', 700) from generate_series(1, 1000) j;"
        "  commit; end loop; end $$"
    )
    batches = [batch for batch in gather(stream, database_18) if batch.changes]
    assert len(batches) >= 3
    assert sum(len(batch.transactions) for batch in batches) == 60
    for batch in batches:
        assert batch.position == batch.transactions.positions[-1]
        for change in batch.changes:
            assert isinstance(change, TableChanges)
            assert change.rows.num_rows == 1000 * len(batch.transactions)


def test_a_stream_goes_on_from_any_position_it_gave(database: Database) -> None:
    database.run("create table a (id int primary key)")
    start = database.start("a")
    stream = database.stream(start)
    for number in range(5):
        database.run(f"insert into a values ({number})")
    batches = gather(stream, database)
    positions = [position for batch in batches for position in batch.transactions.positions]
    stream.close()
    for skipped, position in enumerate([start, *positions]):
        again = database.stream(position)
        database.run(f"insert into a values ({100 + skipped})")
        ids = [
            value
            for change in changes_of(gather(again, database))
            if isinstance(change, TableChanges)
            for value in change.rows.column("id").to_pylist()
        ]
        assert ids == [*range(skipped, 5), *range(100, 100 + skipped + 1)]
        again.close()


@contextmanager
def writer(database: Database) -> Iterator[None]:
    """Somebody who inserts, updates, moves and deletes all the time."""
    stop = threading.Event()

    def write() -> None:
        with psycopg.connect(database.url, autocommit=True) as connection:
            number = 0
            while not stop.is_set():
                number += 1
                with connection.transaction():
                    connection.execute("insert into a values (%s, %s)", [number, "x" * 50])
                    connection.execute("update a set t = 'y' where id = %s", [number // 2])
                    connection.execute("update a set id = -id where id = %s", [number // 3])
                    connection.execute("delete from a where id = %s", [-(number // 5)])

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def count(database: Database) -> int:
    value = database.value("select count(*) from a")
    assert isinstance(value, int)
    return value


def test_copy_and_stream_join_without_gap_or_double_while_others_write(
    database: Database,
) -> None:
    database.run("create table a (id int primary key, t text)")
    replica = Replica()
    position = database.start("a")
    (table,) = database.tables()
    stream, copy = database.stream(position), database.copy()
    replica.expect(table)
    batches: list[pa.RecordBatch] = []
    with writer(database):
        while count(database) < 300:
            pass
        replica.follow(stream, reached(wal_position(database.url)))
        for part in copy.plan(table, 1).parts:  # a page each
            read = copy.read(table, part)
            batches += read.rows
            replica.follow(stream, reached(read.position))
        joined = replica.join(table.name, batches)
        while count(database) < joined + 300:
            pass
    replica.follow(stream, reached(wal_position(database.url)))
    expected = row_checksums(database.url, "shop", ["a"])["shop.a"]
    assert replica.checksum("shop.a") == expected


def test_an_idle_stream_moves_time_and_position(database: Database) -> None:
    database.run("create table a (id int primary key); create table elsewhere (t text)")
    stream = database.stream(database.start("a"))
    first = gather(stream, database)[-1]
    database.run("insert into elsewhere select repeat('x', 100) from generate_series(1, 1000)")
    later = gather(stream, database)[-1]
    assert later.changes == ()
    assert later.position > first.position
    assert later.complete_through_us > first.complete_through_us
    now_us = time.time_ns() // 1000
    assert abs(later.clock_skew_us) < 1_000_000
    assert abs(now_us - later.complete_through_us) < 5_000_000


def test_idle_batches_come_at_least_every_second(database_18: Database) -> None:
    database_18.run("create table a (id int primary key)")
    stream = database_18.stream(database_18.start("a"))
    times = []
    for _ in range(4):
        batch = stream.poll(1.2)
        assert batch is not None
        times.append(batch.complete_through_us)
    assert times == sorted(set(times))


def test_only_what_the_engine_acknowledged_is_acknowledged(database: Database) -> None:
    database.run("create table a (id int primary key)")
    start = database.start("a")
    stream = database.stream(start)
    database.run("insert into a values (1); insert into a values (2)")
    batches = gather(stream, database)
    assert confirmed(database) == start
    stream.acknowledge(batches[-1].position)
    deadline = time.monotonic() + 10
    while confirmed(database) < batches[-1].position:
        assert time.monotonic() < deadline
    assert confirmed(database) == batches[-1].position


def test_a_lost_clock_connection_stops_time_but_not_the_stream(database_18: Database) -> None:
    database_18.run("create table a (id int primary key)")
    stream = database_18.stream(database_18.start("a"))
    gather(stream, database_18)
    database_18.run(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        f" where application_name = 'upwell clock' and datname = '{database_18.name}'"
    )
    database_18.run("insert into a values (1)")
    replica = Replica()
    replica.follow(stream, lambda batch: bool(batch.changes))
    assert len(replica.rows["shop.a"]) == 1


def test_our_clock_is_compared_with_the_sources_before_the_first_batch(
    database_18: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    hour_us = 3_600_000_000
    database_18.run("create table a (id int primary key)")
    position = database_18.start("a")
    tables = database_18.tables()
    source = PostgresSource(
        "shop",
        database_18.url,
        ["a"],
        slot=database_18.slot,
        now_us=lambda: time.time_ns() // 1000 + hour_us,
    )
    database_18.sources.append(source)
    database_18.run("insert into a values (1)")
    monkeypatch.setattr(Asking, "_run", lambda _: None)  # the thread is late
    batch = source.stream(position, tables).poll(10)
    assert batch is not None
    assert abs(batch.clock_skew_us - hour_us) < 5_000_000


def test_a_beginning_is_dated_by_the_sources_clock_moved_onto_ours(database_18: Database) -> None:
    def clock() -> int:
        value = database_18.value(
            "select (extract(epoch from clock_timestamp()) * 1000000)::bigint"
        )
        assert isinstance(value, int)
        return value

    database_18.run("create table a (id int primary key)")
    hour_us = 3_600_000_000
    source = PostgresSource(
        "shop",
        database_18.url,
        ["a"],
        slot=database_18.slot,
        now_us=lambda: clock() - hour_us,
    )
    before_us = clock()
    beginning = source.begin(list(source.look().tables.values()))
    assert before_us <= beginning.at_us + hour_us <= clock()


def test_turning_to_text_acknowledges_no_more_than_before(database: Database) -> None:
    database.run("create table a (id int primary key)")
    start = database.start("a")
    stream = database.stream(start)
    database.run("insert into a values (1)")
    gather(stream, database)  # given, but not acknowledged
    database.run("alter table a add span interval; insert into a values (2, '1 day')")
    assert gather(stream, database)
    stream.close()  # sends a last status
    assert confirmed(database) == start
