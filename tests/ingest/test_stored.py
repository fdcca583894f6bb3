"""What Arrow brings into the stored form by itself is what DuckDB would have made of it."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest

from upwell.core.schema import Column
from upwell.core.sql import connect
from upwell.ingest.stored import as_stored, cast_to_stored, is_carried, uuid_texts

ZONE = "Asia/Kolkata"
INFINITY = 2**63 - 1
UUIDS = [UUID(int=0), UUID(int=2**128 - 1), None, UUID("0123abcd-45EF-6789-8abc-def012345678")]
VALUES: dict[str, pa.Array] = {
    "BOOLEAN": pa.array([True, None]),
    "TINYINT": pa.array([-128, None], pa.int8()),
    "SMALLINT": pa.array([-(2**15), None], pa.int16()),
    "INTEGER": pa.array([-(2**31), None], pa.int32()),
    "BIGINT": pa.array([-(2**63), None], pa.int64()),
    "UTINYINT": pa.array([2**8 - 1, None], pa.uint8()),
    "USMALLINT": pa.array([2**16 - 1, None], pa.uint16()),
    "UINTEGER": pa.array([2**32 - 1, None], pa.uint32()),
    "UBIGINT": pa.array([2**64 - 1, None], pa.uint64()),
    "FLOAT": pa.array([-0.0, float("inf"), None], pa.float32()),
    "DOUBLE": pa.array([-0.0, 5e-324, None], pa.float64()),
    "DECIMAL(4,1)": pa.array([Decimal("-999.9"), None], pa.decimal128(4, 1)),
    "DECIMAL(38,9)": pa.array([Decimal("1e28"), None], pa.decimal128(38, 9)),
    "VARCHAR": pa.array(["", "é\0", None]),
    "BLOB": pa.array([b"", b"\0\xff", None]),
    "DATE": pa.array([2**31 - 1, -(2**31) + 1, 0, None], pa.int32()).view(pa.date32()),
    "TIMESTAMP": pa.array([INFINITY, -INFINITY, 0, None]).view(pa.timestamp("us")),
    "TIMESTAMPTZ": pa.array([INFINITY, -INFINITY, 0, None]).view(pa.timestamp("us", "UTC")),
    "UUID": pa.ExtensionArray.from_storage(
        pa.uuid(), pa.array([each and each.bytes for each in UUIDS], pa.binary(16))
    ),
}


def cast(values: pa.Array, column: Column) -> pa.ChunkedArray:
    """What DuckDB gives back of ``values``."""
    with connect(zone=ZONE) as connection:
        connection.register("sent", pa.table({column.name: values}))
        found = connection.execute(f"SELECT {cast_to_stored(column)} FROM sent").to_arrow_table()
        return found.column(0)


@pytest.mark.parametrize("of_type", VALUES)
def test_what_needs_no_statement_is_as_duckdb_gives_it_back(of_type: str) -> None:
    column, values = Column("value", of_type), VALUES[of_type]
    wanted = cast(values, column)
    found = as_stored(pa.chunked_array([values]), column, wanted.type)
    assert found is not None
    parts = found.chunks if isinstance(found, pa.ChunkedArray) else [found]
    assert pa.chunked_array(parts).equals(wanted)
    assert is_carried(of_type) or of_type == "UUID"


def test_a_part_of_uuids_is_read_where_it_begins() -> None:
    for first, count in ((1, 3), (3, 1), (2, 1), (4, 0)):
        found = uuid_texts(VALUES["UUID"].slice(first, count))
        found.validate(full=True)
        assert found.to_pylist() == [each and str(each) for each in UUIDS[first : first + count]]


@pytest.mark.parametrize(
    ("of_type", "values"),
    [
        ("UUID", pa.array(["0123ABCD45EF67898abcdef012345678"])),  # another spelling of the same
        ("DECIMAL(12,2)", pa.array(["1.5"])),
        ("DECIMAL(12,2)", pa.array([Decimal("1.5")], pa.decimal128(12, 1))),
        ("BIGINT", pa.array([1], pa.int32())),
        ("TIMESTAMP", pa.array([0]).view(pa.timestamp("us", "UTC"))),
        ("TIMESTAMPTZ", pa.array([0]).view(pa.timestamp("us"))),
        ("TIMESTAMPTZ", pa.array([0]).view(pa.timestamp("ms", "UTC"))),
        ("TIME", pa.array([dt.time(1)], pa.time64("us"))),
        ("HUGEINT", pa.array([Decimal(1)], pa.decimal128(38, 0))),
    ],
    ids=str,
)
def test_what_arrow_does_not_carry_duckdb_casts(of_type: str, values: Any) -> None:
    column = Column("value", of_type)
    assert as_stored(pa.chunked_array([values]), column, cast(values, column).type) is None
