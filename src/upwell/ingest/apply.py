"""Takes a batch of changes into the change log and the current table, and gives the delta.

The before-image of every change is looked up in the current table, never taken from the source, so
that a batch taken in twice changes nothing the second time (as far as its changes carry all their
values). The invariant kept: after each batch, current table = sum of the change log = old current
table + returned delta.

At most four statements a table: before-images, log, delete, insert; types that Arrow does not carry
cost one more for values and one for keys. What lies between is Arrow (docs/decisions/0010).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upwell.core import batch as change_batch
from upwell.core.protocols import (
    Int64s,
    Operation,
    SourceBatch,
    TableChanges,
    Transactions,
    Truncation,
)
from upwell.core.schema import Column, TableSchema
from upwell.core.sql import quote, quote_table, quoted_list, screened
from upwell.ingest.images import LogRows, Touched, chain_images, log_rows, net_change
from upwell.ingest.keys import are_numbered_by_arrow, number_keys, ranks_sql
from upwell.ingest.lineage import trace_lineages
from upwell.ingest.quarantine import hold_back, without_refused
from upwell.ingest.staging import PLACE
from upwell.ingest.stored import as_stored, cast_to_stored
from upwell.ingest.tables import LOG_COLUMNS, log_name
from upwell.store.slots import Slots

_INSTANT = pa.timestamp("us", "UTC")


@dataclass(frozen=True, slots=True)
class _Stamp:
    """What every row of a batch is marked with in the change log.

    ``positions`` and ``committed_at`` are those of the ``transactions``, for Arrow to look up.
    """

    version: int
    received_at_us: int
    transactions: Transactions
    positions: pa.Array
    committed_at: pa.Array


class Ingest:
    """Takes batches in over the one connection that writes.

    ``layouts`` are the stored layouts by SQL name, as they stand at each call.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, layouts: Mapping[str, TableSchema]
    ) -> None:
        self._connection = connection
        self._layouts = layouts
        self._slots = Slots(connection)
        self._schemas: dict[TableSchema, pa.Schema] = {}

    def apply(self, batch: SourceBatch, version: int) -> dict[str, pa.Table]:
        """Take in one batch inside the caller's transaction.

        Layouts must be wide enough already (``tables.widen``). Returns the consolidated delta of
        each table that changed. Raises IntegrityError where the changes contradict the current
        table; the transaction is lost then.
        """
        self._slots.begin()
        stamp = _stamp(batch, version)
        deltas: dict[str, list[pa.Table]] = {}
        for change in batch.changes:
            layout = self._layouts[change.table]
            if isinstance(change, Truncation):
                delta = self._truncate(layout, change, stamp)
            else:
                known = without_refused(self._connection, change, stamp.transactions, version)
                delta = self._take_in(layout, known, stamp)
            if delta.num_rows:
                deltas.setdefault(change.table, []).append(delta)
        self._slots.empty()
        summed = {table: _sum(parts) for table, parts in deltas.items()}
        return {table: delta for table, delta in summed.items() if delta.num_rows}

    def _take_in(self, layout: TableSchema, change: TableChanges, stamp: _Stamp) -> pa.Table:
        rows = self._stored(layout, layout.columns, change.rows)
        touched = self._touched(layout, change, rows)
        if _is_plain_insert(change, touched):
            return self._append(layout, rows, change, stamp)
        images = chain_images(touched, rows, change.operations, change.unchanged)
        if len(images.unfilled):
            known = hold_back(
                self._connection, change, images.unfilled, stamp.transactions, stamp.version
            )
            return self._take_in(layout, known, stamp)
        self._log(layout, log_rows(images), change, stamp)
        delta = net_change(images)
        self._move_current(layout, delta)
        return delta

    # ── before a change ──────────────────────────────────────────────────────────────────────────

    def _stored(self, layout: TableSchema, columns: Sequence[Column], sent: pa.Table) -> pa.Table:
        """``columns`` of what was sent, in the Arrow types in which DuckDB gives them back.

        A column the source no longer has reads NULL.
        """
        schema = self._schema(layout)
        found: dict[str, pa.ChunkedArray | pa.Array | None] = {}
        for column in columns:
            arrow = schema.field(column.name).type
            found[column.name] = (
                as_stored(sent.column(column.name), column, arrow)
                if column.name in sent.column_names
                else pa.nulls(sent.num_rows, arrow)
            )
        others = [column for column in columns if found[column.name] is None]
        if others:
            names = [column.name for column in others]
            rows = quote(self._slots.put(f"{layout.name}<", sent.select(names)))
            casts = ", ".join(cast_to_stored(column) for column in others)
            cast = self._fetch(f"SELECT {casts} FROM {rows}")
            found |= {name: cast.column(index) for index, name in enumerate(names)}
        return pa.table(list(found.values()), pa.schema([schema.field(name) for name in found]))

    def _schema(self, layout: TableSchema) -> pa.Schema:
        if layout not in self._schemas:
            names = quoted_list(layout.column_names)
            none = self._fetch(f"SELECT {names} FROM {quote_table(layout.name)} LIMIT 0")
            self._schemas[layout] = none.schema
        return self._schemas[layout]

    def _touched(self, layout: TableSchema, change: TableChanges, rows: pa.Table) -> Touched:
        """Rows are told apart by their keys, or by their lineages where keys moved."""
        keys = rows.select(layout.key)
        if change.old_keys is not None and change.old_keys.num_rows:
            columns = [layout.column(name) for name in layout.key]
            keys = pa.concat_tables([keys, self._stored(layout, columns, change.old_keys)])
        before = self._before(layout, keys)
        numbers = self._numbers(layout, pa.concat_tables([keys, before.select(layout.key)]))
        after, old, key_before = np.split(numbers, [rows.num_rows, keys.num_rows])
        if not len(old):
            return Touched(before, key_before, after)
        moved = dict(zip(change.old_key_rows.tolist(), old.tolist(), strict=True))
        lineages = trace_lineages(after.tolist(), moved)
        start = np.empty(len(numbers), np.int64)
        start[lineages.start_keys] = np.arange(len(lineages.start_keys))
        # What stood under the key that a row had comes last: it is what unchanged values are of.
        last_to_first = np.argsort(-start[key_before], kind="stable")
        row_before = lineages.start_lineages[start[key_before[last_to_first]]]
        return Touched(before.take(pa.array(last_to_first)), row_before, lineages.of_change)

    def _before(self, layout: TableSchema, keys: pa.Table) -> pa.Table:
        """The rows of the current table that have one of ``keys``."""
        table, names = quote_table(layout.name), quoted_list(layout.column_names)
        wanted = self._keys(layout, f"{layout.name}?", keys)
        return self._fetch(
            f"SELECT {names} FROM {table} SEMI JOIN {wanted} USING ({quoted_list(layout.key)})"
        )

    def _numbers(self, layout: TableSchema, keys: pa.Table) -> Int64s:
        if are_numbered_by_arrow(layout):
            return number_keys(keys)
        places = pa.array(np.arange(keys.num_rows))
        name = self._slots.put(f"{layout.name}#", keys.append_column(PLACE, places))
        numbers: Int64s = self._fetch(ranks_sql(layout, name)).column(0).to_numpy()
        return numbers

    def _keys(self, layout: TableSchema, role: str, keys: pa.Table) -> str:
        """SQL that reads keys as they are stored, for a join."""
        name = self._slots.put(role, keys)
        columns = [layout.column(each) for each in layout.key]
        read = ", ".join(screened(each.name, cast_to_stored(each)) for each in columns)
        return f"(SELECT {read} FROM {quote(name)})"

    # ── what a change leaves ─────────────────────────────────────────────────────────────────────

    def _append(
        self, layout: TableSchema, rows: pa.Table, change: TableChanges, stamp: _Stamp
    ) -> pa.Table:
        """New rows only: nothing has an image before, and nothing ends."""
        count = rows.num_rows
        self._log(layout, LogRows(rows, np.arange(count), np.ones(count, np.int64)), change, stamp)
        self._insert(layout.name, rows)
        return change_batch.from_rows(rows)

    def _log(
        self, layout: TableSchema, logged: LogRows, change: TableChanges, stamp: _Stamp
    ) -> None:
        count = logged.rows.num_rows
        transaction = pa.array(change.transaction[logged.change])
        rows = pa.Table.from_arrays(
            [
                *logged.rows.columns,
                pa.repeat(pa.scalar(stamp.version, pa.int64()), count),
                stamp.positions.take(transaction),
                stamp.committed_at.take(transaction),
                pa.repeat(pa.scalar(stamp.received_at_us, _INSTANT), count),
                pa.array(logged.weight),
            ],
            [*layout.column_names, *(column.name for column in LOG_COLUMNS)],
        )
        self._insert(log_name(layout.name), rows)

    def _move_current(self, layout: TableSchema, delta: pa.Table) -> None:
        """Bring the current table forward by a consolidated delta."""
        weights = delta.column(change_batch.WEIGHT)
        gone = delta.select(layout.key).filter(pc.less(weights, 0))
        if gone.num_rows:
            keys = self._keys(layout, f"{layout.name}-", gone)
            same_key = " AND ".join(f"t.{quote(name)} = d.{quote(name)}" for name in layout.key)
            self._connection.execute(
                f"DELETE FROM {quote_table(layout.name)} AS t USING {keys} AS d WHERE {same_key}"
            )
        come = delta.select(layout.column_names).filter(pc.greater(weights, 0))
        if come.num_rows:
            self._insert(layout.name, come)

    def _insert(self, table: str, rows: pa.Table) -> None:
        names = quoted_list(rows.column_names)
        come = quote(self._slots.put(f"{table}+", rows))
        self._connection.execute(
            f"INSERT INTO {quote_table(table)} ({names}) SELECT {names} FROM {come}"
        )

    def _truncate(self, layout: TableSchema, change: Truncation, stamp: _Stamp) -> pa.Table:
        table, names = quote_table(layout.name), quoted_list(layout.column_names)
        at = change.transaction
        self._connection.execute(
            f"INSERT INTO {quote_table(log_name(layout.name))} BY NAME SELECT {names}, "
            f"?::BIGINT AS _version, ? AS _position, make_timestamptz(?::BIGINT) AS _committed_at, "
            f"make_timestamptz(?::BIGINT) AS _received_at, -1 AS _weight FROM {table}",
            [
                stamp.version,
                stamp.transactions.positions[at],
                int(stamp.transactions.committed_at_us[at]),
                stamp.received_at_us,
            ],
        )
        delta = self._fetch(f"SELECT {names}, CAST(-1 AS BIGINT) AS _weight FROM {table}")
        self._connection.execute(f"DELETE FROM {table}")
        return delta

    def _fetch(self, query: str) -> pa.Table:
        return self._connection.execute(query).to_arrow_table()


def _stamp(batch: SourceBatch, version: int) -> _Stamp:
    transactions = batch.transactions
    return _Stamp(
        version,
        batch.received_at_us,
        transactions,
        pa.array(list(transactions.positions), pa.string()),
        pa.array(transactions.committed_at_us, pa.int64()).view(_INSTANT),
    )


def _is_plain_insert(change: TableChanges, touched: Touched) -> bool:
    """Whether all changes are new rows, each of another row."""
    is_insert = not change.unchanged and bool(np.all(change.operations == Operation.INSERT))
    rows = touched.row_after.max(initial=-1) + 1  # numbers are dense
    return is_insert and not touched.before.num_rows and rows == len(touched.row_after)


def _sum(parts: Sequence[pa.Table]) -> pa.Table:
    if len(parts) == 1:
        return parts[0]
    alike = [part.cast(parts[0].schema) for part in parts]  # may differ in what may be NULL
    return change_batch.consolidate(change_batch.add(alike))
