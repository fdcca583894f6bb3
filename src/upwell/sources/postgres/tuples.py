"""Row changes of one table: tuples on the wire to columns of ``TableChanges``.

All rows are walked together, column after column: where a value starts follows from where the one
before it ends. Inserts, updates and deletes share the walk; updates that bring an old tuple walk
that first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from upwell.core.protocols import Bools, Int64s, Operation, Refusal, TableChanges
from upwell.sources.postgres.columns import BINARY, NULL, TEXT, UNCHANGED, Values, decode
from upwell.sources.postgres.frames import Bytes, corrupt
from upwell.sources.postgres.layout import Layout
from upwell.sources.postgres.views import Views

_INSERT, _UPDATE, _DELETE = (ord(letter) for letter in "IUD")
_NEW, _OLD_KEY, _OLD_ROW = (ord(letter) for letter in "NKO")
_OPERATIONS = np.zeros(256, np.int8)
_OPERATIONS[_INSERT] = Operation.INSERT
_OPERATIONS[_UPDATE] = Operation.UPDATE
_OPERATIONS[_DELETE] = Operation.DELETE


@dataclass(frozen=True, slots=True)
class _OldTuples:
    """The tuples before the change, for the updates listed in ``rows``."""

    rows: Int64s
    columns: Sequence[Values]


def table_changes(
    views: Views,
    layout: Layout,
    *,
    starts: Int64s,
    ends: Int64s,
    transaction: npt.NDArray[np.int32],
) -> TableChanges:
    """The changes in the messages at ``starts``..``ends``, all of the table of ``layout``."""
    types = views.bytes[starts]
    columns, old = _walk(views, len(layout.types), types, starts, ends)
    if old is not None:
        columns = _filled_from_old(columns, old)
    _require_key(columns, layout.key)
    if old is not None:
        _require_key(old.columns, layout.key)
    columns = _only_key_of_deletes(columns, types == _DELETE, layout.key)
    arrays, refusals, unchanged = [], [], {}
    for column, values, kind in zip(layout.schema.columns, columns, layout.types, strict=True):
        decoded = decode(views, values, kind)
        arrays.append(decoded.array)
        if decoded.refusal is not None:
            refusals.append(_naming(column.name, decoded.refusal))
        is_unchanged = values.kinds == UNCHANGED
        if is_unchanged.any():
            unchanged[column.name] = is_unchanged
    rows = pa.Table.from_arrays(arrays, names=list(layout.schema.column_names))
    old_rows, old_keys = _moved_keys(views, layout, rows, old)
    return TableChanges(
        schema=layout.schema,
        rows=rows,
        operations=_OPERATIONS[types],
        transaction=transaction,
        old_key_rows=old_rows,
        old_keys=old_keys,
        unchanged=unchanged,
        refusals=tuple(refusals),
    )


def walk_values(
    views: Views, count: int, starts: Int64s, ends: Int64s
) -> tuple[list[Values], Int64s]:
    """Each column's values in tuples that begin at ``starts``, and where the tuples end."""
    columns: list[Values] = []
    places = starts
    for _ in range(count):
        if (places >= ends).any():
            corrupt("a row that ends before its last column")
        kinds = views.bytes[places]
        has_value = (kinds == BINARY) | (kinds == TEXT)
        if has_value.all():
            lengths = views.u4[places + 1].astype(np.int64)
            begins = places + 5
            places = begins + lengths
        else:
            if not (has_value | (kinds == NULL) | (kinds == UNCHANGED)).all():
                corrupt("a value of unknown kind")
            lengths = np.where(has_value, views.u4[places + 1], 0).astype(np.int64)
            begins = np.where(has_value, places + 5, places)
            places = np.where(has_value, begins + lengths, places + 1)
        if (places > ends).any():
            corrupt("a value longer than its row")
        columns.append(Values(kinds, begins, lengths))
    return columns, places


def _walk(
    views: Views,
    count: int,
    types: Bytes,
    starts: Int64s,
    ends: Int64s,
) -> tuple[list[Values], _OldTuples | None]:
    tags = views.bytes[starts + 5]
    brings_old = tags != _NEW
    is_update = types == _UPDATE
    is_delete = types == _DELETE
    if ((brings_old & ~is_update) != is_delete).any() or (
        brings_old & (tags != _OLD_KEY) & (tags != _OLD_ROW)
    ).any():
        corrupt("a row of unknown kind")
    _check_count(views, starts + 6, count)
    places = starts + 8
    old = None
    updated = np.flatnonzero(brings_old & is_update)
    if len(updated):
        columns, behind = walk_values(views, count, places[updated], ends[updated])
        old = _OldTuples(updated, columns)
        if (behind + 3 > ends[updated]).any() or (views.bytes[behind] != _NEW).any():
            corrupt("an update without its new row")
        _check_count(views, behind + 1, count)
        places = places.copy()
        places[updated] = behind + 3
    columns, behind = walk_values(views, count, places, ends)
    if (behind != ends).any():
        corrupt("bytes left over behind a row")
    return columns, old


def _check_count(views: Views, places: Int64s, count: int) -> None:
    if (views.u2[places] != count).any():
        corrupt("a row with another number of columns than its table")


def _filled_from_old(columns: list[Values], old: _OldTuples) -> list[Values]:
    """A value not sent because it did not change may stand in the old tuple."""
    filled = []
    for values, before in zip(columns, old.columns, strict=True):
        was_sent = (before.kinds == BINARY) | (before.kinds == TEXT)
        usable = (values.kinds[old.rows] == UNCHANGED) & was_sent
        filled.append(
            values.or_else(old.rows[usable], before.where(usable)) if usable.any() else values
        )
    return filled


def _require_key(columns: Sequence[Values], key: tuple[int, ...]) -> None:
    for index in key:
        if np.isin(columns[index].kinds, (NULL, UNCHANGED)).any():
            corrupt("a row without its key")


def _only_key_of_deletes(
    columns: list[Values], is_delete: Bools, key: tuple[int, ...]
) -> list[Values]:
    """A delete says which row by its key alone, whatever else the source sent."""
    if not is_delete.any():
        return columns
    kept = []
    for index, values in enumerate(columns):
        kinds = values.kinds if index in key else np.where(is_delete, NULL, values.kinds)
        kept.append(Values(kinds.astype(np.uint8), values.starts, values.lengths))
    return kept


def _moved_keys(
    views: Views, layout: Layout, rows: pa.Table, old: _OldTuples | None
) -> tuple[Int64s, pa.Table | None]:
    """The keys before the change, of the updates that changed them."""
    if old is None:
        return np.empty(0, np.int64), None
    names = layout.schema.key
    arrays = [decode(views, old.columns[index], layout.types[index]).array for index in layout.key]
    before = pa.Table.from_arrays(arrays, names=list(names))
    after = rows.select(list(names)).take(pa.array(old.rows))
    moved = np.zeros(len(old.rows), np.bool_)
    for name in names:
        moved |= _differs(before.column(name), after.column(name))
    if not moved.any():
        return np.empty(0, np.int64), None
    return old.rows[moved], before.filter(pa.array(moved))


def _differs(left: pa.ChunkedArray, right: pa.ChunkedArray) -> Bools:
    if isinstance(left.type, pa.ExtensionType):
        storage = left.type.storage_type
        left, right = left.cast(storage), right.cast(storage)
    differs: Bools = np.asarray(pc.fill_null(pc.not_equal(left, right), True))
    return differs


def _naming(column: str, refusal: Refusal) -> Refusal:
    return Refusal(f"{column}: {refusal.reason}", refusal.rows, refusal.raw, column)
