"""Slots give what lies in them, whatever was rolled back since they were registered."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pyarrow as pa
import pytest

from upwell.core.sql import quote
from upwell.store.slots import Slots


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def lay(connection: duckdb.DuckDBPyConnection, slots: Slots, *values: int) -> list[int]:
    """What SQL reads of what was laid."""
    name = slots.put("rows", pa.table({"n": pa.array(values, pa.int64())}))
    return [n for (n,) in connection.execute(f"FROM {quote(name)}").fetchall()]


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("before", [0, 1, 2])
def test_a_slot_is_there_after_a_rollback(
    connection: duckdb.DuckDBPyConnection, times: int, before: int
) -> None:
    """However often it was used in the transaction, and whichever transactions came before."""
    slots = Slots(connection)
    for number in range(before):
        connection.begin()
        slots.begin()
        slots.put(f"other {number}", pa.table({"x": ["a"]}))
        connection.commit()
    connection.begin()
    for number in range(times):
        slots.begin()
        assert lay(connection, slots, number) == [number]
    connection.rollback()
    for number in range(3):
        connection.begin()
        slots.begin()
        assert lay(connection, slots, number, 7) == [number, 7]
        connection.commit()


def test_a_table_of_another_schema_is_read_as_it_is(connection: duckdb.DuckDBPyConnection) -> None:
    slots = Slots(connection)
    assert lay(connection, slots, 1) == [1]
    name = slots.put("rows", pa.table({"n": ["text"], "m": [1]}))
    assert connection.execute(f"FROM {quote(name)}").fetchall() == [("text", 1)]


def test_what_takes_room_is_let_go(connection: duckdb.DuckDBPyConnection) -> None:
    slots = Slots(connection)
    name = slots.put("rows", pa.table({"n": list(range(5_000))}))
    slots.empty()
    assert connection.execute(f"SELECT count(*) FROM {quote(name)}").fetchall() == [(0,)]
