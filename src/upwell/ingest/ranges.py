"""A stored table in ranges of keys, to be compared with its source."""

from __future__ import annotations

from itertools import pairwise

import duckdb
import msgspec

from upwell.core.protocols import KeyRange
from upwell.core.schema import TableSchema
from upwell.core.sql import literal, quote, quote_table, quoted_list

#: A range has about a hundredth of the rows, within these bounds.
_LEAST_ROWS, _MOST_ROWS = 500, 50_000
_PREFIX = "keys "


def key_ranges(connection: duckdb.DuckDBPyConnection, schema: TableSchema) -> list[KeyRange]:
    """Ranges that hold all keys there can be, about as many rows in each."""
    table, key = quote_table(schema.name), quoted_list(schema.key)
    row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    rows = int(row[0]) if row else 0
    step = min(max(rows // 100, _LEAST_ROWS), _MOST_ROWS)
    texts = ", ".join(f"CAST({quote(name)} AS VARCHAR)" for name in schema.key)
    cuts = connection.execute(
        f"SELECT {texts} FROM (SELECT {key}, row_number() OVER (ORDER BY {key}) AS place "
        f"FROM {table}) WHERE place > 1 AND place % {step} = 0 ORDER BY {key}"
    ).fetchall()
    return [KeyRange(begin, end) for begin, end in pairwise([None, *cuts, None])]


def condition(schema: TableSchema, keys: KeyRange) -> str:
    """DuckDB's condition for the rows of a range."""
    bounds = [f"NOT {_lies_before(schema, keys.begin)}"] if keys.begin is not None else []
    bounds += [_lies_before(schema, keys.end)] if keys.end is not None else []
    return " AND ".join(bounds) or "true"


def _lies_before(schema: TableSchema, key: tuple[str, ...]) -> str:
    """Column by column: DuckDB cannot compare two rows as a whole where it prunes by them."""
    text = "false"
    for name, value in reversed(list(zip(schema.key, key, strict=True))):
        column, bound = quote(name), f"CAST({literal(value)} AS {schema.column(name).type})"
        rest = "" if text == "false" else f" OR ({column} = {bound} AND {text})"
        text = f"({column} < {bound}{rest})"
    return text


def as_part(keys: KeyRange) -> str:
    """A range as the text of a part."""
    return _PREFIX + msgspec.json.encode(keys).decode()


def of_part(part: str) -> KeyRange | None:
    """The range that a part is; None if it is one of the source's own."""
    if not part.startswith(_PREFIX):
        return None
    return msgspec.json.decode(part.removeprefix(_PREFIX), type=KeyRange)
