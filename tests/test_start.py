"""Starting again after any crash is the same as starting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from tests.stored import silent, take_in
from upwell.core.errors import EnvironmentFault, Unavailable, UsageError
from upwell.core.protocols import Beginning, SourceTable, SourceTables
from upwell.core.schema import Column, TableSchema
from upwell.start import begin_following, layouts_ahead, open_source, open_store
from upwell.store import ledger
from upwell.store.hot import HotStore
from upwell.store.place import StatePlace
from upwell.table_states import TableStates
from upwell.testing import MemorySource
from upwell.wiring import SourceSetting

ORDERS = TableSchema("shop.orders", (Column("id", "INTEGER", nullable=False),), ("id",))
REFUNDS = TableSchema("shop.refunds", (Column("id", "INTEGER", nullable=False),), ("id",))
ONE = pa.table({"id": pa.array([1], pa.int32())})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[HotStore]:
    store = open_store(StatePlace(tmp_path), zone="UTC", report=silent)
    yield store
    store.close()


def setting(source: MemorySource) -> SourceSetting:
    names = frozenset(table.name for table in source.tables)
    return SourceSetting("shop", lambda _identity: source, names)


def rows(store: HotStore, table: str) -> list[tuple[int, ...]]:
    return store.writer.execute(f"FROM {table} ORDER BY ALL").fetchall()


class Noting(MemorySource):
    """Counts how often it was begun; may be away, or refuse."""

    begun = 0
    fault: Unavailable | EnvironmentFault | None = None

    def begin(self, tables: Sequence[SourceTable]) -> Beginning:
        if self.fault is not None:
            raise self.fault
        self.begun += 1
        return super().begin(tables)

    def look(self, known: Sequence[SourceTable] = ()) -> SourceTables:
        if isinstance(self.fault, Unavailable):
            raise self.fault
        return super().look(known)


def test_what_was_read_goes_on(store: HotStore) -> None:
    source = Noting("shop", [(ORDERS, ONE)])
    take_in(store, source)
    take_in(store, source)
    assert source.begun == 1
    assert rows(store, "shop.orders") == [(1,)]


def test_a_source_that_refuses_to_begin_leaves_nothing(store: HotStore) -> None:
    source = Noting("shop", [(ORDERS, ONE)])
    source.fault = EnvironmentFault("slots_exhausted", "all slots are taken")
    with pytest.raises(EnvironmentFault):
        take_in(store, source)
    source.fault = None
    take_in(store, source)
    assert rows(store, "shop.orders") == [(1,)]


def test_a_table_that_was_added_is_read_and_the_others_go_on(store: HotStore) -> None:
    take_in(store, MemorySource("shop", [(ORDERS, ONE)]))
    log = rows(store, "(SELECT id, _version FROM shop.orders__log)")
    both = Noting("shop", [(ORDERS, pa.table({"id": pa.array([], pa.int32())})), (REFUNDS, ONE)])
    take_in(store, both)
    assert both.begun == 0
    assert rows(store, "shop.refunds") == [(1,)]
    assert rows(store, "shop.orders") == [(1,)]
    assert rows(store, "(SELECT id, _version FROM shop.orders__log)") == log


def test_a_table_that_is_not_captured_any_more_goes(store: HotStore) -> None:
    take_in(store, MemorySource("shop", [(ORDERS, ONE), (REFUNDS, ONE)]))
    take_in(store, MemorySource("shop", [(ORDERS, ONE)]))
    assert TableStates(store).layouts.keys() == {"shop.orders"}
    assert rows(store, "shop.orders") == [(1,)]


def test_a_source_that_is_away_is_no_reason_not_to_serve_what_is_stored(store: HotStore) -> None:
    source = Noting("shop", [(ORDERS, ONE)])
    take_in(store, source)
    source.fault = Unavailable("away", "the database is away")
    tables = TableStates(store)
    ahead = layouts_ahead(tables, {"shop": source}, [setting(source)])
    assert ahead == {"shop.orders": ORDERS}
    following = begin_following(store, tables, source, setting(source), silent)
    assert following.committed_position == ledger.progress(store.writer, "shop").position


def test_a_source_that_is_away_and_was_never_read_is_told(store: HotStore) -> None:
    source = Noting("shop", [(ORDERS, ONE)])
    source.fault = Unavailable("away", "the database is away")
    with pytest.raises(Unavailable):
        layouts_ahead(TableStates(store), {"shop": source}, [setting(source)])


class Lacking(MemorySource):
    """Has one table that cannot be captured."""

    def look(self, known: Sequence[SourceTable] = ()) -> SourceTables:
        del known
        return SourceTables({}, {name.name: UsageError("gone", "no such") for name in self.tables})


def test_a_new_table_that_cannot_be_captured_is_told_before_anything_is_read(
    store: HotStore,
) -> None:
    source = Lacking("shop", [(ORDERS, ONE)])
    with pytest.raises(UsageError):
        layouts_ahead(TableStates(store), {"shop": source}, [setting(source)])
    assert TableStates(store).names("shop") == set()


def test_a_source_is_opened_as_the_one_that_was_read(store: HotStore) -> None:
    take_in(store, MemorySource("shop", [(ORDERS, ONE)], identity="cluster 7"))
    found: list[str | None] = []

    def opened(identity: str | None) -> MemorySource:
        found.append(identity)
        return MemorySource("shop", [(ORDERS, ONE)])

    open_source(store, SourceSetting("shop", opened, frozenset(["shop.orders"])))
    assert found == ["cluster 7"]
