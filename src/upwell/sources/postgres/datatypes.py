"""PostgreSQL's types: how each travels, what Arrow makes of it, and how it is stored.

A type is known by its OID and modifier. Domains, enums and text-like extension types are first
led back to a built-in one (``aliases``, from the catalogue). A type we do not know is stored as
the text the server prints; it has no binary form for us, so a stream that carries it asks for text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

import pyarrow as pa


class Kind(Enum):
    """How a value is read from the wire."""

    BOOL = auto()
    INT2 = auto()
    INT4 = auto()
    INT8 = auto()
    OID = auto()
    FLOAT4 = auto()
    FLOAT8 = auto()
    DECIMAL = auto()  # numeric(p, s) that fits DECIMAL
    NUMERIC = auto()  # any other numeric, kept as text
    TEXT = auto()
    JSONB = auto()
    DATE = auto()
    TIMESTAMP = auto()
    TIMESTAMPTZ = auto()
    UUID = auto()
    BYTEA = auto()
    OTHER = auto()  # anything else, as the text the server prints


@dataclass(frozen=True, slots=True)
class DataType:
    """One column's type: wire, Arrow and stored. Precision and scale only for DECIMAL."""

    kind: Kind
    stored: str
    arrow: pa.DataType
    precision: int = 0
    scale: int = 0

    @property
    def has_binary(self) -> bool:
        """Whether we read the type's binary form."""
        return self.kind is not Kind.OTHER


#: A type's OID → the built-in type (OID, modifier) it behaves as.
Aliases = Mapping[int, tuple[int, int]]

OTHER = DataType(Kind.OTHER, "VARCHAR", pa.string())
TEXT_OID = 25
_NUMERIC_OID = 1700
_LARGEST_PRECISION = 38

_text = DataType(Kind.TEXT, "VARCHAR", pa.string())
_BUILT_IN = {
    16: DataType(Kind.BOOL, "BOOLEAN", pa.bool_()),
    17: DataType(Kind.BYTEA, "BLOB", pa.binary()),
    19: _text,  # name
    20: DataType(Kind.INT8, "BIGINT", pa.int64()),
    21: DataType(Kind.INT2, "SMALLINT", pa.int16()),
    23: DataType(Kind.INT4, "INTEGER", pa.int32()),
    TEXT_OID: _text,
    26: DataType(Kind.OID, "UINTEGER", pa.uint32()),
    114: _text,  # json
    700: DataType(Kind.FLOAT4, "FLOAT", pa.float32()),
    701: DataType(Kind.FLOAT8, "DOUBLE", pa.float64()),
    1042: _text,  # char(n), blanks and all
    1043: _text,  # varchar
    1082: DataType(Kind.DATE, "DATE", pa.date32()),
    1114: DataType(Kind.TIMESTAMP, "TIMESTAMP", pa.timestamp("us")),
    1184: DataType(Kind.TIMESTAMPTZ, "TIMESTAMPTZ", pa.timestamp("us", "UTC")),
    2950: DataType(Kind.UUID, "UUID", pa.uuid()),
    3802: DataType(Kind.JSONB, "VARCHAR", pa.string()),
}


def data_type(oid: int, modifier: int, aliases: Aliases) -> DataType:
    """What we make of the type ``oid`` with ``modifier`` (-1: none)."""
    if oid in aliases:
        oid, own_modifier = aliases[oid]
        modifier = own_modifier if own_modifier >= 0 else modifier
    if oid == _NUMERIC_OID:
        return _numeric(modifier)
    return _BUILT_IN.get(oid, OTHER)


def _numeric(modifier: int) -> DataType:
    """numeric(p, s); without (p, s), or beyond DECIMAL, the exact text is kept.

    A scale below zero or above the precision says which digits are always zero: DECIMAL has them.
    """
    if modifier >= 4:
        precision = (modifier - 4) >> 16 & 0xFFFF
        scale = ((modifier - 4 & 0x7FF) ^ 1024) - 1024
        precision, scale = max(precision - min(scale, 0), scale), max(scale, 0)
        if 1 <= precision <= _LARGEST_PRECISION:
            return DataType(
                Kind.DECIMAL,
                f"DECIMAL({precision},{scale})",
                pa.decimal128(precision, scale),
                precision,
                scale,
            )
    return DataType(Kind.NUMERIC, "VARCHAR", pa.string())
