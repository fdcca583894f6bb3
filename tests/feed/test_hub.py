"""The hub and its channel: what only they do, beyond what every feed promises."""

from __future__ import annotations

import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from upwell.core.batch import WEIGHT, from_rows
from upwell.core.errors import ProjectError, Unavailable, UpwellError, UsageError
from upwell.core.protocols import (
    FeedMessage,
    Heartbeat,
    TableDelta,
    TableSnapshot,
    VersionEnd,
)
from upwell.core.schema import Column, TableSchema
from upwell.feed import hub as hub_module
from upwell.feed.channel import EngineClient, FeedServer
from upwell.feed.hub import FeedHub
from upwell.store import ledger
from upwell.store.hot import HotStore

SCHEMAS = {name: TableSchema(name, (Column("id", "BIGINT"),), ("id",)) for name in ("a", "b")}
NOTHING = np.empty(0, np.int64)


class Shop:
    """A store and its hub, written version by version."""

    def __init__(self, folder: Path, version: int = 0) -> None:
        self.store = HotStore(folder / "hot.duckdb", zone="UTC")
        ledger.prepare(self.store.writer)
        for name in SCHEMAS:
            self.store.writer.execute(f"CREATE TABLE IF NOT EXISTS {name} (id BIGINT)")
        self.hub = FeedHub(
            self.store.view,
            version=version,
            schema_of=SCHEMAS.__getitem__,
        )

    def insert(self, name: str, *ids: int) -> int:
        version = self.hub.version + 1
        rows = pa.table({"id": pa.array(ids, pa.int64())})
        end = VersionEnd(version, 0, (), NOTHING)
        announce = {name: from_rows(rows)}
        with self.store.transaction(lambda: self.hub.publish(end, announce)) as connection:
            connection.executemany(f"INSERT INTO {name} VALUES (?)", [[each] for each in ids])
        return version

    def follow(
        self, names: tuple[str, ...], version: int | None
    ) -> closing[Generator[FeedMessage, None, None]]:
        messages = self.hub.follow(names, version)
        assert isinstance(messages, Generator)
        return closing(messages)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    made.hub.close()
    made.store.close()


def next_news(messages: Iterator[FeedMessage]) -> FeedMessage:
    return next(each for each in messages if not isinstance(each, Heartbeat))


def test_a_follower_that_fell_out_of_the_kept_range_starts_over(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "KEPT_BYTES", 100)
    with shop.follow(("a",), None) as messages:
        assert isinstance(next(messages), TableSnapshot)
        next(messages)
        for number in range(20):
            shop.insert("a", number)
        snapshot = next_news(messages)
        assert isinstance(snapshot, TableSnapshot)
        assert snapshot.rows.num_rows == 20
        end = next_news(messages)
        assert end.version == 20
        shop.insert("a", 20)
        assert isinstance(next_news(messages), TableDelta)


def test_a_follower_back_from_before_its_table_was_kept_starts_over(shop: Shop) -> None:
    with shop.follow(("a",), None) as others:
        next(others)
        behind = shop.insert("b", 1) - 1  # nobody names b yet: its delta is not kept
    with shop.follow(("b",), None) as others:
        next(others)
    shop.insert("b", 2)
    with shop.follow(("a", "b"), behind) as messages:
        assert isinstance(next_news(messages), TableSnapshot)
        snapshot = next_news(messages)
        assert isinstance(snapshot, TableSnapshot)
        assert snapshot.rows.column("id").to_pylist() == [1, 2]


def test_a_table_that_is_not_there_yet_keeps_no_other_back(shop: Shop) -> None:
    def schema_of(name: str) -> TableSchema:
        if name == "b" and shop.hub.version < 2:
            raise Unavailable("not_there_yet", "b is not there yet", where=name)
        return SCHEMAS[name]

    shop.hub.schema_of = schema_of
    shop.insert("a", 1)
    with shop.follow(("a", "b"), None) as messages:
        first, end = next(messages), next(messages)
        assert isinstance(first, TableSnapshot)
        assert (first.schema.name, type(end)) == ("a", VersionEnd)
        built = VersionEnd(2, 0, (), NOTHING)
        announce = partial(shop.hub.publish, built, {}, anew=frozenset(["b"]))
        with shop.store.transaction(announce) as connection:
            connection.execute("INSERT INTO b VALUES (7)")
        for values in ([1], [7]):
            snapshot = next_news(messages)
            assert isinstance(snapshot, TableSnapshot)
            assert snapshot.rows.column("id").to_pylist() == values
        assert next_news(messages).version == built.version


