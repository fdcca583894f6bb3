"""The law of ingest: after every batch, current table = the shop = the sum of the change log.

A shop kept in plain dicts lives through random transactions: moved keys (swaps and chains too),
rows deleted and made anew, values left out because they did not change, values refused, tables
emptied. The log is predicted change by change, each row of it with the position and the commit time
of the change that caused it. ``UPWELL_PROPERTY_SEEDS`` sets how many shops are tried.
"""

from __future__ import annotations

import datetime as dt
import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import groupby
from typing import Any
from uuid import UUID

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from tests.stored import create
from upwell.core.batch import WEIGHT
from upwell.core.position import Position
from upwell.core.protocols import (
    Operation,
    Refusal,
    SourceBatch,
    TableChanges,
    Transactions,
    Truncation,
)
from upwell.core.schema import Column, TableSchema
from upwell.core.sql import connect, quote_table
from upwell.ingest.apply import Ingest
from upwell.ingest.tables import log_name
from upwell.store import ledger

Row = tuple[Any, ...]
Key = tuple[Any, ...]

SEEDS = int(os.environ.get("UPWELL_PROPERTY_SEEDS", "3"))
BATCHES = 12
SECOND_US = 1_000_000
START_US = 1_780_000_000 * SECOND_US

NOON = dt.datetime(2026, 3, 29, 12, 30, 0, 123456, tzinfo=dt.UTC)
#: What may stand in a column of a stored type, and what a source sends it as.
VALUES: dict[str, tuple[Sequence[Any], pa.DataType]] = {
    "BOOLEAN": ((True, False), pa.bool_()),
    "SMALLINT": ((0, -1, 32767), pa.int16()),
    "INTEGER": ((0, 1, -(2**31)), pa.int32()),
    "BIGINT": ((0, 1, 2**63 - 1), pa.int64()),
    "UINTEGER": ((0, 2**32 - 1), pa.uint32()),
    "FLOAT": ((0.0, -0.5, float("inf")), pa.float32()),
    "DOUBLE": ((0.1, 1e308, float("-inf")), pa.float64()),
    "DECIMAL(12,2)": ((Decimal("0.00"), Decimal("-9.99"), Decimal("1.50")), pa.decimal128(12, 2)),
    "VARCHAR": (("", "a", "A", "é\n", "'); --"), pa.string()),
    "BLOB": ((b"", b"\x00\xff"), pa.binary()),
    "DATE": ((dt.date(2026, 3, 29), dt.date(1969, 12, 31)), pa.date32()),
    "TIMESTAMP": ((NOON.replace(tzinfo=None), dt.datetime(1899, 1, 1)), pa.timestamp("us")),  # noqa: DTZ001 - a stored type without a zone
    "TIMESTAMPTZ": ((NOON, NOON - dt.timedelta(days=9000)), pa.timestamp("us", "UTC")),
    "TIME": ((dt.time(0, 0), dt.time(23, 59, 59, 999999)), pa.time64("us")),
    "UUID": ((UUID(int=0), UUID(int=2**128 - 1)), pa.uuid()),
}


def table(name: str, key: dict[str, str], rest: dict[str, str]) -> TableSchema:
    columns = [Column(each, kind, nullable=False) for each, kind in key.items()]
    columns += [Column(each, kind) for each, kind in rest.items()]
    return TableSchema(f"shop.{name}", tuple(columns), tuple(key))


