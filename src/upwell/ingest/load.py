"""Takes a source's snapshot into the store: the start, and the way back after a loss.

The whole snapshot is one transaction of the caller. What is stored already is compared with it, so
that the change log goes on and nothing downstream sees a row twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

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
        total += _load_table(connection, snapshot, layout, progress)
        for refused in snapshot.refusals(schema.name):
            set_aside(connection, schema, refused, snapshot.position, version)
        _replace_current(connection, snapshot, layout, version, received_at_us)
    return total


def _load_table(
    connection: duckdb.DuckDBPyConnection,
    snapshot: Snapshot,
    schema: TableSchema,
    progress: Progress,
) -> int:
    layout = ", ".join(f"{quote(column.name)} {column.type}" for column in schema.columns)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {_LOADED} ({layout})")
    estimated, rows = snapshot.estimated_rows(schema.name), 0
    for part in snapshot.read(schema.name):
        columns = ", ".join(
            f"CAST({quote(column.name)} AS {column.type}) AS {quote(column.name)}"
            for column in schema.columns
            if column.name in part.schema.names
        )
        with registered(connection, _PART, pa.Table.from_batches([part])):
            connection.execute(f"INSERT INTO {_LOADED} BY NAME SELECT {columns} FROM {_PART}")
        rows += part.num_rows
        progress(schema.name, rows, max(estimated, rows))
    return rows


def _replace_current(
    connection: duckdb.DuckDBPyConnection,
    snapshot: Snapshot,
    schema: TableSchema,
    version: int,
    received_at_us: int,
) -> None:
    table, names = quote_table(schema.name), quoted_list(schema.column_names)
    stored, loaded = f"SELECT {names} FROM {table}", f"SELECT {names} FROM {_LOADED}"
    connection.execute(
        f"INSERT INTO {quote_table(log_name(schema.name))} BY NAME "
        f"SELECT {names}, ?::BIGINT AS _version, ? AS _position, "
        f"make_timestamptz(?::BIGINT) AS _committed_at, "
        f"make_timestamptz(?::BIGINT) AS _received_at, {WEIGHT} AS _weight FROM ("
        f"(SELECT {names}, -1 AS {WEIGHT} FROM ({stored} EXCEPT ALL {loaded})) UNION ALL "
        f"(SELECT {names}, 1 FROM ({loaded} EXCEPT ALL {stored})))",
        [version, snapshot.position, snapshot.taken_at_us, received_at_us],
    )
    connection.execute(f"DELETE FROM {table}")
    connection.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM {_LOADED}")
    connection.execute(f"DROP TABLE {_LOADED}")
