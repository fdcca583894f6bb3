"""What has become of a captured table since its rows were read.

Rows in the log carry their new layout, rows that were there before do not come again: whatever a
change of the table did to those, our copies do not have. A column added empty changes nothing that
is stored, and one added with a constant can be filled in; after anything else the table must be
read anew: a column dropped or renamed, another type, another key, a column filled row by row.

The log is behind the catalogue, never before it. So a column that the log does not know yet is no
drift, and one that the catalogue does not know any more is: rows of such a layout are left out,
because reading the table anew brings what they did. So are all rows that the log has up to where we
looked: whether a value stands under a column's name or under that of one before it, or as it was
before another type, the log does not say. The state keeps how far that is, so that the rows are
left out by whoever reads the log again.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet

import msgspec
import pyarrow as pa

from upwell.core.errors import EnvironmentFault
from upwell.core.protocols import LayoutChange, SourceTable
from upwell.sources.postgres import texts
from upwell.sources.postgres.catalog import Catalog, read_catalog
from upwell.sources.postgres.layout import Admission, Announcement, Layout, in_catalog
from upwell.sources.postgres.session import session
from upwell.sources.postgres.tables import CapturedColumn, CapturedTable


class ColumnState(msgspec.Struct, frozen=True):
    """What tells a column from another of its name. ``declared``: type and modifier;
    ``written_in``: which transaction last altered it.
    """

    name: str
    number: int
    declared: tuple[int, int]
    written_in: int


class PartitionState(msgspec.Struct, frozen=True, array_like=True):
    """What tells whether the rows in a partition may be others than those that the log told of.

    ``empty_through``: where the log was when it was first seen, without rows.
    """

    oid: int
    file: int
    attached_in: int
    empty_through: int = 0


class TableState(msgspec.Struct, frozen=True):
    """What tells whether rows read before are still what would be read now.

    The table is read, or has been, after the log had come to ``read_through``.
    """

    oid: int
    file: int
    columns: tuple[ColumnState, ...]
    read_through: int = 0
    partitions: tuple[PartitionState, ...] = ()


def source_table(
    table: CapturedTable,
    read_through: int = 0,
    *,
    known: TableState | None = None,
    log_end: int = 0,
) -> SourceTable:
    """The table as the rest of Upwell keeps it. Where it was ``known`` before, partitions that it
    did not have then came without rows, and were looked at before ``log_end``.
    """
    columns = (
        ColumnState(each.name, each.number, each.declared, each.written_in)
        for each in table.columns
    )
    since = {each.oid: each.empty_through for each in known.partitions} if known else {}
    first = log_end if known else 0
    partitions = (
        PartitionState(each.oid, each.file, each.attached_in, since.get(each.oid, first))
        for each in table.partitions
    )
    state = TableState(table.oid, table.file, tuple(columns), read_through, tuple(partitions))
    return SourceTable(table.schema, msgspec.json.encode(state).decode())


def compare(before: SourceTable, now: CapturedTable, log_end: int = 0) -> LayoutChange | None:
    """What has become of a table since; None where its rows stand as they were read.

    ``log_end``: how far the log had come, or later, when the catalogue said what it is ``now``.
    """
    if not before.state:  # written before states were kept
        if before.schema == now.schema:
            return LayoutChange(source_table(now))
        return LayoutChange(source_table(now, log_end), why="its layout changed")
    known = _state(before)
    after = source_table(now, known.read_through, known=known, log_end=log_end)
    if before == after:
        return None
    why, unlogged = next(_drifts(before, known, now), ""), _unlogged(known, now)
    if why:
        return LayoutChange(source_table(now, log_end), why=why, unlogged=unlogged)
    added = [each for each in now.columns if each.number > _newest(known)]
    if unlogged:  # what the log has of before may have been undone since, without its knowing
        after = source_table(now, log_end)
    return LayoutChange(after, _constants(added), unlogged=unlogged)


def partitions_of(known: Iterable[SourceTable]) -> AbstractSet[int]:
    """The partitions that these tables had, by OID."""
    states = (_state(table) for table in known if table.state)
    return {each.oid for state in states for each in state.partitions}


def _unlogged(known: TableState, now: CapturedTable) -> str:
    """What was done to the partitions of a table, and their rows, that the log tells nothing of.

    A partition that came without rows has had all of them in the log since.
    """
    after = {each.oid: each for each in now.partitions}
    for each in known.partitions:
        partition = after.pop(each.oid, None)
        if partition is None:
            return "a partition was dropped or detached"
        if partition.attached_in != each.attached_in:
            return f"partition {partition.relation} was detached, or is being so"
        if partition.file != each.file:
            return f"partition {partition.relation} was truncated, or written anew"
    for partition in after.values():
        if partition.has_rows:
            return f"partition {partition.relation} came, and has rows already"
    return ""


def is_rewritten(before: SourceTable, now: CapturedTable) -> bool:
    """Whether rows lie at other places than they did, or in another table."""
    known = _state(before)
    return (known.oid, known.file) != (now.oid, now.file) or bool(_unlogged(known, now))


def _state(table: SourceTable) -> TableState:
    return msgspec.json.decode(table.state, type=TableState)


def _newest(known: TableState) -> int:
    return max((column.number for column in known.columns), default=0)


def _drifts(before: SourceTable, known: TableState, now: CapturedTable) -> Iterator[str]:
    """What happened to a table that our rows of it did not see."""
    if now.oid != known.oid:
        yield "another table took its name"
        return
    if now.key != before.schema.key:
        yield f"its key was ({', '.join(before.schema.key)}) and is ({', '.join(now.key)})"
    files = {each.oid: each.file for each in now.partitions}
    is_new_file = now.file != known.file or any(
        files.get(each.oid, each.file) != each.file for each in known.partitions
    )
    columns = {column.name: column for column in now.columns}
    names = {column.number: column.name for column in now.columns}
    for each in known.columns:
        after = columns.pop(each.name, None)
        if after is None or after.number != each.number:
            renamed = names.get(each.number)
            yield f"column {each.name} was " + (f"renamed to {renamed}" if renamed else "dropped")
        elif _is_retyped(before, each, after, is_new_file=is_new_file):
            yield f"column {each.name} has another type"
    for added in columns.values():
        if added.filled_with is None and added.has_default and is_new_file:
            yield f"column {added.name} was added with a value in every row"


def _is_retyped(
    before: SourceTable, known: ColumnState, after: CapturedColumn, *, is_new_file: bool
) -> bool:
    """A type that is stored alike may still have changed values, but then the table was rewritten:
    widening a varchar does not, cutting one does. So may the same type, by a USING of its own.
    """
    is_stored_so = before.schema.column(known.name).type == after.type.stored
    is_altered = (after.declared, after.written_in) != (known.declared, known.written_in)
    return not is_stored_so or (is_altered and is_new_file)


def _constants(columns: Sequence[CapturedColumn]) -> pa.Table | None:
    """One row of the values that these columns were added with; None if none was."""
    filled = [column for column in columns if column.filled_with is not None]
    if not filled:
        return None
    arrays = [
        texts.parse(pa.array([column.filled_with], pa.string()), column.type)[0]
        for column in filled
    ]
    return pa.table(arrays, [column.name for column in filled])


def changed_since(known: Sequence[SourceTable], catalog: Catalog) -> Iterator[LayoutChange]:
    """What has become of these tables up to now.

    Raises ``EnvironmentFault`` for one that this role may just not read: its rows stand.
    """
    catalog.require_rights(table.name for table in known)
    now = {table.name: table for table in catalog.tables}
    for before in known:
        if before.name in now:
            change = compare(before, now[before.name], catalog.log_end)
            if change is not None:
                yield change
        else:
            unfit = catalog.unfit.get(before.name) or _gone(before.name)
            yield LayoutChange(before, why=unfit.what, unfit=unfit)


class KnownLayouts:
    """The captured tables in the states last told; what the catalogue says now is compared."""

    def __init__(self, source: str, url: str, known: Sequence[SourceTable]) -> None:
        self._source = source
        self._url = url
        self._known = {table.name: table for table in known}
        self._kept = {table.name for table in known if table.is_kept}

    def opening(self, catalog: Catalog, published: Container[int]) -> tuple[LayoutChange, ...]:
        """What has become of the tables up to now; ``published`` are those that the log has."""
        changes = {each.table: each for each in changed_since(tuple(self._known.values()), catalog)}
        for table in catalog.tables:
            if table.name in self._known and table.oid not in published:
                why = "it was out of the publication for a time"
                now = source_table(table, catalog.log_end)
                changes[table.name] = LayoutChange(now, why=why)
        self._learn(changes.values())
        return tuple(changes.values())

    def admit(self, announced: Sequence[Announcement]) -> Sequence[Admission]:
        """Ask the catalogue about layouts that the log announces, in the log's order.

        About all of them at once: after each start the log announces every table anew.
        """
        tables = {each.layout.schema.name: each.layout.table for each in announced}
        before = [self._known[name] for name in tables if name in self._known]
        if not before:
            return [_passed_over(each.layout) for each in announced]
        with session(self._url) as connection:
            names = [tables[table.name] for table in before]
            catalog = read_catalog(connection, self._source, names, partitions_of(before))
        now = {table.name: table for table in catalog.tables}
        changes = {each.table: each for each in changed_since(before, catalog)}
        admissions: list[Admission] = []
        for each in announced:
            name = each.layout.schema.name
            if name in self._known:
                change = changes.pop(name, None)  # it is news once
                if name in now and self._is_news(each):
                    change = _of_partition(change, source_table(now[name], catalog.log_end))
                self._learn([change] if change is not None else ())
                admission = self._admission(each, change, now.get(name), catalog.log_end)
            else:
                admission = _passed_over(each.layout)
            admissions.append(admission)
        return admissions

    def _admission(
        self,
        announced: Announcement,
        change: LayoutChange | None,
        now: CapturedTable | None,
        log_end: int,
    ) -> Admission:
        if now is None:
            return Admission(announced.layout, change, is_stale=True)
        layout = in_catalog(announced.layout, now)
        if now.name in self._kept:
            return Admission(layout, change, is_stale=not layout.has_key)
        is_stale = not layout.has_key or _has_gone(layout, now)
        if is_stale and announced.lsn > self._read_through(now.name):  # it came, and went again
            change = LayoutChange(source_table(now, log_end), why="its layout changed")
            self._learn([change])
        missing = [each for each in now.columns if each.name not in layout.schema.column_names]
        read_through = self._read_through(now.name)
        return Admission(layout, change, is_stale, read_through, _constants(missing))

    def _is_news(self, announced: Announcement) -> bool:
        """Whether rows come of a partition that the table's state does not have, or from before it
        was seen without any. It may have gone since, or been emptied, and nobody saw it.
        """
        before = self._known[announced.layout.schema.name]
        if not announced.partition or not before.state:
            return False
        state = _state(before)
        seen = {each.oid: each.empty_through for each in state.partitions}
        is_news = announced.lsn <= seen.get(announced.partition, announced.lsn)
        return is_news and announced.lsn > state.read_through

    def _read_through(self, name: str) -> int:
        state = self._known[name].state
        return _state(self._known[name]).read_through if state else 0

    def _learn(self, changes: Iterable[LayoutChange]) -> None:
        for change in changes:
            if change.unfit is not None:
                del self._known[change.table]
            else:
                self._known[change.table] = change.now


def _of_partition(change: LayoutChange | None, now: SourceTable) -> LayoutChange:
    if change is not None and (change.why or change.unlogged or change.unfit is not None):
        return change
    unlogged = "a partition came with rows, and may have gone since"
    return LayoutChange(now, None if change is None else change.fills, unlogged=unlogged)


def _passed_over(layout: Layout) -> Admission:
    """Of a table that is not followed, or no more."""
    return Admission(layout, None, is_stale=True)


def _has_gone(layout: Layout, now: CapturedTable) -> bool:
    """Whether a column of the log is none of the catalogue any more, or not so, or elsewhere."""
    logged = [(each.name, each.type) for each in layout.schema.columns]
    names = set(layout.schema.column_names)
    return logged != [(each.name, each.type.stored) for each in now.columns if each.name in names]


def _gone(name: str) -> EnvironmentFault:
    return EnvironmentFault(
        "table_gone",
        f"table {name} is not in the source any more",
        where=name,
        next_step="take it out of upwell.yaml, or make it anew there",
    )