REST = {kind.partition("(")[0].lower(): kind for kind in VALUES}
TABLES = (
    table("orders", {"id": "INTEGER"}, REST),
    table(
        "order lines", {"order": "BIGINT", "Line": "SMALLINT"}, {"long": "VARCHAR", "n": "DOUBLE"}
    ),
    table(
        "things", {"id": "UUID", "at": "TIMESTAMPTZ"}, {"long": "VARCHAR", "price": "DECIMAL(12,2)"}
    ),
    table(
        "prices",
        {"per": "DECIMAL(12,2)", "day": "DATE"},
        {"long": "VARCHAR", "blob": "BLOB", "reference": "UUID"},
    ),
    table("words", {"word": "VARCHAR", "raw": "BLOB", "is_new": "BOOLEAN"}, {"long": "VARCHAR"}),
    table("readings", {"x": "DOUBLE", "y": "FLOAT", "at": "TIMESTAMP"}, {"long": "VARCHAR"}),
    table("shifts", {"begin": "TIME", "id": "UINTEGER"}, {"long": "VARCHAR", "end": "TIME"}),
)
#: Columns whose values a source may leave out, and those it may send what cannot be stored.
LONG = {"shop.orders": ("varchar", "blob"), "shop.prices": ("long", "blob")}
REFUSABLE = {"shop.orders": "decimal", "shop.order lines": "n"}
#: A table whose values all travel as text, which the store casts.
AS_TEXT = "shop.prices"


@dataclass(frozen=True)
class Change:
    """One change of one row. ``row`` is the new image; ``before`` the key that it had."""

    table: TableSchema
    transaction: int
    operation: Operation
    row: Row
    before: Key
    leaves_out: str | None = None
    refuses: str | None = None

    @property
    def key(self) -> Key:
        return key_of(self.table, self.row)


@dataclass(frozen=True)
class Emptied:
    table: TableSchema
    transaction: int


Event = Change | Emptied


def key_of(schema: TableSchema, row: Row) -> Key:
    return tuple(row[index] for index in schema.positions_of(schema.key))


