"""How a table of the hot store looks in the lake: Iceberg's types, and how values travel there.

Types that not every reader of Iceberg knows (times of day, UUID, intervals, nested ones) are stored
as the text DuckDB prints, and cast back on the way home. Numbers keep all their digits: one that
has more than the 38 a decimal can hold is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
    TimestamptzType,
)

from upwell.core.schema import Column
from upwell.core.sql import quote

_SIMPLE: dict[str, tuple[IcebergType, pa.DataType]] = {
    "BOOLEAN": (BooleanType(), pa.bool_()),
    "TINYINT": (IntegerType(), pa.int32()),
    "SMALLINT": (IntegerType(), pa.int32()),
    "INTEGER": (IntegerType(), pa.int32()),
    "UTINYINT": (IntegerType(), pa.int32()),
    "USMALLINT": (IntegerType(), pa.int32()),
    "UINTEGER": (LongType(), pa.int64()),
    "BIGINT": (LongType(), pa.int64()),
    "UBIGINT": (DecimalType(20, 0), pa.decimal128(20, 0)),
    "HUGEINT": (DecimalType(38, 0), pa.decimal128(38, 0)),
    "FLOAT": (FloatType(), pa.float32()),
    "DOUBLE": (DoubleType(), pa.float64()),
    "BLOB": (BinaryType(), pa.binary()),
    "DATE": (DateType(), pa.date32()),
    "TIMESTAMP": (TimestampType(), pa.timestamp("us")),
    "TIMESTAMPTZ": (TimestamptzType(), pa.timestamp("us", "UTC")),
    "TIMESTAMP WITH TIME ZONE": (TimestamptzType(), pa.timestamp("us", "UTC")),
}
_DUCKDB_OF_ARROW = {
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.decimal128(20, 0): "DECIMAL(20,0)",
    pa.decimal128(38, 0): "DECIMAL(38,0)",
}
_TEXT = (StringType(), pa.string())
_ARROW_OF_ICEBERG = dict([*_SIMPLE.values(), _TEXT])
_DECIMAL = re.compile(r"DECIMAL\((\d+),\s*(\d+)\)")
#: Where Parquet keeps the number by which Iceberg knows a column.
FIELD_ID = b"PARQUET:field_id"


def _types(stored: str) -> tuple[IcebergType, pa.DataType]:
    if found := _DECIMAL.fullmatch(stored):
        precision, scale = int(found[1]), int(found[2])
        return DecimalType(precision, scale), pa.decimal128(precision, scale)
    return _SIMPLE.get(stored, _TEXT)


def iceberg_type(stored: str) -> IcebergType:
    """What a stored (DuckDB) type becomes in the lake."""
    return _types(stored)[0]


def iceberg_schema(columns: Sequence[Column]) -> Schema:
    """The columns of a new table. All may be NULL: what a source no longer sends is."""
    fields = [
        NestedField(number, column.name, iceberg_type(column.type), required=False)
        for number, column in enumerate(columns, 1)
    ]
    return Schema(*fields)


def arrow_schema(schema: Schema, columns: Sequence[Column]) -> pa.Schema:
    """What the files of a table hold: ``columns`` under the numbers that ``schema`` gives them."""
    return pa.schema(
        [
            pa.field(
                column.name,
                _types(column.type)[1],
                metadata={FIELD_ID: str(schema.find_field(column.name).field_id).encode()},
            )
            for column in columns
        ]
    )


def stored_schema(schema: Schema) -> pa.Schema:
    """What the files of a table hold when they have all of its columns."""
    return pa.schema(
        [
            pa.field(
                field.name,
                _arrow_type(field.field_type),
                metadata={FIELD_ID: str(field.field_id).encode()},
            )
            for field in schema.fields
        ]
    )


def _arrow_type(stored: IcebergType) -> pa.DataType:
    if isinstance(stored, DecimalType):
        return pa.decimal128(stored.precision, stored.scale)
    return _ARROW_OF_ICEBERG[stored]


def outward(column: Column) -> str:
    """A column of the hot store as SQL gives it to the lake."""
    name = quote(column.name)
    arrow = _types(column.type)[1]
    if column.type == "VARCHAR" or (column.type in _SIMPLE and arrow not in _DUCKDB_OF_ARROW):
        return name
    if _DECIMAL.fullmatch(column.type):
        return name
    return f"CAST({name} AS {_DUCKDB_OF_ARROW.get(arrow, 'VARCHAR')}) AS {name}"


def homeward(column: Column) -> str:
    """A column of the lake as SQL gives it back to the hot store."""
    name = quote(column.name)
    return f"CAST({name} AS {column.type}) AS {name}"
