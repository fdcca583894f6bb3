"""The row-by-row way to follow a log: what one writes in an afternoon, done well.

psycopg reads message by message, each value is converted by one Python call, rows gather in lists,
and every 43,000 rows, or when nothing more has come for a quarter of a second, go as one Arrow
table into DuckDB. Inserts only; nothing else is in the log that it is measured on.
"""

from __future__ import annotations

import datetime as dt
import decimal
import select
import struct
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pyarrow as pa
from psycopg.conninfo import make_conninfo

from upwell.core.schema import TableSchema
from upwell.core.sql import quote_table
from upwell.sources.postgres.checksum import checksum_sql

_ROWS_A_BATCH = 43_000
_IDLE_SECONDS = 0.25
_DATA, _INSERT, _NULL = ord("w"), ord("I"), ord("n")
_HEADER_BYTES = 25  # of a message of the log, before what it says

Convert = Callable[[bytes], Any]
_CONVERTERS: dict[str, tuple[Convert, pa.DataType]] = {
    "BIGINT": (int, pa.int64()),
    "INTEGER": (int, pa.int32()),
    "VARCHAR": (bytes.decode, pa.string()),
    "DOUBLE": (float, pa.float64()),
    "BOOLEAN": (lambda text: text == b"t", pa.bool_()),
    "DECIMAL(12,2)": (lambda text: decimal.Decimal(text.decode()), pa.decimal128(12, 2)),
    "UUID": (lambda text: uuid.UUID(text.decode()).bytes, pa.uuid()),
    "TIMESTAMPTZ": (
        lambda text: dt.datetime.fromisoformat(text.decode()),
        pa.timestamp("us", "UTC"),
    ),
}


def receive_rows(
    url: str,
    start: str,
    schema: TableSchema,
    rows: int,
    file: Path,
    *,
    started: Callable[[], None],
    finished: Callable[[], None],
) -> dict[str, object]:
    """Follow until ``rows`` are in ``file``. ``start`` is the statement that begins the stream."""
    connection = duckdb.connect(str(file), config={"threads": "1"})
    connection.execute("SET TimeZone = 'UTC'")
    table = quote_table(schema.name)
    layout = ", ".join(f"{column.name} {column.type}" for column in schema.columns)
    connection.execute(f"CREATE SCHEMA shop; CREATE TABLE {table} ({layout})")
    converters = [_CONVERTERS[column.type][0] for column in schema.columns]
    types = [_CONVERTERS[column.type][1] for column in schema.columns]
    options = "-c timezone=UTC -c datestyle=ISO -c extra_float_digits=3"
    text = make_conninfo(url, replication="database", options=options)
    wire = psycopg.pq.PGconn.connect(text.encode())
    wire.exec_(start.encode())
    started()
    gathered: list[list[Any]] = []
    stored = batches = 0
    while stored < rows:
        message = _next_message(wire)
        if message is not None and _is_insert(message):
            gathered.append(_row(message, converters))
        is_due = len(gathered) >= _ROWS_A_BATCH or stored + len(gathered) == rows
        if gathered and (message is None or is_due):
            _store(connection, table, gathered, types, schema)
            stored, batches = stored + len(gathered), batches + 1
            gathered = []
    finished()
    wire.finish()
    kept = connection.execute(checksum_sql(schema, table)).fetchone()
    assert kept is not None  # noqa: S101 - an aggregate has one row
    connection.close()
    return {"rows": stored, "checksum": [int(kept[0]), str(kept[1])], "versions": batches}


def _next_message(wire: psycopg.pq.abc.PGconn) -> memoryview | None:
    """The next message; None once nothing has come for a moment."""
    while True:
        count, data = wire.get_copy_data(1)
        if count > 0:
            return data
        if count < 0:
            raise EOFError(wire.get_error_message() or "the server ended the stream")
        if not select.select([wire.socket], [], [], _IDLE_SECONDS)[0]:
            return None
        wire.consume_input()


def _is_insert(message: memoryview) -> bool:
    return message[0] == _DATA and message[_HEADER_BYTES] == _INSERT


def _row(message: memoryview, converters: list[Convert]) -> list[Any]:
    at = _HEADER_BYTES + 8
    row: list[Any] = []
    for convert in converters:
        if message[at] == _NULL:
            row.append(None)
            at += 1
            continue
        (length,) = struct.unpack_from(">I", message, at + 1)
        at += 5 + length
        row.append(convert(bytes(message[at - length : at])))
    return row


def _store(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    rows: list[list[Any]],
    types: list[pa.DataType],
    schema: TableSchema,
) -> None:
    columns = zip(*rows, strict=True)
    arrays = [_array(values, kind) for values, kind in zip(columns, types, strict=True)]
    connection.register("_rows", pa.table(arrays, names=list(schema.column_names)))
    connection.execute(f"INSERT INTO {table} SELECT * FROM _rows")
    connection.unregister("_rows")


def _array(values: tuple[Any, ...], kind: pa.DataType) -> pa.Array:
    if isinstance(kind, pa.ExtensionType):
        return pa.ExtensionArray.from_storage(kind, pa.array(values, kind.storage_type))
    return pa.array(values, kind)
