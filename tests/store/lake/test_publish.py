"""Published tables: what any reader of Iceberg finds is what the hot store holds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table

from upwell.core.schema import Column
from upwell.core.sql import connect
from upwell.store.lake.publish import PUBLISHED, Publication, Published, Publisher
from upwell.store.lake.scrub import scrub
from upwell.store.lake.tables import OvertakenError

from .rounds import Rounds

LINES = Published(
    "lines",
    (
        Column("id", "INTEGER"),
        Column("sold_at", "TIMESTAMPTZ"),
        Column("amount", "DECIMAL(12,2)"),
        Column("units", "HUGEINT"),
    ),
    "sold_at",
)
TIMELESS = Published("lines", (LINES.columns[0], *LINES.columns[2:]))
STOCK = Published("shop.stock", (Column("id", "INTEGER"), Column("place", "VARCHAR")))


class Shop:
    """A hot store with two tables, and the lake that shows them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rounds = Rounds(folder)
        self.sql = self.rounds.connection
        self.sql.execute(
            "CREATE TABLE lines (id INTEGER, sold_at TIMESTAMPTZ, amount DECIMAL(12,2), "
            "units HUGEINT); CREATE TABLE shop.stock (id INTEGER, place VARCHAR)"
        )
        self.publisher = Publisher(self.rounds.writer)

    def publish(self, *wanted: Published) -> Publication:
        self.rounds.round([(self.rounds.version, "news")])
        done = Publication()
        for each in wanted or (LINES, STOCK):
            self.publisher.publish(self.sql, each, done)
        self.publisher.withdraw([each.name for each in wanted or (LINES, STOCK)], done)
        return done

    def reader(self, name: str) -> Table:
        """The table as pyiceberg alone finds it, with nothing of ours."""
        folder = (self.folder / "lake").resolve()
        catalog = SqlCatalog("upwell", uri=f"sqlite:///{folder / 'catalog.db'}")
        return catalog.load_table(name)

    def shown(self, name: str, columns: str = "*") -> list[str]:
        found = self.reader(name).scan().to_arrow()
        with connect(zone="Europe/London", threads=1) as connection:
            connection.register("found", found)
            return _texts(connection, "found", columns)

    def held(self, name: str, columns: str = "*") -> list[str]:
        return _texts(self.sql, name, columns)


def _texts(connection: duckdb.DuckDBPyConnection, name: str, columns: str) -> list[str]:
    found = connection.execute(
        f"SELECT t::VARCHAR FROM (SELECT {columns} FROM {name}) t ORDER BY 1"
    )
    return [text for (text,) in found.fetchall()]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def files(shop: Shop, name: str) -> set[str]:
    return {task.file.file_path for task in shop.reader(name).scan().plan_files()}


def test_only_months_in_which_something_changed_are_written_again(shop: Shop) -> None:
    shop.sql.execute(
        "INSERT INTO lines SELECT i, TIMESTAMPTZ '2025-12-15 12:00:00+00' + INTERVAL (i) DAY, i, i "
        "FROM range(90) t(i)"
    )
    assert shop.publish().parts == 4
    assert shop.shown("main.lines") == shop.held("lines")
    before = files(shop, "main.lines")
    assert len(before) == 4

    shop.sql.execute("UPDATE lines SET amount = amount + 1 WHERE id = 40")  # January
    shop.sql.execute("DELETE FROM lines WHERE sold_at >= TIMESTAMPTZ '2026-03-01 00:00:00+00'")
    assert shop.publish().parts == 2
    assert shop.shown("main.lines") == shop.held("lines")
    assert len(files(shop, "main.lines") & before) == 2

    snapshot = shop.reader("main.lines").current_snapshot()
    assert shop.publish().parts == 0
    assert shop.reader("main.lines").current_snapshot() == snapshot
    assert scrub(shop.rounds.lake).damages == ()


def test_readers_skip_the_months_that_a_filter_excludes(shop: Shop) -> None:
    shop.sql.execute(
        "INSERT INTO lines SELECT i, TIMESTAMPTZ '2025-12-31 23:59:59.999999+00' + INTERVAL (i) "
        "HOUR, i, i FROM range(2000) t(i)"
    )
    shop.publish()
    scan = shop.reader("main.lines").scan("sold_at >= '2026-02-01T00:00:00+00:00'")
    assert len(list(scan.plan_files())) == 2  # of four
    found = scan.to_arrow().num_rows
    wanted = shop.held("lines WHERE sold_at >= TIMESTAMPTZ '2026-02-01 00:00:00+00'")
    assert found == len(wanted)


def test_the_version_and_its_moment_are_told(shop: Shop) -> None:
    shop.publish()
    told = shop.reader("shop.stock").properties
    assert told[PUBLISHED] == str(shop.rounds.version)
    assert datetime.fromisoformat(told["upwell.as-of"]).tzinfo == UTC


