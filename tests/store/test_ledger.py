"""The ledger: its newest row is where to go on, and that row is never forgotten."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import duckdb
import numpy as np
import pytest

from upwell.core.histogram import Histogram
from upwell.core.position import BEGINNING, Position
from upwell.core.sql import connect
from upwell.store import freshness, ledger
from upwell.store.ledger import SourceProgress

#: The layout of Upwell's own tables, by the format of the stores that have it.
LAYOUTS = {4: "096c990f765b6591"}

HOUR_US = 3_600_000_000
NOW_US = 1_780_000_000_000_000


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    made = connect(zone="America/New_York", threads=1)
    ledger.prepare(made)
    yield made
    made.close()


def test_the_layout_of_upwells_own_tables_is_the_one_of_its_format(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    """Whoever changes one raises ``FORMAT``: a store of before would fail in mid-air. A table that
    is only added changes no store of before.
    """
    columns = connection.execute(
        "SELECT schema_name, table_name, column_name, data_type FROM duckdb_columns() "
        "WHERE schema_name IN ('upwell', '_upwell') ORDER BY ALL"
    ).fetchall()
    assert hashlib.sha256(repr(columns).encode()).hexdigest()[:16] == LAYOUTS[ledger.FORMAT]


def versions(connection: duckdb.DuckDBPyConnection) -> list[tuple[int, str]]:
    return connection.execute(
        "SELECT version, source FROM upwell.versions ORDER BY version, source"
    ).fetchall()


def test_each_source_goes_on_from_its_own_newest_version(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    assert ledger.progress(connection, "shop") == SourceProgress(BEGINNING, 0)
    assert ledger.latest_version(connection) == 0
    ledger.append(connection, 1, NOW_US, {"shop": SourceProgress(Position("a"), 11, 2, 3)})
    ledger.append(connection, 2, NOW_US + 1, {"crm": SourceProgress(Position("b"), 12, 1, 4)})
    assert ledger.latest_version(connection) == 2
    assert ledger.logical_time_us(connection) == NOW_US + 1
    assert ledger.progress(connection, "shop") == SourceProgress(Position("a"), 11)
    assert ledger.progress(connection, "crm") == SourceProgress(Position("b"), 12)
    assert ledger.changes(connection) == 7


def test_old_versions_are_forgotten_but_never_the_newest_of_a_source(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    old_us = NOW_US - (ledger.KEPT_HOURS + 1) * HOUR_US
    for version, source in enumerate(("shop", "crm", "shop", "shop"), start=1):
        progress = SourceProgress(Position(str(version)), 0)
        ledger.append(connection, version, old_us, {source: progress})
    ledger.trim(connection, NOW_US)
    assert versions(connection) == [(2, "crm"), (3, "shop"), (4, "shop")]
    ledger.append(connection, 5, NOW_US, {"crm": SourceProgress(Position("5"), 0)})
    ledger.trim(connection, NOW_US)
    assert versions(connection) == [(4, "shop"), (5, "crm")]
    assert ledger.progress(connection, "shop").position == "4"


def test_versions_within_the_kept_hours_stay(connection: duckdb.DuckDBPyConnection) -> None:
    for version in (1, 2):
        at_us = NOW_US - (ledger.KEPT_HOURS - version) * HOUR_US
        progress = SourceProgress(Position(str(version)), 0)
        ledger.append(connection, version, at_us, {"shop": progress})
    ledger.trim(connection, NOW_US)
    assert versions(connection) == [(1, "shop"), (2, "shop")]


def test_preparing_again_keeps_what_is_there(connection: duckdb.DuckDBPyConnection) -> None:
    identity = ledger.read_fact(connection, "store")
    ledger.append(connection, 1, NOW_US, {"shop": SourceProgress(Position("a"), 0)})
    ledger.prepare(connection)
    assert ledger.read_fact(connection, "store") == identity
    assert ledger.latest_version(connection) == 1


def test_freshness_comes_back_as_it_was_recorded(connection: duckdb.DuckDBPyConnection) -> None:
    seen = Histogram.empty().add(np.array([0.5, 120.0, 120.0, 9e9]))
    minute_us = NOW_US - NOW_US % 60_000_000
    freshness.record(connection, "sales", minute_us + 59_999_999, seen)
    freshness.record(connection, "sales", minute_us + 60_000_000, Histogram.empty())
    rows = connection.execute(f"FROM {freshness.TABLE} ORDER BY minute").to_arrow_table()
    assert freshness.recorded(rows) == [
        ("sales", minute_us, seen),
        ("sales", minute_us + 60_000_000, Histogram.empty()),
    ]
