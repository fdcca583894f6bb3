"""A table that was read takes its place: what the change log says of it, and what stays."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from tests.ingest.orders import BARE, ORDERS, SIZED, current, rows, summed
from upwell.core.errors import IntegrityError
from upwell.core.position import Position
from upwell.core.protocols import CopyPlan, Operation, SourceTable, Transactions
from upwell.core.schema import TableSchema
from upwell.core.sql import connect
from upwell.ingest import copies, settle, tables
from upwell.ingest.copied import CopiedTables, copied_rows
from upwell.ingest.copies import Part
from upwell.ingest.settle import Moment
from upwell.store import ledger
from upwell.testing import changed_rows


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    made = connect(zone="UTC", threads=1)
    ledger.prepare(made)
    yield made
    made.close()


def read(
    connection: duckdb.DuckDBPyConnection, schema: TableSchema, found: pa.Table, version: int
) -> int:
    """A table read in one part, and put in its place."""
    table = SourceTable(schema, f"state {version}")
    copies.begin(connection, table)
    copies.set_plan(connection, schema.name, CopyPlan(["all"], found.num_rows))
    CopiedTables(connection).store(schema, found.to_batches())
    copies.set_stored(connection, Part(schema.name, 0, "all"))
    copying = copies.copies(connection)[schema.name]
    assert copying.is_read
    settle.prepare(connection, copying)
    count = settle.settle(connection, copying, Moment(version, Position("1"), 0, 0))
    settle.clear(connection)
    assert not copies.copies(connection)
    assert tables.captured(connection)[schema.name].table == table
    return count.rows


def test_a_table_read_again_logs_what_differs_alone(connection: duckdb.DuckDBPyConnection) -> None:
    assert read(connection, ORDERS, rows((1, "a"), (2, "b"), (3, None)), 1) == 3
    read(connection, ORDERS, rows((1, "a"), (2, "B"), (4, "d")), 2)
    assert current(connection) == [(1, "a"), (2, "B"), (4, "d")]
    assert summed(connection) == current(connection)
    news = connection.execute(
        "SELECT id, _weight FROM shop.orders__log WHERE _version = 2 ORDER BY ALL"
    ).fetchall()
    assert news == [(2, -1), (2, 1), (3, -1), (4, 1)]
    log = tables.captured(connection)["shop.orders"].log
    read(connection, ORDERS, rows((1, "a"), (2, "B"), (4, "d")), 3)
    assert connection.execute("SELECT max(_version) FROM shop.orders__log").fetchone() == (2,)
    assert tables.captured(connection)["shop.orders"].log == log


def test_a_table_with_columns_added_goes_on_with_its_log(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    read(connection, ORDERS, rows((1, "a"), (2, "b")), 1)
    log = tables.captured(connection)["shop.orders"].log
    sized = rows((1, "a"), (2, "b")).append_column("size", pa.array(["9.5", None]))
    read(connection, SIZED, sized, 2)
    assert [str(row[2]) for row in current(connection)] == ["9.5", "None"]
    assert summed(connection) == current(connection)
    news = connection.execute(
        "SELECT id, _weight FROM shop.orders__log WHERE _version = 2 ORDER BY ALL"
    ).fetchall()
    assert news == [(1, -1), (1, 1)]
    assert tables.captured(connection)["shop.orders"].log == log


def test_of_a_table_of_another_layout_the_log_begins_anew(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    read(connection, ORDERS, rows((1, "a")), 1)
    log = tables.captured(connection)["shop.orders"].log
    read(connection, BARE, rows((1, None), (2, None)).select(["id"]), 2)
    assert current(connection) == [(1,), (2,)]
    assert summed(connection) == current(connection)
    assert tables.captured(connection)["shop.orders"].log != log


def test_two_rows_of_one_key_are_never_let_in(connection: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(IntegrityError) as caught:
        read(connection, ORDERS, rows((1, "a"), (1, "b")), 1)
    assert caught.value.code == "copy_contradicts_itself"


def test_a_row_the_stream_took_away_does_not_come_back_with_its_copy(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    copies.begin(connection, SourceTable(ORDERS, ""))
    copied = CopiedTables(connection)
    gone = changed_rows(ORDERS, rows((1, None)), Operation.DELETE)
    new = changed_rows(ORDERS, rows((2, "new")), Operation.UPDATE)
    transactions = Transactions([Position("1")], np.zeros(1, np.int64))
    copied.apply(ORDERS, [gone, new], transactions, 1, reached=False)
    assert copied.store(ORDERS, rows((1, "old"), (2, "old"), (3, "old")).to_batches()) == 1
    found = connection.execute(f"{copied_rows(ORDERS)} ORDER BY id").fetchall()
    assert found == [(2, "new"), (3, "old")]
