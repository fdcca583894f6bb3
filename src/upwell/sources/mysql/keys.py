"""Key values in SQL: as literals, as places between rows, and tables cut into ranges by them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

import pyarrow as pa

from upwell.core.protocols import KeyRange
from upwell.core.sql import literal, quote
from upwell.sources.mysql.datatypes import DataType, Kind
from upwell.sources.mysql.tables import CapturedTable

_AS_NUMBERS = (Kind.BIT, Kind.BOOL, Kind.ENUM, Kind.SET)
_BARE = (Kind.INT, Kind.DECIMAL, Kind.NUMERIC, Kind.YEAR, Kind.FLOAT, Kind.DOUBLE, *_AS_NUMBERS)
_BYTES = (Kind.BINARY, Kind.BLOB, Kind.GEOMETRY)
#: Stored types whose values have one order only. Texts have many, MariaDB's UUIDs one of their own.
_ORDERED = frozenset(
    (
        *("TINYINT", "SMALLINT", "INTEGER", "BIGINT"),
        *("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"),
        *("DATE", "TIMESTAMP", "TIMESTAMPTZ", "BLOB"),
    )
)
_ESCAPED_BYTE = re.compile(r"\\x([0-9A-F]{2})")
#: No table is cut finer, whatever its statistics say.
_MOST_PARTS = 100_000

Key = tuple[str, ...]
"""A key's values as SQL literals."""


def key_types(table: CapturedTable) -> list[DataType]:
    """The types of the key's columns."""
    types = {column.name: kind for column, kind in zip(table.columns, table.types, strict=True)}
    return [types[name] for name in table.key]


def compared(name: str, kind: DataType) -> str:
    """A key column where it is compared: with how its literals are written."""
    if kind.kind is Kind.FLOAT:
        return f"({quote(name)} * 1e0)"
    return f"({quote(name)} + 0)" if kind.kind in _AS_NUMBERS else quote(name)


def shown(name: str, kind: DataType) -> str:
    """A key column in a SELECT whose answers ``as_literal`` reads."""
    if kind.kind is Kind.TEXT or kind.kind in _BYTES:
        return f"HEX({quote(name)})"
    return f"CAST({compared(name, kind)} AS CHAR)"


def as_literal(text: str, kind: DataType) -> str:
    """What ``shown`` gave, as a literal."""
    if kind.kind is Kind.TEXT:
        return f"_{kind.charset} X{literal(text)}"
    if kind.kind in _BYTES:
        return f"X{literal(text)}"
    return text if kind.kind in _BARE else literal(text)


def matches(table: CapturedTable, keys: pa.Table) -> str:
    """A condition that holds for the rows with one of ``keys``."""
    types = key_types(table)
    columns = [
        [_of_value(value, kind) for value in keys.column(name).to_pylist()]
        for name, kind in zip(table.key, types, strict=True)
    ]
    left = [
        quote(name) if kind.kind in (Kind.ENUM, Kind.SET) else compared(name, kind)
        for name, kind in zip(table.key, types, strict=True)
    ]
    if len(left) == 1:
        return f"{left[0]} IN ({', '.join(columns[0])})"
    rows = (f"({', '.join(row)})" for row in zip(*columns, strict=True))
    return f"({', '.join(left)}) IN ({', '.join(rows)})"


def within(table: CapturedTable, keys: KeyRange) -> str:
    """A condition for the keys from one on to before another, which come as texts of DuckDB."""
    types = key_types(table)
    names = [compared(name, kind) for name, kind in zip(table.key, types, strict=True)]
    conditions = []
    if keys.begin is not None:
        begin = _of_texts(keys.begin, types)
        conditions += [f"{names[0]} >= {begin[0]}", _beyond(names, begin, ">", is_inclusive=True)]
    if keys.end is not None:
        end = _of_texts(keys.end, types)
        conditions += [f"{names[0]} <= {end[0]}", _beyond(names, end, "<", is_inclusive=False)]
    return " AND ".join(conditions) or "TRUE"


def is_ordered_alike(stored: str) -> bool:
    """Whether the server puts values of a stored type in the order in which DuckDB does."""
    return stored in _ORDERED or stored.startswith("DECIMAL")


def between(table: CapturedTable, after: Key, through: Key) -> str:
    """A condition for the keys behind ``after`` up to ``through``; an empty one is no limit."""
    names = [compared(name, kind) for name, kind in zip(table.key, key_types(table), strict=True)]
    conditions = []
    if after:
        conditions += [f"{names[0]} >= {after[0]}", _beyond(names, after, ">", is_inclusive=False)]
    if through:
        conditions += [
            f"{names[0]} <= {through[0]}",
            _beyond(names, through, "<", is_inclusive=True),
        ]
    return " AND ".join(conditions) or "TRUE"


def is_cut_by_numbers(table: CapturedTable) -> bool:
    """Whether the key is one whole number: then ranges can be halved without reading rows."""
    return [kind.kind for kind in key_types(table)] == [Kind.INT]


def halved(
    first: int, last: int, most_rows: int, count: Callable[[int, int], int]
) -> Iterator[int]:
    """Where ranges of about ``most_rows`` end, ascending, the last left out.

    ``count`` estimates the rows of a range whose both ends are in it.
    """
    gathered, end = 0, first
    for high, rows in _leaves(first, last, most_rows, count):
        if gathered and gathered + rows > most_rows:
            yield end
            gathered = 0
        gathered, end = gathered + rows, high


def _leaves(
    first: int, last: int, most_rows: int, count: Callable[[int, int], int]
) -> Iterator[tuple[int, int]]:
    """Ranges that need no more halving, ascending: where each ends, and about how many rows."""
    stack, found = [(first, last)], 0
    while stack:
        low, high = stack.pop()
        rows = count(low, high)
        if low < high and found < _MOST_PARTS and rows > most_rows:
            middle = (low + high) // 2
            stack += [(middle + 1, high), (low, middle)]
        else:
            found += 1
            yield high, rows


def _beyond(names: Sequence[str], key: Key, sign: str, *, is_inclusive: bool) -> str:
    """``(a > 1 OR (a = 1 AND b > 2))``: what indexes are good at, unlike pairs."""
    condition = f"{names[-1]} {sign}{'=' if is_inclusive else ''} {key[-1]}"
    for name, value in zip(reversed(names[:-1]), reversed(key[:-1]), strict=True):
        condition = f"({name} {sign} {value} OR ({name} = {value} AND {condition}))"
    return condition


def _of_texts(texts: Sequence[str], types: Sequence[DataType]) -> Key:
    return tuple(_of_text(text, kind) for text, kind in zip(texts, types, strict=True))


def _of_text(text: str, kind: DataType) -> str:
    """DuckDB's text of a value, as a literal."""
    if kind.kind in _BYTES:
        plain = _ESCAPED_BYTE.sub(lambda match: chr(int(match[1], 16)), text)
        return f"X{literal(plain.encode('latin-1').hex())}" if plain else "''"
    if kind.kind is Kind.TIMESTAMP:
        moment = datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None)
        return literal(moment.isoformat(" "))
    return text if kind.kind in _BARE else literal(text)


def _of_value(value: object, kind: DataType) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"X{literal(value.hex())}" if value else "''"
    if isinstance(value, str) and "\0" in value:
        return f"_utf8mb4 X{literal(value.encode().hex())}"
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, datetime):
        return literal(value.replace(tzinfo=None).isoformat(" "))
    if isinstance(value, float):
        return repr(value)
    return str(value) if kind.kind in _BARE and not isinstance(value, str) else literal(str(value))
