"""A source of which only what a screen lets through is ever given.

What is known of a table is its layout as it is stored; the source must be asked about the one that
it gave. So the state of a table of which something is left out holds both, the source's own state
and layout. Tables of which nothing is left out pass as they are.

A table that was stored under other terms is another one: it is to be read anew, whatever else has
become of it. One whose layout a rule does not fit (a column that it names is gone or has another
name) cannot be followed: under that other name its values would be stored as they are.

Rows of a table whose key is hashed cannot be asked for by their keys. So the source's log must give
all values of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

import msgspec
import numpy as np
import pyarrow as pa

from upwell.core.errors import EnvironmentFault, LayoutChangedError, ProjectError
from upwell.core.position import Position
from upwell.core.protocols import (
    Beginning,
    Burden,
    Checksum,
    CopiedRows,
    Copy,
    CopyPlan,
    Failover,
    KeyRange,
    LayoutChange,
    Source,
    SourceBatch,
    SourceTable,
    SourceTables,
    Stream,
    Succession,
    TableChanges,
    Transactions,
    Truncation,
)
from upwell.core.schema import TableSchema
from upwell.security.screen import Screen

#: Stored types whose values a source's log may leave out.
_LONG = ("VARCHAR", "BLOB")
_OTHER_TERMS = "other columns or rows of it are stored from now on"
_FILTER_FILLED = "a column by which its rows are chosen was added"
#: No rows have it.
_NO_CHECKSUM = Checksum(-1, 0)


class _Given(msgspec.Struct, frozen=True):
    """A table as the source gave it."""

    schema: TableSchema
    state: str


class ScreenedSource:
    """See ``core.protocols.Source``."""

    def __init__(self, source: Source, screen: Screen) -> None:
        self._source = source
        self._screen = screen

    @property
    def name(self) -> str:
        return self._source.name

    def look(self, known: Sequence[SourceTable] = ()) -> SourceTables:
        """See ``core.protocols.Source.look``. Tables that a rule does not fit are unfit, with a
        ``ProjectError``.
        """
        looked = self._source.look([_given(table) for table in known])
        tables: dict[str, SourceTable] = {}
        unfit = dict(looked.unfit)
        for name, table in looked.tables.items():
            try:
                self._require_askable(table.schema, looked)
                tables[name] = _screened(table, self._screen)
            except (ProjectError, EnvironmentFault) as error:
                unfit[name] = error
        changes: dict[str, LayoutChange] = {}
        for before in known:
            change = looked.changes.get(before.name)
            if before.name in unfit:
                problem = unfit[before.name]
                changes[before.name] = LayoutChange(before, why=problem.what, unfit=problem)
            elif before.name in tables and self.is_of_other_terms(before):
                changes[before.name] = LayoutChange(tables[before.name], why=_OTHER_TERMS)
            elif change is not None:
                changes[before.name] = self.screened(change, before)
        return SourceTables(tables, unfit, changes, looked.leave_values_out)

    def checksum_sql(self, schema: TableSchema, relation: str) -> str:
        """See ``core.protocols.Source.checksum_sql``."""
        return self._source.checksum_sql(schema, relation)

    def has_ordered_keys(self, schema: TableSchema) -> bool:
        """See ``core.protocols.Source.has_ordered_keys``. Not where something is left out: what is
        stored then is not what the source would sum up.
        """
        return not self._screen.terms(schema.name) and self._source.has_ordered_keys(schema)

    def begin(self, tables: Sequence[SourceTable]) -> Beginning:
        """See ``core.protocols.Source.begin``."""
        return self._source.begin([_given(table) for table in tables])

    def follow_only(self, tables: Sequence[SourceTable]) -> Sequence[str]:
        """See ``core.protocols.Source.follow_only``."""
        return self._source.follow_only([_given(table) for table in tables])

    def stream(self, position: Position, tables: Sequence[SourceTable]) -> ScreenedStream:
        """See ``core.protocols.Source.stream``. Of tables of other terms nothing but that comes."""
        mine = [table for table in tables if not self.is_of_other_terms(table)]
        news = self.look(tables).changes if len(mine) < len(tables) else {}
        opening = [news[each.name] for each in tables if each not in mine and each.name in news]
        stream = self._source.stream(position, [_given(table) for table in mine])
        return ScreenedStream(self, stream, mine, position, opening)

    def copy(self) -> ScreenedCopy:
        """See ``core.protocols.Source.copy``."""
        return ScreenedCopy(self, self._source.copy(), self._screen)

    def release(self) -> None:
        self._source.release()

    def close(self) -> None:
        self._source.close()

    def is_of_other_terms(self, table: SourceTable) -> bool:
        """Whether rows of a table were stored under other terms than hold now."""
        return table.terms != self._screen.terms(table.name)

    def screened(self, change: LayoutChange, before: SourceTable) -> LayoutChange:
        """What has become of a table that was ``before``, of the same terms, as it is stored."""
        if change.unfit is not None:
            return replace(change, now=before)
        try:
            now = _screened(change.now, self._screen)
        except ProjectError as error:
            return LayoutChange(before, why=error.what, unfit=error)
        schema, fills, why = change.now.schema, change.fills, change.why
        if fills is not None:
            if self._screen.chooses_by(schema, fills.column_names):
                why = why or _FILTER_FILLED
            fills = self._screen.fills(schema, fills)
        return replace(change, now=now, fills=fills, why=why)

    def changes(
        self, change: TableChanges, before: SourceTable
    ) -> TableChanges | LayoutChange | None:
        """Changes of a table as they are stored; None if nothing of them is. Where they are older
        than a column that a rule names, the table stands still until it is read anew.
        """
        try:
            return self._screen.changes(change)
        except ProjectError as error:
            return LayoutChange(before, why=error.what, unfit=error)

    def _require_askable(self, schema: TableSchema, looked: SourceTables) -> None:
        """Raise ``EnvironmentFault`` for a table that may lack values which nobody could ask for,
        ``ProjectError`` for one that its rule does not fit.
        """
        stored = self._screen.schema(schema).column_names
        is_long = any(each.type in _LONG for each in schema.columns if each.name in stored)
        if (
            self._screen.has_hashed_key(schema)
            and schema.name in looked.leave_values_out
            and is_long
        ):
            raise EnvironmentFault(
                "privacy_key_hashed",
                f"the key of {schema.name} is hashed, so that values which the log leaves out "
                "because they did not change could not be asked for by it",
                where=schema.name,
                next_step="in the source: ALTER TABLE … REPLICA IDENTITY FULL, which has the log "
                "leave nothing out; or do not hash the key",
            )


class ScreenedStream:
    """See ``core.protocols.Stream``. ``opening`` comes first, by itself."""

    def __init__(
        self,
        source: ScreenedSource,
        stream: Stream,
        tables: Sequence[SourceTable],
        position: Position,
        opening: Sequence[LayoutChange],
    ) -> None:
        self._source = source
        self._stream = stream
        self._known = {table.name: table for table in tables}
        self._position = position
        self._opening = opening

    def poll(self, timeout_seconds: float) -> SourceBatch | None:
        """See ``core.protocols.Stream.poll``."""
        if self._opening:
            opening, self._opening = self._opening, ()
            return _at(self._position, opening)
        batch = self._stream.poll(timeout_seconds)
        if batch is None or not batch.changes:
            return batch
        return replace(batch, changes=list(self._screened(batch.changes)))

    def acknowledge(self, position: Position) -> None:
        self._stream.acknowledge(position)

    @property
    def burden(self) -> Burden | None:
        return self._stream.burden

    @property
    def failover(self) -> Failover | None:
        return self._stream.failover

    @property
    def succession(self) -> Succession | None:
        return self._stream.succession

    def close(self) -> None:
        self._stream.close()

    def _screened(
        self, changes: Iterable[TableChanges | Truncation | LayoutChange]
    ) -> Iterable[TableChanges | Truncation | LayoutChange]:
        for change in changes:
            before = self._known.get(change.table)
            if before is None:
                continue  # of a table that cannot be followed any more
            found: TableChanges | Truncation | LayoutChange | None
            match change:
                case LayoutChange():
                    found = self._source.screened(change, before)
                case Truncation():
                    found = replace(change, schema=before.schema)
                case TableChanges():
                    found = self._source.changes(change, before)
            if isinstance(found, LayoutChange):
                if found.unfit is not None:
                    del self._known[found.table]
                else:
                    self._known[found.table] = found.now
            if found is not None:
                yield found


class ScreenedCopy:
    """See ``core.protocols.Copy``."""

    def __init__(self, source: ScreenedSource, copy: Copy, screen: Screen) -> None:
        self._source = source
        self._copy = copy
        self._screen = screen

    def plan(self, table: SourceTable, part_bytes: int) -> CopyPlan:
        """See ``core.protocols.Copy.plan``; rows are estimated before any is left out."""
        return self._copy.plan(self._given(table), part_bytes)

    def read(self, table: SourceTable, part: str) -> CopiedRows:
        """See ``core.protocols.Copy.read``."""
        given = self._given(table)
        return self._screened(given.schema, self._copy.read(given, part))

    def compare(
        self, table: SourceTable, keys: KeyRange, stored: Checksum
    ) -> CopiedRows | Position:
        """See ``core.protocols.Copy.compare``; always the rows where something is left out."""
        if not table.terms:
            return self._copy.compare(self._given(table), keys, stored)
        given = self._given(table)
        found = self._copy.compare(given, keys, _NO_CHECKSUM)
        return self._screened(given.schema, found) if isinstance(found, CopiedRows) else found

    def read_rows(self, table: SourceTable, keys: pa.Table) -> CopiedRows:
        """See ``core.protocols.Copy.read_rows``."""
        given = self._given(table)
        if self._screen.has_hashed_key(given.schema):
            raise _changed(table, "its log has begun to leave values out, and its key is hashed")
        return self._screened(given.schema, self._copy.read_rows(given, keys))

    def close(self) -> None:
        self._copy.close()

    def _given(self, table: SourceTable) -> SourceTable:
        if self._source.is_of_other_terms(table):
            raise _changed(table, _OTHER_TERMS)
        return _given(table)

    def _screened(self, schema: TableSchema, copied: CopiedRows) -> CopiedRows:
        able, refused = self._screen.refused(schema, copied.refused)
        rows = [self._screen.rows(schema, batch) for batch in copied.rows]
        rows = [batch for batch in (*rows, *able) if batch.num_rows]
        return replace(copied, rows=rows, refused=refused)


def _screened(table: SourceTable, screen: Screen) -> SourceTable:
    """A table as it is stored. Raises ``ProjectError`` where its rule does not fit."""
    terms = screen.terms(table.name)
    if not terms:
        return table
    state = msgspec.json.encode(_Given(table.schema, table.state)).decode()
    return SourceTable(screen.schema(table.schema), state, terms)


def _given(table: SourceTable) -> SourceTable:
    """The same table as the source gave it."""
    if not table.terms:
        return table
    given = msgspec.json.decode(table.state, type=_Given)
    return SourceTable(given.schema, given.state)


def _at(position: Position, changes: Sequence[LayoutChange]) -> SourceBatch:
    """A batch that moves nothing on."""
    nothing = Transactions((), np.empty(0, np.int64))
    return SourceBatch(position, nothing, changes, 0, time.time_ns() // 1000)


def _changed(table: SourceTable, how: str) -> LayoutChangedError:
    return LayoutChangedError(
        "table_changed",
        f"reading {table.name}: {how}",
        where=table.name,
        next_step="it is read anew, or it is said why it cannot be",
    )