def test_a_table_that_counts_as_there_only_behind_its_version_comes_too(shop: Shop) -> None:
    is_there = False

    def schema_of(name: str) -> TableSchema:
        if name == "b" and not is_there:
            raise Unavailable("not_there_yet", "b is not there yet", where=name)
        return SCHEMAS[name]

    shop.hub.schema_of = schema_of
    shop.insert("a", 1)
    with shop.follow(("a", "b"), None) as messages:
        next(messages), next(messages)
        built = VersionEnd(2, 0, (), NOTHING)
        announce = partial(shop.hub.publish, built, {}, anew=frozenset(["b"]))
        with shop.store.transaction(announce) as connection:
            connection.execute("INSERT INTO b VALUES (7)")
        assert isinstance(next_news(messages), TableSnapshot)  # of a alone
        assert isinstance(next_news(messages), VersionEnd)
        is_there = True
        names = set()
        while not isinstance(message := next_news(messages), VersionEnd):
            assert isinstance(message, TableSnapshot)
            names.add(message.schema.name)
        assert names == {"a", "b"}


def test_trouble_is_told_at_once(shop: Shop) -> None:
    with shop.follow(("a",), None) as messages:
        next(messages), next(messages)
        shop.hub.set_times((), "the shop is away")
        beat = next(messages)
    assert beat == Heartbeat(0, (), "the shop is away")


def test_a_snapshot_is_fixed_while_no_version_can_commit(shop: Shop) -> None:
    """Between a commit and its announcement the tables are ahead of the version announced."""
    is_locked: list[bool] = []

    def view(seen: Callable[[], None]) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        def seen_and_noted() -> None:
            is_locked.append(shop.store.commit_lock.locked())
            seen()

        return shop.store.view(seen_and_noted)

    hub = FeedHub(view, version=0, schema_of=SCHEMAS.__getitem__)
    list(hub.snapshot(SCHEMAS))
    assert is_locked == [True]


def test_a_follower_always_holds_the_table_as_it_was_at_its_version(shop: Shop) -> None:
    """One thread commits as fast as it can; another follows, breaking off and coming back."""
    last = 150

    def write() -> None:
        for number in range(1, last + 1):
            shop.insert("a", number)

    writer = threading.Thread(target=write)
    version, held = None, Counter[Any]()
    writer.start()
    while version != last:
        with shop.follow(("a",), version) as messages:
            for message in messages:
                if isinstance(message, TableSnapshot):
                    held = Counter(message.rows.column("id").to_pylist())
                elif isinstance(message, TableDelta):
                    held.update({row["id"]: row[WEIGHT] for row in message.batch.to_pylist()})
                elif isinstance(message, VersionEnd):
                    version = message.version
                    assert held == Counter(range(1, version + 1))
                    if version % 7 == 0 or version == last:
                        break
    writer.join()


# ── the channel ──────────────────────────────────────────────────────────────────────────────────


def refuse(error: UpwellError) -> Any:
    def handler(_question: dict[str, Any]) -> Any:
        raise error

    return handler


@pytest.fixture
def socket() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:  # a socket's path must be short
        yield Path(folder) / "engine.sock"


def serve(socket: Path, shop: Shop, store: str, **handlers: Any) -> FeedServer:
    return FeedServer(
        socket, shop.hub, store=store, handlers={"identity": lambda _: {"store": store}, **handlers}
    )


def test_a_version_of_another_store_begins_with_a_snapshot_and_is_then_at_home(
    shop: Shop, socket: Path
) -> None:
    client = EngineClient(socket)
    server = serve(socket, shop, "old")
    shop.insert("a", 1)
    *_, end = client.follow(("a",), None, once=True)
    server.stop()

    shop.hub = FeedHub(shop.store.view, version=1, schema_of=SCHEMAS.__getitem__)
    server = serve(socket, shop, "new")
    try:
        first = client.follow(("a",), end.version)
        assert isinstance(next(first), TableSnapshot)
        shop.insert("a", 2)
        again = client.follow(("a",), 1)
        assert isinstance(next(again), TableDelta)
    finally:
        server.stop()


@pytest.mark.parametrize("kind", [UsageError, ProjectError, Unavailable])
def test_errors_cross_the_channel_whole(shop: Shop, socket: Path, kind: type[UpwellError]) -> None:
    told = kind("some_code", 'what "it" is: é', where="a\nb", next_step="do this")
    server = serve(socket, shop, "one", ask=refuse(told))
    try:
        with pytest.raises(UpwellError) as caught:
            EngineClient(socket).ask("ask")
        assert caught.value.as_dict() == told.as_dict()
        assert caught.value.exit == told.exit
        assert isinstance(told, type(caught.value))
    finally:
        server.stop()


def test_a_question_it_does_not_know_is_told_as_wrong_use(shop: Shop, socket: Path) -> None:
    server = serve(socket, shop, "one")
    try:
        with pytest.raises(UsageError, match="'weather'"):
            EngineClient(socket).ask("weather")
    finally:
        server.stop()


def test_no_engine_is_told_as_such(tmp_path: Path) -> None:
    client = EngineClient(tmp_path / "none.sock")
    with pytest.raises(Unavailable, match="none is running"):
        client.ask("identity")
    with pytest.raises(Unavailable, match="none is running"):
        next(client.follow(("a",), None))


def test_a_socket_left_behind_by_a_dead_engine_is_told_as_none_running(socket: Path) -> None:
    socket.touch()
    with pytest.raises(Unavailable, match="none is running"):
        EngineClient(socket).ask("identity")
