"""What every source promises, held against MariaDB."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import pyarrow as pa
import pytest

from tests.conformance.gathered import gather, ids_of
from tests.mariadb import Server
from tests.sources.mysql.shop import Mariadb
from upwell.core.protocols import SourceTable, Stream, TableChanges
from upwell.core.schema import Column, TableSchema

ORDERS = TableSchema("shop.orders", (Column("id", "INTEGER", nullable=False),), ("id",))

pytestmark = pytest.mark.mariadb


@pytest.fixture
def shop(mariadb: Server) -> Iterator[Mariadb]:
    made = Mariadb(mariadb)
    yield made
    made.close()


def table_of(shop: Mariadb) -> SourceTable:
    return shop.source.look().tables[ORDERS.name]


def begin(shop: Mariadb) -> Stream:
    table = table_of(shop)
    return shop.source.stream(shop.source.begin([table]).position, [table])


def test_a_look_gives_the_tables_as_they_stand(shop: Mariadb) -> None:
    looked = shop.source.look()
    assert [table.schema for table in looked.tables.values()] == [ORDERS]
    assert not looked.unfit
    assert not shop.source.look(list(looked.tables.values())).changes


def test_a_copy_holds_the_rows_and_a_position_that_the_stream_reaches(shop: Mariadb) -> None:
    stream = begin(shop)
    shop.sell(1)
    copy, table = shop.source.copy(), table_of(shop)
    plan = copy.plan(table, 1 << 20)
    copied = [copy.read(table, part) for part in plan.parts]
    rows = [row for part in copied for batch in part.rows for row in batch.column("id").to_pylist()]
    assert sorted(rows) == [0, 1]
    last = max(part.position for part in copied)
    assert gather(stream, 1)[-1].position >= last
    copy.close()


def test_rows_are_read_by_key(shop: Mariadb) -> None:
    shop.sell(5, 6, 7)
    copy, table = shop.source.copy(), table_of(shop)
    wanted = pa.table({"id": pa.array([6, 99, 0], pa.int32())})
    copied = copy.read_rows(table, wanted)
    assert sorted(row["id"] for batch in copied.rows for row in batch.to_pylist()) == [0, 6]
    copy.close()


def test_everything_the_stream_gave_before_a_plan_shows_in_what_is_read_after_it(
    shop: Mariadb,
) -> None:
    stream = begin(shop)
    copy, table = shop.source.copy(), table_of(shop)
    for number in range(1, 60):
        shop.sell(number)
        gather(stream, 1)
        (part,) = copy.plan(table, 1 << 20).parts
        copied = copy.read(table, part)
        assert sum(batch.num_rows for batch in copied.rows) == number + 1
    copy.close()


def test_positions_rise_and_transactions_stay_whole(shop: Mariadb) -> None:
    stream = begin(shop)
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


def test_a_stream_begun_again_gives_what_lies_after_its_position(shop: Mariadb) -> None:
    stream = begin(shop)
    shop.sell(1)
    position = gather(stream, 1)[-1].position
    stream.acknowledge(position)
    stream.close()
    shop.sell(2)
    again = shop.source.stream(position, [table_of(shop)])
    assert ids_of(gather(again, 1)) == Counter([2])


def test_what_was_not_acknowledged_is_given_again(shop: Mariadb) -> None:
    table = table_of(shop)
    position = shop.source.begin([table]).position
    shop.sell(1)
    for _ in range(2):
        stream = shop.source.stream(position, [table])
        assert ids_of(gather(stream, 1)) == Counter([1])
        stream.close()


def test_time_goes_on_while_nothing_happens(shop: Mariadb) -> None:
    stream = begin(shop)
    times: list[int] = []
    deadline = time.monotonic() + 20
    while len(times) < 3:
        assert time.monotonic() < deadline
        batch = stream.poll(1.0)
        if batch is not None:
            assert not batch.changes
            times.append(batch.complete_through_us)
    assert times == sorted(set(times))


def test_time_is_never_ahead_of_the_sources_clock(shop: Mariadb) -> None:
    """A session may set its own time, and the log then has that."""
    stream = begin(shop)
    shop._run("set timestamp = unix_timestamp() + 86400")
    shop.sell(1)
    (batch,) = [batch for batch in gather(stream, 1) if batch.changes]
    assert batch.complete_through_us + batch.clock_skew_us <= time.time_ns() // 1000
    assert batch.transactions.committed_at_us.max() <= batch.complete_through_us


def test_other_tables_move_only_the_position(shop: Mariadb) -> None:
    stream = begin(shop)
    shop._run("create table others (id int primary key)")
    shop._run("insert into others values (1)")
    shop.sell(1)
    assert ids_of(gather(stream, 1)) == Counter([1])
