"""What every lake promises of its tables, held against both catalogs: SQLite and REST."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema

from tests.store.lake.seaweed import Seaweed
from upwell.core.errors import EnvironmentFault, IntegrityError, Unavailable
from upwell.core.schema import Column
from upwell.store.lake.catalog import Access
from upwell.store.lake.lake import Lake, open_lake
from upwell.store.lake.layout import arrow_schema
from upwell.store.lake.parquet import Target, write_files
from upwell.store.lake.tables import Change, LakeTable, OvertakenError

COLUMNS = (Column("id", "BIGINT"), Column("note", "VARCHAR"))
ORDERS = "shop.orders__log"

Open = Callable[..., Lake]


@pytest.fixture(
    params=["sqlite", pytest.param("rest", marks=pytest.mark.xdist_group("seaweed"))],
)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the same lake, each time anew as another process would."""
    place, access = ".", Access()
    if request.param == "rest":
        seaweed: Seaweed = request.getfixturevalue("seaweed")
        place, access = seaweed.address(), seaweed.access
    return lambda name="lake": open_lake(f"{place.removesuffix('/lake')}/{name}", tmp_path, access)


def written(lake: Lake, table: LakeTable, *ids: int) -> list[DataFile]:
    target = Target(
        lake.objects, table.folder, table.schema, arrow_schema(table.schema, COLUMNS), ("id",)
    )
    rows = pa.record_batch({"id": pa.array(ids, pa.int64()), "note": pa.nulls(len(ids))})
    return write_files(target, f"{ids[0]:012}", [rows])


def paths(table: LakeTable | None) -> list[str]:
    assert table is not None
    return [each.file_path for each in table.files]


def test_a_new_table_is_empty_and_made_only_once(opened: Open) -> None:
    lake = opened()
    assert lake.names() == []
    assert lake.table(ORDERS) is None
    made = lake.create(ORDERS, COLUMNS, {"kind": "log"})
    assert (made.files, made.snapshot_id, made.epoch) == ([], None, 0)
    again = opened().create(ORDERS, COLUMNS, {"kind": "other"})
    assert (again.location, again.properties["kind"]) == (made.location, "log")
    assert opened().names() == [ORDERS]
    assert isinstance(made.schema, Schema)
    assert [field.name for field in made.schema.fields] == ["id", "note"]


def test_any_name_that_sql_allows_is_a_name_in_the_lake(opened: Open) -> None:
    names = ["shop.Orders", "Shop.order items", "läden.a.b", "x_.x_a", "shop.__log", "shop.日本_"]
    lake = opened()
    for name in names:
        lake.create(name, COLUMNS, {}).commit(Change(properties={"of": name}), epoch=1)
    assert opened().names() == sorted(names)
    for name in names:
        found = opened().table(name)
        assert found is not None
        assert found.properties["of"] == name


def test_files_and_properties_arrive_in_one_commit(opened: Open) -> None:
    lake = opened()
    table = lake.create(ORDERS, COLUMNS, {})
    files = written(lake, table, 1, 2)
    assert paths(opened().table(ORDERS)) == []
    table.commit(Change(added=files, properties={"through": "2"}), epoch=7)
    found = opened().table(ORDERS)
    assert found is not None
    assert paths(found) == paths(table) == [files[0].file_path]
    assert (found.properties["through"], found.epoch) == ("2", 7)
    assert (found.snapshot_id, len(found.snapshots)) == (table.snapshot_id, 1)


def test_a_commit_replaces_files_and_forgets_snapshots(opened: Open) -> None:
    lake = opened()
    table = lake.create(ORDERS, COLUMNS, {})
    for number in range(1, 4):
        table.commit(Change(added=written(lake, table, number)), epoch=1)
    old = paths(table)
    merged = written(lake, table, 1, 2)
    forgotten = [each.snapshot_id for each in table.snapshots]
    table.commit(Change(added=merged, removed=old[:2], forgotten=forgotten), epoch=1)
    found = opened().table(ORDERS)
    assert found is not None
    assert sorted(paths(found)) == sorted([old[2], merged[0].file_path])
    assert [each.snapshot_id for each in found.snapshots] == [table.snapshot_id]