@dataclass
class Shop:
    """The source, and what a store that follows it must hold."""

    random: random.Random
    leaves_out: bool = True
    rows: dict[str, dict[Key, Row]] = field(default_factory=dict)
    refused: dict[str, set[Key]] = field(default_factory=dict)
    log: Counter[tuple[str, Row, int, Position, dt.datetime]] = field(default_factory=Counter)
    quarantined: int = 0
    transactions: int = 0

    def __post_init__(self) -> None:
        self.rows = {each.name: {} for each in TABLES}
        self.refused = {each.name: set() for each in TABLES}

    # ── what customers do ────────────────────────────────────────────────────────────────────────

    def batch(self) -> SourceBatch:
        """A few transactions."""
        count = self.random.randrange(1, 5)
        first = self.transactions
        self.transactions += count
        events = [event for number in range(count) for event in self.transaction(number)]
        transactions = Transactions(
            [Position(f"{number:08}") for number in range(first, first + count)],
            START_US + np.arange(first, first + count, dtype=np.int64) * SECOND_US,
        )
        for event in events:
            self.record(event, transactions)
        return SourceBatch(
            position=transactions.positions[-1],
            transactions=transactions,
            changes=changes_of(events),
            complete_through_us=int(transactions.committed_at_us[-1]),
            received_at_us=START_US,
        )

    def transaction(self, number: int) -> Iterator[Event]:
        for _ in range(self.random.randrange(1, 9)):
            schema = self.random.choice(TABLES)
            yield from self.happening(schema, number)

    def happening(self, schema: TableSchema, number: int) -> Iterator[Event]:
        known = list(self.rows[schema.name])
        kind = self.random.choices(
            ["insert", "update", "delete", "move", "swap", "chain", "again", "empty"],
            [30, 25, 10, 10, 5, 5, 5, 1],
        )[0]
        if kind == "empty":
            self.rows[schema.name].clear()
            self.refused[schema.name].clear()
            yield Emptied(schema, number)
        elif kind == "insert" or len(known) < 2:
            yield from self.insert(schema, number)
        elif kind == "update":
            yield self.change(schema, number, self.random.choice(known))
        elif kind == "delete":
            yield self.delete(schema, number, self.random.choice(known))
        elif kind == "again":
            key = self.random.choice(known)
            yield self.delete(schema, number, key)
            yield self.put(schema, number, Operation.INSERT, self.new_row(schema, key), key)
        elif kind == "move":
            yield from self.moves(schema, number, [(self.random.choice(known), self.free(schema))])
        elif kind == "swap":
            one, two = self.random.sample(known, 2)
            aside = self.free(schema)
            yield from self.moves(schema, number, [(one, aside), (two, one), (aside, two)])
        else:
            one, two = self.random.sample(known, 2)
            yield from self.moves(schema, number, [(one, self.free(schema)), (two, one)])

    def insert(self, schema: TableSchema, number: int) -> Iterator[Event]:
        key = self.free(schema)
        if key is not None:
            yield self.put(schema, number, Operation.INSERT, self.new_row(schema, key), key)

    def moves(
        self, schema: TableSchema, number: int, steps: Sequence[tuple[Key | None, Key | None]]
    ) -> Iterator[Event]:
        whole = [(before, after) for before, after in steps if before and after]
        if len(whole) == len(steps):
            for before, after in whole:
                yield self.change(schema, number, before, after)

    def change(
        self, schema: TableSchema, number: int, before: Key, after: Key | None = None
    ) -> Event:
        """An update, sometimes of nothing, sometimes with a long value left out."""
        old = self.rows[schema.name].pop(before)
        draw = self.random.random()
        new = list(old if draw < 0.1 else self.new_row(schema, before))
        long = self.random.choice(LONG.get(schema.name, ("long",)))
        is_known = before not in self.refused[schema.name]
        leaves_out = long if draw < 0.5 and is_known and self.leaves_out else None
        if leaves_out:
            index = schema.column_names.index(leaves_out)
            new[index] = old[index]
        for index, value in zip(schema.positions_of(schema.key), after or before, strict=True):
            new[index] = value
        return self.put(schema, number, Operation.UPDATE, tuple(new), before, leaves_out)

    def delete(self, schema: TableSchema, number: int, key: Key) -> Event:
        del self.rows[schema.name][key]
        self.refused[schema.name].discard(key)
        row = [None] * len(schema.columns)
        for index, value in zip(schema.positions_of(schema.key), key, strict=True):
            row[index] = value
        return Change(schema, number, Operation.DELETE, tuple(row), key)

    def put(  # noqa: PLR0917 - the parts of one change
        self,
        schema: TableSchema,
        number: int,
        operation: Operation,
        row: Row,
        before: Key,
        leaves_out: str | None = None,
    ) -> Event:
        refuses = REFUSABLE.get(schema.name) if self.random.random() < 0.1 else None
        key = key_of(schema, row)
        self.rows[schema.name][key] = row
        self.refused[schema.name].discard(before)
        if refuses:
            self.refused[schema.name].add(key)
        return Change(schema, number, operation, row, before, leaves_out, refuses)

    def new_row(self, schema: TableSchema, key: Key) -> Row:
        values = dict(zip(schema.key, key, strict=True))
        return tuple(
            values[column.name]
            if column.name in values
            else self.random.choice([None, *VALUES[column.type][0]])
            for column in schema.columns
        )

    def free(self, schema: TableSchema) -> Key | None:
        """A key that no row has."""
        kinds = [schema.column(name).type for name in schema.key]
        for _ in range(20):
            key = tuple(self.random.choice(VALUES[kind][0]) for kind in kinds)
            if schema.key == ("id",):
                key = (self.random.randrange(8),)
            if key not in self.rows[schema.name]:
                return key
        return None

    # ── what a store must hold ───────────────────────────────────────────────────────────────────

    def record(self, event: Event, transactions: Transactions) -> None:
        """Write the predicted log: the image that ends, and the one that begins."""
        if isinstance(event, Emptied):
            for row in self.stored(event.table).elements():
                self.note(event, row, -1, transactions)
            return
        self.quarantined += event.refuses is not None
        before = [
            row for row in self.stored(event.table) if key_of(event.table, row) == event.before
        ]
        for row in before:
            self.note(event, row, -1, transactions)
        if event.operation is not Operation.DELETE and not event.refuses:
            self.note(event, event.row, +1, transactions)

    def note(self, event: Event, row: Row, weight: int, transactions: Transactions) -> None:
        at = dt.datetime.fromtimestamp(
            int(transactions.committed_at_us[event.transaction]) / SECOND_US, dt.UTC
        )
        position = transactions.positions[event.transaction]
        self.log[event.table.name, row, weight, position, at] += 1

    def stored(self, schema: TableSchema) -> Counter[Row]:
        total: Counter[Row] = Counter()
        for (name, row, weight, _, _), count in self.log.items():
            if name == schema.name:
                total[row] += weight * count
        return nonzero(total)

    def expected(self, schema: TableSchema) -> Counter[Row]:
        refused = self.refused[schema.name]
        rows = self.rows[schema.name].items()
        return Counter(row for key, row in rows if key not in refused)


