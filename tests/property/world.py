"""A small shop whose tables change at random, for every property test of the models.

The tables are those of ``golden/models.sql``: with and without a key, NULLs everywhere but in keys,
rows that repeat, and domains so small that keys meet, groups vanish and values collide.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import pyarrow as pa

from upwell.core.batch import WEIGHT
from upwell.core.schema import Column, TableSchema
from upwell.core.sql import connect, quote_table

Row = tuple[Any, ...]
Rows = Counter[Row]
"""Rows and how often each appears."""

GOLDEN = Path(__file__).parent.parent / "golden" / "models.sql"
HOUR_US = 3_600_000_000
START_US = 1_780_000_000_000_000
ZONE = "Europe/London"


def read_parts() -> dict[str, str]:
    """The parts of the golden file by name; the one called ``tables`` is DDL."""
    parts = GOLDEN.read_text().split("\n-- ")[1:]
    return {name: text for name, _, text in (part.partition("\n") for part in parts)}


DDL = read_parts()["tables"]


def create_tables(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("CREATE SCHEMA shop")
    connection.execute(DDL)


def read_tables() -> tuple[TableSchema, ...]:
    connection = connect(zone="UTC", threads=1)
    create_tables(connection)
    columns: dict[str, list[Column]] = {}
    for table, name, kind, nullable in connection.execute(
        "SELECT table_name, column_name, data_type, is_nullable FROM duckdb_columns()"
        " WHERE schema_name = 'shop' ORDER BY table_oid, column_index"
    ).fetchall():
        columns.setdefault(f"shop.{table}", []).append(Column(name, kind, nullable))
    keys = {
        f"shop.{table}": tuple(names)
        for table, names in connection.execute(
            "SELECT table_name, constraint_column_names FROM duckdb_constraints()"
            " WHERE constraint_type = 'PRIMARY KEY'"
        ).fetchall()
    }
    connection.close()
    return tuple(
        TableSchema(name, tuple(found), keys.get(name, ())) for name, found in columns.items()
    )


TABLES = read_tables()


class World:
    """Tables with random rows, kept in Python and in DuckDB alike."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.connection = connect(zone=ZONE, threads=1)
        self.rows: dict[str, Rows] = {each.name: Counter() for each in TABLES}
        create_tables(self.connection)

    def maybe(self, value: object) -> Any:
        return None if self.random.random() < 0.15 else value

    def new_row(self, name: str) -> Row:
        draw, maybe = self.random, self.maybe
        match name:
            case "shop.customers":
                return draw.randrange(6), maybe(draw.choice("xyz"))
            case "shop.products":
                return (
                    draw.randrange(5),
                    maybe(draw.choice("AB")),
                    maybe(Decimal(draw.randrange(4))),
                )
            case "shop.orders":
                hour = START_US + draw.randrange(8) * HOUR_US
                status = draw.choice(["paid", "open", "cancelled"])
                return draw.randrange(10), maybe(draw.randrange(6)), maybe(hour), maybe(status)
            case "shop.items":
                key = draw.randrange(10), draw.randrange(3)
                product, quantity = maybe(draw.randrange(5)), maybe(draw.randrange(4))
                amount, weight = maybe(Decimal(draw.randrange(5))), maybe(draw.randrange(3) / 3)
                return *key, product, quantity, amount, weight
            case _:
                session = maybe(str(UUID(int=draw.randrange(3))))
                page, customer = maybe(draw.choice("pq")), maybe(draw.randrange(6))
                return page, customer, maybe(draw.randrange(4)), session

    def change(self, share: float, most: int = 4) -> dict[str, pa.Table]:
        """Changes some of the tables, each by up to ``most`` upserts and deletes; the deltas."""
        deltas = {}
        for each in TABLES:
            if self.random.random() > share:
                continue
            before, after = self.rows[each.name], self._changed(each, most)
            delta = delta_between(each, before, after)
            if delta.num_rows:
                self.rows[each.name] = after
                fill(self.connection, each, after)
                deltas[each.name] = delta
        return deltas

    def _changed(self, schema: TableSchema, most: int) -> Rows:
        rows = Counter(self.rows[schema.name])
        for _ in range(self.random.randrange(1, most + 1)):
            row = self.new_row(schema.name)
            for old in [
                old for old in rows if schema.key and key_of(schema, old) == key_of(schema, row)
            ]:
                del rows[old]
            if rows and not schema.key and self.random.random() < 0.5:
                rows -= Counter([self.random.choice(sorted(rows, key=repr))])
            if self.random.random() < 0.7:
                rows[row] += 1
        return Counter() if self.random.random() < 0.03 else rows


