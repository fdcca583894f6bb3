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

from upwell.core import batch as change_batch
from upwell.core.protocols import (
    LayoutChange,
    Operation,
    SourceBatch,
    TableChanges,
    Transactions,
    Truncation,
)
from upwell.core.schema import TableSchema
from upwell.core.sql import quote_table, quoted_list
from upwell.ingest.images import LogRows, Touched, chain_images, log_rows, net_change
from upwell.ingest.quarantine import hold_back, without_refused
from upwell.ingest.rows import StoredRows
from upwell.ingest.tables import LOG_COLUMNS, log_name

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
        self._rows = StoredRows(connection)

    def apply(self, batch: SourceBatch, version: int) -> dict[str, pa.Table]:
        """Take in one batch inside the caller's transaction.

        What layout changes ask for must be done already (``tables.widen``). Returns the
        consolidated delta of each table that changed. Raises IntegrityError where the changes
        contradict the current table; the transaction is lost then.
        """
        self._rows.begin()
        stamp = _stamp(batch, version)
        deltas: dict[str, list[pa.Table]] = {}
        for change in batch.changes:
            if isinstance(change, LayoutChange):
                continue
            layout = self._layouts[change.table]
            if isinstance(change, Truncation):
                delta = self._truncate(layout, change, stamp)
            else:
                known = without_refused(self._connection, change, stamp.transactions, version)
                delta = self._take_in(layout, known, stamp)
            if delta.num_rows:
                deltas.setdefault(change.table, []).append(delta)
        self._rows.empty()
        summed = {table: _sum(parts) for table, parts in deltas.items()}
        return {table: delta for table, delta in summed.items() if delta.num_rows}

    def _take_in(self, layout: TableSchema, change: TableChanges, stamp: _Stamp) -> pa.Table:
        rows = self._rows.stored(layout, layout.columns, change.rows)
        touched = self._rows.touched(layout, change, rows)
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
        self._rows.move(layout, delta)
        return delta

    # ── what a change leaves ─────────────────────────────────────────────────────────────────────

    def _append(
        self, layout: TableSchema, rows: pa.Table, change: TableChanges, stamp: _Stamp
    ) -> pa.Table:
        """New rows only: nothing has an image before, and nothing ends."""
        count = rows.num_rows
        self._log(layout, LogRows(rows, np.arange(count), np.ones(count, np.int64)), change, stamp)
        self._rows.insert(layout.name, rows)
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
        self._rows.insert(log_name(layout.name), rows)

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
        delta = self._rows.fetch(f"SELECT {names}, CAST(-1 AS BIGINT) AS _weight FROM {table}")
        self._connection.execute(f"DELETE FROM {table}")
        return delta


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
