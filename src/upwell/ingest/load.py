"""Takes a source's snapshot into the store: the start, and the way back after a loss.

The whole snapshot is one transaction of the caller. What is stored already is compared with it, so
that the change log goes on and nothing downstream sees a row twice. Where nothing is stored there
is nothing to compare: rows go straight into the current table and its log. A thread reads the
source a little ahead; it ends with the reading.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from typing import TypeVar

import duckdb
import pyarrow as pa

from upwell.core.protocols import Snapshot
from upwell.core.schema import TableSchema
from upwell.core.sql import quote, quote_table, quoted_list
from upwell.ingest.quarantine import set_aside
from upwell.ingest.staging import WEIGHT, registered
from upwell.ingest.tables import captured_tables, log_name

_PART = "_part"
_LOADED = "_loaded"
#: How many parts lie ready while one is stored.
_PARTS_AHEAD = 2
_CLOSING_SECONDS = 0.01

Stamp = Sequence[int | str]
"""What the change log says of all rows of a snapshot: the parameters of ``_STAMP``."""

_STAMP = (
    "?::BIGINT AS _version, ? AS _position, make_timestamptz(?::BIGINT) AS _committed_at, "
    "make_timestamptz(?::BIGINT) AS _received_at"
)

Part = TypeVar("Part")

Progress = Callable[[str, int, int], None]
"""Called with table, rows so far, rows estimated."""


def load_snapshot(
    connection: duckdb.DuckDBPyConnection,
    snapshot: Snapshot,
    schemas: Iterable[TableSchema],
    *,
    version: int,
    received_at_us: int,
    progress: Progress,
) -> int:
    """Replace the current tables by the snapshot's rows, logging what differs. Returns the rows.

    Stored layouts must be wide enough (``tables.widen``); a column the source no longer has reads
    NULL from here on.
    """
    total = 0
    stored = captured_tables(connection)
    for schema in schemas:
        layout = stored[schema.name]
        stamp = (version, snapshot.position, snapshot.taken_at_us, received_at_us)
        if _is_empty(connection, layout):
            total += _load_first(connection, snapshot, layout, stamp, progress)
        else:
            total += _load_aside(connection, snapshot, layout, progress)
            _replace_current(connection, layout, stamp)
        for refused in snapshot.refusals(schema.name):
            set_aside(connection, schema, refused, snapshot.position, version)
    return total


def _is_empty(connection: duckdb.DuckDBPyConnection, schema: TableSchema) -> bool:
    return not connection.execute(f"FROM {quote_table(schema.name)} LIMIT 1").fetchall()


def _load_first(
    connection: duckdb.DuckDBPyConnection,
    snapshot: Snapshot,
    schema: TableSchema,
    stamp: Stamp,
    progress: Progress,
) -> int:
    """Rows into an empty table, and with it into its log."""
    current, log = quote_table(schema.name), quote_table(log_name(schema.name))

    def store(columns: str) -> None:
        connection.execute(f"INSERT INTO {current} BY NAME SELECT {columns} FROM {_PART}")
        connection.execute(
            f"INSERT INTO {log} BY NAME SELECT {columns}, {_STAMP}, 1 AS _weight FROM {_PART}",
            stamp,
        )

    return _load(connection, snapshot, schema, store, progress)


def _load_aside(
    connection: duckdb.DuckDBPyConnection,
    snapshot: Snapshot,
    schema: TableSchema,
    progress: Progress,
) -> int:
    """Rows into a table of their own, to be compared with what is stored."""
    layout = ", ".join(f"{quote(column.name)} {column.type}" for column in schema.columns)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {_LOADED} ({layout})")

    def store(columns: str) -> None:
        connection.execute(f"INSERT INTO {_LOADED} BY NAME SELECT {columns} FROM {_PART}")

    return _load(connection, snapshot, schema, store, progress)


def _load(
    connection: duckdb.DuckDBPyConnection,
    snapshot: Snapshot,
    schema: TableSchema,
    store: Callable[[str], None],
    progress: Progress,
) -> int:
    """``store`` each part of a table, given the columns to select from it; how many rows."""
    estimated, rows = snapshot.estimated_rows(schema.name), 0
    with closing(read_ahead(snapshot.read(schema.name))) as parts:
        for part in parts:
            columns = ", ".join(
                f"CAST({quote(column.name)} AS {column.type}) AS {quote(column.name)}"
                for column in schema.columns
                if column.name in part.schema.names
            )
            with registered(connection, _PART, pa.Table.from_batches([part])):
                store(columns)
            rows += part.num_rows
            progress(schema.name, rows, max(estimated, rows))
    return rows


def read_ahead(parts: Iterator[Part]) -> Generator[Part, None, None]:
    """The same parts, taken by a thread of its own while the one before is in use.

    What ``parts`` raises is raised here, in its place. Close it to end early: the thread finishes
    the part it is at, and has ended when ``close`` returns.
    """
    taken: queue.Queue[Part | BaseException | None] = queue.Queue(maxsize=_PARTS_AHEAD)
    is_closing = threading.Event()

    def take() -> None:
        try:
            for part in parts:
                taken.put(part)
                if is_closing.is_set():
                    return
            taken.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again where the parts are used
            taken.put(error)

    thread = threading.Thread(target=take, name="upwell-snapshot", daemon=True)
    thread.start()
    try:
        while (part := taken.get()) is not None:
            if isinstance(part, BaseException):
                raise part
            yield part
    finally:
        is_closing.set()
        while thread.is_alive():
            with suppress(queue.Empty):
                taken.get(timeout=_CLOSING_SECONDS)


def _replace_current(
    connection: duckdb.DuckDBPyConnection, schema: TableSchema, stamp: Stamp
) -> None:
    table, names = quote_table(schema.name), quoted_list(schema.column_names)
    stored, loaded = f"SELECT {names} FROM {table}", f"SELECT {names} FROM {_LOADED}"
    connection.execute(
        f"INSERT INTO {quote_table(log_name(schema.name))} BY NAME "
        f"SELECT {names}, {_STAMP}, {WEIGHT} AS _weight FROM ("
        f"(SELECT {names}, -1 AS {WEIGHT} FROM ({stored} EXCEPT ALL {loaded})) UNION ALL "
        f"(SELECT {names}, 1 FROM ({loaded} EXCEPT ALL {stored})))",
        stamp,
    )
    connection.execute(f"DELETE FROM {table}")
    connection.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM {_LOADED}")
    connection.execute(f"DROP TABLE {_LOADED}")
