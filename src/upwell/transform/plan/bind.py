"""DuckDB as the judge of names and types: an in-memory database that holds every table, empty.

What DuckDB binds here it will run on the hot store; what it refuses becomes a ``ProjectError``
before anything is touched. Nothing is ever stored in these tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import duckdb

from upwell.core.schema import Column, TableSchema
from upwell.core.sql import connect, quote, quote_table

#: The parameter that stands for a version's logical time in every query that reads the clock.
LOGICAL_TIME = "logical_time_us"

#: Types whose values do not survive the way through Arrow.
_NOT_CARRIED = re.compile(r"\b(BIT|TIME WITH TIME ZONE|UNION|VARIANT)\b")
_QUOTED = re.compile(r"""'[^']*'|"[^"]*["]""")

_KIND = re.compile(r"^\w+ Error: ")
_LINE = re.compile(r"^LINE (\d+):", re.MULTILINE)


class Refused(Exception):  # noqa: N818 - an answer of DuckDB, on its way to becoming an error
    """DuckDB does not accept a query: what it says, and the line of the query if it says so."""

    def __init__(self, error: duckdb.Error) -> None:
        text = str(error)
        line = _LINE.search(text)
        self.line = int(line.group(1)) - 1 if line else None  # queries start on the second line
        first = text.split("\n\tCandidate functions", 1)[0].split("\n\nLINE ", 1)[0]
        self.what = _KIND.sub("", " ".join(first.split()))
        super().__init__(self.what)


class Binder:
    """An empty twin of the hot store. Close it after planning."""

    def __init__(self, tables: Iterable[TableSchema]) -> None:
        self._connection = connect(zone="UTC", threads=1)
        self._connection.execute(f"CREATE SCHEMA {quote('_upwell')}")
        for table in tables:
            self._declare_table(table)
        self.functions = self._read_functions()

    def _declare_table(self, table: TableSchema) -> None:
        schema, dot, _ = table.name.partition(".")
        if dot:
            self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(schema)}")
        columns = ", ".join(f"{quote(column.name)} {column.type}" for column in table.columns)
        self._connection.execute(f"CREATE TABLE {quote_table(table.name)} ({columns})")

    def _read_functions(self) -> dict[str, tuple[str, str]]:
        """Function name → (kind, stability): ``sum`` → (``aggregate``, ``CONSISTENT``)."""
        rows = self._connection.execute(
            "SELECT function_name, min(function_type), max(coalesce(stability, 'CONSISTENT'))"
            " FROM duckdb_functions() GROUP BY function_name"
        ).fetchall()
        return {name: (kind, stability) for name, kind, stability in rows}

    def describe(self, query: str) -> tuple[Column, ...]:
        """Output names and types of a query, as written (a name may appear twice)."""
        rows = self._run(f"DESCRIBE\n{query}", query).fetchall()
        return tuple(Column(name, kind) for name, kind, *_ in rows)

    def declare(self, name: str, query: str, columns: Iterable[str]) -> tuple[Column, ...]:
        """Make the empty table ``name`` with a query's columns under these names; their types."""
        names = ", ".join(map(quote, columns))
        self._run(
            f"CREATE OR REPLACE TABLE {quote_table(name)} AS"
            f" SELECT * FROM (\n{query}\n) AS given({names}) LIMIT 0",
            query,
        )
        return self.describe(f"FROM {quote_table(name)}")

    def keeps(self, of_type: str) -> bool:
        """Whether values of a type come back as they were from a table and from a delta."""
        if _NOT_CARRIED.search(_QUOTED.sub("", of_type)):
            return False
        if "STRUCT(" not in of_type:
            return True
        try:  # a STRUCT without names is a type no table can have
            self.describe(f"SELECT CAST(NULL AS {of_type})")
        except Refused:
            return False
        return True

    def _run(self, statement: str, query: str) -> duckdb.DuckDBPyConnection:
        parameters = {LOGICAL_TIME: 0} if f"${LOGICAL_TIME}" in query else None
        try:
            return self._connection.execute(statement, parameters)
        except duckdb.Error as error:
            raise Refused(error) from error

    def close(self) -> None:
        self._connection.close()