def nonzero(counted: Counter[Any]) -> Counter[Any]:
    return Counter({item: count for item, count in counted.items() if count})


# ── the batch as a source gives it ───────────────────────────────────────────────────────────────


def changes_of(events: Sequence[Event]) -> list[TableChanges | Truncation]:
    """Each table's events in order, cut where the table was emptied."""
    found: list[TableChanges | Truncation] = []
    for schema in TABLES:
        own = [event for event in events if event.table is schema]
        for _, run in groupby(own, key=lambda event: isinstance(event, Emptied)):
            part = list(run)
            found += [Truncation(schema, each.transaction) for each in part if is_emptied(each)]
            kept = [each for each in part if isinstance(each, Change)]
            found += [table_changes(schema, kept)] if kept else []
    return found


def is_emptied(event: Event) -> bool:
    return isinstance(event, Emptied)


def table_changes(schema: TableSchema, events: Sequence[Change]) -> TableChanges:
    sent = {
        column.name: [
            None if column.name in {each.leaves_out, each.refuses} else each.row[index]
            for each in events
        ]
        for index, column in enumerate(schema.columns)
    }
    moved = [number for number, each in enumerate(events) if each.before != each.key]
    old = {
        name: [events[number].before[index] for number in moved]
        for index, name in enumerate(schema.key)
    }
    left_out = {each.leaves_out for each in events if each.leaves_out}
    return TableChanges(
        schema=schema,
        rows=arrow(schema, sent),
        operations=np.array([each.operation for each in events], np.int8),
        transaction=np.array([each.transaction for each in events], np.int32),
        old_key_rows=np.array(moved, np.int64),
        old_keys=arrow(schema, old) if moved else None,
        unchanged={
            name: np.array([each.leaves_out == name for each in events]) for name in left_out
        },
        refusals=[
            Refusal(
                "too large", np.array([each.refuses == name for each in events]), ["9e99"] * count
            )
            for name, count in Counter(each.refuses for each in events if each.refuses).items()
        ],
    )


def arrow(schema: TableSchema, values: dict[str, list[Any]]) -> pa.Table:
    arrays = {}
    for name, found in values.items():
        kind = schema.column(name).type
        if schema.name == AS_TEXT and kind != "BLOB":
            texts = [None if value is None else str(value) for value in found]
            arrays[name] = pa.array(texts, pa.string())
        elif kind == "UUID":
            raw = pa.array(
                [None if value is None else value.bytes for value in found], pa.binary(16)
            )
            arrays[name] = pa.ExtensionArray.from_storage(pa.uuid(), raw)
        else:
            arrays[name] = pa.array(found, VALUES[kind][1])
    return pa.table(arrays)


# ── the store ────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def a_store() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = connect(zone="Europe/London", threads=1)
    ledger.prepare(connection)
    for schema in TABLES:
        create(connection, schema)
    yield connection
    connection.close()


