"""Brings what a source's copier has read into the store, until the tables can take their places.

Parts are stored as they come, each in a transaction of its own. Once all are in, rows that lack
values are read by their keys; and when the stream has reached the moment of the last reading, the
table is complete. Tables that are read for the first time take their places together.

A table is compared range by range, each asked for as the source gets to it: the checksum of the
stored rows costs a moment between two versions. One that is followed meanwhile needs no more of
the ranges that are alike; of one that stands still they are gathered too, since changes have to be
brought into them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Sequence

from upwell.copying import Copier, Moved, PartRead, PartSame, Planned, RowsRead
from upwell.core.faults import reach
from upwell.core.position import Position
from upwell.core.protocols import Checksum, KeyRange, LayoutChange, Source, SourceTable
from upwell.core.schema import source_of
from upwell.core.sql import quote_table
from upwell.ingest import copies
from upwell.ingest.copied import CopiedTables
from upwell.ingest.copies import Copying, Part
from upwell.ingest.quarantine import set_aside
from upwell.ingest.ranges import condition, condition_of_any, of_part, size_sql
from upwell.models import Report
from upwell.store import ledger
from upwell.store.hot import HotStore
from upwell.table_states import TableStates

#: So long parts are stored before the stream gets its turn.
_STEP_SECONDS = 0.25
#: So many ranges of a table are asked for ahead, unless it is compared gently.
_RANGES_AHEAD = 16
#: Rows that lack values are read again so many at a time.
_ROWS_AT_ONCE = 5_000


class Gathering:
    """For the tables of one source; used by the engine's thread.

    Tables in ``gently``, which may change, are compared one range at a time: nobody waits for them.
    Where no budget spaces what is read, there is a rest behind each as long as it took.
    """

    def __init__(
        self,
        store: HotStore,
        tables: TableStates,
        source: Source,
        copier: Copier,
        report: Report,
        *,
        gently: Collection[str] = (),
    ) -> None:
        self._store = store
        self._tables = tables
        self._copied = CopiedTables(store.writer)
        self._source = source
        self._copier = copier
        self._report = report
        # table → which reading of it, in what state, asked of the copier since when
        self._asked: dict[str, tuple[str, str, int]] = {}
        self._moved: list[SourceTable] = []
        self._rows: dict[str, list[RowsRead]] = {}  # read by keys, until the stream is there
        self._rows_asked: set[str] = set()
        self._gently = gently
        self._ranges: dict[str, deque[tuple[Part, KeyRange]]] = {}  # still to be asked for
        self._ranges_asked: dict[str, int] = {}
        self._asked_at = self._rest_until = 0.0

    def moved(self) -> dict[str, LayoutChange]:
        """Tables that are not what they were when reading them began, as they are now."""
        if not self._moved:
            return {}
        known = self._moved
        looked = self._source.look(known)
        self._moved = []
        for table in known:
            self._forget(table.name)
        found = dict(looked.changes)
        for table in known:
            if table.name not in found and table.name in looked.tables:
                now = looked.tables[table.name]
                found[table.name] = LayoutChange(now, why="its rows were written anew")
            elif not found[table.name].why:
                change = found[table.name]
                why = change.unlogged or "its layout changed"
                found[table.name] = LayoutChange(change.now, why=why)
        return found

    def step(self, version: int) -> bool:
        """Store what has been read; whether there was something. ``version`` is the next one."""
        self._ask()
        begun, busy = time.monotonic(), False
        while time.monotonic() - begun < _STEP_SECONDS:
            self._ask_for_ranges()
            done = self._copier.take()
            if done is None:
                break
            busy = True
            match done:
                case Planned():
                    self._plan(done)
                case PartRead():
                    self._store_part(done, version)
                case PartSame():
                    self._note_same(done)
                case RowsRead():
                    self._rows.setdefault(done.table.name, []).append(done)
                case Moved():
                    self._moved.append(done.table)
        return busy

    def read_to(self, position: Position) -> Sequence[Copying]:
        """The tables that are complete for a stream that has come to ``position``."""
        mine = [each for each in self._tables.copying.values() if self._is_mine(each)]
        if not mine or any(not each.parts for each in mine):
            return ()
        ready = [each for each in mine if self._is_complete(each, position)]
        first = [each for each in mine if each.table.name not in self._tables.layouts]
        if any(each not in ready for each in first):
            ready = [each for each in ready if each not in first]
        for each in ready:
            self._forget(each.table.name)
        return ready

    def _is_mine(self, copying: Copying) -> bool:
        name = copying.table.name
        return source_of(name) == self._source.name and name not in self._tables.late

    def _forget(self, name: str) -> None:
        self._copier.forget(name)
        self._asked.pop(name, None)
        self._rows.pop(name, None)
        self._rows_asked.discard(name)
        self._ranges.pop(name, None)
        self._ranges_asked.pop(name, None)

    def _ask(self) -> None:
        """Have the copier read what is to be read, from where it was left."""
        for name in self._asked.keys() - self._tables.copying.keys():
            self._forget(name)
        for name, copying in self._tables.copying.items():
            reading = (copying.identity, copying.table.state, self._copier.times_begun)
            if not self._is_mine(copying) or self._asked.get(name) == reading:
                continue
            self._forget(name)
            self._asked[name] = reading
            self._copier.begin(name)
            if not self._tables.is_compared(name):
                self._report("snapshot_started", source=self._source.name, tables=[name])
            if copying.parts and not copying.is_by_keys:
                self._copier.read(copying.table, copies.open_parts(self._store.writer, name))
            else:  # also before ranges: it waits for writers whose rows are not to be seen yet
                self._copier.plan(copying.table)

    def _ask_for_ranges(self) -> None:
        """Have ranges compared, as many as are to be under way at once."""
        for name, ranges in self._ranges.items():
            most = 1 if name in self._gently else _RANGES_AHEAD
            while ranges and self._ranges_asked[name] < most and self._may_ask(name):
                part, keys = ranges.popleft()
                self._ranges_asked[name] += 1
                self._asked_at = time.monotonic()
                self._compare(self._tables.copying[name].table, part, keys)

    def _may_ask(self, name: str) -> bool:
        is_spaced = name not in self._gently or self._copier.has_budget
        return is_spaced or time.monotonic() >= self._rest_until

    def _compare(self, table: SourceTable, part: Part, keys: KeyRange) -> None:
        rows = f"(FROM {quote_table(table.name)} WHERE {condition(table.schema, keys)})"
        query = self._source.checksum_sql(table.schema, rows)
        found = self._store.writer.execute(query).fetchone() or (0, 0)
        size = self._store.writer.execute(size_sql(table.schema, keys)).fetchone() or (0,)
        stored = Checksum(int(found[0]), int(found[1]))
        self._copier.compare(table, part, keys, stored, int(size[0]))

    def _note_range(self, name: str) -> None:
        """A range was compared."""
        if name in self._ranges_asked:
            self._ranges_asked[name] -= 1
            now = time.monotonic()
            self._rest_until = now + (now - self._asked_at)

    def _plan(self, done: Planned) -> None:
        name = done.table.name
        if self._tables.copying[name].is_by_keys:
            parts = copies.open_parts(self._store.writer, name)
            ranges = [(part, keys) for part in parts if (keys := of_part(part.where)) is not None]
            self._ranges[name], self._ranges_asked[name] = deque(ranges), 0
            return
        with self._store.transaction() as connection:
            copies.set_plan(connection, name, done.plan)
        reach("copy.planned")
        self._tables.read_again()
        self._copier.read(done.table, copies.open_parts(self._store.writer, name))

    def _store_part(self, done: PartRead, version: int) -> None:
        name, read = done.table.name, done.rows
        schema = self._tables.copying[name].table.schema
        with self._store.transaction() as connection:
            self._copied.store(schema, read.rows)
            for refused in read.refused if name in self._tables.absent else ():
                set_aside(connection, schema, refused, read.position, version)
            copies.set_stored(connection, done.part)
            copies.reach_for(connection, name, read.position)
        reach("copy.part_stored")
        self._note_range(name)
        now = self._tables.note_part(name, read.position)
        if self._tables.is_compared(name):
            return
        estimated = now.estimated_rows
        rows = estimated * now.stored // max(now.parts, 1)
        self._report("snapshot_progress", table=name, rows=rows, of=estimated)

    def _note_same(self, done: PartSame) -> None:
        """Stored rows that are the source's need not be read; what changed since the stream has."""
        name = done.table.name
        schema = self._tables.copying[name].table.schema
        self._note_range(name)
        with self._store.transaction() as connection:
            if name in self._tables.absent:
                self._copied.store_again(schema, condition(schema, done.keys))
            copies.set_same(connection, done.part)
            copies.reach_for(connection, name, done.position)
        self._tables.note_part(name, done.position, is_same=True)

    def _is_complete(self, copying: Copying, position: Position) -> bool:
        return copying.is_reached(position) and self._is_whole(copying, position)

    def _is_whole(self, copying: Copying, position: Position) -> bool:
        """Whether no row lacks a value; has them read, and filled in, if some do."""
        name, schema = copying.table.name, copying.table.schema
        for read in self._rows.pop(name, []):
            if position < read.rows.position:
                self._rows.setdefault(name, []).append(read)
                continue
            with self._store.transaction():
                self._copied.fill(schema, read.rows.rows, read.asked_in)
            self._rows_asked.discard(name)
        if name in self._rows_asked:
            return False
        within = "true"
        if self._tables.is_compared(name):
            ranges = copies.ranges_read(self._store.writer, name)
            within = condition_of_any(schema, ranges)
        keys = self._copied.incomplete(schema, _ROWS_AT_ONCE, within)
        if keys.num_rows:
            self._rows_asked.add(name)
            asked_in = ledger.latest_version(self._store.writer)
            self._copier.read_rows(copying.table, keys, asked_in)
        return not keys.num_rows
