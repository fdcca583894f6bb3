"""What every reader is asked, and how an answer is compared with what is expected.

A table is given as all of its rows, of a span of time if one is named; a change log also as what
stands, the images whose weights do not cancel. Answers are compared as bags of rows, and by type:
both as DuckDB takes them from Arrow, so that one type has one name whoever read it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

import duckdb
import pyarrow as pa

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Span:
    """From a moment (UTC) up to another, the latter left out, of a column of instants."""

    column: str
    begin: datetime
    end: datetime

    @classmethod
    def of(cls, column: str, begin: str, end: str) -> Self:
        """From and to as texts, without a zone."""
        moments = [datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (begin, end)]
        return cls(column, *moments)


@dataclass(frozen=True, slots=True)
class Question:
    """All rows of ``table``; or, where ``standing`` names the columns of an image, what stands."""

    table: str
    standing: tuple[str, ...] = ()
    span: Span | None = None

    def sql(self, relation: str, *, quote: str = '"', instant: str = "TIMESTAMPTZ") -> str:
        """The statement over a relation, for one dialect of SQL."""
        where = ""
        if self.span is not None:
            column = f"{quote}{self.span.column}{quote}"
            begin, end = (
                f"{instant} '{moment.isoformat(sep=' ')}'"
                for moment in (self.span.begin, self.span.end)
            )
            where = f" WHERE {column} >= {begin} AND {column} < {end}"
        if not self.standing:
            return f"SELECT * FROM {relation}{where}"
        names = ", ".join(f"{quote}{name}{quote}" for name in self.standing)
        return f"SELECT {names} FROM {relation}{where} GROUP BY {names} HAVING sum(_weight) <> 0"


#: Types that SQL has and the lake has not: what a reader finds of each.
_FOUND = {
    "SMALLINT": "INTEGER",
    "UINTEGER": "BIGINT",
    "HUGEINT": "DECIMAL(38,0)",
    "UUID": "VARCHAR",
}


def as_found(rows: pa.Table) -> pa.Table:
    """Rows that SQL gave, in the types in which a reader of the lake finds them."""
    with _over(rows=rows) as connection:
        casts = ", ".join(
            f'CAST("{name}" AS {_FOUND.get(of_type, of_type)}) AS "{name}"'
            for name, of_type in _types(connection, "rows").items()
        )
        return connection.execute(f"SELECT {casts} FROM rows").to_arrow_table()


def within(rows: pa.Table, span: Span) -> pa.Table:
    """Those of the rows that lie in a span."""
    with _over(rows=rows) as connection:
        return connection.execute(Question("", span=span).sql("rows")).to_arrow_table()


def assert_same(found: pa.Table, expected: pa.Table, types: Mapping[str, str] | None = None) -> int:
    """Fail unless the same rows of the same types are in both, as often; how many there are.

    ``types`` says which types these must be, where the test knows better than ``expected``.
    """
    wanted = expected.column_names  # in this order: columns that were gained stand last in a lake
    assert set(found.column_names) == set(wanted)
    with _over(found=found.select(wanted), expected=expected) as connection:
        assert _types(connection, "found") == dict(types or _types(connection, "expected"))
        extra = _difference(connection, "found", "expected")
        lacking = _difference(connection, "expected", "found")
    assert (extra, lacking) == ([], []), "rows too many, rows lacking"
    return int(found.num_rows)


@contextmanager
def _over(**tables: pa.Table) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB in which tables are found by their names."""
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name, table in tables.items():
            connection.register(name, table)
        yield connection


def _types(connection: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
    """The columns of a table with their types."""
    return {row[0]: row[1] for row in connection.execute(f"DESCRIBE {table}").fetchall()}


def _difference(connection: duckdb.DuckDBPyConnection, one: str, other: str) -> Sequence[str]:
    """A few of the rows that one table has more often than the other."""
    rows = connection.execute(
        f"SELECT t::VARCHAR FROM (FROM {one} EXCEPT ALL FROM {other}) AS t LIMIT {_SHOWN}"
    ).fetchall()
    return [text for (text,) in rows]