def ingest(connection: duckdb.DuckDBPyConnection) -> Ingest:
    return Ingest(connection, {each.name: each for each in TABLES})


def rows_of(found: pa.Table, schema: TableSchema) -> list[Row]:
    """The schema's columns of each row, in Python's words."""
    columns = []
    for column in schema.columns:
        values = found.column(column.name).to_pylist()
        is_uuid = column.type == "UUID"  # DuckDB gives them as text
        columns.append([UUID(value) if is_uuid and value else value for value in values])
    return list(zip(*columns, strict=True))


def rows_in(connection: duckdb.DuckDBPyConnection, schema: TableSchema) -> Counter[Row]:
    found = connection.execute(f"FROM {quote_table(schema.name)}").to_arrow_table()
    return Counter(rows_of(found, schema))


def log_in(connection: duckdb.DuckDBPyConnection, schema: TableSchema) -> Counter[Any]:
    name = quote_table(log_name(schema.name))
    found = connection.execute(f"FROM {name}").to_arrow_table()
    stamps = [found.column(each).to_pylist() for each in ("_weight", "_position", "_committed_at")]
    stamped = zip(rows_of(found, schema), *stamps, strict=True)
    return Counter((schema.name, *each) for each in stamped)


def summed(log: Counter[Any]) -> Counter[Row]:
    total: Counter[Row] = Counter()
    for (_, row, weight, *_), count in log.items():
        total[row] += weight * count
    return nonzero(total)


def weights(delta: pa.Table | None, schema: TableSchema) -> Counter[Row]:
    """Row → weight. A row that stands in the delta twice, or for nothing, fails here."""
    if delta is None:
        return Counter()
    rows, found = rows_of(delta, schema), delta.column(WEIGHT).to_pylist()
    assert all(found)
    counted = Counter(dict(zip(rows, found, strict=True)))
    assert len(counted) == len(rows)
    return counted


def apply(
    connection: duckdb.DuckDBPyConnection, taking: Ingest, batch: SourceBatch, version: int
) -> dict[str, pa.Table]:
    """One version in a transaction; of every third, the first attempt is rolled back."""
    if version % 3 == 0:
        connection.begin()
        taking.apply(batch, version)
        connection.rollback()
    connection.begin()
    deltas = taking.apply(batch, version)
    connection.commit()
    return deltas


@pytest.mark.parametrize("seed", range(SEEDS))
def test_table_log_and_delta_follow_the_shop_through_every_batch(seed: int) -> None:
    shop = Shop(random.Random(seed))
    with a_store() as connection:
        taking = ingest(connection)
        for version in range(1, BATCHES + 1):
            old = {schema.name: rows_in(connection, schema) for schema in TABLES}
            deltas = apply(connection, taking, shop.batch(), version)
            for schema in TABLES:
                new = rows_in(connection, schema)
                assert new == shop.expected(schema)
                assert summed(log_in(connection, schema)) == new
                change = Counter(new)
                change.subtract(old[schema.name])
                assert weights(deltas.get(schema.name), schema) == nonzero(change)
        log: Counter[Any] = sum((log_in(connection, schema) for schema in TABLES), Counter())
        assert log == shop.log
        found = connection.execute("SELECT count(*) FROM upwell.quarantine").fetchone()
        assert found == (shop.quarantined,)


@pytest.mark.parametrize("seed", range(100, 100 + SEEDS))
def test_a_batch_that_carries_all_its_values_changes_nothing_when_given_again(seed: int) -> None:
    shop = Shop(random.Random(seed), leaves_out=False)
    with a_store() as connection:
        taking = ingest(connection)
        for version in range(1, BATCHES + 1):
            batch = shop.batch()
            apply(connection, taking, batch, version)
            again = apply(connection, taking, batch, version)
            assert again == {}
            for schema in TABLES:
                assert rows_in(connection, schema) == shop.expected(schema)
                assert summed(log_in(connection, schema)) == shop.expected(schema)
