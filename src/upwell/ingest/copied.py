"""A table while it is being read beside the stream, until it can take its place.

Parts of it come at different moments, and meanwhile the stream goes on. Both meet in a table that
nobody else sees. What the stream says of a row always wins: its key is remembered as *touched*, and
a copied row of that key is left out. A row that no change touched since the reading began is the
same at every moment, whichever part brings it; one that came twice was touched, and is put right by
the change. So once the stream has reached the moment of the last part, the table is the source's.

The stream may leave out values that did not change (unchanged TOAST) of a row that was not read
yet: they are *missing*, marked by a column of their own, and read later by the row's key. Such a
value has been the same since the reading began, as long as it is the same row that has the key: so
touched keys carry the version in which another row may have taken it. A row that moves to another
key without sending such a value misses it, whatever stands under its old key: that may have been
read at a later moment, when another row had it. Not any more once the stream has reached the last
reading: from then on a row takes its values along, so that those missing only become fewer, however
fast rows move.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import numpy as np
import pyarrow as pa

from upwell.core.protocols import Int64s, Operation, TableChanges, Transactions
from upwell.core.schema import Column, TableSchema, source_of
from upwell.core.sql import column_definition, quote, quote_table, quoted_list, screened
from upwell.ingest.images import Touched, chain_images, last_images
from upwell.ingest.quarantine import without_refused
from upwell.ingest.rows import StoredRows
from upwell.ingest.staging import OURS, registered
from upwell.ingest.stored import cast_to_stored

_COPIED, _TOUCHED = "_copied_", "_touched_"
_MISSING = f"{OURS}missing_"
_SINCE = f"{OURS}since"
#: Stored types whose values a source may leave out.
_LONG = ("VARCHAR", "BLOB")
_PART = "_part"


def create(connection: duckdb.DuckDBPyConnection, schema: TableSchema) -> None:
    """Make the table that a copy of ``schema`` is gathered in, empty, replacing what was there.

    Nobody reads it but once: its texts are not worth compressing.
    """
    source = source_of(schema.name)
    for prefix in (_COPIED, _TOUCHED):
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(prefix + source)}")
    key = [schema.column(name) for name in schema.key]
    for name, columns in (
        (_copied(schema).name, _copied(schema).columns),
        (_touched_name(schema), (*key, Column(_SINCE, "BIGINT"))),
    ):
        layout = ", ".join(
            column_definition(each.name, each.type, texts="uncompressed") for each in columns
        )
        connection.execute(f"CREATE OR REPLACE TABLE {quote_table(name)} ({layout})")


def drop(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Forget what was gathered of a table."""
    for prefix in (_COPIED, _TOUCHED):
        connection.execute(f"DROP TABLE IF EXISTS {quote_table(prefix + name)}")


def widen(connection: duckdb.DuckDBPyConnection, name: str, added: Sequence[Column]) -> None:
    """Add columns at the end of the table's layout."""
    for column in (*added, *_flags(added)):
        connection.execute(
            f"ALTER TABLE {quote_table(_COPIED + name)} "
            f"ADD COLUMN {quote(column.name)} {column.type}"
        )


