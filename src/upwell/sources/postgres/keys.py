"""Conditions on the keys of rows, in SQL for PostgreSQL.

Keys come as Arrow values and go as texts: what PostgreSQL prints of a value it also reads, of every
type. Times are written here, because Python's end at the years 1 and 9999 and know no infinity.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from upwell.core.protocols import Int64s, KeyRange
from upwell.core.sql import literal, quote
from upwell.sources.postgres.tables import CapturedTable

_INFINITE_DAYS, _INFINITE_US = 2**31 - 1, 2**63 - 1


def among(table: CapturedTable, key: Sequence[str], keys: pa.Table) -> str:
    """A condition for the rows that have one of these keys."""
    types = _types(table)
    names = [quote(name) for name in key]
    lists = ", ".join(f"{_text_array(keys.column(name))}::text[]" for name in key)
    # Cast one by one: the array of an array's type is that type itself, and unnests to its members.
    typed = ", ".join(f"k.{quote(name)}::{types[name]}" for name in key)
    columns = ", ".join(names)
    return f"({columns}) IN (SELECT {typed} FROM unnest({lists}) AS k({columns}))"


def within(table: CapturedTable, key: Sequence[str], keys: KeyRange) -> str:
    """A condition for the rows whose keys are in a range."""
    types = _types(table)

    def row(values: tuple[str, ...]) -> str:
        typed = (
            f"{literal(value)}::{types[name]}" for name, value in zip(key, values, strict=True)
        )
        return f"({', '.join(typed)})"

    names = f"({', '.join(map(quote, key))})"
    bounds = [f"{names} >= {row(keys.begin)}"] if keys.begin is not None else []
    bounds += [f"{names} < {row(keys.end)}"] if keys.end is not None else []
    return " AND ".join(bounds) or "true"


def _types(table: CapturedTable) -> dict[str, str]:
    return {column.name: column.type_name for column in table.columns}


def _text_array(values: pa.ChunkedArray) -> str:
    """Values as an SQL literal of a text array."""
    return literal("{" + ",".join(map(_element, _texts(values))) + "}")


def _element(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _texts(values: pa.ChunkedArray) -> Iterable[str]:
    if pa.types.is_date32(values.type):
        return _moments(values.cast(pa.int32()), "D", _INFINITE_DAYS)
    if pa.types.is_timestamp(values.type):
        zone = "" if values.type.tz is None else "+00"
        microseconds = values.cast(pa.timestamp("us", values.type.tz)).cast(pa.int64())
        return _moments(microseconds, "us", _INFINITE_US, zone)
    return (
        "\\x" + value.hex() if isinstance(value, bytes) else str(value)
        for value in values.to_pylist()
    )


def _moments(values: pa.ChunkedArray, unit: str, infinite: int, zone: str = "") -> Iterable[str]:
    numbers: Int64s = values.to_numpy().astype(np.int64)
    texts = np.datetime_as_string(numbers.astype(f"datetime64[{unit}]"))
    for number, text in zip(numbers.tolist(), texts.tolist(), strict=True):
        if abs(number) == infinite:
            yield "infinity" if number > 0 else "-infinity"
            continue
        year, rest = text[:1] + text[1:].partition("-")[0], text[1:].partition("-")[2]
        is_before_christ = int(year) <= 0  # there was no year 0: 0 is 1 BC
        shown = f"{1 - int(year):04}" if is_before_christ else year
        yield f"{shown}-{rest.replace('T', ' ')}{zone}{' BC' if is_before_christ else ''}"
