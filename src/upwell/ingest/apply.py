"""Takes a batch of changes into the change log and the current table, and gives the delta.

The before-image of every change is looked up in the current table, never taken from the source, so
that a batch taken in twice changes nothing the second time (as far as its changes carry all their
values). The invariant kept: after each batch, current table = sum of the change log = old current
table + returned delta.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upwell.core import batch as change_batch
from upwell.core.protocols import Operation, SourceBatch, TableChanges, Transactions, Truncation
from upwell.core.schema import TableSchema
from upwell.core.sql import quote, quote_table, quoted_list, screened_list
from upwell.ingest.images import row_images, unfilled_changes
from upwell.ingest.lineage import Key, Lineages, trace_lineages
from upwell.ingest.quarantine import hold_back, without_refused
from upwell.ingest.staging import (
    COMMITTED_AT,
    NEXT_COMMITTED_AT,
    NEXT_ORDER,
    NEXT_POSITION,
    OPERATION,
    ORDER,
    POSITION,
    registered,
    unchanged_mark,
)
from upwell.ingest.tables import log_name

_STAGED, _CHANGES, _IMAGES, _DELTA = "_staged", "_changes", "_images", "_delta"


@dataclass(frozen=True, slots=True)
class Stamp:
    """What every row of a batch is marked with in the change log."""

    version: int
    transactions: Transactions
    received_at_us: int


def apply_batch(
    connection: duckdb.DuckDBPyConnection,
    batch: SourceBatch,
    version: int,
    layouts: Mapping[str, TableSchema],
) -> dict[str, pa.Table]:
    """Take in one batch inside the caller's transaction.

    ``layouts`` are the stored layouts, already wide enough (``tables.widen``). Returns the
    consolidated delta of each table that changed. Raises IntegrityError where the changes
    contradict the current table.
    """
    stamp = Stamp(version, batch.transactions, batch.received_at_us)
    deltas: dict[str, list[pa.Table]] = {}
    for change in batch.changes:
        layout = layouts[change.table]
        if isinstance(change, Truncation):
            delta = _truncate(connection, layout, change, stamp)
        else:
            delta = _take_in(
                connection,
                layout,
                without_refused(connection, change, stamp.transactions, version),
                stamp,
            )
        if delta.num_rows:
            deltas.setdefault(change.table, []).append(delta)
    summed = {table: _sum(parts) for table, parts in deltas.items()}
    return {table: delta for table, delta in summed.items() if delta.num_rows}


def _sum(parts: Sequence[pa.Table]) -> pa.Table:
    if len(parts) == 1:
        return parts[0]
    alike = [part.cast(parts[0].schema) for part in parts]  # may differ in what may be NULL
    return change_batch.consolidate(change_batch.add(alike))


def _take_in(
    connection: duckdb.DuckDBPyConnection, layout: TableSchema, change: TableChanges, stamp: Stamp
) -> pa.Table:
    changes = _typed(connection, layout, change, stamp)
    with registered(connection, _CHANGES, changes):
        if _is_plain_insert(connection, layout, change):
            return _append(connection, layout, changes, stamp)
        lineages = _lineages(connection, layout, change, changes)
        images = row_images(connection, layout, changes, tuple(change.unchanged), lineages)
    unknown = unfilled_changes(images)
    if len(unknown):
        known = hold_back(connection, change, unknown, stamp.transactions, stamp.version)
        return _take_in(connection, layout, known, stamp)
    _log_images(connection, layout, images, stamp)
    delta = _net_change(layout, images)
    _move_current(connection, layout, delta)
    return delta


def _typed(
    connection: duckdb.DuckDBPyConnection, layout: TableSchema, change: TableChanges, stamp: Stamp
) -> pa.Table:
    """The new images under the stored layout, in source order, with what the log says of them.

    A column the source no longer has reads NULL. ``unchanged_mark`` columns say which
    values were not sent.
    """
    sent = set(change.rows.column_names)
    columns = ", ".join(
        f"CAST({quote(column.name) if column.name in sent else 'NULL'} AS {column.type}) "
        f"AS {quote(column.name)}"
        for column in layout.columns
    )
    positions = pa.DictionaryArray.from_arrays(
        pa.array(change.transaction), pa.array(list(stamp.transactions.positions), pa.string())
    )
    committed = pa.array(stamp.transactions.committed_at_us[change.transaction])
    extra = {
        POSITION: positions,
        COMMITTED_AT: committed.cast(pa.timestamp("us", "UTC")),
        ORDER: pa.array(np.arange(change.rows.num_rows, dtype=np.int64)),
        OPERATION: pa.array(change.operations),
        **{unchanged_mark(name): pa.array(mask) for name, mask in change.unchanged.items()},
    }
    staged = change.rows
    for name, values in extra.items():
        staged = staged.append_column(name, values)
    with registered(connection, _STAGED, staged):
        return connection.execute(
            f"SELECT {columns}, {quoted_list(extra)} FROM {_STAGED}"
        ).to_arrow_table()


# ── new rows only: nothing has a before-image ────────────────────────────────────────────────────


def _is_plain_insert(
    connection: duckdb.DuckDBPyConnection, layout: TableSchema, change: TableChanges
) -> bool:
    if change.unchanged or not bool(np.all(change.operations == Operation.INSERT)):
        return False
    keys = quoted_list(layout.key)
    row = connection.execute(
        f"SELECT count(DISTINCT ({keys})), (SELECT count(*) FROM {quote_table(layout.name)} "
        f"SEMI JOIN (SELECT {screened_list(layout.key)} FROM {_CHANGES}) USING ({keys})) "
        f"FROM {_CHANGES}"
    ).fetchone()
    return row == (change.rows.num_rows, 0)


def _append(
    connection: duckdb.DuckDBPyConnection, layout: TableSchema, changes: pa.Table, stamp: Stamp
) -> pa.Table:
    names = quoted_list(layout.column_names)
    connection.execute(
        f"INSERT INTO {quote_table(log_name(layout.name))} BY NAME SELECT {names}, "
        f"?::BIGINT AS _version, {POSITION} AS _position, {COMMITTED_AT} AS _committed_at, "
        f"make_timestamptz(?::BIGINT) AS _received_at, 1 AS _weight FROM {_CHANGES}",
        [stamp.version, stamp.received_at_us],
    )
    connection.execute(
        f"INSERT INTO {quote_table(layout.name)} ({names}) SELECT {names} FROM {_CHANGES}"
    )
    return change_batch.from_rows(changes.select(layout.column_names))


# ── anything else goes through the chain of row images ──────────────────────────────────────────


def _lineages(
    connection: duckdb.DuckDBPyConnection,
    layout: TableSchema,
    change: TableChanges,
    changes: pa.Table,
) -> Lineages | None:
    """Who is who where keys moved; None where every row keeps its key."""
    if change.old_keys is None or not change.old_keys.num_rows:
        return None
    typed = ", ".join(
        f"CAST({quote(name)} AS {layout.column(name).type}) AS {quote(name)}" for name in layout.key
    )
    with registered(connection, _STAGED, change.old_keys):
        old = connection.execute(f"SELECT {typed} FROM {_STAGED}").to_arrow_table()
    moved = dict(zip(change.old_key_rows.tolist(), _keys(old, layout), strict=True))
    return trace_lineages(list(_keys(changes, layout)), moved)


def _keys(rows: pa.Table, layout: TableSchema) -> Iterator[Key]:
    return zip(*(_exact(rows.column(name)).to_pylist() for name in layout.key), strict=True)


def _exact(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Times as the integers they are stored as: Python has none before year 1 and no infinity."""
    if not pa.types.is_temporal(values.type) or pa.types.is_interval(values.type):
        return values
    return values.cast(pa.int32() if values.type.bit_width == 32 else pa.int64())


