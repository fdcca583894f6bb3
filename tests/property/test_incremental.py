"""The law of the models: incremental equals full, row for row, after every batch.

The shapes of ``golden/models.sql`` over random rows with NULLs and duplicates, random batches over
several tables at once with moved keys, models over models. The oracle is the model's text as DuckDB
itself runs it; the deltas are summed up in Python and must give the same rows.
``UPWELL_PROPERTY_SEEDS`` sets how many worlds are tried.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import pyarrow as pa
import pytest

from upwell.core.batch import WEIGHT
from upwell.core.schema import Column, TableSchema
from upwell.core.sql import connect, quote_table
from upwell.project.values import Model
from upwell.transform.explain import explain
from upwell.transform.plan import Plan, plan_models
from upwell.transform.refresh import Refresher, build, prove

Row = tuple[Any, ...]

GOLDEN = Path(__file__).parent.parent / "golden" / "models.sql"
SEEDS = int(os.environ.get("UPWELL_PROPERTY_SEEDS", "3"))
VERSIONS = 12
HOUR_US = 3_600_000_000
START_US = 1_780_000_000_000_000

#: Shapes whose text DuckDB may answer with another last digit, or at another time.
INEXACT = {"float_sums", "recent", "clock_inside"}


def read_golden() -> tuple[str, dict[str, tuple[str, str]]]:
    """The tables' DDL, and each shape's text with the plan that is expected of it."""
    parts = GOLDEN.read_text().split("\n-- ")[1:]
    ddl, shapes = "", {}
    for part in parts:
        name, _, body = part.partition("\n")
        text, _, expected = body.partition("\n-->")
        if name == "tables":
            ddl = text
        elif text.strip():
            shapes[name] = text, ("-->" + expected).strip()
    return ddl, shapes


DDL, SHAPES = read_golden()


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
        self.connection = connect(zone="Europe/London", threads=1)
        self.rows: dict[str, Counter[Row]] = {each.name: Counter() for each in TABLES}
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

    def change(self, share: float) -> dict[str, pa.Table]:
        """Changes some of the tables, each by some upserts and deletes; returns the deltas."""
        deltas = {}
        for each in TABLES:
            if self.random.random() > share:
                continue
            before, after = self.rows[each.name], self._changed(each)
            delta = {row: after[row] - before[row] for row in [*before, *after]}
            delta = {row: weight for row, weight in delta.items() if weight}
            if delta:
                self.rows[each.name] = after
                self._replace(each, after)
                deltas[each.name] = self._arrow(each, delta)
        return deltas

    def _changed(self, schema: TableSchema) -> Counter[Row]:
        rows = Counter(self.rows[schema.name])
        for _ in range(self.random.randrange(1, 5)):
            row = self.new_row(schema.name)
            for old in [
                old for old in rows if schema.key and _key(schema, old) == _key(schema, row)
            ]:
                del rows[old]
            if rows and not schema.key and self.random.random() < 0.5:
                rows -= Counter([self.random.choice(sorted(rows, key=repr))])
            if self.random.random() < 0.7:
                rows[row] += 1
        return Counter() if self.random.random() < 0.03 else rows

    def _replace(self, schema: TableSchema, rows: Counter[Row]) -> None:
        table = quote_table(schema.name)
        self.connection.register("given", self._arrow(schema, rows))
        self.connection.execute(f"DELETE FROM {table} WHERE TRUE")
        self.connection.execute(
            f"INSERT INTO {table} SELECT {', '.join(schema.column_names)}"
            f" FROM (SELECT *, unnest(range({WEIGHT})) FROM given)"
        )
        self.connection.unregister("given")

    def _arrow(self, schema: TableSchema, rows: Mapping[Row, int]) -> pa.Table:
        """Rows with weights, in Arrow's types; times are given in microseconds."""
        shape = self.connection.execute(f"FROM {quote_table(schema.name)} LIMIT 0")
        fields = list(shape.to_arrow_table().schema)
        columns: list[Any] = list(zip(*rows, strict=True)) if rows else [()] * len(fields)
        arrays = [
            pa.array(values, pa.int64() if pa.types.is_timestamp(field.type) else field.type)
            for values, field in zip(columns, fields, strict=True)
        ]
        arrays = [array.cast(field.type) for array, field in zip(arrays, fields, strict=True)]
        weights = pa.array(list(rows.values()), pa.int64())
        return pa.table([*arrays, weights], names=[*schema.column_names, WEIGHT])


