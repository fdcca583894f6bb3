"""Which values Arrow holds as DuckDB stores them, and those it can bring into that form itself.

A statement that casts a table costs more than most of what else is done with it. Most sources send
Arrow types that DuckDB would give back unchanged, so only what is left is cast by a statement.
Pure.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upwell.core.schema import Column
from upwell.core.sql import quote

#: Stored types that Arrow carries value by value: reading back what was written changes nothing.
_CARRIED = frozenset(
    (
        "BOOLEAN",
        "TINYINT",
        "SMALLINT",
        "INTEGER",
        "BIGINT",
        "UTINYINT",
        "USMALLINT",
        "UINTEGER",
        "UBIGINT",
        "FLOAT",
        "DOUBLE",
        "VARCHAR",
        "BLOB",
        "DATE",
        "TIMESTAMP",
        "TIMESTAMPTZ",
    )
)

#: The two digits of each byte, side by side in one number.
_HEXADECIMAL = np.frombuffer(bytes(range(256)).hex().encode(), np.uint16)
_UUID_BYTES, _UUID_LETTERS = 16, 36
#: Where the groups of digits begin and end; a hyphen stands before all but the first.
_GROUPS = ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))


def is_carried(of_type: str) -> bool:
    """Whether one Arrow type holds exactly the values of a stored type."""
    return of_type in _CARRIED or of_type.startswith("DECIMAL(")


def cast_to_stored(column: Column) -> str:
    """SQL that reads a column of an Arrow table as what it is stored as; free where it is that."""
    return f"CAST({quote(column.name)} AS {column.type})"


def as_stored(
    values: pa.ChunkedArray, column: Column, arrow: pa.DataType
) -> pa.ChunkedArray | pa.Array | None:
    """``values`` as ``arrow``, in which DuckDB gives ``column`` back; None where it has to cast."""
    if is_carried(column.type):
        if values.type == arrow:
            return values
        is_another_zone = (
            pa.types.is_timestamp(arrow)
            and pa.types.is_timestamp(values.type)
            and values.type.unit == arrow.unit
            and None not in {values.type.tz, arrow.tz}
        )
        return values.cast(arrow) if is_another_zone else None
    if column.type == "UUID" and values.type == pa.uuid() and arrow == pa.string():
        return uuid_texts(values.combine_chunks())
    return None


def uuid_texts(values: pa.ExtensionArray) -> pa.StringArray:
    """UUIDs as DuckDB writes them: 32 small hexadecimal digits in five groups."""
    storage = values.storage
    raw = np.frombuffer(storage.buffers()[1], np.uint8)
    first, count = storage.offset * _UUID_BYTES, len(storage)
    numbers = raw[first : first + count * _UUID_BYTES].reshape(count, _UUID_BYTES)
    digits = _HEXADECIMAL[numbers].view(np.uint8)
    letters = np.full((count, _UUID_LETTERS), ord("-"), np.uint8)
    for hyphens, (begin, end) in enumerate(_GROUPS):
        letters[:, begin + hyphens : end + hyphens] = digits[:, begin:end]
    ends = np.arange(count + 1, dtype=np.int32) * _UUID_LETTERS
    validity = pc.is_valid(storage).buffers()[1] if storage.null_count else None
    return pa.StringArray.from_buffers(count, pa.py_buffer(ends), pa.py_buffer(letters), validity)
