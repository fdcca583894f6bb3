"""Checksums of tables' contents that the source and the hot store each compute by themselves.

Every value has one canonical text that both PostgreSQL and DuckDB can make of it: numbers and
dates as integers or exact decimals, floats by their bits (every NaN alike), times as microseconds
since 1970, bytes in hexadecimal. A row is its values with their lengths, so that no two rows run
together; its checksum is 60 bits of an MD5, and a table's is the sum over its rows. Nothing of the
decoder takes part, so equal checksums prove it right.
"""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
from psycopg import sql

from upwell.core.position import Position
from upwell.core.protocols import Checksum
from upwell.core.schema import TableSchema
from upwell.core.sql import quote
from upwell.sources.checksum import checksum_in_duckdb
from upwell.sources.postgres.catalog import read_catalog
from upwell.sources.postgres.datatypes import Kind
from upwell.sources.postgres.session import session, translated
from upwell.sources.postgres.tables import CapturedTable
from upwell.sources.postgres.wal import lsn_of, position_of

_EPOCH_US = "trunc(extract(epoch from {0}) * 1000000)::text"
_OR_INFINITY = "case when isfinite({0}) then {1} else {0}::text end"
_BITS = "case when {0} = 'NaN' then 'NaN' else ('x' || encode({1}({0}), 'hex'))::bit({2})::text end"
_BITS_IN_DUCKDB = "CASE WHEN isnan({0}) THEN 'NaN' ELSE {0}::BIT::VARCHAR END"

#: Kind → canonical text in PostgreSQL; kinds not here are printed as they are.
_IN_POSTGRES = {
    Kind.BOOL: "case when {0} then 't' else 'f' end",
    Kind.FLOAT4: _BITS.format("{0}", "float4send", 32),
    Kind.FLOAT8: _BITS.format("{0}", "float8send", 64),
    Kind.DATE: _OR_INFINITY.format("{0}", "({0} - date '1970-01-01')::text"),
    Kind.TIMESTAMP: _OR_INFINITY.format("{0}", _EPOCH_US),
    Kind.TIMESTAMPTZ: _OR_INFINITY.format("{0}", _EPOCH_US),
    Kind.BYTEA: "encode({0}, 'hex')",
    Kind.TEXT: "concat({0})",  # a cast would strip the blanks of char(n)
    Kind.OTHER: "concat({0})",  # and shorten an inet
}
#: Stored type → the same text in DuckDB.
_IN_DUCKDB = {
    "FLOAT": _BITS_IN_DUCKDB,
    "DOUBLE": _BITS_IN_DUCKDB,
    "DATE": "CASE WHEN isfinite({0}) THEN ({0} - DATE '1970-01-01')::VARCHAR ELSE {0}::VARCHAR END",
    "TIMESTAMP": "CASE WHEN isfinite({0}) THEN epoch_us({0})::VARCHAR ELSE {0}::VARCHAR END",
    "TIMESTAMPTZ": "CASE WHEN isfinite({0}) THEN epoch_us({0})::VARCHAR ELSE {0}::VARCHAR END",
}


def row_checksums(url: str, source: str, tables: Sequence[str]) -> dict[str, Checksum]:
    """Checksums of the captured tables on the source's side, by their names in SQL.

    All in one transaction of the source. A replica that has read up to ``wal_position``, taken
    before and found the same after, must have the same ones.
    """
    with (
        session(url, is_patient=True) as connection,
        translated("compare with the source database", url),
    ):
        connection.execute("SET statement_timeout = 0")
        catalog = read_catalog(connection, source, tables)
        for problem in catalog.unfit.values():
            raise problem
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            return {table.name: checksum(connection, table) for table in catalog.tables}


def wal_position(url: str) -> Position:
    """How far the source's log has been written to disk."""
    with session(url) as connection:
        row = connection.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
    return position_of(lsn_of(row[0] if row else ""))


def checksum_sql(schema: TableSchema, relation: str) -> str:
    """A DuckDB query for rows and checksum of ``relation``: a quoted name or a subquery."""
    return checksum_in_duckdb(schema, relation, _IN_DUCKDB)


def checksum(
    connection: psycopg.Connection, table: CapturedTable, condition: str = "true"
) -> Checksum:
    """The checksum of those of a table's own rows for which a condition in SQL holds."""
    statement = f"{_checksum_in_postgres(table)} where {condition}"
    answer = connection.execute(sql.SQL(statement)).fetchone()  # names in it are quoted
    assert answer is not None  # noqa: S101 - an aggregate has one row
    return Checksum(int(answer[0]), int(answer[1]))


def _checksum_in_postgres(table: CapturedTable) -> str:
    values = (
        (quote(column.name), _IN_POSTGRES.get(column.type.kind, "{0}::text"))
        for column in table.columns
    )
    texts = ((name, form.format(name)) for name, form in values)
    whole = " || ".join(
        f"case when {name} is not distinct from null then 'N' "  # IS NULL looks into composites
        f"else octet_length(convert_to({text}, 'UTF8')) || ':' || ({text}) end"
        for name, text in texts
    )
    digits = f"substr(md5(convert_to({whole}, 'UTF8')), 1, 15)"
    return (
        f"select count(*), coalesce(sum(('x' || {digits})::bit(60)::bigint), 0)::numeric "
        f"from {table.own}"
    )
