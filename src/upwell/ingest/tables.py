"""The physical tables of a captured table: its current table and its change log.

``shop.orders`` holds the rows as they stand; ``shop.orders__log`` every change ever taken in. A
layout that grew is followed by adding columns; in any other case older rows could not be told from
newer ones, and the table is read anew under the new layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

import duckdb
import msgspec

from upwell.core.errors import EnvironmentFault
from upwell.core.protocols import SourceTable
from upwell.core.schema import Column, TableSchema, source_of
from upwell.core.sql import TextCompression, column_definition, quote, quote_table
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


@dataclass(frozen=True, slots=True)
class Captured:
    """A table with rows in the store: as what it was read, and the identity of its change log.

    ``frozen`` says why nothing more is taken in, until it is read anew; empty if it is followed.
    """

    table: SourceTable
    log: str
    frozen: str = ""

    @property
    def schema(self) -> TableSchema:
        return self.table.schema


def captured(connection: duckdb.DuckDBPyConnection) -> dict[str, Captured]:
    """The tables with rows in the store, by SQL name."""
    rows = connection.execute(
        "SELECT layout, state, terms, log, frozen FROM _upwell.captured ORDER BY name"
    ).fetchall()
    tables = (
        Captured(
            SourceTable(msgspec.json.decode(layout, type=TableSchema), state, terms), log, frozen
        )
        for layout, state, terms, log, frozen in rows
    )
    return {each.schema.name: each for each in tables}


def captured_tables(connection: duckdb.DuckDBPyConnection) -> dict[str, TableSchema]:
    """The layouts of the tables with rows in the store, by SQL name."""
    return {name: each.schema for name, each in captured(connection).items()}


def change_logs(connection: duckdb.DuckDBPyConnection) -> list[Logged]:
    """The change logs of all captured tables, as the lake takes them over."""
    return [change_log(each.table, each.log) for each in captured(connection).values()]


def change_log(table: SourceTable, identity: str) -> Logged:
    """The change log of a captured table, as the lake holds it."""
    columns = (*table.schema.columns, *LOG_COLUMNS)
    kept = {"state": table.state, "terms": table.terms}
    layout = msgspec.json.encode({**msgspec.to_builtins(table.schema), **kept})
    return Logged(log_name(table.name), columns, "_version", LOG_BOUNDS, identity, layout.decode())


def logged_table(layout: str) -> SourceTable:
    """The table of a change log, from what the lake holds as its layout."""
    schema = msgspec.json.decode(layout, type=TableSchema)
    kept = msgspec.json.decode(layout)
    return SourceTable(schema, kept.get("state", ""), kept.get("terms", ""))


def create(connection: duckdb.DuckDBPyConnection, of: Captured) -> None:
    """Make a captured table's current table and change log, empty, replacing what was there.

    Raises EnvironmentFault for a column named as only ours may be.
    """
    schema = of.schema
    refuse_our_names(schema)
    source = source_of(schema.name)
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(source)}")
    stays = _definitions(schema.columns)
    passes = [*_definitions(schema.columns, texts="fsst"), *_definitions(LOG_COLUMNS)]
    for name, columns in ((schema.name, stays), (log_name(schema.name), passes)):
        layout = ", ".join(columns)
        connection.execute(f"CREATE OR REPLACE TABLE {quote_table(name)} ({layout})")
    connection.execute("DELETE FROM _upwell.captured WHERE name = ?", [schema.name])
    layout = msgspec.json.encode(schema).decode()
    connection.execute(
        "INSERT INTO _upwell.captured VALUES (?, ?, ?, ?, ?, ?)",
        [schema.name, layout, of.log, of.table.state, of.table.terms, of.frozen],
    )


def _definitions(columns: Sequence[Column], *, texts: TextCompression = "auto") -> list[str]:
    return [column_definition(each.name, each.type, texts=texts) for each in columns]


def new_log() -> str:
    """An identity for a change log that begins."""
    return uuid4().hex


def renew_log(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Give a table's change log a new identity: what it holds from here on stands by itself."""
    connection.execute("UPDATE _upwell.captured SET log = ? WHERE name = ?", [new_log(), name])


def freeze(connection: duckdb.DuckDBPyConnection, name: str, why: str) -> None:
    """Take nothing more in of a table, for this reason; an empty one ends it."""
    connection.execute("UPDATE _upwell.captured SET frozen = ? WHERE name = ?", [why, name])


def note_state(connection: duckdb.DuckDBPyConnection, table: SourceTable) -> None:
    """The stored rows of a table stand for what its source has in this state."""
    connection.execute(
        "UPDATE _upwell.captured SET state = ? WHERE name = ?", [table.state, table.name]
    )


def drop(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Forget a table that is no longer captured, its log included."""
    connection.execute(f"DROP TABLE IF EXISTS {quote_table(name)}")
    connection.execute(f"DROP TABLE IF EXISTS {quote_table(log_name(name))}")
    connection.execute("DELETE FROM _upwell.captured WHERE name = ?", [name])


def merged_layout(stored: TableSchema, incoming: TableSchema) -> TableSchema:
    """The layout that holds both: new columns are added, vanished ones stay and read NULL.

    Raises EnvironmentFault when a new column is named as only ours may be.
    """
    refuse_our_names(incoming)
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


def refuse_our_names(schema: TableSchema) -> None:
    """Raise EnvironmentFault where a column is named as only ours may be."""
    for name in filter(is_ours, schema.column_names):
        raise EnvironmentFault(
            "column_name_reserved",
            f"Following {schema.name}: names like {name} are kept for Upwell's own columns.",
            where=f"{schema.name}.{name}",
            next_step="Rename the column in the source, or leave the table out of upwell.yaml.",
        )
