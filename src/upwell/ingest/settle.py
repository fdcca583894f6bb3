"""Stored rows that come or change at once: a table that was read takes its place, or a column that
was added with a value is filled in.

What is stored of it is compared with what was read, so that its change log goes on and says just
what differs. Where the layouts are others than by columns added at the end, or other rows or
columns may be stored by now, the log begins anew: rows of two layouts cannot stand in one, nor may
what is left out stay in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from upwell.core.errors import IntegrityError
from upwell.core.position import Position
from upwell.core.protocols import LayoutChange
from upwell.core.schema import TableSchema
from upwell.core.sql import count_rows, quote, quote_table, quoted_list
from upwell.ingest import copies, tables
from upwell.ingest.copied import CopiedTables, copied_rows
from upwell.ingest.copies import Copying
from upwell.ingest.staging import WEIGHT, registered
from upwell.ingest.tables import Captured, log_name
from upwell.store import ledger

_DIFFERING, _FILLS = "_differing", "_fills"


@dataclass(frozen=True, slots=True)
class Moment:
    """In what version rows come or change at once, and what the change log says of them."""

    version: int
    position: Position
    committed_at_us: int
    received_at_us: int


def prepare(connection: duckdb.DuckDBPyConnection, copying: Copying) -> None:
    """Bring the stored tables to the layout of what was read (``HotStore.relayout``).

    Raises IntegrityError if two rows have the same key: reading went wrong, and begins anew.
    """
    schema = copying.table.schema
    doubled = CopiedTables(connection).doubled(schema)
    if doubled:
        raise IntegrityError(
            "copy_contradicts_itself",
            f"Reading {schema.name}: {doubled} rows have the key of another.",
            where=schema.name,
            next_step=f"`upwell resync {schema.name}` reads it anew.",
        )
    stored = tables.captured(connection).get(schema.name)
    is_alike = stored is not None and stored.table.terms == copying.table.terms
    if stored is not None and is_alike and tables.has_grown(stored.schema, schema):
        tables.widen(connection, stored.schema, schema)
    else:
        frozen = stored.frozen if stored is not None else "it is being read"
        tables.create(connection, Captured(copying.table, tables.new_log(), frozen))


@dataclass(frozen=True, slots=True)
class Differing:
    """How many rows of a stored table were not those of its source, by their keys."""

    missing: int  # which the source had alone
    unexpected: int  # which the store had alone
    altered: int

    @property
    def rows(self) -> int:
        return self.missing + self.unexpected + self.altered


@dataclass(frozen=True, slots=True)
class Settled:
    """How many rows a table has now, and how many of these, or of those of before, differed."""

    rows: int
    differing: int


def settle(connection: duckdb.DuckDBPyConnection, copying: Copying, moment: Moment) -> Settled:
    """Let what was read take its place, in the transaction of a version."""
    schema = copying.table.schema
    table, names = quote_table(schema.name), quoted_list(schema.column_names)
    read = copied_rows(schema)
    if not connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchall():
        differing = _log(connection, schema, moment, f"SELECT {names}, 1 AS {WEIGHT} FROM ({read})")
        connection.execute(f"INSERT INTO {table} ({names}) {read}")
    else:
        differing = find_differing(connection, schema, "true").rows
        mend_differing(connection, schema, moment)
    tables.note_state(connection, copying.table)
    tables.freeze(connection, schema.name, "")
    ledger.note_filled(connection, [schema.name])
    copies.finish(connection, schema.name)
    return Settled(count_rows(connection, schema.name), differing)


def find_differing(
    connection: duckdb.DuckDBPyConnection, schema: TableSchema, within: str
) -> Differing:
    """Compare stored rows, of those for which a condition holds, with the ones read; what differs
    is remembered for ``mend_differing``.
    """
    names, keys = quoted_list(schema.column_names), quoted_list(schema.key)
    read = f"SELECT {names} FROM ({copied_rows(schema)}) WHERE {within}"
    stored = f"SELECT {names} FROM {quote_table(schema.name)} WHERE {within}"
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {_DIFFERING} AS "
        f"(SELECT {names}, -1 AS {WEIGHT} FROM ({stored} EXCEPT ALL {read})) UNION ALL "
        f"(SELECT {names}, 1 FROM ({read} EXCEPT ALL {stored}))"
    )
    row = connection.execute(
        f"SELECT count(*) FILTER (least = 1), count(*) FILTER (most = -1), "
        f"count(*) FILTER (least < most) FROM (SELECT min({WEIGHT}) AS least, "
        f"max({WEIGHT}) AS most FROM {_DIFFERING} GROUP BY {keys})"
    ).fetchone()
    return Differing(*map(int, row or (0, 0, 0)))


def is_differing(connection: duckdb.DuckDBPyConnection, within: str) -> bool:
    """Whether a row that was found to differ is one for which a condition holds."""
    query = f"SELECT 1 FROM {_DIFFERING} WHERE {within} LIMIT 1"
    return bool(connection.execute(query).fetchall())


def mend_differing(
    connection: duckdb.DuckDBPyConnection,
    schema: TableSchema,
    moment: Moment,
    logged: str | None = None,
) -> None:
    """Let stored rows that were found to differ be the source's, in the transaction of a version;
    the change log says which.

    ``logged`` is SQL for the rows of the whole change log, where the stored rows may not be what it
    says: it is given what makes it say what the source has.
    """
    table, names = quote_table(schema.name), quoted_list(schema.column_names)
    if logged is None:
        _log(connection, schema, moment, f"FROM {_DIFFERING}")
    else:
        keys = quoted_list(schema.key)
        _log(
            connection,
            schema,
            moment,
            f"SELECT {names}, sum({WEIGHT})::BIGINT AS {WEIGHT} FROM ("
            f"SELECT {names}, {WEIGHT} FROM {_DIFFERING} WHERE {WEIGHT} > 0 UNION ALL "
            f"SELECT {names}, -_weight FROM {logged} "
            f"SEMI JOIN (SELECT DISTINCT {keys} FROM {_DIFFERING}) USING ({keys})"
            f") GROUP BY {names} HAVING sum({WEIGHT}) <> 0",
        )
    same_key = " AND ".join(f"t.{quote(name)} = d.{quote(name)}" for name in schema.key)
    connection.execute(
        f"DELETE FROM {table} AS t USING {_DIFFERING} AS d WHERE d.{WEIGHT} < 0 AND {same_key}"
    )
    connection.execute(
        f"INSERT INTO {table} ({names}) SELECT {names} FROM {_DIFFERING} WHERE {WEIGHT} > 0"
    )
    forget_differing(connection)


def forget_differing(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(f"DROP TABLE IF EXISTS {_DIFFERING}")


def _log(
    connection: duckdb.DuckDBPyConnection, schema: TableSchema, moment: Moment, rows: str
) -> int:
    """Write rows with their weights into the change log; how many."""
    names = quoted_list(schema.column_names)
    done = connection.execute(
        f"INSERT INTO {quote_table(log_name(schema.name))} BY NAME "
        f"SELECT {names}, ?::BIGINT AS _version, ? AS _position, "
        f"make_timestamptz(?::BIGINT) AS _committed_at, "
        f"make_timestamptz(?::BIGINT) AS _received_at, {WEIGHT} AS _weight FROM ({rows})",
        [moment.version, moment.position, moment.committed_at_us, moment.received_at_us],
    ).fetchone()
    return int(done[0]) if done else 0


def fill(
    connection: duckdb.DuckDBPyConnection,
    schema: TableSchema,
    change: LayoutChange,
    moment: Moment,
) -> None:
    """Give stored rows the value that a column was added with, in the transaction of a version.

    ``schema`` is the stored layout, which has the column already.
    """
    assert change.fills is not None  # noqa: S101 - else there is nothing to fill in
    table, names = quote_table(schema.name), quoted_list(schema.column_names)
    _log(connection, schema, moment, f"SELECT {names}, -1 AS {WEIGHT} FROM {table}")
    with registered(connection, _FILLS, change.fills):
        values = ", ".join(
            f"{quote(name)} = CAST(f.{quote(name)} AS {schema.column(name).type})"
            for name in change.fills.column_names
        )
        connection.execute(f"UPDATE {table} SET {values} FROM {_FILLS} AS f")
    _log(connection, schema, moment, f"SELECT {names}, 1 AS {WEIGHT} FROM {table}")
    tables.note_state(connection, change.now)
    ledger.note_filled(connection, [schema.name])


def clear(connection: duckdb.DuckDBPyConnection) -> None:
    """Drop what was gathered of tables that have taken their place."""
    going_on = copies.copies(connection)
    for name in tables.captured(connection).keys() - going_on.keys():
        copies.end(connection, name)
