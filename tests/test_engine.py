"""The loop: rows and position together, whatever breaks; only then may the source forget."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from upwell import engine as loop
from upwell import following as followed
from upwell.core.errors import LOG_PARTED, GapError, IntegrityError, Unavailable
from upwell.core.position import Position
from upwell.core.protocols import (
    LayoutChange,
    Operation,
    SourceBatch,
    SourceTable,
    TableSnapshot,
    Truncation,
    VersionEnd,
)
from upwell.core.schema import Column, TableSchema
from upwell.engine import Durable, Engine
from upwell.feed.hub import FeedHub
from upwell.following import Following
from upwell.ingest import tables
from upwell.ingest.tables import Captured
from upwell.models import Ground, MakeVersion, Models
from upwell.store import ledger
from upwell.store.hot import HotStore
from upwell.table_states import TableStates
from upwell.testing import (
    MemorySource,
    MemoryStream,
    ScriptStep,
    changed_rows,
    one_transaction,
)

ORDERS = TableSchema(
    "shop.orders",
    (Column("id", "INTEGER", nullable=False), Column("note", "VARCHAR")),
    ("id",),
)
WIDER = TableSchema("shop.orders", (*ORDERS.columns, Column("extra", "VARCHAR")), ("id",))
AS_GIVEN = SourceTable(ORDERS, "as given")
Refresh = Callable[[Mapping[str, pa.Table], int], dict[str, pa.Table]]
AT_US = 1_780_000_000_000_000


def orders(*ids: int, note: str = "a") -> pa.Table:
    return pa.table({"id": pa.array(ids, pa.int32()), "note": [note] * len(ids)})


def sold(position: str, *ids: int, note: str = "a") -> SourceBatch:
    return one_transaction(
        position, changed_rows(ORDERS, orders(*ids, note=note)), committed_at_us=AT_US
    )


@dataclass
class Running:
    """An engine in a thread of its own."""

    engine: Engine
    store: HotStore
    hub: FeedHub
    source: MemorySource
    ended: queue.SimpleQueue[BaseException | None]

    def wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline
            if not self.ended.empty():
                error = self.ended.get()
                assert error is not None
                raise error

    @property
    def following(self) -> Following:
        return self.engine.followings[0]


def open_store(path: Path) -> HotStore:
    store = HotStore(path / "hot.duckdb", zone="UTC")
    ledger.prepare(store.writer)
    if ORDERS.name not in tables.captured_tables(store.writer):
        tables.create(store.writer, Captured(AS_GIVEN, tables.new_log()))
        store.checkpoint()
    return store


def make_engine(
    store: HotStore,
    source: MemorySource,
    refresh: Refresh | None = None,
    *,
    has_lake: bool = False,
) -> tuple[Engine, FeedHub]:
    """An engine without models; ``refresh`` stands in for their refreshing."""
    states = TableStates(store)
    hub = FeedHub(
        store.view,
        version=ledger.latest_version(store.writer),
        schema_of=states.layouts.__getitem__,
    )
    known = ledger.progress(store.writer, source.name)
    following = Following(source, known.position, known.complete_through_us)
    models = Unmodelled(store, refresh)
    return Engine(store, hub, [following], states, models, has_lake=has_lake), hub


class Unmodelled(Models):
    """No models; ``refresh`` stands in for their refreshing, to break it."""

    def __init__(self, store: HotStore, refresh: Refresh | None) -> None:
        super().__init__(store, [], lambda _event, **_facts: None)
        self._refresh = refresh

    def renew(self, ground: Ground, make_version: MakeVersion, anew: Collection[str] = ()) -> None:
        super().renew(ground, make_version, anew)
        if self._refresh is not None:
            self.refresher.apply = self._refresh  # type: ignore[method-assign, assignment]


@contextlib.contextmanager
def running(
    path: Path, *script: ScriptStep, refresh: Refresh | None = None, has_lake: bool = False
) -> Iterator[Running]:
    store = open_store(path)
    source = MemorySource("shop", [(ORDERS, orders())], script)
    engine, hub = make_engine(store, source, refresh, has_lake=has_lake)
    stop, ended = threading.Event(), queue.SimpleQueue[BaseException | None]()

    def work() -> None:
        try:
            engine.run(stop)
            ended.put(None)
        except BaseException as error:  # noqa: BLE001 - told to the test
            ended.put(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield Running(engine, store, hub, source, ended)
    finally:
        stop.set()
        thread.join()
        store.close()


def state(store: HotStore) -> tuple[Position, list[Any], list[Any]]:
    """The position, and the rows that go with it in the current table and the log."""
    with contextlib.closing(store.reader()) as reader:
        rows = reader.execute("SELECT id, note FROM shop.orders ORDER BY id").fetchall()
        summed = reader.execute(
            "SELECT id, note FROM shop.orders__log GROUP BY ALL HAVING sum(_weight) <> 0 "
            "ORDER BY id"
        ).fetchall()
        return ledger.progress(reader, "shop").position, rows, summed


# ── the order of things ──────────────────────────────────────────────────────────────────────────


def test_a_batch_becomes_a_version_and_is_then_acknowledged(tmp_path: Path) -> None:
    with running(tmp_path, sold("1", 1, 2)) as now:
        now.wait(lambda: now.source.acknowledged == ["1"])
        assert state(now.store)[0] == "1"
        assert state(now.store)[1] == [(1, "a"), (2, "a")]
        assert now.hub.version == 1


def test_with_a_lake_a_source_forgets_only_what_is_durable(tmp_path: Path) -> None:
    with running(tmp_path, sold("1", 1), sold("2", 2), has_lake=True) as now:
        now.wait(lambda: state(now.store)[0] == "2")
        assert now.source.acknowledged == []
        now.engine.became_durable(loop.Durable(1, {"shop": Position("1")}))
        now.wait(lambda: now.source.acknowledged == ["1"])
    assert now.source.acknowledged == ["1"]


def test_an_engine_that_may_write_no_more_ends_with_the_reason(tmp_path: Path) -> None:
    with running(tmp_path, has_lake=True) as now:
        now.engine.fail(Unavailable("overtaken", "another engine has taken over"))
        error = now.ended.get(timeout=20)
    assert isinstance(error, Unavailable)
    assert error.code == "overtaken"


def test_what_is_wrong_with_the_lake_is_told_to_followers(tmp_path: Path) -> None:
    with running(tmp_path, has_lake=True) as now:
        now.engine.note_lake_trouble("the lake is away")
        now.wait(lambda: now.hub.trouble == "the lake is away")
        now.engine.note_lake_trouble("")
        now.wait(lambda: now.hub.trouble == "")


def test_what_fails_to_commit_is_never_acknowledged(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    source = MemorySource("shop", [(ORDERS, orders())], [sold("1", 1)])

    def refuse(_deltas: Mapping[str, pa.Table], _at_us: int) -> dict[str, pa.Table]:
        raise duckdb.Error("no")

    engine, hub = make_engine(store, source, refuse)
    with pytest.raises(duckdb.Error, match="no"):
        engine.run(threading.Event())
    assert source.acknowledged == []
    assert hub.version == 0
    assert state(store) == ("", [], [])
    store.close()


class Failing:
    """A connection of which, once ``allowed`` is set, the n-th statement fails, commit included."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self.allowed = -1
        self.is_spent = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._connection, name)
        if name not in {"execute", "executemany", "begin", "commit", "register"}:
            return found
        if self.allowed == 0:
            self.is_spent = True
            raise MemoryError(f"at {name}")
        self.allowed -= 1
        return found


