"""A source forgets only what is durable; what keeps the lake from it is said, and nothing stops."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import pytest

from upwell.core.errors import EnvironmentFault, UpwellError
from upwell.core.schema import Column, TableSchema
from upwell.durability import Durability, Pace
from upwell.publishing import Publishing
from upwell.store.lake.care import Care
from upwell.store.lake.mark import Mark
from upwell.store.lake.publish import Publisher
from upwell.store.lake.tables import OvertakenError
from upwell.store.lake.writer import LakeWriter

from .lake_shop import PROJECT, LakeShop

ORDERS = TableSchema(
    "shop.orders", (Column("id", "INTEGER"), Column("note", "VARCHAR")), key=("id",)
)
BIG = TableSchema("big", (Column("n", "HUGEINT"),))


@dataclass
class Heard:
    """What a durability told, in order."""

    durable: queue.SimpleQueue[Mark] = field(default_factory=queue.SimpleQueue)
    troubles: list[str] = field(default_factory=list)
    lost: queue.SimpleQueue[UpwellError] = field(default_factory=queue.SimpleQueue)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[LakeShop]:
    shop = LakeShop(tmp_path)
    yield shop
    shop.store.close()


def durability(
    shop: LakeShop,
    writer: LakeWriter,
    heard: Heard,
    *,
    seconds: float = 3600,
    logged_bytes: Callable[[], int] = lambda: 0,
    published: Mapping[str, TableSchema] = MappingProxyType({}),
    await_gap: Callable[[], None] = lambda: None,
) -> Durability:
    return Durability(
        shop.store,
        writer,
        care=Care(writer, {}),
        pace=Pace(seconds, megabytes=1),
        publishing=Publishing(
            Publisher(writer), dict.fromkeys(published), lambda _: published, seconds=0
        ),
        logged_bytes=logged_bytes,
        await_gap=await_gap,
        on_durable=heard.durable.put,
        on_trouble=heard.troubles.append,
        on_lost=heard.lost.put,
    )


def test_a_round_begins_after_a_while(shop: LakeShop) -> None:
    heard = Heard()
    with durability(shop, LakeWriter(shop.open_lake(), PROJECT), heard, seconds=0.1):
        shop.write([(1, "a")])
        assert heard.durable.get(timeout=20).version == 1


def test_or_sooner_when_much_was_logged(shop: LakeShop) -> None:
    heard, logged = Heard(), [0]
    writer = LakeWriter(shop.open_lake(), PROJECT)
    with durability(shop, writer, heard, logged_bytes=lambda: logged[0]):
        shop.write([(1, "a")])
        deadline = time.monotonic() + 20
        while heard.durable.empty():
            logged[0] += 2 << 20
            assert time.monotonic() < deadline


def test_every_step_of_a_round_waits_for_a_gap(shop: LakeShop) -> None:
    """The table, the two of our own, the ledger; then what is published, then care."""
    heard, steps, gaps = Heard(), queue.SimpleQueue[None](), threading.Semaphore(0)

    def await_gap() -> None:
        steps.put(None)
        assert gaps.acquire(timeout=20)

    writer = LakeWriter(shop.open_lake(), PROJECT)
    published = {"shop.orders": ORDERS}
    with durability(shop, writer, heard, seconds=0.1, published=published, await_gap=await_gap):
        shop.write([(1, "a")])
        for _ in range(4):
            assert heard.durable.empty()
            steps.get(timeout=20)
            gaps.release()
        assert heard.durable.get(timeout=20).version == 1
        steps.get(timeout=20)
        assert shop.open_lake().table("shop.orders") is None
        gaps.release(1000)
        steps.get(timeout=20)
    published_table = shop.open_lake().table("shop.orders")
    assert published_table is not None


def test_a_last_round_is_made_at_the_end(shop: LakeShop) -> None:
    heard = Heard()
    with durability(shop, LakeWriter(shop.open_lake(), PROJECT), heard):
        shop.write([(1, "a")])
        shop.write([(2, "b")])
    assert heard.durable.get(timeout=0).version == 2
    assert LakeWriter(shop.open_lake(), PROJECT).mark.version == 2


def test_where_nothing_happened_nothing_is_written(shop: LakeShop) -> None:
    writer = LakeWriter(shop.open_lake(), PROJECT)
    shop.write([(1, "a")])
    shop.flush(writer)
    before = writer.ledger.snapshot_id
    heard = Heard()
    with durability(shop, writer, heard, seconds=0.01):
        threading.Event().wait(1.5)
    assert writer.ledger.snapshot_id == before
    assert heard.durable.empty()


@pytest.mark.parametrize(
    "fault",
    [
        EnvironmentFault("lake_not_writable", "The lake, writing: no room."),
        ValueError("a surprise"),
    ],
    ids=["known", "surprise"],
)
def test_a_lake_that_cannot_be_written_is_trouble_until_it_can(
    shop: LakeShop, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    writer, heard = LakeWriter(shop.open_lake(), PROJECT), Heard()
    write, is_blocked = writer.lake.objects.write, threading.Event()
    is_blocked.set()

    def refuse(location: str, content: bytes | memoryview) -> None:
        if is_blocked.is_set() and "/data/" in location:
            raise fault
        write(location, content)

    monkeypatch.setattr(writer.lake.objects, "write", refuse)
    shop.write([(1, "a")])
    with durability(shop, writer, heard, seconds=0.05):
        deadline = time.monotonic() + 20
        while not any("sources keep their logs" in said for said in heard.troubles):
            assert time.monotonic() < deadline
        assert heard.durable.empty()
        is_blocked.clear()
        assert heard.durable.get(timeout=20).version == 1
    assert heard.troubles[-1] == ""


def test_an_engine_that_was_replaced_is_told_and_writes_nothing(shop: LakeShop) -> None:
    heard = Heard()
    with durability(shop, LakeWriter(shop.open_lake(), PROJECT), heard, seconds=0.05):
        shop.write([(1, "a")])
        heard.durable.get(timeout=20)
        successor = LakeWriter(shop.open_lake(), PROJECT)
        shop.write([(2, "b")])
        error = heard.lost.get(timeout=20)
    assert isinstance(error, OvertakenError)
    assert f"epoch {successor.epoch}" in error.what
    assert LakeWriter(shop.open_lake(), PROJECT).mark.version == 1


def test_what_is_published_follows_and_one_that_cannot_be_keeps_no_other_back(
    shop: LakeShop,
) -> None:
    shop.write([(1, "a")])
    with shop.store.transaction() as connection:
        connection.execute("CREATE TABLE big AS SELECT 170141183460469231731687303715884105727 n")
    published = {"big": BIG, "shop.orders": ORDERS}
    writer, heard = LakeWriter(shop.open_lake(), PROJECT), Heard()
    with durability(shop, writer, heard, seconds=0.05, published=published):
        deadline = time.monotonic() + 20
        while not any(said.startswith("big in the lake stays") for said in heard.troubles):
            assert time.monotonic() < deadline
        with shop.store.transaction() as connection:
            connection.execute("UPDATE big SET n = 1")
        shop.write([(2, "b")])
        while not (heard.troubles and heard.troubles[-1] == ""):
            assert time.monotonic() < deadline
    for name, rows in (("shop.orders", 2), ("main.big", 1)):
        table = shop.open_lake().table(name)
        assert table is not None
        assert sum(each.record_count for each in table.files) == rows


def test_what_could_not_be_published_is_told_until_it_is_and_tried_again_soon(
    shop: LakeShop,
) -> None:
    with shop.store.transaction() as connection:
        connection.execute("CREATE TABLE big AS SELECT 170141183460469231731687303715884105727 n")
    shop.write([(1, "a")])
    writer, now = LakeWriter(shop.open_lake(), PROJECT), [0.0]
    shop.flush(writer)
    publishing = Publishing(
        Publisher(writer),
        {"big": None},
        lambda _: {"big": BIG},
        seconds=900,
        monotonic=lambda: now[0],
    )

    def told() -> str:
        with shop.store.view() as connection:
            return publishing.after_round(connection, 1)

    assert told().startswith("big in the lake stays")
    with shop.store.transaction() as connection:
        connection.execute("UPDATE big SET n = 1")
    now[0] = 30.0
    assert told().startswith("big in the lake stays")
    now[0] = 61.0
    assert told() == ""


def test_a_table_without_rows_just_now_stays_in_the_lake_as_it_was(shop: LakeShop) -> None:
    shop.write([(1, "a")])
    writer, seen = LakeWriter(shop.open_lake(), PROJECT), {"shop.orders": ORDERS}
    shop.flush(writer)
    tables: dict[str, str | None] = {"shop.orders": None}
    publishing = Publishing(Publisher(writer), tables, lambda _: seen, seconds=0)
    with shop.store.view() as connection:
        assert publishing.after_round(connection, 1) == ""
        seen.clear()
        assert publishing.after_round(connection, 2) == ""
        assert shop.open_lake().table("shop.orders") is not None
        tables.clear()
        assert publishing.after_round(connection, 3) == ""
    assert shop.open_lake().table("shop.orders") is None
