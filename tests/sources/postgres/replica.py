"""A table kept from a source's batches in the plainest way, as the measure of everything else."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from upwell.core.errors import UpwellError
from upwell.core.protocols import (
    Checksum,
    Copy,
    LayoutChange,
    Operation,
    RefusedRows,
    SourceBatch,
    SourceTable,
    Stream,
    TableChanges,
    Truncation,
)
from upwell.core.schema import TableSchema
from upwell.core.sql import connect, quote
from upwell.sources.postgres.checksum import checksum_sql

Key = tuple[object, ...]
Row = tuple[str | None, ...]
"""A row's values as people see them."""


class Replica:
    """Rows by key; a row is a table of one row, so that every Arrow value stays as it came.

    A table that is read beside the stream begins with ``expect``, and stands after ``join``.
    """

    def __init__(self) -> None:
        self.schemas: dict[str, TableSchema] = {}
        self.rows: dict[str, dict[Key, pa.Table]] = {}
        self.refused: list[str] = []
        self._touched: dict[str, set[Key]] = {}  # by the stream, in tables not read to their end
        self._lacking: dict[str, set[Key]] = {}  # rows of these without a value that did not change

    def load(self, copy: Copy, of: SourceTable) -> None:
        """All parts of a table, none of which changes meanwhile."""
        schema = of.schema
        self.schemas[schema.name] = schema
        table = self.rows.setdefault(schema.name, {})
        refused: list[RefusedRows] = []
        for batch in copied(copy, of, refused):
            whole = pa.table(batch)
            for row, key in enumerate(_keys(whole, schema)):
                assert key not in table
                table[key] = whole.slice(row, 1)
        self.refused += [raw for each in refused for raw in each.raw]

    def expect(self, of: SourceTable) -> None:
        """Any row of a table may be there, until ``join`` brings those that the stream has not."""
        self.schemas[of.name] = of.schema
        self.rows[of.name] = {}
        self._touched[of.name] = set()
        self._lacking[of.name] = set()

    def join(self, table: str, batches: Sequence[pa.RecordBatch]) -> int:
        """Rows that were read while the stream came to where it is, except for those it touched.

        How many were new.
        """
        schema, rows, touched = self.schemas[table], self.rows[table], self._touched[table]
        before = len(rows)
        for batch in batches:
            whole = pa.table(batch)
            for row, key in enumerate(_keys(whole, schema)):
                if key not in touched:
                    rows[key] = whole.slice(row, 1)
        return len(rows) - before

    def lacking(self, table: str) -> pa.Table:
        """The keys of rows that lack a value."""
        names = list(self.schemas[table].key)
        found = [self.rows[table][key].select(names) for key in self._lacking[table]]
        return pa.concat_tables(found) if found else pa.table({})

    def complete(self, table: str, batches: Sequence[pa.RecordBatch]) -> None:
        """These rows were read again, and nothing has changed since."""
        for batch in batches:
            whole = pa.table(batch)
            for row, key in enumerate(_keys(whole, self.schemas[table])):
                self.rows[table][key] = whole.slice(row, 1)
                self._lacking[table].remove(key)
        assert not self._lacking[table]

    def apply(self, batch: SourceBatch) -> None:
        for change in batch.changes:
            if isinstance(change, LayoutChange):
                assert not change.why, change.why
                continue
            self.schemas[change.table] = change.schema
            if isinstance(change, Truncation):
                self.rows[change.table] = {}
            else:
                self._apply(change, self.rows.setdefault(change.table, {}))

    def follow(
        self, stream: Stream, until: Callable[[SourceBatch], bool], timeout_seconds: float = 30.0
    ) -> list[SourceBatch]:
        """Apply batches up to and including the first for which ``until`` holds."""
        batches: list[SourceBatch] = []
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            batch = stream.poll(1.0)
            if batch is None:
                continue
            self.apply(batch)
            stream.acknowledge(batch.position)
            batches.append(batch)
            if until(batch):
                return batches
        raise AssertionError(f"not reached; the stream is at {batches[-1:]}")

    def checksum(self, table: str) -> Checksum:
        """As DuckDB computes it, with the columns cast to their stored types."""
        schema = self.schemas[table]
        with connect(zone="UTC") as connection:
            self.store(connection, table)
            row = connection.execute(checksum_sql(schema, "stored")).fetchone()
        assert row is not None
        return Checksum(int(row[0]), int(row[1]))

    def texts(self, table: str) -> dict[Key, Row]:
        """Each row by its key as people see it in DuckDB; instants in UTC."""
        schema = self.schemas[table]
        with connect(zone="UTC") as connection:
            self.store(connection, table)
            columns = ", ".join(f"CAST({quote(c.name)} AS VARCHAR)" for c in schema.columns)
            rows = connection.execute(f"SELECT {columns} FROM stored").fetchall()
        return dict(zip(self.rows[table], rows, strict=True))

    def store(self, connection: duckdb.DuckDBPyConnection, table: str) -> None:
        """The table as ``stored`` in DuckDB."""
        schema = self.schemas[table]
        columns = ", ".join(f"{quote(c.name)} {c.type}" for c in schema.columns)
        connection.execute(f"CREATE TABLE stored ({columns})")
        if self.rows[table]:
            incoming = pa.concat_tables(self.rows[table].values()).combine_chunks()
            connection.register("incoming", incoming)
            connection.execute("INSERT INTO stored SELECT * FROM incoming")

    def _apply(self, change: TableChanges, table: dict[Key, pa.Table]) -> None:
        for refusal in change.refusals:
            self.refused += refusal.raw
        touched = self._touched.get(change.table, set())
        lacking = self._lacking.get(change.table, set())
        old_keys = {}
        if change.old_keys is not None:
            old = _keys(change.old_keys, change.schema)
            old_keys = dict(zip(change.old_key_rows.tolist(), old, strict=True))
        for row, key in enumerate(_keys(change.rows, change.schema)):
            operation = change.operations[row]
            old_key = old_keys.get(row, key)
            before = table.pop(old_key, None)
            is_known = old_key in touched or change.table not in self._touched
            is_there = operation != Operation.INSERT
            assert not is_known or (before is not None) == is_there, "an unknown or doubled row"
            is_lacking = old_key in lacking
            lacking.discard(old_key)
            touched |= {old_key, key}
            if operation == Operation.DELETE:
                continue
            image = change.rows.slice(row, 1)
            for name, unchanged in change.unchanged.items():
                if unchanged[row] and before is not None:
                    index = image.column_names.index(name)
                    image = image.set_column(index, name, before.column(name))
                if unchanged[row] and (before is None or is_lacking):
                    lacking.add(key)
            table[key] = image


def copied(
    copy: Copy, table: SourceTable, refused: list[RefusedRows] | None = None
) -> list[pa.RecordBatch]:
    """All rows of a table, read in parts."""
    batches: list[pa.RecordBatch] = []
    for part in copy.plan(table, 1 << 20).parts:
        read = copy.read(table, part)
        batches += read.rows
        if refused is not None:
            refused += read.refused
    return batches


def _keys(rows: pa.Table, schema: TableSchema) -> list[Key]:
    columns = [_plain(rows.column(name)).to_pylist() for name in schema.key]
    return list(zip(*columns, strict=True))


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if isinstance(column.type, pa.ExtensionType):
        return column.cast(column.type.storage_type)
    return pc.cast(column, pa.string()) if pa.types.is_timestamp(column.type) else column


def reached(position: str) -> Callable[[SourceBatch], bool]:
    """Whether a batch brings a stream to ``position``."""
    return lambda batch: batch.position >= position


def error_of(action: Callable[[], object]) -> UpwellError:
    """The error that ``action`` ends with."""
    try:
        action()
    except UpwellError as error:
        return error
    raise AssertionError("nothing went wrong")
