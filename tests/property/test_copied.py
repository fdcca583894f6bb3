"""A table read in parts, at any moments, beside its stream, is the source's in the end.

A small source keeps rows at places, as a database does: every change of a row may move it to
another place. Parts are read place by place, each at a moment of its own; the stream is taken in
later than it happens, at a pace of its own; rows that lack values are read by their keys. Whatever
the order, what was gathered equals the source's rows.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from upwell.core.position import Position
from upwell.core.protocols import Operation, TableChanges, Transactions
from upwell.core.schema import Column, TableSchema
from upwell.core.sql import connect
from upwell.ingest import copied
from upwell.ingest.copied import CopiedTables, copied_rows
from upwell.store import ledger

TABLE = TableSchema(
    "shop.notes",
    (
        Column("id", "INTEGER", nullable=False),
        Column("count", "INTEGER"),
        Column("text", "VARCHAR"),
    ),
    ("id",),
)
KEYS, PLACES = 3, 2
NO_TRANSACTIONS = Transactions([Position("1")], np.zeros(1, np.int64))


@dataclass
class Row:
    count: int
    text: str
    place: int


@dataclass(frozen=True)
class Change:
    """What the stream says: ``text`` is None where it did not change, ``before`` is the old key."""

    operation: Operation
    key: int
    count: int = 0
    text: str | None = None
    before: int | None = None


@dataclass
class Source:
    """Rows by key, at places; all states of before are kept, so that they can be read."""

    rows: dict[int, Row] = field(default_factory=dict)
    log: list[Change] = field(default_factory=list)
    states: list[dict[int, Row]] = field(default_factory=list)
    number: int = 0

    def note(self, change: Change) -> None:
        self.log.append(change)
        self.states.append(copy.deepcopy(self.rows))

    def do(self, action: str, key: int, other: int, place: int) -> None:
        """Insert, update (with another text or the same), delete or move, as far as it can be."""
        self.number += 1
        row = self.rows.get(key)
        if action == "insert" and row is None:
            self.rows[key] = Row(self.number, f"text {self.number}", place)
            self.note(Change(Operation.INSERT, key, self.number, self.rows[key].text))
        elif row is not None and action == "update":
            self.rows[key] = Row(self.number, f"text {self.number}", place)
            self.note(Change(Operation.UPDATE, key, self.number, self.rows[key].text))
        elif row is not None and action == "touch":
            self.rows[key] = Row(self.number, row.text, place)
            self.note(Change(Operation.UPDATE, key, self.number))
        elif row is not None and action == "delete":
            del self.rows[key]
            self.note(Change(Operation.DELETE, key))
        elif row is not None and action == "move" and other not in self.rows:
            del self.rows[key]
            self.rows[other] = Row(self.number, row.text, place)
            self.note(Change(Operation.UPDATE, other, self.number, before=key))

    def at(self, moment: int) -> dict[int, Row]:
        return self.states[moment - 1] if moment else {}


def as_changes(changes: list[Change]) -> TableChanges:
    """The changes of a batch, as a source gives them."""
    rows = pa.table(
        {
            "id": pa.array([each.key for each in changes], pa.int32()),
            "count": pa.array([each.count for each in changes], pa.int32()),
            "text": pa.array([each.text for each in changes], pa.string()),
        }
    )
    moved = [place for place, each in enumerate(changes) if each.before is not None]
    left_out = np.array(
        [each.text is None and each.operation == Operation.UPDATE for each in changes]
    )
    return TableChanges(
        TABLE,
        rows,
        np.array([each.operation for each in changes], np.int8),
        np.zeros(len(changes), np.int32),
        np.array(moved, np.int64),
        pa.table({"id": pa.array([changes[place].before for place in moved], pa.int32())}),
        {"text": left_out} if left_out.any() else {},
    )


def as_part(rows: dict[int, Row]) -> list[pa.RecordBatch]:
    table = pa.table(
        {
            "id": pa.array(list(rows), pa.int32()),
            "count": pa.array([row.count for row in rows.values()], pa.int32()),
            "text": [row.text for row in rows.values()],
        }
    )
    return list(table.to_batches())


@dataclass
class Reading:
    """A copy in progress: what was delivered of the stream, read but not stored, and stored."""

    source: Source
    connection: duckdb.DuckDBPyConnection
    delivered: int = 0
    version: int = 1
    waiting: list[dict[int, Row]] = field(default_factory=list)
    filling: list[tuple[int, int, dict[int, Row]]] = field(default_factory=list)
    unread: list[int] = field(default_factory=lambda: list(range(PLACES)))
    reach: int = 0

    def __post_init__(self) -> None:
        self.copied = CopiedTables(self.connection)
        self.delivered = len(self.source.log)  # all of before shows in what is read

    def deliver(self, count: int) -> None:
        changes = self.source.log[self.delivered : self.delivered + count]
        if not changes:
            return
        reached = not self.unread and not self.waiting and self.delivered >= self.reach
        lacking = self.lacking()
        self.delivered += len(changes)
        self.version += 1
        self.copied.apply(
            TABLE, [as_changes(changes)], NO_TRANSACTIONS, self.version, reached=reached
        )
        assert not reached or self.lacking() <= lacking  # else it might never come to an end

    def lacking(self) -> int:
        return int(self.copied.incomplete(TABLE, KEYS).num_rows)

    def read(self) -> None:
        if not self.unread:
            return
        place, rows = self.unread.pop(0), self.source.rows
        self.reach = len(self.source.log)
        self.waiting.append({key: row for key, row in rows.items() if row.place == place})

    def store(self) -> None:
        if self.waiting:
            self.copied.store(TABLE, as_part(copy.deepcopy(self.waiting.pop(0))))

    def ask(self) -> None:
        """Read rows that lack values by their keys, as they are now."""
        keys = self.copied.incomplete(TABLE, 10).column("id").to_pylist()
        rows = {key: self.source.rows[key] for key in keys if key in self.source.rows}
        self.filling.append((self.version, len(self.source.log), copy.deepcopy(rows)))

    def fill(self) -> None:
        """What was read by keys counts once the stream has come to its moment."""
        for each in [each for each in self.filling if each[1] <= self.delivered]:
            self.filling.remove(each)
            self.copied.fill(TABLE, as_part(each[2]), each[0])

    def finish(self) -> None:
        while self.unread:
            self.read()
        while self.waiting:
            self.store()
        self.deliver(len(self.source.log))
        self.fill()
        for _ in range(3):
            if self.lacking():
                self.ask()
                self.fill()

    def gathered(self) -> list[tuple[int, int, str]]:
        return self.connection.execute(f"{copied_rows(TABLE)} ORDER BY id").fetchall()


ACTIONS = st.tuples(
    st.sampled_from(["insert", "update", "touch", "delete", "move"]),
    st.integers(0, KEYS - 1),
    st.integers(0, KEYS - 1),
    st.integers(0, PLACES - 1),
)
#: A key that another row takes at once: what was copied under it is of a row yet to come.
TAKEN = st.tuples(st.just("taken"), st.integers(0, KEYS - 1), st.integers(0, KEYS - 1))
STEPS = st.one_of(
    ACTIONS,
    ACTIONS,
    TAKEN,
    st.tuples(st.just("deliver"), st.integers(1, 4)),
    st.tuples(st.just("read")),
    st.tuples(st.just("store")),
    st.tuples(st.just("ask")),
    st.tuples(st.just("fill")),
)


@contextmanager
def a_store() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = connect(zone="UTC", threads=1)
    ledger.prepare(connection)
    copied.create(connection, TABLE)
    yield connection
    connection.close()


def check(before: list[tuple[str, int, int, int]], steps: list[tuple[object, ...]]) -> None:
    source = Source()
    for first in before:
        source.do(*first)
    with a_store() as connection:
        reading = Reading(source, connection)
        for step in steps:
            match step:
                case ("deliver", int(count)):
                    reading.deliver(count)
                case ("read",):
                    reading.read()
                case ("store",):
                    reading.store()
                case ("ask",):
                    reading.ask()
                case ("fill",):
                    reading.fill()
                case ("taken", int(key), int(other)):
                    source.do("move", key, other, other % PLACES)
                    source.do("insert", key, key, key % PLACES)
                case (str(action), int(key), int(other), int(place)):
                    source.do(action, key, other, place)
        reading.finish()
        assert not reading.lacking()
        assert not reading.copied.doubled(TABLE)
        wanted = sorted((key, row.count, row.text) for key, row in source.rows.items())
        assert reading.gathered() == wanted


@given(st.lists(ACTIONS, max_size=6), st.lists(STEPS, max_size=25))
@example([("insert", 0, 0, 0)], [("taken", 0, 1), ("read",), ("store",), ("deliver", 4)])
@example(
    [("insert", 0, 0, 0)],
    [("touch", 0, 0, 0), ("taken", 0, 1), ("read",), ("store",), ("deliver", 1), ("deliver", 2)],
)
@settings(max_examples=150, deadline=None)
def test_a_copy_beside_its_stream_is_the_source(
    before: list[tuple[str, int, int, int]], steps: list[tuple[object, ...]]
) -> None:
    check(before, steps)


@pytest.mark.torture
@pytest.mark.timeout(1800)
@given(st.lists(ACTIONS, max_size=6), st.lists(STEPS, max_size=30))
@settings(max_examples=5_000, deadline=None)
def test_thousands_of_copies_beside_their_streams_are_the_source(
    before: list[tuple[str, int, int, int]], steps: list[tuple[object, ...]]
) -> None:
    check(before, steps)