def test_a_commit_from_an_older_state_is_refused_and_may_be_made_again(opened: Open) -> None:
    first, second = opened(), opened()
    table = first.create(ORDERS, COLUMNS, {})
    stale = second.table(ORDERS)
    assert stale is not None
    table.commit(Change(added=written(first, table, 1)), epoch=1)
    late = written(second, stale, 2)
    with pytest.raises(Unavailable):
        stale.commit(Change(added=late), epoch=1)
    assert paths(opened().table(ORDERS)) == paths(table)
    stale.commit(Change(added=late), epoch=1)
    assert paths(opened().table(ORDERS)) == [*paths(table), late[0].file_path]


def test_a_writer_of_an_older_epoch_is_told_and_writes_nothing(opened: Open) -> None:
    first, second = opened(), opened()
    table = first.create(ORDERS, COLUMNS, {})
    table.commit(Change(), epoch=1)
    taken = second.table(ORDERS)
    assert taken is not None
    taken.commit(Change(), epoch=2)
    with pytest.raises(OvertakenError, match="epoch 2"):
        table.commit(Change(added=written(first, table, 1)), epoch=1)
    assert paths(opened().table(ORDERS)) == []


def test_columns_can_be_added_and_files_from_before_stay(opened: Open) -> None:
    lake = opened()
    table = lake.create(ORDERS, COLUMNS, {})
    table.commit(Change(added=written(lake, table, 1)), epoch=1)
    lake.widen(table, (*COLUMNS, Column("paid", "DECIMAL(18,2)")))
    assert [field.name for field in table.schema.fields] == ["id", "note", "paid"]
    table.commit(Change(added=written(lake, table, 2)), epoch=1)
    found = opened().table(ORDERS)
    assert found is not None
    assert [field.name for field in found.schema.fields] == ["id", "note", "paid"]
    assert len(found.files) == 2


def test_a_renamed_table_keeps_its_files_whatever_becomes_of_its_old_name(opened: Open) -> None:
    lake = opened()
    table = lake.create(ORDERS, COLUMNS, {})
    table.commit(Change(added=written(lake, table, 1)), epoch=1)
    lake.rename(ORDERS, "shop.aside")
    assert lake.names() == ["shop.aside"]
    new = lake.create(ORDERS, COLUMNS, {})
    for number in range(2, 6):
        new.commit(Change(added=written(lake, new, number)), epoch=1)
    lake.forget(ORDERS)
    assert lake.names() == ["shop.aside"]
    aside = opened().table("shop.aside")
    assert aside is not None
    aside.commit(Change(added=written(lake, aside, 9)), epoch=1)
    lake.rename("shop.aside", ORDERS)
    back = opened().table(ORDERS)
    assert back is not None
    assert paths(back) == paths(aside)
    for path in paths(back):
        assert lake.objects.read(path)


def test_another_ones_table_in_the_same_catalog_is_never_ours(opened: Open) -> None:
    lake = opened()
    lake.create("shop.ours", COLUMNS, {})
    lake._catalog.create_table(
        ("shop", "theirs"),
        schema=Schema(),
        location=f"{opened('elsewhere').root}/shop.theirs",
    )
    assert lake.table("shop.theirs") is None
    with pytest.raises(EnvironmentFault) as caught:
        lake.create("shop.theirs", COLUMNS, {})
    assert caught.value.code == "lake_name_taken"


def test_a_damaged_manifest_is_named_and_gives_no_files(opened: Open) -> None:
    lake = opened()
    table = lake.create(ORDERS, COLUMNS, {})
    table.commit(Change(added=written(lake, table, 1)), epoch=1)
    manifest = next(
        each.location for each in lake.objects.list(lake.root) if each.location.endswith("m0.avro")
    )
    data = lake.objects.read(manifest)
    lake.objects.write(manifest, data[:-30] + bytes([data[-30] ^ 1]) + data[-29:])
    with pytest.raises(IntegrityError) as caught:
        opened().table(ORDERS)
    assert caught.value.where == manifest