def crash_at(path: Path, statement: int, batch: SourceBatch) -> bool:
    """Take a batch in, with the given statement failing; whether it came to that."""
    store = open_store(path)
    whole = store.writer
    failing = Failing(whole)
    store.writer = failing  # type: ignore[assignment]  # stands in for the connection
    engine, _ = make_engine(store, MemorySource("shop", [(ORDERS, orders())], [batch]))
    failing.allowed = statement
    stop = threading.Event()
    following = engine.followings[0]
    following.stream = following.source.stream(following.position, [AS_GIVEN])
    polled = following.stream.poll(0)
    assert polled is batch
    try:
        engine._take(following, polled, threading.Event())
    except MemoryError:
        pass
    finally:
        stop.set()
        whole.close()
    return failing.is_spent


def test_a_crash_at_any_statement_leaves_the_old_version_or_the_new_one_whole(
    tmp_path: Path,
) -> None:
    changes = (
        changed_rows(ORDERS, orders(1, 2, note="b"), Operation.UPDATE),
        Truncation(ORDERS, 0),
        changed_rows(ORDERS, orders(5, note="c")),
    )
    batch = one_transaction("2", *changes, committed_at_us=AT_US)
    old, new = [(1, "a"), (2, "a")], [(5, "c")]
    crash_at(tmp_path, -1, sold("1", 1, 2))
    outcomes = []
    for statement in range(1000):
        is_spent = crash_at(tmp_path, statement, batch)
        store = open_store(tmp_path)
        outcomes.append(state(store))
        store.close()
        if not is_spent:
            break
    assert len(outcomes) > 10
    assert outcomes[:-1] == [("1", old, old)] * (len(outcomes) - 1)
    assert outcomes[-1] == ("2", new, new)


