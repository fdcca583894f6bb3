"""The web process's own copy of the tables its boards name, in memory.

Messages of the feed are kept back until the end of their version and then applied in one
transaction, so a reader sees every table at one and the same version. Beside its own columns a
table holds, for the time dimension it is counted by, the instant and the starts of its business day
and hour (``At``): they are computed once, when a row arrives, and no query thinks about time zones.
Which week and month a day belongs to stands in a table of its own (``OnCalendar``).

Invariant: a table equals what the feed said, as a bag of rows. A change that takes away a row which
is not there raises IntegrityError; the follower then starts over from a snapshot.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upwell.core.batch import WEIGHT
from upwell.core.errors import IntegrityError
from upwell.core.protocols import FeedMessage, TableDelta, TableSnapshot, VersionEnd
from upwell.core.schema import TableSchema
from upwell.core.sql import (
    connect,
    literal,
    null_safe_equal,
    quote,
    quote_table,
    quoted_list,
    screened_list,
)
from upwell.project.values import Project, SemanticModel
from upwell.serve.web.calendar import NO_BUCKET, Calendar, business_calendar
from upwell.serve.web.metrics import expression, time_dimension

_STATE = "_upwell_state"
_INCOMING = "_upwell_incoming"
_CHECKPOINT_AFTER_ROWS = 122_880  # one row group of dead rows


@dataclass(frozen=True, slots=True)
class At:
    """The hidden columns that say when a row counts, named after its time dimension."""

    dimension: str

    @property
    def instant(self) -> str:
        return f"_upwell_{self.dimension}_us"

    @property
    def day(self) -> str:
        return f"_upwell_{self.dimension}_day_us"

    @property
    def hour(self) -> str:
        return f"_upwell_{self.dimension}_hour_us"


class OnCalendar:
    """The table that says of each day of the calendar, by its start, when its week and month begin.

    Its columns are named as no column of a model is, so that a query may leave them unqualified.
    """

    TABLE = "_upwell_calendar"
    DAY = "_upwell_on_day"
    WEEK = "_upwell_on_week"
    MONTH = "_upwell_on_month"


class Replica:
    """In-memory tables, one writer, any number of readers. ``close`` frees the memory."""

    def __init__(self, project: Project) -> None:
        self.calendar: Calendar = business_calendar(project.settings.time)
        self._zone = project.settings.time.zone
        self._times = _times_by_table(project)
        self._schemas: dict[str, TableSchema] = {}
        self._pending: list[TableSnapshot | TableDelta] = []
        self._dead_rows = 0
        self._version: int | None = None
        self._connection = connect(zone=self._zone)
        self._root = self._connection.cursor()  # never queried: readers are made from it
        self._root_lock = threading.Lock()
        self._connection.execute(f"CREATE TABLE {_STATE} AS SELECT -1::BIGINT AS version")
        self._create_calendar()

    @property
    def version(self) -> int | None:
        """The version that readers see; None before the first."""
        return self._version

    @property
    def tables(self) -> frozenset[str]:
        """The tables of which there was a snapshot."""
        return frozenset(self._schemas)

    def schema(self, table: str) -> TableSchema:
        """The columns of a table. Raises KeyError before its first snapshot."""
        return self._schemas[table]

    def receive(self, message: FeedMessage) -> frozenset[str]:
        """Take one message in; at a version's end, the tables that changed are now visible.

        Raises IntegrityError when the message does not fit; nothing of its version is applied, and
        only a snapshot helps.
        """
        if isinstance(message, TableSnapshot | TableDelta):
            self._pending.append(message)
        elif isinstance(message, VersionEnd):
            return self._apply(message.version)
        return frozenset()

    def forget_unfinished(self) -> None:
        """Drop what was received of a version whose end will not come."""
        self._pending.clear()

    @contextmanager
    def reader(self) -> Iterator[tuple[duckdb.DuckDBPyConnection, int]]:
        """A connection that sees one version, and which: for one thread, until the block ends."""
        with self._root_lock:
            connection = self._root.cursor()
        try:
            connection.execute(f"SET TimeZone = {literal(self._zone)}")
            connection.execute("BEGIN TRANSACTION READ ONLY")
            row = connection.execute(f"SELECT version FROM {_STATE}").fetchone()
            yield connection, row[0] if row else -1
        finally:
            connection.close()

    def close(self) -> None:
        """Free everything. Readers still open keep their version until they end."""
        with self._root_lock:
            self._root.close()
            self._connection.close()

    def _create_calendar(self) -> None:
        # A date that a zone left out begins when the next does, and must not be there twice.
        days = np.unique(self.calendar.day_starts_us[:-1])
        columns = {
            OnCalendar.DAY: days,
            OnCalendar.WEEK: self.calendar.starts(days, "week"),
            OnCalendar.MONTH: self.calendar.starts(days, "month"),
        }
        with self._incoming(pa.table(columns)):
            self._connection.execute(f"CREATE TABLE {OnCalendar.TABLE} AS FROM {_INCOMING}")

    def _apply(self, version: int) -> frozenset[str]:
        pending, self._pending = self._pending, []
        schemas = dict(self._schemas)
        touched = set()
        self._connection.execute("BEGIN")
        try:
            for message in pending:
                if isinstance(message, TableSnapshot):
                    schemas[message.schema.name] = message.schema
                    self._replace(message)
                    touched.add(message.schema.name)
                elif message.batch.num_rows:
                    self._change(_known(schemas, message.table), message.batch)
                    touched.add(message.table)
            self._connection.execute(f"UPDATE {_STATE} SET version = ?", [version])
            self._connection.execute("COMMIT")
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._schemas = schemas
        self._version = version
        self._reclaim()
        return frozenset(touched)

    def _replace(self, snapshot: TableSnapshot) -> None:
        schema = snapshot.schema
        if "." in schema.name:
            schema_name = quote(schema.name.partition(".")[0])
            self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema_name}")
        columns = [f"{quote(column.name)} {column.type}" for column in schema.columns]
        columns += [f"{quote(name)} BIGINT" for name in self._hidden(schema.name)]
        self._connection.execute(
            f"CREATE OR REPLACE TABLE {quote_table(schema.name)} ({', '.join(columns)})"
        )
        self._insert(schema, snapshot.rows)

    def _change(self, schema: TableSchema, batch: pa.Table) -> None:
        weights = batch.column(WEIGHT)
        gone = batch.filter(pc.less(weights, 0))
        come = batch.filter(pc.greater(weights, 0))
        if gone.num_rows:
            self._delete(schema, gone)
        if come.num_rows:
            copies = come.column(WEIGHT).to_numpy()
            if copies.max() > 1:
                come = come.take(pa.array(np.repeat(np.arange(come.num_rows), copies)))
            self._insert(schema, come)

    def _insert(self, schema: TableSchema, rows: pa.Table) -> None:
        rows = rows.select(list(schema.column_names))
        for at, column in self._at_columns(schema, rows):
            for name, values in (
                (at.instant, column),
                (at.day, self.calendar.days(column)),
                (at.hour, self.calendar.hours(column)),
            ):
                rows = rows.append_column(name, pa.array(values))
        names = quoted_list(rows.column_names)
        with self._incoming(rows):
            self._connection.execute(
                f"INSERT INTO {quote_table(schema.name)} ({names}) SELECT {names} FROM {_INCOMING}"
            )

    def _at_columns(
        self, schema: TableSchema, rows: pa.Table
    ) -> Iterator[tuple[At, np.ndarray[tuple[int], np.dtype[np.int64]]]]:
        for model in self._times.get(schema.name, {}).values():
            found = time_dimension(model)
            where = f"semantic model {model.name}, dimension {found.name}"
            sql = expression(found.expr or found.name, schema, where=where)
            declared = ", ".join(
                f"CAST({quote(column.name)} AS {column.type}) AS {quote(column.name)}"
                for column in schema.columns
            )
            with self._incoming(rows):
                instants = self._connection.execute(
                    f"SELECT CASE WHEN isfinite(happened) THEN epoch_us(happened) END AS us FROM "
                    f"(SELECT CAST({sql} AS TIMESTAMPTZ) AS happened FROM "
                    f"(SELECT {declared} FROM {_INCOMING}))"
                ).to_arrow_table()
            yield At(found.name), pc.fill_null(instants.column("us"), NO_BUCKET).to_numpy()

    def _delete(self, schema: TableSchema, gone: pa.Table) -> None:
        table = quote_table(schema.name)
        incoming = f"(SELECT {screened_list(gone.column_names)} FROM {_INCOMING})"
        with self._incoming(gone):
            if schema.key:
                statement = (
                    f"DELETE FROM {table} AS t USING {incoming} AS g "
                    f"WHERE {_same(schema.key, gone)}"
                )
            else:
                names = schema.column_names
                statement = (
                    f"DELETE FROM {table} WHERE rowid IN (SELECT id FROM ("
                    f"SELECT t.rowid AS id, -g.{quote(WEIGHT)} AS copies, "
                    f"row_number() OVER (PARTITION BY {quoted_list(names, 't')}) AS copy "
                    f"FROM {table} AS t JOIN {incoming} AS g "
                    f"ON {_same(names, gone)}) WHERE copy <= copies)"
                )
            row = self._connection.execute(statement).fetchone()
        deleted = row[0] if row else 0
        expected = -pc.sum(gone.column(WEIGHT)).as_py()
        self._dead_rows += deleted
        if deleted != expected:
            raise IntegrityError(
                "replica_differs",
                f"the feed takes {expected} rows out of {schema.name}, and {deleted} are there",
                where=schema.name,
                next_step="the table is fetched anew from the engine",
            )

    def _hidden(self, table: str) -> list[str]:
        ats = [At(name) for name in self._times.get(table, {})]
        return [name for at in ats for name in (at.instant, at.day, at.hour)]

    @contextmanager
    def _incoming(self, rows: pa.Table) -> Iterator[None]:
        self._connection.register(_INCOMING, rows)
        try:
            yield
        finally:
            self._connection.unregister(_INCOMING)

    def _reclaim(self) -> None:
        """Give the memory of deleted rows back, now and then."""
        if self._dead_rows < _CHECKPOINT_AFTER_ROWS:
            return
        try:
            self._connection.execute("CHECKPOINT")
        except duckdb.TransactionException:
            return  # a reader is at work: at the next version's end
        self._dead_rows = 0


def _times_by_table(project: Project) -> dict[str, Mapping[str, SemanticModel]]:
    """For each model's table, the time dimensions it is counted by and who defines them."""
    found: dict[str, dict[str, SemanticModel]] = {}
    for model in project.semantic_models.values():
        found.setdefault(model.model, {})[model.defaults.agg_time_dimension] = model
    return {**found}


def _known(schemas: Mapping[str, TableSchema], table: str) -> TableSchema:
    schema = schemas.get(table)
    if schema is None:
        raise IntegrityError(
            "replica_differs",
            f"changes of {table} came before the table itself",
            where=table,
            next_step="the table is fetched anew from the engine",
        )
    return schema


def _same(names: Sequence[str], gone: pa.Table) -> str:
    """``t`` and ``g`` agree on ``names``. Plain ``=`` where no NULL is looked for: it is faster."""
    plain = [name for name in names if gone.column(name).null_count == 0]
    conditions = [f"t.{quote(name)} = g.{quote(name)}" for name in plain]
    with_nulls = [name for name in names if name not in plain]
    if with_nulls:
        conditions.append(null_safe_equal(with_nulls, "t", "g"))
    return " AND ".join(conditions)