def _log_images(
    connection: duckdb.DuckDBPyConnection, layout: TableSchema, images: pa.Table, stamp: Stamp
) -> None:
    """Each image enters the log at +1 and leaves it at -1 with the change that ended it."""
    names = quoted_list(layout.column_names)
    with registered(connection, _IMAGES, _log_rows(layout, images)):
        connection.execute(
            f"INSERT INTO {quote_table(log_name(layout.name))} BY NAME "
            f"SELECT {names}, ?::BIGINT AS _version, {POSITION} AS _position, "
            f"{COMMITTED_AT} AS _committed_at, make_timestamptz(?::BIGINT) AS _received_at, "
            f"{change_batch.WEIGHT} FROM {_IMAGES}",
            [stamp.version, stamp.received_at_us],
        )


def _log_rows(layout: TableSchema, images: pa.Table) -> pa.Table:
    """What the log takes in, in source order; of a change, what ends before what begins."""
    at = [ORDER, POSITION, COMMITTED_AT]
    there = images.filter(pc.not_equal(images.column(OPERATION), int(Operation.DELETE)))
    begun = there.filter(pc.greater_equal(there.column(ORDER), 0))
    ended = there.filter(pc.is_valid(there.column(NEXT_ORDER)))
    ended = ended.select([*layout.column_names, NEXT_ORDER, NEXT_POSITION, NEXT_COMMITTED_AT])
    rows = change_batch.add(
        [
            change_batch.from_rows(begun.select([*layout.column_names, *at])),
            change_batch.from_rows(ended.rename_columns([*layout.column_names, *at]), -1),
        ]
    )
    return rows.sort_by([(ORDER, "ascending"), (change_batch.WEIGHT, "ascending")])


def _net_change(layout: TableSchema, images: pa.Table) -> pa.Table:
    """First image out, last image in, for every touched row."""
    is_first = pc.less(images.column(ORDER), 0)
    is_last = pc.and_(
        pc.invert(is_first),
        pc.and_(
            pc.is_null(images.column(NEXT_ORDER)),
            pc.not_equal(images.column(OPERATION), int(Operation.DELETE)),
        ),
    )
    rows = images.select(layout.column_names)
    first = change_batch.from_rows(rows.filter(is_first), -1)
    last = change_batch.from_rows(rows.filter(is_last))
    return change_batch.consolidate(change_batch.add([first, last]))


def _move_current(
    connection: duckdb.DuckDBPyConnection, layout: TableSchema, delta: pa.Table
) -> None:
    """Bring the current table forward by a consolidated delta."""
    table, names = quote_table(layout.name), quoted_list(layout.column_names)
    gone = f"(SELECT {screened_list(layout.key)} FROM {_DELTA} WHERE _weight < 0)"
    same_key = " AND ".join(f"t.{quote(name)} = d.{quote(name)}" for name in layout.key)
    with registered(connection, _DELTA, delta):
        connection.execute(f"DELETE FROM {table} AS t USING {gone} AS d WHERE {same_key}")
        connection.execute(
            f"INSERT INTO {table} ({names}) SELECT {names} FROM {_DELTA} WHERE _weight > 0"
        )


def _truncate(
    connection: duckdb.DuckDBPyConnection, layout: TableSchema, change: Truncation, stamp: Stamp
) -> pa.Table:
    table, names = quote_table(layout.name), quoted_list(layout.column_names)
    at = change.transaction
    connection.execute(
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
    gone = connection.execute(f"SELECT {names}, CAST(-1 AS BIGINT) AS _weight FROM {table}")
    delta = gone.to_arrow_table()
    connection.execute(f"DELETE FROM {table}")
    return delta