def test_layouts_follow_a_table_that_grew(tmp_path: Path) -> None:
    wide = pa.table({"id": pa.array([2], pa.int32()), "note": ["b"], "extra": ["new"]})
    change = LayoutChange(SourceTable(WIDER, "grown"))
    grown = one_transaction("2", change, changed_rows(WIDER, wide), committed_at_us=AT_US)
    narrow = TableSchema("shop.orders", (ORDERS.columns[0], WIDER.columns[2]), ("id",))
    shrunk = one_transaction(
        "3", changed_rows(narrow, wide.select(["id", "extra"]), Operation.UPDATE), committed_at_us=1
    )
    with running(tmp_path, sold("1", 1), grown, shrunk) as now:
        now.wait(lambda: "3" in now.source.acknowledged)
        with contextlib.closing(now.store.reader()) as reader:
            found = reader.execute("FROM shop.orders ORDER BY id").fetchall()
        assert found == [(1, "a", None), (2, None, "new")]


# ── what breaks, and passes ──────────────────────────────────────────────────────────────────────


def test_a_lost_connection_is_told_tried_again_and_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followed, "RETRY_SECONDS", (0.3, 0.3))
    away = Unavailable("away", "Following shop: the database is away.")
    with running(tmp_path, sold("1", 1), away, sold("2", 2)) as now:
        now.wait(lambda: "is away" in now.hub.trouble)
        now.wait(lambda: "2" in now.source.acknowledged)
        now.wait(lambda: now.hub.trouble == "")
        assert state(now.store)[1] == [(1, "a"), (2, "a")]


def test_a_gap_ends_following_while_what_is_there_stays_served(tmp_path: Path) -> None:
    gap = GapError("gap", "Following shop: the log is gone.", next_step="Start anew.")
    with running(tmp_path, sold("1", 1), gap, sold("2", 2)) as now:
        now.wait(lambda: "the log is gone" in now.hub.trouble)
        done = threading.Event()
        now.engine.submit(lambda _connection: done.set())
        assert done.wait(10)  # the loop goes on
        snapshot, _ = list(now.hub.snapshot({ORDERS.name: ORDERS}))
        assert snapshot.rows.column("id").to_pylist() == [1]  # type: ignore[union-attr]
        assert now.following.lost is gap
        assert "2" not in now.source.acknowledged


def test_in_a_log_that_begins_anew_nothing_of_another_is_acknowledged(tmp_path: Path) -> None:
    parted = IntegrityError(LOG_PARTED, "The log is another one.", next_step="Begin anew.")
    with running(tmp_path, sold("5", 1), parted, has_lake=True) as now:
        now.wait(lambda: now.following.lost is parted)
        now.engine.became_durable(Durable(now.hub.version, {"shop": Position("5")}))
        now.source.add(sold("3", 2), sold("7", 3))  # "0" comes first in the new log
        now.engine.upkeep.resync([ORDERS.name])
        now.wait(lambda: now.following.committed_position == "7")
        for _ in range(2):
            done = threading.Event()
            now.engine.submit(lambda _connection, done=done: done.set())  # type: ignore[misc]
            assert done.wait(10)  # a turn of the loop
        assert now.source.acknowledged == []
        now.engine.became_durable(Durable(now.hub.version, {"shop": Position("7")}))
        now.wait(lambda: bool(now.source.acknowledged))
        assert now.source.acknowledged == ["7"]
        version = ledger.begun_version(now.store.writer, "shop")
        assert version == now.following.begun_version > 1