# ── rows in Arrow and in DuckDB ──────────────────────────────────────────────────────────────────


def fill(connection: duckdb.DuckDBPyConnection, schema: TableSchema, rows: Rows) -> None:
    """Make a table hold exactly these rows."""
    table = quote_table(schema.name)
    connection.register("given", weighted_table(schema, rows))
    connection.execute(f"DELETE FROM {table} WHERE TRUE")
    connection.execute(
        f"INSERT INTO {table} SELECT {', '.join(schema.column_names)}"
        f" FROM (SELECT *, unnest(range({WEIGHT})) FROM given)"
    )
    connection.unregister("given")


def delta_between(schema: TableSchema, before: Rows, after: Rows) -> pa.Table:
    """The consolidated batch that takes a table from the rows before to those after."""
    delta = {row: after[row] - before[row] for row in [*before, *after]}
    return weighted_table(schema, {row: weight for row, weight in delta.items() if weight})


def weighted_table(schema: TableSchema, rows: Mapping[Row, int]) -> pa.Table:
    """Rows with weights, in Arrow's types; times are given in microseconds."""
    fields = list(_SHAPES[schema.name])
    columns: list[Any] = list(zip(*rows, strict=True)) if rows else [()] * len(fields)
    arrays = [
        pa.array(values, pa.int64() if pa.types.is_timestamp(field.type) else field.type)
        for values, field in zip(columns, fields, strict=True)
    ]
    arrays = [array.cast(field.type) for array, field in zip(arrays, fields, strict=True)]
    weights = pa.array(list(rows.values()), pa.int64())
    return pa.table([*arrays, weights], names=[*schema.column_names, WEIGHT])


def _read_shapes() -> dict[str, pa.Schema]:
    connection = connect(zone=ZONE, threads=1)
    create_tables(connection)
    return {
        each.name: connection.execute(f"FROM {quote_table(each.name)}").to_arrow_table().schema
        for each in TABLES
    }


_SHAPES = _read_shapes()


def content(connection: duckdb.DuckDBPyConnection, query: str) -> Rows:
    """The rows a query gives."""
    return Counter(_python_rows(connection.execute(query).to_arrow_table()))


def weighted(delta: pa.Table) -> Rows:
    """A delta's rows and weights. One that is not consolidated fails here."""
    rows = _python_rows(delta.drop_columns([WEIGHT]))
    weights = delta.column(WEIGHT).to_pylist()
    found = Counter(dict(zip(rows, weights, strict=True)))
    assert len(found) == len(rows), "a delta must be consolidated"
    assert 0 not in weights, "a delta must hold no zero weight"
    return found


def _python_rows(table: pa.Table) -> list[Row]:
    columns = [column.to_pylist() for column in table.columns]
    if any(pa.types.is_nested(field.type) for field in table.schema):
        columns = [[_hashable(value) for value in column] for column in columns]
    return list(zip(*columns, strict=True))


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


# ── what a schema promises ───────────────────────────────────────────────────────────────────────


def key_of(schema: TableSchema, row: Row) -> Row:
    return tuple(row[index] for index in schema.positions_of(schema.key))


def broken_promise(schema: TableSchema, rows: Rows) -> str | None:
    """What the rows break of the schema's key and NOT NULLs, if anything."""
    if schema.key:
        keys = Counter(key_of(schema, row) for row in rows.elements())
        if max(keys.values(), default=1) > 1:
            return f"the key {schema.key} repeats"
        if any(None in key for key in keys):
            return f"the key {schema.key} is NULL"
    for index, column in enumerate(schema.columns):
        if not column.nullable and any(row[index] is None for row in rows):
            return f"{column.name} is NULL"
    return None
