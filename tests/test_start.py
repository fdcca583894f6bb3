"""Starting again after any crash is the same as starting."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from upwell.core.errors import EnvironmentFault
from upwell.core.schema import Column, TableSchema
from upwell.start import StoppedError, begin_following, open_source, open_store
from upwell.store.hot import HotStore
from upwell.store.place import StatePlace
from upwell.testing import MemorySnapshot, MemorySource
from upwell.wiring import SourceSetting

ORDERS = TableSchema("shop.orders", (Column("id", "INTEGER", nullable=False),), ("id",))
REFUNDS = TableSchema("shop.refunds", (Column("id", "INTEGER", nullable=False),), ("id",))
ONE = pa.table({"id": pa.array([1], pa.int32())})


def report(_event: str, **_facts: object) -> None:
    """Progress is told to nobody."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[HotStore]:
    store = open_store(StatePlace(tmp_path), zone="UTC", report=report)
    yield store
    store.close()


def setting(source: MemorySource) -> SourceSetting:
    return SourceSetting(
        "shop", lambda _identity: source, frozenset(table.name for table in source.tables)
    )


def begin(store: HotStore, source: MemorySource, stop: threading.Event | None = None) -> None:
    begun = open_source(store, setting(source))
    begin_following(store, begun, report, stop or threading.Event())


def test_what_was_read_goes_on(store: HotStore) -> None:
    source = MemorySource("shop", [(ORDERS, ONE)])
    begin(store, source)
    assert open_source(store, setting(source)).known is not None


class Refusing(MemorySource):
    """A source that cannot be read just now."""

    def snapshot(self) -> MemorySnapshot:
        raise EnvironmentFault("slots_exhausted", "all slots are taken")


def test_a_table_that_was_added_and_not_read_is_read_at_the_next_start(store: HotStore) -> None:
    begin(store, MemorySource("shop", [(ORDERS, ONE)]))
    both = [(ORDERS, ONE), (REFUNDS, ONE)]
    with pytest.raises(EnvironmentFault):
        begin(store, Refusing("shop", both))
    source = MemorySource("shop", both)
    assert open_source(store, setting(source)).known is None
    begin(store, source)
    assert store.writer.execute("FROM shop.refunds").fetchall() == [(1,)]
    assert store.writer.execute("FROM shop.orders").fetchall() == [(1,)]


def test_told_to_stop_while_reading_nothing_of_it_stays(store: HotStore) -> None:
    stop = threading.Event()
    stop.set()
    source = MemorySource("shop", [(ORDERS, ONE)])
    with pytest.raises(StoppedError):
        begin(store, source, stop)
    assert store.writer.execute("FROM shop.orders").fetchall() == []
    assert open_source(store, setting(source)).known is None


def with_columns(*names: str) -> TableSchema:
    columns = tuple(Column(name, "INTEGER") for name in names)
    return TableSchema("shop.orders", columns, ("id",))


def row(**values: int) -> pa.Table:
    return pa.table({name: pa.array([value], pa.int32()) for name, value in values.items()})


@pytest.mark.parametrize(
    ("names", "values"),
    [
        (("id", "note", "rating"), {"id": 1, "note": 7, "rating": 5}),  # added, with a default
        (("id",), {"id": 1}),  # dropped
        (("id", "remark"), {"id": 1, "remark": 7}),  # renamed
    ],
)
def test_a_layout_that_changed_meanwhile_is_read_anew(
    store: HotStore, names: tuple[str, ...], values: dict[str, int]
) -> None:
    begin(store, MemorySource("shop", [(with_columns("id", "note"), row(id=1, note=7))]))
    changed = MemorySource("shop", [(with_columns(*names), row(**values))])
    assert open_source(store, setting(changed)).known is None
    begin(store, changed)
    found = store.writer.execute("FROM shop.orders")
    assert [column[0] for column in found.description or ()] == list(names)
    assert found.fetchall() == [tuple(values.values())]
    assert open_source(store, setting(changed)).known is not None