@pytest.mark.parametrize("of_type", ["TIMESTAMP", "TIMESTAMPTZ", "DATE"])
def test_a_month_is_the_one_that_iceberg_takes_a_time_for(shop: Shop, of_type: str) -> None:
    each = Published("times", (Column("sold", of_type),), "sold")
    shop.sql.execute(f"CREATE TABLE times (sold {of_type})")
    shop.sql.execute(
        "INSERT INTO times VALUES ('1969-12-31'), ('1970-01-01'), ('1969-11-30'), "
        "('2026-03-29'), ('0001-01-01'), ('9999-12-31'), (NULL), ('infinity'), ('-infinity')"
    )
    if of_type != "DATE":
        shop.sql.execute("INSERT INTO times VALUES ('1969-12-31 23:59:59.999999')")
    shop.publish(each)
    table = shop.reader("main.times")
    unit = "D" if of_type == "DATE" else "us"
    whole = np.int32 if of_type == "DATE" else np.int64
    rows = 0
    for task in table.scan().plan_files():
        column = pq.read_table(task.file.file_path.removeprefix("file://")).column("sold")
        rows += len(column)
        for value in column.cast(pa.int32() if whole is np.int32 else pa.int64()).to_pylist():
            month = None
            if value is not None:
                months = np.array([value]).astype(f"datetime64[{unit}]").astype("datetime64[M]")
                month = int(months.astype(np.int64)[0])
            assert task.file.partition[0] == month
    assert rows == len(shop.held("times"))


@pytest.mark.parametrize(
    ("change", "after"),
    [
        (
            "ALTER TABLE lines ADD COLUMN note VARCHAR DEFAULT 'x'",
            Published("lines", (*LINES.columns, Column("note", "VARCHAR")), "sold_at"),
        ),
        (
            "ALTER TABLE lines DROP COLUMN amount",
            Published("lines", (LINES.columns[0], LINES.columns[1], LINES.columns[3]), "sold_at"),
        ),
        (
            "ALTER TABLE lines ALTER amount TYPE DOUBLE",
            Published(
                "lines",
                (*LINES.columns[:2], Column("amount", "DOUBLE"), LINES.columns[3]),
                "sold_at",
            ),
        ),
        (
            "ALTER TABLE lines DROP COLUMN sold_at",
            Published("lines", (*LINES.columns[:1], *LINES.columns[2:])),
        ),
        ("SELECT 1", Published("lines", LINES.columns)),
    ],
    ids=["column added", "column dropped", "type changed", "month dropped", "no month"],
)
def test_a_table_follows_the_layout_of_its_model(shop: Shop, change: str, after: Published) -> None:
    shop.sql.execute(
        "INSERT INTO lines SELECT i, TIMESTAMPTZ '2026-01-15 12:00:00+00' + INTERVAL (i) DAY, i, i "
        "FROM range(60) t(i)"
    )
    shop.publish()
    first = shop.reader("main.lines").current_snapshot()
    before = shop.held("lines")
    assert first is not None
    for statement in (change, "UPDATE lines SET units = units + 1 WHERE id = 3"):
        shop.sql.execute(statement)
        shop.publish(after)
        columns = ", ".join(column.name for column in after.columns)
        assert shop.shown("main.lines", columns) == shop.held("lines", columns)
    old = shop.reader("main.lines").scan(snapshot_id=first.snapshot_id).to_arrow()
    assert old.num_rows == len(before)
    assert old.column_names == [column.name for column in LINES.columns]
    assert scrub(shop.rounds.lake).damages == ()


def test_what_has_no_place_in_the_lake_leaves_what_was_published(shop: Shop) -> None:
    shop.sql.execute("INSERT INTO lines VALUES (1, now(), 1, 1)")
    shop.publish()
    before = shop.shown("main.lines")
    shop.sql.execute(
        "INSERT INTO lines VALUES (2, now(), 1, 170141183460469231731687303715884105727)"
    )
    with pytest.raises(duckdb.ConversionException):
        shop.publish()
    assert shop.shown("main.lines") == before
    shop.sql.execute("DELETE FROM lines WHERE id = 2")
    shop.publish()
    assert shop.shown("main.lines") == shop.held("lines")


def test_what_is_no_longer_wanted_is_withdrawn_and_logs_stay(shop: Shop) -> None:
    shop.publish()
    assert shop.publish(STOCK).removed == ["main.lines"]
    assert shop.rounds.lake.names() == ["shop.orders__log", "shop.stock", "upwell.versions"]
    assert shop.publish(LINES, STOCK).parts == 0
    assert shop.shown("main.lines") == []


def test_an_engine_that_was_replaced_publishes_nothing_more(shop: Shop) -> None:
    shop.sql.execute("INSERT INTO lines VALUES (1, now(), 1, 1)")
    shop.publish()
    stale = shop.publisher
    shop.rounds.take_over()
    shop.sql.execute("INSERT INTO lines VALUES (2, now(), 1, 1)")
    with pytest.raises(OvertakenError):
        stale.publish(shop.sql, LINES, Publication())
    shop.publisher = Publisher(shop.rounds.writer)
    shop.publish()
    assert shop.shown("main.lines") == shop.held("lines")


DAYS = st.integers(-40, 40)
ROWS = st.lists(st.tuples(st.integers(0, 9), DAYS | st.none(), st.integers(-5, 5)), max_size=6)


@settings(
    max_examples=15,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking takes minutes
    suppress_health_check=[HealthCheck.too_slow],
)
@given(steps=st.lists(st.tuples(ROWS, st.lists(st.integers(0, 9), max_size=3)), max_size=5))
def test_whatever_happened_what_is_shown_is_what_is_held(
    tmp_path_factory: pytest.TempPathFactory, steps: Sequence[tuple[Any, Any]]
) -> None:
    shop = Shop(tmp_path_factory.mktemp("shop"))
    for come, gone in steps:
        for row in gone:
            shop.sql.execute("DELETE FROM lines WHERE id = ?", [row])
        for id_, day, amount in come:
            shop.sql.execute(
                "INSERT INTO lines "
                "VALUES (?, TIMESTAMPTZ '2026-01-01 00:00:00+00' + to_days(?), ?, 1)",
                [id_, day, amount],
            )
        shop.publish(LINES)
        assert shop.shown("main.lines") == shop.held("lines")
