"""What has become of a captured table since its rows were read.

Rows in the log come in their new layout, rows that were there before do not come again: whatever a
change of the table did to those, our copies do not have. Columns added behind the others, empty or
with a constant, and types that only got wider change nothing that is stored; after anything else
the table must be read anew.

Rows that were changed before a table is read anew are left out: whether a value stands under a
column's name or under that of one before it, the log does not say. The state keeps how far that is.
That a table was dropped and made again alike cannot be seen here. The log tells: see ``binlog``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from upwell.core.errors import EnvironmentFault, IntegrityError
from upwell.core.protocols import LayoutChange, SourceTable
from upwell.sources.mysql import texts
from upwell.sources.mysql.datatypes import DataType, Kind
from upwell.sources.mysql.places import NOWHERE, Place
from upwell.sources.mysql.tables import CapturedColumn, CapturedTable, source_table, state_of

_CONSTANT = re.compile(r"'((?:[^']|'')*)'|(-?\d+(?:\.\d*)?(?:e[+-]?\d+)?)", re.IGNORECASE)
_NUMBERS = (Kind.INT, Kind.FLOAT, Kind.DOUBLE, Kind.DECIMAL, Kind.NUMERIC, Kind.YEAR)
_SPELLED = (*_NUMBERS, Kind.DATE, Kind.DATETIME)  # the default is spelled as the value is


def compare(
    before: SourceTable, now: CapturedTable, log_end: Place = NOWHERE
) -> LayoutChange | None:
    """What has become of a table since; None where its rows stand as they were read.

    ``log_end``: how far the log had come, or later, when the catalogue said what it is ``now``.
    """
    state = state_of(before)
    known = state.table
    why = next(_drifts(known, now), "")
    added = [now.columns[at] for at in now.kept if at >= len(known.columns)]
    for column in added:
        if not why and not is_fill_known(column):
            why = f"column {column.name} was added with a value in every row"
    if why:
        return LayoutChange(source_table(now, log_end), why=why)
    if not added and known.schema == now.schema and known.types == now.types:
        return None
    return LayoutChange(source_table(now, state.read_through), _fills(added))


def constants(table: CapturedTable) -> pa.Table | None:
    """One row of the values that rows have which lack the last columns of a table."""
    return _fills(table.columns[at] for at in table.kept)


def is_fill_known(column: CapturedColumn) -> bool:
    """Whether all rows have one value, or NULL, in a column that was added after them."""
    return column.is_virtual or _is_added_empty(column) or _fill(column) is not None


def gone(name: str) -> EnvironmentFault:
    """Why a table that is no more cannot be followed."""
    return EnvironmentFault(
        "table_gone",
        f"table {name} is not in the source any more",
        where=name,
        next_step="take it out of upwell.yaml, or make it anew there",
    )


def _drifts(known: CapturedTable, now: CapturedTable) -> Iterator[str]:
    """What happened to a table that our rows of it did not see."""
    if (known.database, known.table) != (now.database, now.table):
        yield "another table took its name"
    if known.key != now.key:
        yield f"its key was ({', '.join(known.key)}) and is ({', '.join(now.key)})"
    names = [column.name for column in now.columns]
    for at, before in enumerate(known.columns):
        if before.name not in names:
            yield f"column {before.name} was dropped or renamed"
        elif names[at : at + 1] != [before.name]:
            yield f"column {before.name} has another place"
        elif not _is_wider(before, now.columns[at]):
            yield f"column {before.name} has another type"


def _is_wider(before: CapturedColumn, after: CapturedColumn) -> bool:
    """Whether every value stays what it was."""
    if (before.is_virtual, before.expression) != (after.is_virtual, after.expression):
        return False
    if before.charset != after.charset:
        return False
    if before.words == after.words:
        return True
    one, other = before.type, after.type
    if one.kind is not other.kind or one.stored != other.stored:
        return False
    if one.kind in (Kind.ENUM, Kind.SET):
        return other.labels[: len(one.labels)] == one.labels
    return one.kind is Kind.TEXT and _limit(after.words) >= _limit(before.words) > 0


def _is_added_empty(column: CapturedColumn) -> bool:
    return column.default is None and column.is_nullable and not column.expression


def _fills(columns: Iterable[CapturedColumn]) -> pa.Table | None:
    filled = {each.name: _fill(each) for each in columns if not _is_added_empty(each)}
    known = {name: value for name, value in filled.items() if value is not None}
    return pa.table(known) if known else None


def _limit(words: str) -> int:
    """``varchar(20)`` → 20; 0 for what is no varchar."""
    match = re.fullmatch(r"varchar\((\d+)\)", words)
    return int(match[1]) if match else 0


def _fill(column: CapturedColumn) -> pa.Array | None:
    """The one value that a column was added with; None where rows may have different ones."""
    if "auto_increment" in column.extra.lower() or column.expression:
        return None
    kind = column.type
    if column.default is None:  # NOT NULL without a default: the type's own
        if kind.kind in (Kind.TEXT, Kind.BLOB):
            return _value("", kind)
        if kind.kind is Kind.ENUM:
            return pa.array(kind.labels[:1], pa.string())
        return _value("0", kind) if kind.kind in _NUMBERS else None
    match = _CONSTANT.fullmatch(column.default)
    if match is None:
        return None
    return _value(match[2] or match[1].replace("''", "'"), kind)


def _value(text: str, kind: DataType) -> pa.Array | None:
    if kind.kind in (Kind.TEXT, Kind.ENUM, Kind.SET) and "\\" not in text:
        return pa.array([text], pa.string())
    if kind.kind is Kind.BLOB and not text:
        return pa.array([b""], pa.binary())
    if kind.kind not in _SPELLED:
        return None
    try:
        decoded = texts.of_strings([text], kind)
    except IntegrityError:
        return None
    return decoded.array if not np.asarray(decoded.refused).any() else None
