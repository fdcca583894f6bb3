"""Brings what a source's copier has read into the store, until the tables can take their places.

Parts are stored as they come, each in a transaction of its own. Once all are in, rows that lack
values are read by their keys; and when the stream has reached the moment of the last reading, the
table is complete. Tables that are read for the first time take their places together.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from upwell.copying import Copier, Moved, PartRead, PartSame, Planned, RowsRead
from upwell.core.faults import reach
from upwell.core.position import Position
from upwell.core.protocols import Checksum, LayoutChange, Source, SourceTable
from upwell.core.sql import quote_table
from upwell.ingest import copies
from upwell.ingest.copied import CopiedTables
from upwell.ingest.copies import Copying, Part
from upwell.ingest.quarantine import set_aside
from upwell.ingest.ranges import condition, of_part
from upwell.models import Report
from upwell.store import ledger
from upwell.store.hot import HotStore
from upwell.table_states import TableStates

#: So long parts are stored before the stream gets its turn.
_STEP_SECONDS = 0.25
#: Rows that lack values are read again so many at a time.
_ROWS_AT_ONCE = 5_000


class Gathering:
    """For the tables of one source; used by the engine's thread."""

    def __init__(
        self, store: HotStore, tables: TableStates, source: Source, copier: Copier, report: Report
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
                found[table.name] = LayoutChange(found[table.name].now, why="its layout changed")
        return found

    def step(self, version: int) -> bool:
        """Store what has been read; whether there was something. ``version`` is the next one."""
        self._ask()
        begun, busy = time.monotonic(), False
        while time.monotonic() - begun < _STEP_SECONDS:
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
                    self._store_again(done)
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
        return copying.table.name.partition(".")[0] == self._source.name

    def _forget(self, name: str) -> None:
        self._copier.forget(name)
        self._asked.pop(name, None)
        self._rows.pop(name, None)
        self._rows_asked.discard(name)

    def _ask(self) -> None:
        """Have the copier read what is to be read, from where it was left."""
        for name, copying in self._tables.copying.items():
            reading = (copying.identity, copying.table.state, self._copier.times_begun)
            if not self._is_mine(copying) or self._asked.get(name) == reading:
                continue
            self._forget(name)
            self._asked[name] = reading
            self._copier.begin(name)
            self._report("snapshot_started", source=self._source.name, tables=[name])
            if copying.parts:
                self._read(copying.table, copies.open_parts(self._store.writer, name))
            else:
                self._copier.plan(copying.table)

    def _read(self, table: SourceTable, parts: Sequence[Part]) -> None:
        ranges = [(part, keys) for part in parts if (keys := of_part(part.where)) is not None]
        self._copier.read(table, [part for part in parts if of_part(part.where) is None])
        for part, keys in ranges:
            rows = f"(FROM {quote_table(table.name)} WHERE {condition(table.schema, keys)})"
            query = self._source.checksum_sql(table.schema, rows)
            found = self._store.writer.execute(query).fetchone() or (0, 0)
            self._copier.compare(table, part, keys, Checksum(int(found[0]), int(found[1])))

    def _plan(self, done: Planned) -> None:
        name = done.table.name
        with self._store.transaction() as connection:
            copies.set_plan(connection, name, done.plan)
        reach("copy.planned")
        self._tables.read_again()
        self._read(done.table, copies.open_parts(self._store.writer, name))

    def _store_part(self, done: PartRead, version: int) -> None:
        name, read = done.table.name, done.rows
        schema = self._tables.copying[name].table.schema
        with self._store.transaction() as connection:
            self._copied.store(schema, read.rows)
            for refused in read.refused:
                set_aside(connection, schema, refused, read.position, version)
            copies.set_stored(connection, done.part)
            copies.reach_for(connection, name, read.position)
        reach("copy.part_stored")
        now = self._tables.note_part(name, read.position)
        estimated = now.estimated_rows
        rows = estimated * now.stored // max(now.parts, 1)
        self._report("snapshot_progress", table=name, rows=rows, of=estimated)

    def _store_again(self, done: PartSame) -> None:
        """Stored rows that are the source's need not be read; what changed since the stream has."""
        name = done.table.name
        schema = self._tables.copying[name].table.schema
        with self._store.transaction() as connection:
            self._copied.store_again(schema, condition(schema, done.keys))
            copies.set_stored(connection, done.part)
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
        keys = self._copied.incomplete(schema, _ROWS_AT_ONCE)
        if keys.num_rows:
            self._rows_asked.add(name)
            asked_in = ledger.latest_version(self._store.writer)
            self._copier.read_rows(copying.table, keys, asked_in)
        return not keys.num_rows
