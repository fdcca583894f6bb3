"""Two keys have one number exactly where DuckDB joins them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from upwell.core.schema import Column, TableSchema
from upwell.core.sql import connect
from upwell.ingest.keys import are_numbered_by_arrow, number_keys, ranks_sql
from upwell.ingest.staging import PLACE

NAN = float("nan")
(OTHER_NAN,) = struct.unpack("d", struct.pack("Q", 0xFFF8_0000_0000_0123))
INFINITY = 2**63 - 1

#: By stored type: values that somebody might take for one another, and some that are the same.
HOSTILE: dict[str, pa.Array] = {
    "BOOLEAN": pa.array([True, False, True]),
    "BIGINT": pa.array([0, -1, 2**63 - 1, -(2**63), -1]),
    "UBIGINT": pa.array([0, 2**64 - 1, 2**63, 0], pa.uint64()),
    "FLOAT": pa.array([0.0, -0.0, NAN, OTHER_NAN, float("inf"), 1e-45], pa.float32()),
    "DOUBLE": pa.array([0.0, -0.0, NAN, OTHER_NAN, float("inf"), float("-inf"), 5e-324]),
    "DECIMAL(12,2)": pa.array([Decimal("1.50"), Decimal("-1.50"), Decimal("1.50")]).cast(
        pa.decimal128(12, 2)
    ),
    "VARCHAR": pa.array(["", "a", "A", "a ", "a\0", "é", "e\u0301", "ﬁ", "a", "ß", "ss"]),
    "BLOB": pa.array([b"", b"\0", b"\0\0", b"\xff", b"\0"]),
    "DATE": pa.array([2**31 - 1, -(2**31) + 1, -800_000, 0, 0], pa.int32()).view(pa.date32()),
    "TIMESTAMP": pa.array([INFINITY, -INFINITY, 0, 1, 0]).view(pa.timestamp("us")),
    "TIMESTAMPTZ": pa.array([INFINITY, -INFINITY, 0, 0]).view(pa.timestamp("us", "UTC")),
    "UUID": pa.array([f"{n:08x}-0000-0000-0000-000000000000" for n in (0, 1, 2**32 - 1, 1)]),
    "TIME": pa.array([0, 86_399_999_999, 0]).cast(pa.time64("us")),
    "INTERVAL": pa.array([pa.MonthDayNano([1, 0, 0]), pa.MonthDayNano([0, 30, 0])]),
    "HUGEINT": pa.array([Decimal(0), Decimal(10**37), Decimal(0)], pa.decimal128(38, 0)),
}


def layout(*types: str) -> TableSchema:
    columns = tuple(Column(f"k{index}", each) for index, each in enumerate(types))
    return TableSchema("shop.t", columns, tuple(column.name for column in columns))


def numbers(schema: TableSchema, keys: pa.Table) -> Sequence[int]:
    if are_numbered_by_arrow(schema):
        found: list[int] = number_keys(keys).tolist()
        return found
    with connect(zone="UTC") as connection:
        places = pa.array(np.arange(keys.num_rows))
        connection.register("keys", keys.append_column(PLACE, places))
        return [number for (number,) in connection.execute(ranks_sql(schema, "keys")).fetchall()]


def joined(schema: TableSchema, keys: pa.Table) -> set[tuple[int, int]]:
    """Which places DuckDB's equality brings together."""
    alike = " AND ".join(f"a.{name} = b.{name}" for name in schema.key)
    columns = ", ".join(
        f"CAST({each.name} AS {each.type}) AS {each.name}" for each in schema.columns
    )
    with connect(zone="UTC") as connection:
        connection.register("sent", keys.append_column("place", pa.array(range(keys.num_rows))))
        connection.execute(f"CREATE TABLE keys AS SELECT {columns}, place FROM sent")
        pairs = f"SELECT a.place, b.place FROM keys AS a JOIN keys AS b ON {alike}"
        return set(connection.execute(pairs).fetchall())


def alike(found: Sequence[int]) -> set[tuple[int, int]]:
    places = range(len(found))
    return {(one, two) for one in places for two in places if found[one] == found[two]}


@pytest.mark.parametrize("of_type", HOSTILE)
def test_keys_of_one_column_are_told_apart_as_duckdb_does(of_type: str) -> None:
    schema, keys = layout(of_type), pa.table({"k0": HOSTILE[of_type]})
    assert alike(numbers(schema, keys)) == joined(schema, keys)


@pytest.mark.parametrize("second", HOSTILE)
@pytest.mark.parametrize("first", ["VARCHAR", "DOUBLE", "TIME"])
def test_keys_of_several_columns_are_told_apart_as_duckdb_does(first: str, second: str) -> None:
    one, two = HOSTILE[first], HOSTILE[second]
    every = [(a, b) for a in range(len(one)) for b in range(len(two))] * 2
    keys = pa.table({"k0": one.take([a for a, _ in every]), "k1": two.take([b for _, b in every])})
    schema = layout(first, second)
    found = numbers(schema, keys)
    assert alike(found) == joined(schema, keys)
    assert set(found) == set(range(max(found) + 1))


def test_letters_do_not_wander_from_one_column_to_the_next() -> None:
    keys = pa.table({"k0": ["a", "ab", "a"], "k1": ["bc", "c", "bc"], "k2": [1, 1, 1]})
    assert number_keys(keys).tolist() == [0, 1, 0]


def test_a_key_that_was_refused_is_like_no_key_but_its_like() -> None:
    for values in ([None, 0, None], [None, NAN, None], [None, "", None]):
        assert number_keys(pa.table({"k0": values})).tolist() == [0, 1, 0]


def test_keys_in_parts_are_numbered_as_one() -> None:
    parts = pa.chunked_array([["a", "b"], [], ["b", "c"]])
    assert number_keys(pa.table({"k0": parts})).tolist() == [0, 1, 1, 2]
    assert number_keys(pa.table({"k0": parts.slice(0, 0), "k1": parts.slice(0, 0)})).tolist() == []
