"""What every feed promises, held against each: in memory, in the engine, over its socket."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pytest

from tests import stored
from upwell.core.batch import WEIGHT, from_rows
from upwell.core.errors import UsageError
from upwell.core.protocols import (
    Feed,
    FeedMessage,
    Heartbeat,
    SourceTime,
    TableDelta,
    TableSnapshot,
    VersionEnd,
)
from upwell.core.schema import Column, TableSchema
from upwell.core.sql import quote_table
from upwell.feed.channel import EngineClient, FeedServer
from upwell.feed.hub import FeedHub
from upwell.store import ledger
from upwell.store.hot import HotStore
from upwell.testing import MemoryFeed

ORDERS = TableSchema("shop.orders", (Column("id", "INTEGER", nullable=False),), ("id",))
ITEMS = TableSchema("shop.items", (Column("id", "INTEGER", nullable=False),), ("id",))
SCHEMAS = {schema.name: schema for schema in (ORDERS, ITEMS)}
COMMITTED_AT_US = 1_780_000_000_000_000


def batch(*ids: int, weight: int = 1) -> pa.Table:
    return from_rows(pa.table({"id": pa.array(ids, pa.int32())}), weight)


class Writing(Protocol):
    """A feed, and the pen that writes its versions."""

    feed: Feed

    def commit(self, deltas: dict[str, pa.Table]) -> int: ...
    def end(self) -> None: ...


class InMemory:
    def __init__(self) -> None:
        self._memory = MemoryFeed(heartbeat_seconds=0.1)
        for schema in SCHEMAS.values():
            self._memory.replace(schema, batch().drop_columns(WEIGHT))
        self._memory.commit()
        self.feed: Feed = self._memory

    def commit(self, deltas: dict[str, pa.Table]) -> int:
        for table, delta in deltas.items():
            self._memory.change(table, delta)
        return self._memory.commit(committed_at_us=[COMMITTED_AT_US])

    def end(self) -> None:
        self._memory.end()


class InProcess:
    def __init__(self, store: HotStore) -> None:
        ledger.prepare(store.writer)
        for schema in SCHEMAS.values():
            stored.create(store.writer, schema)
        self.store = store
        self.hub = FeedHub(store.view, version=1, schema_of=schema_of)
        self.feed: Feed = self.hub

    def commit(self, deltas: dict[str, pa.Table]) -> int:
        version = self.hub.version + 1
        times = (SourceTime("memory", COMMITTED_AT_US),)
        end = VersionEnd(version, COMMITTED_AT_US, times, np.array([COMMITTED_AT_US]))
        with self.store.transaction(lambda: self.hub.publish(end, deltas)) as connection:
            for table, delta in deltas.items():
                name = quote_table(table)
                connection.register("delta", delta)
                connection.execute(
                    f"DELETE FROM {name} WHERE id IN (SELECT id FROM delta WHERE _weight < 0)"
                )
                connection.execute(f"INSERT INTO {name} SELECT id FROM delta WHERE _weight > 0")
                connection.unregister("delta")
        return version

    def end(self) -> None:
        self.hub.close()


class OverTheSocket:
    def __init__(self, inside: InProcess, socket: Path) -> None:
        self._inside = inside
        identity = {"identity": lambda _: {"store": "one"}}
        self.server = FeedServer(socket, inside.hub, store="one", handlers=identity)
        self.feed: Feed = EngineClient(socket)
        self.commit = inside.commit

    def end(self) -> None:
        self.server.stop()


def schema_of(name: str) -> TableSchema:
    if name not in SCHEMAS:
        raise UsageError("unknown_table", f"there is no {name}")
    return SCHEMAS[name]


@pytest.fixture(params=["in memory", "in process", "over the socket"])
def writing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Writing]:
    if request.param == "in memory":
        memory = InMemory()
        yield memory
        memory.end()
        return
    store = HotStore(tmp_path / "hot.duckdb", zone="UTC")
    inside = InProcess(store)
    if request.param == "in process":
        yield inside
        inside.end()
    else:
        with tempfile.TemporaryDirectory() as runtime:  # a socket's path must be short
            outside = OverTheSocket(inside, Path(runtime) / "engine.sock")
            yield outside
            outside.end()
    store.close()


def version_of(messages: Iterator[FeedMessage]) -> list[FeedMessage]:
    """The messages of the next version, its end included, heartbeats left out."""
    found: list[FeedMessage] = []
    for message in messages:
        if not isinstance(message, Heartbeat):
            found.append(message)
        if isinstance(message, VersionEnd):
            return found
    pytest.fail("the feed ended")


def follow(
    writing: Writing, version: int | None, *names: str
) -> closing[Generator[FeedMessage, None, None]]:
    messages = writing.feed.follow(names or tuple(SCHEMAS), version)
    assert isinstance(messages, Generator)
    return closing(messages)


def applied(messages: Sequence[FeedMessage]) -> dict[str, Counter[Any]]:
    """What a follower holds of each table after these messages."""
    held: dict[str, Counter[Any]] = {}
    for message in messages:
        if isinstance(message, TableSnapshot):
            held[message.schema.name] = Counter(message.rows.column("id").to_pylist())
        elif isinstance(message, TableDelta):
            for row in message.batch.to_pylist():
                held[message.table][row["id"]] += row[WEIGHT]
    return {name: +rows for name, rows in held.items()}


def test_a_new_follower_gets_every_table_whole_and_the_version_they_stand_at(
    writing: Writing,
) -> None:
    version = writing.commit({ORDERS.name: batch(1, 2), ITEMS.name: batch(7)})
    with follow(writing, None) as messages:
        *snapshots, end = version_of(messages)
    assert {each.schema.name for each in snapshots if isinstance(each, TableSnapshot)} == {*SCHEMAS}
    assert {each.version for each in [*snapshots, end]} == {version}
    assert applied(snapshots) == {ORDERS.name: Counter([1, 2]), ITEMS.name: Counter([7])}
    assert isinstance(end, VersionEnd)
    assert len(end.committed_at_us) == 0


def test_every_version_comes_once_in_order_with_its_commit_times(writing: Writing) -> None:
    with follow(writing, None) as messages:
        seen = version_of(messages)
        first = seen[-1].version
        for number in range(5):
            writing.commit({ORDERS.name: batch(number)})
        writing.commit({ORDERS.name: batch(0, 1, weight=-1)})
        for version in range(first + 1, first + 7):
            *deltas, end = version_of(messages)
            assert isinstance(end, VersionEnd)
            assert [each.version for each in deltas] == [version]
            assert end.version == version
            assert end.committed_at_us.tolist() == [COMMITTED_AT_US]
            seen += deltas
    assert applied(seen)[ORDERS.name] == Counter([2, 3, 4])


def test_a_follower_hears_of_the_tables_it_names_alone(writing: Writing) -> None:
    with follow(writing, None) as everything, follow(writing, None, ITEMS.name) as messages:
        version_of(everything)
        assert [*applied(version_of(messages))] == [ITEMS.name]
        writing.commit({ORDERS.name: batch(1)})
        writing.commit({ORDERS.name: batch(2), ITEMS.name: batch(3)})
        (end,) = version_of(messages)
        assert isinstance(end, VersionEnd)
        delta, _ = version_of(messages)
        assert isinstance(delta, TableDelta)
        assert delta.table == ITEMS.name


def test_a_follower_that_comes_back_goes_on_where_it_was(writing: Writing) -> None:
    with follow(writing, None) as messages:
        seen = version_of(messages)
    for number in range(3):
        writing.commit({ORDERS.name: batch(number)})
    with follow(writing, seen[-1].version) as messages:
        for _ in range(3):
            delta, _ = version_of(messages)
            assert isinstance(delta, TableDelta)
            seen.append(delta)
    assert applied(seen)[ORDERS.name] == Counter([0, 1, 2])


@pytest.mark.parametrize("version", [-5, 1_000_000])
def test_a_version_out_of_reach_begins_with_a_snapshot(writing: Writing, version: int) -> None:
    writing.commit({ORDERS.name: batch(1)})
    with follow(writing, version) as messages:
        seen = version_of(messages)
    assert applied(seen) == {ORDERS.name: Counter([1]), ITEMS.name: Counter()}


def test_a_table_nobody_named_before_comes_whole(writing: Writing) -> None:
    with follow(writing, None, ORDERS.name) as messages:
        version_of(messages)
        writing.commit({ITEMS.name: batch(1)})
        with follow(writing, None, ITEMS.name) as others:
            assert applied(version_of(others)) == {ITEMS.name: Counter([1])}


def test_a_table_that_does_not_exist_is_refused_before_anything_comes(writing: Writing) -> None:
    with (
        follow(writing, None, ORDERS.name, "shop.nothing") as messages,
        pytest.raises(UsageError),
    ):
        next(messages)


def test_a_follower_with_no_news_hears_heartbeats(writing: Writing) -> None:
    with follow(writing, None) as messages:
        version = version_of(messages)[-1].version
        beats = [next(messages), next(messages)]
    assert all(isinstance(beat, Heartbeat) and beat.version == version for beat in beats)


def test_the_stream_ends_when_the_engine_ends(writing: Writing) -> None:
    with follow(writing, None) as messages:
        version_of(messages)
        writing.end()
        assert all(isinstance(message, Heartbeat) for message in messages)
