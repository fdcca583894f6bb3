"""The past as it was asked for: whole logs, histories, and tables as of a version or a time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from upwell.core.errors import UsageError
from upwell.core.schema import TableSchema
from upwell.durability import look, trim
from upwell.ingest.tables import change_logs, log_name
from upwell.past import Logs, Moment, derivation, table_of
from upwell.project.values import Model
from upwell.store import ledger
from upwell.store.lake.retention import fold
from upwell.store.lake.writer import LakeWriter
from upwell.transform.plan import plan_models

from .lake_shop import ORDERS, PROJECT, START_US, LakeShop

LOG = log_name(ORDERS.name)


def at(version: int) -> datetime:
    """When a version was committed in the shop."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=START_US + version * 1_000_000)


def logs(shop: LakeShop, *, with_lake: bool = True) -> Logs:
    connection = shop.store.reader()
    hot = {LOG: connection.execute(f"SELECT * FROM {LOG}").to_arrow_table()}
    identities = {each.name: each.identity for each in change_logs(connection)}
    version = ledger.latest_version(connection)
    connection.close()
    lake = shop.open_lake() if with_lake else None
    return Logs("UTC", {ORDERS.name: ORDERS}, identities, version, hot, lake)


@pytest.fixture(params=["all hot", "all in the lake", "half each", "half each, not trimmed"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> LakeShop:
    """Five versions: two orders, one changed, one gone and come back; wherever they lie."""
    shop = LakeShop(tmp_path)
    writer = LakeWriter(shop.open_lake(), PROJECT)
    steps: list[Callable[[], int]] = [
        lambda: shop.write([(1, "a"), (2, "b")]),
        lambda: shop.write([(1, "a2")], [(1, "a")]),
        lambda: shop.write(gone=[(2, "b")]),
        lambda: shop.write([(2, "b")]),
        lambda: shop.write([(3, "c")]),
    ]
    flushed = {"all hot": 0, "all in the lake": 5}.get(request.param, 3)
    for number, step in enumerate(steps, 1):
        step()
        if number == flushed:
            shop.flush(writer)
            if "not trimmed" not in request.param:
                with shop.store.transaction() as connection:
                    trim(connection, look(connection)[0])
    return shop


def rows(table: pa.Table) -> list[tuple[Any, ...]]:
    return sorted(zip(*(column.to_pylist() for column in table.columns), strict=True), key=str)


def test_a_change_log_is_whole_wherever_its_rows_lie(shop: LakeShop) -> None:
    whole = logs(shop).whole(ORDERS.name).select(["id", "note", "_version", "_weight"])
    assert rows(whole) == sorted(
        [
            (1, "a", 1, 1),
            (2, "b", 1, 1),
            (1, "a", 2, -1),
            (1, "a2", 2, 1),
            (2, "b", 3, -1),
            (2, "b", 4, 1),
            (3, "c", 5, 1),
        ],
        key=str,
    )


def test_a_history_says_from_when_to_when_each_image_stood(shop: LakeShop) -> None:
    history = logs(shop).history(ORDERS.name)
    found = [
        (id_, note, begin.astimezone(UTC), end and end.astimezone(UTC))
        for id_, note, begin, end in rows(history)
    ]
    assert found == [
        (1, "a", at(1), at(2)),
        (1, "a2", at(2), None),
        (2, "b", at(1), at(3)),
        (2, "b", at(4), None),
        (3, "c", at(5), None),
    ]


STOOD = {
    1: [(1, "a"), (2, "b")],
    2: [(1, "a2"), (2, "b")],
    3: [(1, "a2")],
    4: [(1, "a2"), (2, "b")],
    5: [(1, "a2"), (2, "b"), (3, "c")],
}


@pytest.mark.parametrize("version", STOOD)
def test_a_table_is_as_it_stood_at_a_version_and_at_the_time_of_it(
    shop: LakeShop, version: int
) -> None:
    past = logs(shop)
    assert rows(past.as_of(ORDERS.name, Moment(version=version))) == STOOD[version]
    assert rows(past.as_of(ORDERS.name, Moment(time=at(version)))) == STOOD[version]
    later = at(version) + timedelta(milliseconds=999)
    assert rows(past.as_of(ORDERS.name, Moment(time=later))) == STOOD[version]


def test_before_a_history_begins_and_after_the_newest_version_nothing_is_invented(
    shop: LakeShop,
) -> None:
    past = logs(shop)
    with pytest.raises(UsageError, match="history begins later") as caught:
        past.as_of(ORDERS.name, Moment(time=at(0)))
    assert "version 1" in caught.value.next_step
    with pytest.raises(UsageError, match="newest version is 5"):
        past.as_of(ORDERS.name, Moment(version=6))


def test_what_came_and_went_within_one_transaction_never_was(tmp_path: Path) -> None:
    shop = LakeShop(tmp_path)
    shop.write([(1, "a")])
    shop.write([(1, "b"), (1, "c")], [(1, "a"), (1, "b")])
    history = logs(shop, with_lake=False).history(ORDERS.name).select(["id", "note"])
    assert rows(history) == [(1, "a"), (1, "c")]


def test_a_name_means_a_past_only_where_no_table_has_it() -> None:
    odd = TableSchema("shop.orders__log", ORDERS.columns, ("id",))
    assert table_of("shop.orders__log", {ORDERS.name: ORDERS}) == ORDERS.name
    assert table_of("shop.orders__history", {ORDERS.name: ORDERS}) == ORDERS.name
    assert table_of("shop.orders__log", {ORDERS.name: ORDERS, odd.name: odd}) is None
    assert table_of("shop.others__log", {ORDERS.name: ORDERS}) is None


def test_models_of_the_past_are_computed_in_order_from_what_they_read() -> None:
    models = [
        Model(name="counted", sql="select count(*) as n from noted", path=Path("counted.sql")),
        Model(
            name="noted",
            sql="select id from shop.orders where note is not null",
            path=Path("noted.sql"),
        ),
        Model(name="other", sql="select id from shop.orders", path=Path("other.sql")),
    ]
    wanted = derivation(plan_models(models, [ORDERS]), ["counted"], 7)
    assert wanted.tables == [ORDERS.name]
    assert [name for name, _, _ in wanted.models] == ["noted", "counted"]
    with pytest.raises(UsageError, match="only captured tables and models"):
        derivation(plan_models(models, [ORDERS]), ["upwell.versions"], 7)


def test_history_that_was_not_kept_is_refused_and_what_stands_is_there(tmp_path: Path) -> None:
    shop = LakeShop(tmp_path)
    writer = LakeWriter(shop.open_lake(), PROJECT)
    for version in range(1, 5):
        gone = [(1, str(version - 1))] if version > 1 else []
        shop.write([(1, str(version))], gone)
        shop.flush(writer)
    with shop.store.transaction() as connection:
        trim(connection, look(connection)[0])
    table = writer.table(LOG)
    assert table is not None
    before = at(3) + timedelta(milliseconds=500)
    folded = fold(writer.lake.objects, table, before=before, through=4, epoch=writer.epoch)
    assert folded is not None
    past = logs(shop)
    for moment in (Moment(version=2), Moment(time=at(2))):
        with pytest.raises(UsageError, match="only later history is kept"):
            past.as_of(ORDERS.name, moment)
    assert rows(past.as_of(ORDERS.name, Moment(version=3))) == [(1, "3")]
    assert rows(past.as_of(ORDERS.name, Moment(version=4))) == [(1, "4")]
    assert rows(past.as_of(ORDERS.name, Moment(time=at(9)))) == [(1, "4")]
