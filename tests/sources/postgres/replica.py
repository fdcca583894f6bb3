"""A table kept from a source's batches in the plainest way, as the measure of everything else."""

from __future__ import annotations

import time
from collections.abc import Callable

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from upwell.core.errors import UpwellError
from upwell.core.protocols import Operation, SourceBatch, Stream, TableChanges, Truncation
from upwell.core.schema import TableSchema
from upwell.core.sql import connect, quote
from upwell.sources.postgres.checksum import Checksum, checksum_sql
from upwell.sources.postgres.snapshot import PostgresSnapshot

Key = tuple[object, ...]
Row = tuple[str | None, ...]
"""A row's values as people see them."""


class Replica:
    """Rows by key; a row is a table of one row, so that every Arrow value stays as it came."""

    def __init__(self) -> None:
        self.schemas: dict[str, TableSchema] = {}
        self.rows: dict[str, dict[Key, pa.Table]] = {}
        self.refused: list[str] = []

    def load(self, snapshot: PostgresSnapshot, schema: TableSchema) -> None:
        self.schemas[schema.name] = schema
        table = self.rows.setdefault(schema.name, {})
        for batch in snapshot.read(schema.name):
            whole = pa.table(batch)
            for row, key in enumerate(_keys(whole, schema)):
                assert key not in table
                table[key] = whole.slice(row, 1)
        for refused in snapshot.refusals(schema.name):
            self.refused += refused.raw

    def apply(self, batch: SourceBatch) -> None:
        for change in batch.changes:
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
        return int(row[0]), int(row[1])

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
        old_keys = {}
        if change.old_keys is not None:
            old = _keys(change.old_keys, change.schema)
            old_keys = dict(zip(change.old_key_rows.tolist(), old, strict=True))
        for row, key in enumerate(_keys(change.rows, change.schema)):
            operation = change.operations[row]
            before = table.pop(old_keys.get(row, key), None)
            assert (before is None) == (operation == Operation.INSERT), "an unknown or doubled row"
            if operation == Operation.DELETE:
                continue
            image = change.rows.slice(row, 1)
            for name, unchanged in change.unchanged.items():
                if unchanged[row]:
                    assert before is not None
                    index = image.column_names.index(name)
                    image = image.set_column(index, name, before.column(name))
            table[key] = image


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
