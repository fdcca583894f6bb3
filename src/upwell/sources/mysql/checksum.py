"""Checksums of tables' contents that the source and the hot store each compute by themselves.

Every value has one canonical text that both MySQL and DuckDB can make of it: numbers and dates as
integers or exact decimals, times as microseconds since 1970, bytes in hexadecimal. A row is its
values with their lengths, so that no two rows run together; its checksum is 60 bits of an MD5, and
a table's is the sum over its rows. Nothing of the decoder takes part, so equal checksums prove it
right. Floats are compared as decimals, which both print alike from 0.001 to 10^15 only.
"""

from __future__ import annotations

from collections.abc import Sequence

from upwell.core.protocols import Checksum
from upwell.core.schema import TableSchema
from upwell.core.sql import quote
from upwell.sources.checksum import checksum_in_duckdb
from upwell.sources.mysql.catalog import read_catalog
from upwell.sources.mysql.datatypes import Kind
from upwell.sources.mysql.server import meet
from upwell.sources.mysql.session import Session, session
from upwell.sources.mysql.tables import CapturedTable
from upwell.sources.mysql.url import parse_url

_DIGITS_OF_FLOATS = "regexp_replace({0}::DOUBLE::VARCHAR, '\\.0$', '')"

#: Kind → canonical text in MySQL; kinds not here are printed as they are.
_IN_MYSQL = {
    Kind.FLOAT: "CAST({0} + 0e0 AS CHAR)",
    Kind.INT: "CAST({0} + 0 AS CHAR)",
    Kind.BIT: "CAST({0} + 0 AS CHAR)",
    Kind.YEAR: "CAST({0} + 0 AS CHAR)",
    Kind.BOOL: "IF({0}, 't', 'f')",
    Kind.DATE: "CAST(DATEDIFF({0}, '1970-01-01') AS CHAR)",
    Kind.DATETIME: "CAST(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', {0}) AS CHAR)",
    Kind.TIMESTAMP: "CAST(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', {0}) AS CHAR)",
    Kind.TEXT: "CONVERT({0} USING utf8mb4)",
    Kind.ENUM: "CONVERT({0} USING utf8mb4)",
    Kind.SET: "CONVERT({0} USING utf8mb4)",
    Kind.BINARY: "LOWER(HEX({0}))",
    Kind.BLOB: "LOWER(HEX({0}))",
    Kind.GEOMETRY: "LOWER(HEX({0}))",
}
#: Stored type → the same text in DuckDB.
_IN_DUCKDB = {
    "FLOAT": _DIGITS_OF_FLOATS,
    "DOUBLE": _DIGITS_OF_FLOATS,
    "DATE": "({0} - DATE '1970-01-01')::VARCHAR",
    "TIMESTAMP": "epoch_us({0})::VARCHAR",
    "TIMESTAMPTZ": "epoch_us({0})::VARCHAR",
}


def row_checksums(url: str, source: str, tables: Sequence[str]) -> dict[str, Checksum]:
    """Checksums of the captured tables on the source's side, by their names in SQL, all in one
    transaction.
    """
    with session(parse_url(url)) as opened:
        catalog = read_catalog(opened, meet(opened), source, tables)
        opened.run("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        opened.run("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        return {name: checksum(opened, table) for name, table in catalog.tables.items()}


def checksum_sql(schema: TableSchema, relation: str) -> str:
    """A DuckDB query for rows and checksum of ``relation``: a quoted name or a subquery."""
    return checksum_in_duckdb(schema, relation, _IN_DUCKDB)


def checksum(opened: Session, table: CapturedTable, condition: str = "TRUE") -> Checksum:
    """The checksum of those of a table's rows for which a condition in SQL holds."""
    whole = ", ".join(
        _with_length(
            quote(table.columns[at].name),
            _IN_MYSQL.get(table.types[at].kind, "CAST({0} AS CHAR)").format(
                quote(table.columns[at].name)
            ),
        )
        for at in table.kept
    )
    digits = f"CAST(CONV(LEFT(MD5(CONCAT({whole})), 15), 16, 10) AS DECIMAL(20, 0))"
    query = f"SELECT COUNT(*), COALESCE(SUM({digits}), 0) FROM {table.quoted} WHERE {condition}"
    rows, found = opened.row(query)
    return Checksum(int(rows), int(found))


def _with_length(name: str, text: str) -> str:
    return f"IF({name} IS NULL, 'N', CONCAT(LENGTH({text}), ':', {text}))"
