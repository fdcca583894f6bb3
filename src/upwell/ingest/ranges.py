"""A stored table in ranges of keys, to be compared with its source.

The ends of ranges may be any keys: every key lies in just one of them, also one that comes later.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import duckdb
import msgspec

from upwell.core.protocols import KeyRange
from upwell.core.schema import TableSchema
from upwell.core.sql import count_rows, literal, quote, quote_table, quoted_list

#: A range has about a hundredth of the rows, within these bounds: the stored side's checksum of
#: one is made between two versions.
LEAST_ROWS, MOST_ROWS = 500, 20_000
#: Of a long table the ends of ranges are chosen among about so many keys a range: to put all keys
#: in order would hold up what is followed.
_SAMPLED_A_RANGE = 100
#: Stored types of a width of their own, in bytes; any other has as many as are stored.
_WIDTHS = {"BOOLEAN": 1, "SMALLINT": 2, "INTEGER": 4, "FLOAT": 4, "DATE": 4}
_LONG, _USUAL_WIDTH = ("VARCHAR", "BLOB"), 8
#: How the part of a reading begins that is a range of keys.
PART_OF_KEYS = "keys "


def key_ranges(connection: duckdb.DuckDBPyConnection, schema: TableSchema) -> list[KeyRange]:
    """Ranges that hold all keys there can be, about as many rows in each."""
    table, key = quote_table(schema.name), quoted_list(schema.key)
    rows = count_rows(connection, schema.name)
    step = min(max(rows // 100, LEAST_ROWS), MOST_ROWS)
    keys = f"SELECT {key} FROM {table}"
    if step > 2 * _SAMPLED_A_RANGE:
        share = _SAMPLED_A_RANGE / step
        if rows * share > 10_000:
            keys += f" USING SAMPLE {100 * share} PERCENT (bernoulli)"
            step = _SAMPLED_A_RANGE
    texts = ", ".join(f"CAST({quote(name)} AS VARCHAR)" for name in schema.key)
    cuts = connection.execute(
        f"SELECT {texts} FROM (SELECT {key}, row_number() OVER (ORDER BY {key}) AS place "
        f"FROM ({keys})) WHERE place > 1 AND place % {step} = 0 ORDER BY {key}"
    ).fetchall()
    return [KeyRange(begin, end) for begin, end in pairwise([None, *cuts, None])]


def condition(schema: TableSchema, keys: KeyRange) -> str:
    """DuckDB's condition for the rows of a range."""
    bounds = [f"NOT {_lies_before(schema, keys.begin)}"] if keys.begin is not None else []
    bounds += [_lies_before(schema, keys.end)] if keys.end is not None else []
    return " AND ".join(bounds) or "true"


def condition_of_any(schema: TableSchema, ranges: Iterable[KeyRange]) -> str:
    """DuckDB's condition for the rows of any of these ranges."""
    return " OR ".join(f"({condition(schema, keys)})" for keys in ranges) or "false"


def size_sql(schema: TableSchema, keys: KeyRange) -> str:
    """A DuckDB query for how many bytes the stored values of a range have, roughly: so much the
    source has to read to compare them.
    """
    width = sum(_WIDTHS.get(each.type, _USUAL_WIDTH) for each in schema.columns)
    longs = [
        f"{'strlen' if each.type == 'VARCHAR' else 'octet_length'}({quote(each.name)})"
        for each in schema.columns
        if each.type in _LONG
    ]
    size = " + ".join([f"count(*) * {width}", *(f"coalesce(sum({each}), 0)" for each in longs)])
    return (
        f"SELECT ({size})::BIGINT FROM {quote_table(schema.name)} WHERE {condition(schema, keys)}"
    )


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
    return PART_OF_KEYS + msgspec.json.encode(keys).decode()


def of_part(part: str) -> KeyRange | None:
    """The range that a part is; None if it is one of the source's own."""
    if not part.startswith(PART_OF_KEYS):
        return None
    return msgspec.json.decode(part.removeprefix(PART_OF_KEYS), type=KeyRange)