def _key(schema: TableSchema, row: Row) -> Row:
    return tuple(row[index] for index in schema.positions_of(schema.key))


def content(connection: duckdb.DuckDBPyConnection, query: str) -> Counter[Row]:
    """Rows and how often each appears."""
    rows = connection.execute(query).to_arrow_table().to_pylist()
    return Counter(tuple(row.values()) for row in rows)


def weighted(delta: pa.Table) -> Counter[Row]:
    found: Counter[Row] = Counter()
    for row in delta.to_pylist():
        weight = row.pop(WEIGHT)
        assert tuple(row.values()) not in found, "a delta must be consolidated"
        assert weight != 0, "a delta must hold no zero weight"
        found[tuple(row.values())] = weight
    return found


@pytest.fixture(scope="module")
def plan() -> Plan:
    models = [
        Model(name=name, sql=text, path=Path(f"models/{name}.sql"))
        for name, (text, _) in SHAPES.items()
    ]
    return plan_models(models, TABLES)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_incremental_equals_full_after_every_batch(plan: Plan, seed: int) -> None:
    world = World(seed)
    world.change(share=1.0)
    connection, now = world.connection, START_US + 8 * HOUR_US
    build(connection, plan, list(SHAPES), now)
    refresher = Refresher(connection, plan)
    sums = {name: content(connection, f"FROM {name}") for name in SHAPES}
    for version in range(VERSIONS):
        now += world.random.choice([0, HOUR_US])
        connection.execute("BEGIN")
        deltas = world.change(share=world.random.choice([0.3, 1.0]))
        changed = refresher.apply(deltas, now)
        connection.execute("COMMIT")
        for name, (text, _) in SHAPES.items():
            case = f"seed {seed}, version {version}, model {name}, changed {sorted(deltas)}"
            if name in changed:
                sums[name].update(weighted(changed[name]))
            kept = content(connection, f"FROM {name}")
            summed = Counter({row: count for row, count in sums[name].items() if count})
            assert summed == kept, f"deltas do not add up: {case}"
            proof = prove(connection, plan, name, logical_time_us=now)
            assert proof.holds, f"{case}: {proof.sample}"
            if "avg(" not in text and name not in INEXACT:
                assert kept == content(connection, text), case
            _assert_key_holds(plan.model(name).schema, kept, case)


def _assert_key_holds(schema: TableSchema, rows: Counter[Row], case: str) -> None:
    if schema.key:
        keys = Counter(_key(schema, row) for row in rows.elements())
        assert max(keys.values(), default=1) == 1, f"key {schema.key} repeats: {case}"
        assert not any(None in key for key in keys), f"key {schema.key} is NULL: {case}"
    for index, column in enumerate(schema.columns):
        if not column.nullable:
            assert all(row[index] is not None for row in rows), f"{column.name} is NULL: {case}"


@pytest.mark.parametrize("name", SHAPES)
def test_each_shape_is_planned_as_the_golden_file_says(plan: Plan, name: str) -> None:
    assert plan_lines(plan, name) == SHAPES[name][1]


def plan_lines(plan: Plan, name: str) -> str:
    """``--> by_region/rows: incremental, view``, a line for each node."""
    explanation = explain(plan, name)
    lines = []
    for step in explanation.steps:
        because = f" because {step.why}" if step.refresh == "full" else ""
        lines.append(
            f"--> {step.gives}: {step.refresh}, {'kept' if step.kept else 'view'}{because}"
        )
    if explanation.key:
        lines[-1] += f", key {', '.join(explanation.key)}"
    return "\n".join(lines)