class CopiedTables:
    """Takes parts and changes into the tables being read, over the one connection that writes."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._rows = StoredRows(connection)

    def apply(
        self,
        schema: TableSchema,
        changes: Sequence[TableChanges],
        transactions: Transactions,
        version: int,
        *,
        reached: bool,
    ) -> None:
        """Take changes of one table in, inside the caller's transaction; ``reached`` says whether
        the stream had come to the last reading before them.
        """
        self._rows.begin()
        for change in changes:
            known = without_refused(self._connection, change, transactions, version)
            self._take_in(schema, known, version, reached=reached)
        self._rows.empty()

    def store(self, schema: TableSchema, part: Sequence[pa.RecordBatch]) -> int:
        """Take a part in, inside the caller's transaction; how many rows were new."""
        if not part:
            return 0
        with registered(self._connection, _PART, pa.Table.from_batches(part)):
            names = quoted_list(
                name for name in schema.column_names if name in part[0].schema.names
            )
            done = self._connection.execute(
                f"INSERT INTO {quote_table(_copied(schema).name)} ({names}) SELECT {names} "
                f"FROM {self._cast(schema, part[0].schema.names)} {self._untouched(schema)}"
            ).fetchone()
        return int(done[0]) if done else 0

    def store_again(self, schema: TableSchema, condition: str) -> int:
        """Take stored rows in that are the source's, inside the caller's transaction."""
        names = quoted_list(schema.column_names)
        done = self._connection.execute(
            f"INSERT INTO {quote_table(_copied(schema).name)} ({names}) SELECT {names} FROM "
            f"(SELECT {names} FROM {quote_table(schema.name)} WHERE {condition}) "
            f"{self._untouched(schema)}"
        ).fetchone()
        return int(done[0]) if done else 0

    def incomplete(self, schema: TableSchema, most: int, within: str = "true") -> pa.Table:
        """Keys of rows that lack values, at most so many, of those for which a condition holds."""
        if not (lacks := _lacks(schema)):
            return pa.table({name: pa.array([], pa.string()) for name in schema.key})
        return self._rows.fetch(
            f"SELECT {quoted_list(schema.key)} FROM {quote_table(_copied(schema).name)} "
            f"WHERE ({lacks}) AND ({within}) LIMIT {int(most)}"
        )

    def doubled(self, schema: TableSchema, within: str = "true") -> int:
        """How many rows share their key with another, of those for which a condition holds."""
        row = self._connection.execute(
            f"SELECT count(*) - count(DISTINCT ({quoted_list(schema.key)})) "
            f"FROM {quote_table(_copied(schema).name)} WHERE {within}"
        ).fetchone()
        return int(row[0]) if row else 0

    def fill(self, schema: TableSchema, read: Sequence[pa.RecordBatch], asked_in: int) -> None:
        """Give rows their missing values, as read by key; inside the caller's transaction.

        They were asked for after version ``asked_in``, and the stream has reached the moment at
        which they were read. A key that another row may have taken since is left for another time.
        """
        if not read:
            return
        table, touched = quote_table(_copied(schema).name), quote_table(_touched_name(schema))
        names = quoted_list(schema.key)
        same_key = " AND ".join(f"t.{quote(name)} = p.{quote(name)}" for name in schema.key)
        with registered(self._connection, _PART, pa.Table.from_batches(read)):
            rows = (
                f"(SELECT * FROM {self._cast(schema, read[0].schema.names)} ANTI JOIN "
                f"(SELECT {names} FROM {touched} WHERE {_SINCE} > {int(asked_in)}) USING ({names}))"
            )
            for column in _long(schema):
                flag = quote(_MISSING + column)
                self._connection.execute(
                    f"UPDATE {table} AS t SET {quote(column)} = p.{quote(column)}, {flag} = NULL "
                    f"FROM {rows} AS p WHERE t.{flag} AND {same_key}"
                )

    def _take_in(
        self, schema: TableSchema, change: TableChanges, version: int, *, reached: bool
    ) -> None:
        copied = _copied(schema)
        has_moved = np.zeros(len(change.operations), np.bool_)
        has_moved[change.old_key_rows] = True
        sent, flags = change.rows, {}
        for name, mask in change.unchanged.items():
            # A row that left and came back without a value misses it; and what stands under the
            # old key of one that moved may have been read later, and be of another row.
            sent = sent.append_column(_MISSING + name, pa.array(mask, mask=~mask))
            flags[_MISSING + name] = mask if reached else mask & ~has_moved
        rows = self._rows.stored(copied, copied.columns, sent)
        touched = self._rows.touched(copied, change, rows)
        if change.unchanged:
            touched = _with_unread(touched, change, copied)
        images = chain_images(touched, rows, change.operations, {**change.unchanged, **flags})
        # Not by what differs: a row may stand here twice, until a change of it puts that right.
        gone = touched.before.select(schema.key)
        self._rows.replace(copied, gone, last_images(images))
        is_another_row = has_moved | (change.operations != Operation.UPDATE)
        self._touch(schema, rows.select(schema.key), np.where(is_another_row, version, 0))
        if change.old_keys is not None and change.old_keys.num_rows:
            columns = [schema.column(name) for name in schema.key]
            keys = self._rows.stored(copied, columns, change.old_keys)
            self._touch(schema, keys, np.full(keys.num_rows, version))

    def _touch(self, schema: TableSchema, keys: pa.Table, since: Int64s) -> None:
        touched = keys.append_column(_SINCE, pa.array(since, pa.int64()))
        self._rows.insert(_touched_name(schema), touched)

    def _cast(self, schema: TableSchema, names: Sequence[str]) -> str:
        """SQL that reads a part as it is stored; its key can be joined by."""
        values = ", ".join(
            screened(column.name, cast_to_stored(column))
            if column.name in schema.key
            else f"{cast_to_stored(column)} AS {quote(column.name)}"
            for column in schema.columns
            if column.name in names
        )
        return f"(SELECT {values} FROM {_PART})"

    def _untouched(self, schema: TableSchema) -> str:
        touched = quote_table(_touched_name(schema))
        if not self._connection.execute(f"SELECT 1 FROM {touched} LIMIT 1").fetchall():
            return ""
        return f"ANTI JOIN {touched} USING ({quoted_list(schema.key)})"


def copied_rows(schema: TableSchema) -> str:
    """The query for what was gathered, in the table's own columns."""
    return f"SELECT {quoted_list(schema.column_names)} FROM {quote_table(_copied(schema).name)}"


def _copied(schema: TableSchema) -> TableSchema:
    """The layout of the table that a copy is gathered in."""
    return TableSchema(
        _COPIED + schema.name, (*schema.columns, *_flags(schema.columns)), schema.key
    )


def _touched_name(schema: TableSchema) -> str:
    return _TOUCHED + schema.name


def _long(schema: TableSchema) -> list[str]:
    return [each.name for each in schema.columns if each.type in _LONG]


def _flags(columns: Sequence[Column]) -> tuple[Column, ...]:
    """A column for each whose values may be missing: true where it is, else NULL."""
    return tuple(Column(_MISSING + each.name, "BOOLEAN") for each in columns if each.type in _LONG)


def _lacks(schema: TableSchema) -> str:
    return " OR ".join(quote(_MISSING + name) for name in _long(schema))


def _with_unread(touched: Touched, change: TableChanges, copied: TableSchema) -> Touched:
    """Rows that changes leave values out of, and that were not read yet, as if every value of
    theirs were missing.
    """
    leaves_out = np.any(list(change.unchanged.values()), axis=0)
    unread = np.setdiff1d(touched.row_after[leaves_out], touched.row_before)
    count = len(unread)
    flags = {column.name for column in _flags(copied.columns)}
    rows = pa.table(
        [
            pa.repeat(pa.scalar(True), count)
            if field.name in flags
            else pa.nulls(count, field.type)
            for field in touched.before.schema
        ],
        touched.before.schema,
    )
    return Touched(
        pa.concat_tables([touched.before, rows]),
        np.concatenate([touched.row_before, unread]),
        touched.row_after,
    )