def test_an_idle_source_is_acknowledged_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "IDLE_COMMIT_SECONDS", 0.0)
    with running(tmp_path, one_transaction("7", committed_at_us=AT_US)) as now:
        now.wait(lambda: now.source.acknowledged == ["7"])
        assert state(now.store)[0] == "7"
        assert now.hub.version == 1


def test_time_of_an_idle_source_is_announced_without_a_version(tmp_path: Path) -> None:
    with running(tmp_path, sold("1", 1)) as now:
        now.wait(lambda: now.hub.version == 1)
        at_us = now.following.complete_through_us
        now.wait(lambda: bool(now.hub.times) and now.hub.times[0].complete_through_us > at_us)
        assert now.hub.version == 1


def test_tasks_are_done_between_versions_and_kept(tmp_path: Path) -> None:
    with running(tmp_path) as now, contextlib.closing(now.store.reader()) as reader:
        now.engine.submit(lambda connection: ledger.write_fact(connection, "asked", "yes"))
        now.wait(lambda: ledger.read_fact(reader, "asked") == "yes")


def test_a_gap_is_where_no_version_is_being_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "GAP_PATIENCE_SECONDS", 20)
    is_within, goes_on, has_gap = threading.Event(), threading.Event(), threading.Event()

    def refresh(deltas: Mapping[str, pa.Table], _at_us: int) -> dict[str, pa.Table]:
        is_within.set()
        assert goes_on.wait(20)
        return dict(deltas)

    def wait() -> None:
        now.engine.await_gap()
        has_gap.set()

    with running(tmp_path, sold("1", 1), refresh=refresh) as now:
        assert is_within.wait(20)
        waiting = threading.Thread(target=wait)
        waiting.start()
        assert not has_gap.wait(0.2)
        goes_on.set()
        assert has_gap.wait(10)
        waiting.join()
        assert now.hub.version == 1


# ── what is promised to the source and to followers ──────────────────────────────────────────────


class Noting(MemorySource):
    """Remembers where it was asked to stream from."""

    streamed_from: list[Position]

    def stream(self, position: Position, tables: Sequence[SourceTable]) -> MemoryStream:
        self.__dict__.setdefault("streamed_from", []).append(position)
        return super().stream(position, tables)


def test_after_a_loss_the_stream_begins_at_what_was_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Idle positions run ahead of the ledger; asking for them would declare them safe."""
    monkeypatch.setattr(followed, "RETRY_SECONDS", (0.01, 0.01))
    store = open_store(tmp_path)
    away = Unavailable("away", "Following shop: the database is away.")
    idle = one_transaction("7", committed_at_us=AT_US)
    script: list[ScriptStep] = [sold("1", 1), idle, away, sold("8", 2)]
    source = Noting("shop", [(ORDERS, orders())], script)
    engine, _ = make_engine(store, source)
    stop = threading.Event()
    thread = threading.Thread(target=engine.run, args=(stop,))
    thread.start()
    deadline = time.monotonic() + 20
    while "8" not in source.acknowledged:
        assert time.monotonic() < deadline
    stop.set()
    thread.join()
    store.close()
    assert source.streamed_from == ["", "1"]
    assert source.acknowledged == ["1", "1", "8"]  # a new stream is told again what is safe


def test_a_source_that_contradicts_the_store_stops_and_the_rest_is_served(tmp_path: Path) -> None:
    broken = IntegrityError("stream_malformed", "Reading shop: a message makes no sense.")
    with running(tmp_path, sold("1", 1), broken) as now:
        now.wait(lambda: "makes no sense" in now.hub.trouble)
        assert now.ended.empty()
        assert state(now.store)[1] == [(1, "a")]


def test_a_version_says_what_does_not_go_on(tmp_path: Path) -> None:
    with running(tmp_path) as now:
        messages = now.hub.follow([ORDERS.name], None)
        assert isinstance(next(messages), TableSnapshot)
        now.wait(lambda: now.following.stream is not None)
        now.engine._models.refresher.hold("sales", "it stumbles")
        now.source.add(sold("1", 1))
        ends = (message for message in messages if isinstance(message, VersionEnd))
        last = next(end for end in ends if end.version == 1)
        assert last.trouble == "sales stays as it was: it stumbles"
