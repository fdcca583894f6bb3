"""The physical tables of a captured table: its current table and its change log.

``shop.orders`` holds the rows as they stand; ``shop.orders__log`` every change ever taken in. A
layout that grew is followed by adding columns; anything else is refused here, before a row is
touched, because older rows could not be told from newer ones.
"""

from __future__ import annotations

from uuid import uuid4

import duckdb
import msgspec

from upwell.core.errors import EnvironmentFault, GapError
from upwell.core.schema import Column, TableSchema
from upwell.core.sql import column_definition, quote, quote_table
from upwell.ingest.staging import is_ours
from upwell.store.lake.logged import Logged

#: Columns of every change log, after those of the table.
LOG_COLUMNS = (
    Column("_version", "BIGINT", nullable=False),
    Column("_position", "VARCHAR", nullable=False),
    Column("_committed_at", "TIMESTAMPTZ"),
    Column("_received_at", "TIMESTAMPTZ"),
    Column("_weight", "BIGINT", nullable=False),
)
#: Of these the lake keeps bounds, by which it chooses files.
LOG_BOUNDS = ("_version", "_position", "_committed_at")


def log_name(table: str) -> str:
    """The change log of a captured table."""
    return f"{table}__log"


def captured_tables(connection: duckdb.DuckDBPyConnection) -> dict[str, TableSchema]:
    """The layouts the store was made with, by SQL name."""
    rows = connection.execute("SELECT layout FROM _upwell.captured ORDER BY name").fetchall()
    schemas = [msgspec.json.decode(row[0], type=TableSchema) for row in rows]
    return {schema.name: schema for schema in schemas}


def change_logs(connection: duckdb.DuckDBPyConnection) -> list[Logged]:
    """The change logs of all captured tables, as the lake takes them over."""
    rows = connection.execute("SELECT layout, log FROM _upwell.captured ORDER BY name").fetchall()
    return [
        change_log(msgspec.json.decode(layout, type=TableSchema), identity)
        for layout, identity in rows
    ]


def change_log(schema: TableSchema, identity: str) -> Logged:
    """The change log of a captured table, as the lake holds it."""
    columns = (*schema.columns, *LOG_COLUMNS)
    layout = msgspec.json.encode(schema).decode()
    return Logged(log_name(schema.name), columns, "_version", LOG_BOUNDS, identity, layout)


def create(
    connection: duckdb.DuckDBPyConnection, schema: TableSchema, log: str | None = None
) -> None:
    """Make a captured table's current table and change log, empty, replacing what was there.

    ``log`` is the identity of the change log where it goes on from what the lake holds of it.
    Raises EnvironmentFault for a column named as only ours may be.
    """
    _refuse_our_names(schema)
    source = schema.name.partition(".")[0]
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(source)}")
    for name, columns in (
        (schema.name, schema.columns),
        (log_name(schema.name), (*schema.columns, *LOG_COLUMNS)),
    ):
        layout = ", ".join(column_definition(column.name, column.type) for column in columns)
        connection.execute(f"CREATE OR REPLACE TABLE {quote_table(name)} ({layout})")
    connection.execute("DELETE FROM _upwell.captured WHERE name = ?", [schema.name])
    connection.execute(
        "INSERT INTO _upwell.captured VALUES (?, ?, ?)",
        [schema.name, msgspec.json.encode(schema).decode(), log or uuid4().hex],
    )


def renew_log(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Give a table's change log a new identity: what it holds from here on stands by itself."""
    connection.execute("UPDATE _upwell.captured SET log = ? WHERE name = ?", [uuid4().hex, name])


def drop(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Forget a table that is no longer captured, its log included."""
    connection.execute(f"DROP TABLE IF EXISTS {quote_table(name)}")
    connection.execute(f"DROP TABLE IF EXISTS {quote_table(log_name(name))}")
    connection.execute("DELETE FROM _upwell.captured WHERE name = ?", [name])


def merged_layout(stored: TableSchema, incoming: TableSchema) -> TableSchema:
    """The layout that holds both: new columns are added, vanished ones stay and read NULL.

    Raises GapError when a column's stored type or the key changed, EnvironmentFault when a new
    column is named as only ours may be.
    """
    _refuse_our_names(incoming)
    types = {column.name: column.type for column in incoming.columns}
    for column in stored.columns:
        if types.get(column.name, column.type) != column.type:
            raise _changed(
                stored.name,
                f"column {column.name} was {column.type} and is now {types[column.name]}",
            )
    if stored.key != incoming.key:
        raise _changed(stored.name, f"the key was {stored.key} and is now {incoming.key}")
    known = set(stored.column_names)
    added = tuple(column for column in incoming.columns if column.name not in known)
    return TableSchema(stored.name, stored.columns + added, stored.key)


def has_grown(stored: TableSchema, incoming: TableSchema) -> bool:
    """Whether ``incoming`` is ``stored`` with nothing but columns added at its end, or none."""
    alike = zip(stored.columns, incoming.columns, strict=False)
    return (
        stored.key == incoming.key
        and len(stored.columns) <= len(incoming.columns)
        and all((one.name, one.type) == (other.name, other.type) for one, other in alike)
    )


def widen(connection: duckdb.DuckDBPyConnection, stored: TableSchema, wanted: TableSchema) -> None:
    """Add the columns ``wanted`` has beyond ``stored`` to current table and log."""
    for column in wanted.columns[len(stored.columns) :]:
        for name in (wanted.name, log_name(wanted.name)):
            connection.execute(
                f"ALTER TABLE {quote_table(name)} ADD COLUMN {quote(column.name)} {column.type}"
            )
    connection.execute(
        "UPDATE _upwell.captured SET layout = ? WHERE name = ?",
        [msgspec.json.encode(wanted).decode(), wanted.name],
    )


def _refuse_our_names(schema: TableSchema) -> None:
    for name in filter(is_ours, schema.column_names):
        raise EnvironmentFault(
            "column_name_reserved",
            f"Following {schema.name}: names like {name} are kept for Upwell's own columns.",
            where=f"{schema.name}.{name}",
            next_step="Rename the column in the source, or leave the table out of upwell.yaml.",
        )


def _changed(table: str, how: str) -> GapError:
    return GapError(
        "layout_changed",
        f"Following {table}: its layout changed in a way that stored rows cannot follow: {how}.",
        where=table,
        next_step="Remove .upwell/hot.duckdb while Upwell is stopped and run again: "
        "everything is read anew from the source.",
    )
