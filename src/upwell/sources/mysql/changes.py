"""Row events of one table to columns of ``TableChanges``.

Every event brings full images: the new row of an insert, both of an update, the old one of a
delete. Columns that an older layout lacks come last, and are filled with what they were added with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upwell.core.protocols import Bools, Int64s, Operation, Refusal, TableChanges
from upwell.sources.mysql.columns import decode
from upwell.sources.mysql.copyout import refusal_reason
from upwell.sources.mysql.images import Images, Values, walk
from upwell.sources.mysql.tables import CapturedTable
from upwell.sources.mysql.views import LittleViews
from upwell.sources.mysql.wires import Wire
from upwell.sources.postgres.frames import corrupt


@dataclass(frozen=True, slots=True)
class RowEvents:
    """Events of a table whose rows all lie alike: where their rows are, what each event does."""

    views: LittleViews
    wires: tuple[Wire, ...]
    starts: Int64s
    ends: Int64s
    operations: Int64s
    transactions: Int64s


def table_changes(
    events: RowEvents, table: CapturedTable, constants: pa.Table | None
) -> TableChanges | None:
    """The changes in these events; None if they have no row."""
    images = walk(events.views, events.wires, events.starts, events.ends)
    operations = events.operations[images.event]
    is_update = operations == Operation.UPDATE
    is_old = _is_old(images, is_update)
    rows = np.flatnonzero(~is_old)
    if not len(rows):
        return None
    operation = operations[rows]
    columns = [values.where(rows) for values in images.columns]
    arrays, refusals = _decoded(events, table, columns, constants, operation == Operation.DELETE)
    new = pa.Table.from_arrays(arrays, names=list(table.schema.column_names))
    updated = np.flatnonzero(operation == Operation.UPDATE)
    old = [values.where(np.flatnonzero(is_old)) for values in images.columns]
    old_rows, old_keys = _moved_keys(events, table, new, updated, old)
    return TableChanges(
        schema=table.schema,
        rows=new,
        operations=operation.astype(np.int8),
        transaction=events.transactions[images.event[rows]].astype(np.int32),
        old_key_rows=old_rows,
        old_keys=old_keys,
        refusals=tuple(refusals),
    )


def _is_old(images: Images, is_update: Bools) -> Bools:
    """Which images are of an update's row before: every first of two in its event."""
    if not is_update.any():
        return is_update
    begins = np.ones(len(images.event), np.bool_)
    begins[1:] = images.event[1:] != images.event[:-1]
    firsts = np.flatnonzero(begins)
    within = np.arange(len(images.event)) - firsts[np.cumsum(begins) - 1]
    counts = np.diff(np.append(firsts, len(images.event)))
    if (counts[is_update[firsts]] % 2).any():
        corrupt("an update without its new row")
    old: Bools = is_update & (within % 2 == 0)
    return old


def _decoded(
    events: RowEvents,
    table: CapturedTable,
    columns: Sequence[Values],
    constants: pa.Table | None,
    is_delete: Bools,
) -> tuple[list[pa.Array], list[Refusal]]:
    arrays: list[pa.Array] = []
    refusals: list[Refusal] = []
    for at in table.kept:
        column, kind = table.columns[at], table.types[at]
        if at >= len(columns):
            arrays.append(_constant(constants, column.name, kind.arrow, is_delete))
            continue
        values = columns[at]
        if is_delete.any() and column.name not in table.key:
            values = Values(values.starts, values.lengths, values.present & ~is_delete)
        decoded = decode(events.views, values, kind, events.wires[at])
        arrays.append(decoded.array)
        if decoded.raw:
            reason = refusal_reason(column.name, kind)
            refusals.append(Refusal(reason, decoded.refused, decoded.raw))
    return arrays, refusals


def _constant(
    constants: pa.Table | None, name: str, arrow: pa.DataType, is_delete: Bools
) -> pa.Array:
    if constants is None or name not in constants.column_names:
        return pa.nulls(len(is_delete), arrow)
    nowhere = pa.array(np.zeros(len(is_delete), np.int64), mask=is_delete)
    value: pa.Array = constants.column(name).combine_chunks().take(nowhere)
    return value


def _moved_keys(
    events: RowEvents, table: CapturedTable, new: pa.Table, updated: Int64s, old: Sequence[Values]
) -> tuple[Int64s, pa.Table | None]:
    """The keys before the change, of the updates that changed them."""
    if not len(updated):
        return updated, None
    places = {column.name: at for at, column in enumerate(table.columns)}
    before: dict[str, pa.Array] = {}
    moved = np.zeros(len(updated), np.bool_)
    for name in table.key:
        at = places[name]
        if at >= len(old):
            corrupt("a row without its key")
        before[name] = decode(events.views, old[at], table.types[at], events.wires[at]).array
        moved |= _differs(before[name], new.column(name).take(pa.array(updated)))
    if not moved.any():
        return np.empty(0, np.int64), None
    return updated[moved], pa.table(before).filter(pa.array(moved))


def _differs(left: pa.Array, right: pa.ChunkedArray) -> Bools:
    if isinstance(left.type, pa.ExtensionType):
        storage = left.type.storage_type
        left, right = left.cast(storage), right.cast(storage)
    differs: Bools = np.asarray(pc.fill_null(pc.not_equal(left, right), True))
    return differs
