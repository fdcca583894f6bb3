"""The one door through which names and values enter SQL text.

Values are bound wherever a statement can bind them; ``literal`` is for the few places that
cannot (settings, literal IN lists).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from typing import Literal

import duckdb

#: Settings of every DuckDB connection of ours: no network, no extension, no surprise.
LOCKED_DOWN = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
}

_WIDTH = re.compile(r"DECIMAL\((\d+),\s*\d+\)")
_DIGITS_OF_64_BITS = 18

TextCompression = Literal["auto", "fsst", "uncompressed"]
"""How a stored column of texts is compressed. To choose by itself, DuckDB tries all that it has,
and one of them, a dictionary, takes as long as the rest of storing a row. ``fsst`` alone packs many
different texts as well, and few that come again and again less well.
"""


def quote(name: str) -> str:
    """An identifier, quoted: ``order"s`` becomes ``"order""s"``."""
    if "\0" in name:
        raise ValueError(f"an SQL name cannot hold a NUL character: {name!r}")
    return '"' + name.replace('"', '""') + '"'


def quote_table(name: str) -> str:
    """A table name of at most one schema, quoted by parts: ``shop.orders`` → ``"shop"."orders"``.

    Only the first dot separates; what follows belongs to the table's own name.
    """
    schema, dot, table = name.partition(".")
    return f"{quote(schema)}.{quote(table)}" if dot else quote(schema)


def quoted_list(names: Iterable[str], prefix: str = "") -> str:
    """``"a", "b"``; with ``prefix`` ``t``: ``t."a", t."b"``."""
    dot = f"{prefix}." if prefix else ""
    return ", ".join(dot + quote(name) for name in names)


def literal(value: str | int) -> str:
    """A string or integer as an SQL literal."""
    if isinstance(value, int):
        return str(value)
    if "\0" in value:
        raise ValueError("an SQL string literal cannot hold a NUL character")
    return "'" + value.replace("'", "''") + "'"


def column_definition(name: str, of_type: str, *, texts: TextCompression = "auto") -> str:
    """A column of a stored table, for CREATE TABLE.

    Values of 128 bits stay uncompressed: DuckDB packs their bits by default, and takes more than a
    hundred times as long to read them again (0.4 µs each).
    """
    decimal = _WIDTH.fullmatch(of_type)
    is_wide = of_type in {"HUGEINT", "UHUGEINT"} or (
        decimal is not None and int(decimal.group(1)) > _DIGITS_OF_64_BITS
    )
    method = "uncompressed" if is_wide else texts if of_type == "VARCHAR" else "auto"
    return f"{quote(name)} {of_type}{'' if method == 'auto' else f' USING COMPRESSION {method}'}"


def screened(name: str, of: str = "") -> str:
    """``greatest("a", "a") AS "a"``: a column of an Arrow table, for a join by it.

    ``of`` is what gives the column, where that is more than its name. DuckDB hands what a join
    knows of its keys down to the scan, and of that an Arrow scan cannot apply all: a Bloom filter
    ends the statement, and times go through Python's, which have no infinity and need a module
    that need not be there. DuckDB does not look behind a function.
    """
    value = of or quote(name)
    return f"greatest({value}, {value}) AS {quote(name)}"


def screened_list(names: Iterable[str]) -> str:
    """Several columns, ``screened``."""
    return ", ".join(map(screened, names))


def null_safe_equal(names: Iterable[str], left: str, right: str) -> str:
    """A join condition in which NULL equals NULL, over the columns both sides share."""
    return " AND ".join(
        f"{left}.{quote(name)} IS NOT DISTINCT FROM {right}.{quote(name)}" for name in names
    )


def count_rows(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    """How many rows a table has, by its name in SQL."""
    row = connection.execute(f"SELECT count(*) FROM {quote_table(table)}").fetchone()
    return int(row[0]) if row else 0


def connect(
    path: str = ":memory:", *, zone: str, threads: int | None = None, read_only: bool = False
) -> duckdb.DuckDBPyConnection:
    """Open DuckDB as all of Upwell does: business time zone set, no extension loading.

    ``zone`` is an IANA time zone name. Raises ``duckdb.Error`` as DuckDB does.
    """
    _look_for_pandas_once()
    config: dict[str, str | bool | int | float | list[str]] = dict(LOCKED_DOWN)
    if threads is not None:
        config["threads"] = str(threads)
    connection = duckdb.connect(path, read_only=read_only, config=config)
    connection.execute(f"SET TimeZone = {literal(zone)}")
    return connection


class _NoPandas:
    """Answers at once that pandas is not there."""

    @staticmethod
    def find_spec(name: str, _path: object = None, _target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("No module named 'pandas'", name=name)


@cache
def _look_for_pandas_once() -> None:
    """Let Python remember that pandas is not there, if so.

    DuckDB asks for it, twice, whenever a statement binds a value; a missing module is looked for on
    disk each time, which takes longer than a small statement.
    """
    if find_spec("pandas") is None:
        sys.meta_path.insert(0, _NoPandas)
