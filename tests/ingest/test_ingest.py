"""Layouts that grow, and rows in quarantine."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from tests.ingest.orders import BARE, ID, NOTE, ORDERS, SIZED, current, rows, summed
from tests.stored import create
from upwell.core.errors import EnvironmentFault, IntegrityError
from upwell.core.protocols import Operation, Refusal, TableChanges
from upwell.core.schema import Column, TableSchema
from upwell.core.sql import connect
from upwell.ingest import tables
from upwell.ingest.apply import Ingest
from upwell.store import ledger
from upwell.testing import changed_rows, one_transaction


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    made = connect(zone="UTC", threads=1)
    ledger.prepare(made)
    create(made, ORDERS)
    yield made
    made.close()


def take(
    connection: duckdb.DuckDBPyConnection, change: TableChanges, layout: TableSchema = ORDERS
) -> dict[str, pa.Table]:
    batch = one_transaction("7", change, committed_at_us=0)
    return Ingest(connection, {layout.name: layout}).apply(batch, 2)


# ── layouts ──────────────────────────────────────────────────────────────────────────────────────


def test_a_layout_that_grew_is_followed_and_older_rows_read_null(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    take(connection, changed_rows(ORDERS, rows((1, "a"))))
    wanted = tables.merged_layout(ORDERS, SIZED)
    tables.widen(connection, ORDERS, wanted)
    take(connection, changed_rows(SIZED, rows((2, "b")).append_column("size", [["9.5"]])), wanted)
    assert [str(row[2]) for row in current(connection)] == ["None", "9.5"]
    assert summed(connection) == current(connection)
    assert tables.captured_tables(connection) == {ORDERS.name: SIZED}


def test_a_column_the_source_dropped_stays_and_reads_null(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    take(connection, changed_rows(ORDERS, rows((1, "a"), (2, "b"))))
    assert tables.merged_layout(ORDERS, BARE) == ORDERS
    bare = rows((2, None)).select(["id"])
    take(connection, changed_rows(BARE, bare, Operation.UPDATE))
    assert current(connection) == [(1, "a"), (2, None)]
    assert summed(connection) == current(connection)


# ── quarantine ───────────────────────────────────────────────────────────────────────────────────


def refused(change: TableChanges, marks: Sequence[bool]) -> TableChanges:
    refusal = Refusal("too large", np.array(marks), ["9e99"] * sum(marks))
    return dataclasses.replace(change, refusals=[refusal])


def leaving_out(change: TableChanges, marks: Sequence[bool]) -> TableChanges:
    return dataclasses.replace(change, unchanged={"note": np.array(marks)})


def in_quarantine(connection: duckdb.DuckDBPyConnection) -> list[Any]:
    return connection.execute(
        "SELECT source_table, position, key, reason, raw FROM upwell.quarantine"
    ).fetchall()


def test_a_refused_row_leaves_the_table_and_comes_back_when_it_is_whole(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    take(connection, changed_rows(ORDERS, rows((1, "a"), (2, "b"))))
    take(connection, refused(changed_rows(ORDERS, rows((1, None)), Operation.UPDATE), [True]))
    assert current(connection) == [(2, "b")]
    assert in_quarantine(connection) == [("shop.orders", "7", "id=1", "too large", "9e99")]
    take(connection, changed_rows(ORDERS, rows((1, "mended")), Operation.UPDATE))
    assert current(connection) == [(1, "mended"), (2, "b")]
    assert summed(connection) == current(connection)


def test_a_change_that_leaves_out_values_of_a_refused_row_is_held_back_too(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    take(connection, changed_rows(ORDERS, rows((2, "b"))))
    take(connection, refused(changed_rows(ORDERS, rows((1, None))), [True]))
    both = changed_rows(ORDERS, rows((1, None), (2, None)), Operation.UPDATE)
    moved = dataclasses.replace(
        changed_rows(ORDERS, rows((5, None), (5, None)), Operation.UPDATE),
        old_key_rows=np.array([0]),
        old_keys=rows((1, None)).select(["id"]),
    )
    assert take(connection, leaving_out(both, [True, True])) == {}
    assert take(connection, leaving_out(moved, [True, True])) == {}
    assert current(connection) == [(2, "b")]
    assert [row[2] for row in in_quarantine(connection)] == ["id=1", "id=1", "id=5", "id=5"]
    take(connection, changed_rows(ORDERS, rows((5, "whole")), Operation.UPDATE))
    assert current(connection) == [(2, "b"), (5, "whole")]


@pytest.mark.parametrize("operation", [Operation.INSERT, Operation.UPDATE])
def test_left_out_values_of_a_row_nobody_knows_are_never_invented(
    connection: duckdb.DuckDBPyConnection, operation: Operation
) -> None:
    change = leaving_out(changed_rows(ORDERS, rows((1, None)), operation), [True])
    with pytest.raises(IntegrityError) as caught:
        take(connection, change)
    assert caught.value.code == "before_image_missing"
    assert current(connection) == []


# ── keys that Python has no values for ───────────────────────────────────────────────────────────

INFINITY, LONG_AGO = 2**63 - 1, -(10**17)
EVENTS = TableSchema(
    "shop.events",
    (
        Column("at", "TIMESTAMPTZ", nullable=False),
        Column("day", "DATE", nullable=False),
        Column("note", "VARCHAR"),
    ),
    ("at", "day"),
)


def events(*values: tuple[int, int, str | None]) -> pa.Table:
    at, day, note = zip(*values, strict=True)
    return pa.table(
        {
            "at": pa.array(at, pa.timestamp("us", "UTC")),
            "day": pa.array(day, pa.date32()),
            "note": pa.array(note, pa.string()),
        }
    )


def stored_events(connection: duckdb.DuckDBPyConnection) -> list[Any]:
    return connection.execute(
        'SELECT CAST("at" AS VARCHAR), CAST(day AS VARCHAR), note FROM shop.events ORDER BY note'
    ).fetchall()


def test_keys_at_infinity_and_before_christ_move_like_any_other(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    create(connection, EVENTS)
    before = events((INFINITY, 0, "a"), (LONG_AGO, 0, "b"))
    after = events((INFINITY, -800_000, "a"), (INFINITY, 2**31 - 1, "b"))
    take(connection, changed_rows(EVENTS, before), EVENTS)
    moved = dataclasses.replace(
        changed_rows(EVENTS, after, Operation.UPDATE),
        old_key_rows=np.array([0, 1]),
        old_keys=before.select(["at", "day"]),
    )
    take(connection, moved, EVENTS)
    assert stored_events(connection) == [
        ("infinity", "0222-09-04 (BC)", "a"),
        ("infinity", "infinity", "b"),
    ]


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
def test_keys_at_infinity_and_before_christ_are_described_in_quarantine(
    connection: duckdb.DuckDBPyConnection, zone: str
) -> None:
    connection.execute(f"SET TimeZone = '{zone}'")
    create(connection, EVENTS)
    change = changed_rows(EVENTS, events((INFINITY, -800_000, None), (0, 0, None)))
    take(connection, refused(change, [True, True]), EVENTS)
    assert [row[2] for row in in_quarantine(connection)] == [
        "at=infinity, day=0222-09-04 (BC)",
        "at=1970-01-01 00:00:00, day=1970-01-01",
    ]


# ── keys that are equal and not the same ────────────────────────────────────────────────────────

NAN = float("nan")
READINGS = TableSchema("shop.readings", (Column("x", "DOUBLE"), NOTE), ("x",))


def readings(*values: tuple[float, str | None]) -> pa.Table:
    numbers, notes = zip(*values, strict=True)
    return pa.table({"x": numbers, "note": pa.array(notes, pa.string())})


def test_a_row_is_found_under_any_zero_and_any_nan(connection: duckdb.DuckDBPyConnection) -> None:
    create(connection, READINGS)
    take(connection, changed_rows(READINGS, readings((-0.0, "zero"), (NAN, "none"))), READINGS)
    both = changed_rows(READINGS, readings((0.0, None), (-NAN, None)), Operation.UPDATE)
    take(connection, leaving_out(both, [True, True]), READINGS)
    found = connection.execute("FROM shop.readings ORDER BY x").fetchall()
    assert [note for _, note in found] == ["zero", "none"]
    moved = dataclasses.replace(
        changed_rows(READINGS, readings((1.0, None), (-0.0, "gone")), Operation.UPDATE),
        operations=np.array([Operation.UPDATE, Operation.DELETE], np.int8),
        old_key_rows=np.array([0]),
        old_keys=readings((NAN, None)).select(["x"]),
    )
    take(connection, leaving_out(moved, [True, False]), READINGS)
    assert connection.execute("FROM shop.readings").fetchall() == [(1.0, "none")]
    log = "SELECT x, sum(_weight) AS n FROM shop.readings__log GROUP BY x HAVING n <> 0"
    assert connection.execute(log).fetchall() == [(1.0, 1)]


def test_a_row_that_moves_where_another_stands_takes_its_own_values_along(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    take(connection, changed_rows(ORDERS, rows((1, "target"), (2, "own"))))
    moved = dataclasses.replace(
        changed_rows(ORDERS, rows((1, None)), Operation.UPDATE),
        old_key_rows=np.array([0]),
        old_keys=rows((2, None)).select(["id"]),
    )
    deltas = take(connection, leaving_out(moved, [True]))
    assert current(connection) == [(1, "own")]
    assert summed(connection) == current(connection)
    assert sorted(zip(*deltas[ORDERS.name].to_pydict().values(), strict=True)) == [
        (1, "own", 1),
        (1, "target", -1),
        (2, "own", -1),
    ]


def test_new_rows_that_share_a_key_are_one_row(connection: duckdb.DuckDBPyConnection) -> None:
    take(connection, changed_rows(ORDERS, rows((1, "a"), (2, "b"), (1, "c"))))
    assert current(connection) == [(1, "c"), (2, "b")]
    assert summed(connection) == current(connection)


# ── names of columns ─────────────────────────────────────────────────────────────────────────────

#: Words that the SQL of taking in could use for itself.
WORDS = ("_order", "_operation", "weight", "_lineage", "_next_order", "_unfilled", "_unchanged id")
WORDY = TableSchema("shop.words", (ID, *(Column(word, "INTEGER") for word in WORDS)), ("id",))


def wordy(*values: tuple[int, int]) -> pa.Table:
    ids, others = zip(*values, strict=True)
    columns = {word: pa.array(others, pa.int32()) for word in WORDS}
    return pa.table({"id": pa.array(ids, pa.int32()), **columns})


def test_a_source_may_call_its_columns_what_it_likes(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    create(connection, WORDY)
    take(connection, changed_rows(WORDY, wordy((1, 7), (2, 8))), WORDY)
    moved = dataclasses.replace(
        changed_rows(WORDY, wordy((3, 9), (2, 6)), Operation.UPDATE),
        old_key_rows=np.array([0]),
        old_keys=wordy((1, 7)).select(["id"]),
        unchanged={word: np.array([False, word == "_order"]) for word in WORDS},
    )
    deltas = take(connection, moved, WORDY)
    found = connection.execute("FROM shop.words ORDER BY id").fetchall()
    assert found == [(2, 8, *[6] * (len(WORDS) - 1)), (3, *[9] * len(WORDS))]
    assert sorted(deltas["shop.words"].column("_weight").to_pylist()) == [-1, -1, 1, 1]


@pytest.mark.parametrize("name", ["__upwell_order", "__UPWELL_unchanged id"])
def test_a_column_named_as_only_ours_may_be_is_refused(
    connection: duckdb.DuckDBPyConnection, name: str
) -> None:
    wrong = TableSchema("shop.orders", (ID, NOTE, Column(name, "INTEGER")), ("id",))
    for refuse in (
        lambda: create(connection, wrong),
        lambda: tables.merged_layout(ORDERS, wrong),
    ):
        with pytest.raises(EnvironmentFault) as caught:
            refuse()
        assert caught.value.code == "column_name_reserved"
        assert name in caught.value.where
