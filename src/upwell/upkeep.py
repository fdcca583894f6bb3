"""The captured tables as they come, change, and are compared with their source.

What ``table_states.py`` writes down is decided here, between versions: tables that are new are
read, layouts are followed, what stands no more is read anew, and what was read takes its place.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import duckdb
import msgspec
import structlog

from upwell.core.errors import GapError, UpwellError
from upwell.core.faults import reach
from upwell.core.protocols import (
    LayoutChange,
    SourceBatch,
    TableChanges,
    Truncation,
    with_constants,
)
from upwell.core.schema import source_of
from upwell.following import Following
from upwell.ingest import settle
from upwell.ingest.copies import Copying
from upwell.ingest.settle import Settled
from upwell.models import Report
from upwell.reconciling import Reconciling, is_alike
from upwell.store import ledger
from upwell.store.hot import HotStore
from upwell.table_states import TableStates
from upwell.versions import Versions

log = structlog.get_logger(__name__)

#: A stream has passed the moment at which a table came into it once it is complete through so much
#: later, by our clock: the two clocks may be wrongly compared by less.
_LATE_US = 2_000_000

Breaking = LayoutChange | Truncation
"""After which a table has to be read anew."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a table was last read or compared: parts, how many of them had to be read, rows, and how
    many rows differed from those stored; microseconds since 1970 UTC.
    """

    parts: int
    parts_read: int
    rows: int
    differing: int
    ended_at_us: int


class Upkeep:
    """See the module. Used by the engine's thread; ``resync`` by any."""

    def __init__(
        self,
        store: HotStore,
        tables: TableStates,
        versions: Versions,
        reconciling: Reconciling,
        report: Report,
    ) -> None:
        self._store = store
        self._tables = tables
        self._versions = versions
        self._reconciling = reconciling
        self._report = report
        self._to_resync: frozenset[str] = frozenset()
        self._to_read: frozenset[str] = frozenset()  # of these, not to be compared first
        self._to_pause: frozenset[str] = frozenset()
        self._late: dict[str, int] = {}  # table → when its stream has passed the hole in it
        self._ending: frozenset[str] = frozenset()  # of these, readings are being written down
        self.readings: dict[str, Reading] = {}

    @property
    def to_resync(self) -> Collection[str]:
        """Tables that ``resync`` was asked for, and that are not begun yet."""
        return frozenset(self._to_resync)

    def follow_layouts(
        self, following: Following, batch: SourceBatch
    ) -> tuple[dict[str, Breaking], SourceBatch]:
        """Let what is stored follow the layouts in a batch; the tables whose rows do not stand
        behind it (``part_with``), and the batch without these, over the layouts as they are now.
        """
        self._end_comparisons(batch)
        broken = self._breaking(batch)
        whole = [each for each in batch.changes if each.table not in broken]
        return broken, self._grown(following, replace(batch, changes=whole))

    def asks_for_layouts(self, batch: SourceBatch) -> bool:
        """Whether something has to be followed before the rows of a batch can be taken in."""
        return any(
            isinstance(each, LayoutChange)
            or (isinstance(each, Truncation) and each.table in self._tables.copying)
            for each in batch.changes
        )

    def _grown(self, following: Following, batch: SourceBatch) -> SourceBatch:
        """A batch over stored layouts that have followed it; its layout changes are done."""
        kept: list[TableChanges | Truncation | LayoutChange] = []
        grown = False
        for change in batch.changes:
            if not isinstance(change, LayoutChange):
                kept.append(change)
                continue
            grown = True
            if self._tables.grow(change):
                self._fill(following, change)
            kept = [
                with_constants(each, change.fills)
                if isinstance(each, TableChanges) and each.table == change.table
                else each
                for each in kept
            ]
        if grown:
            self._versions.renew()
        return replace(batch, changes=kept)

    def _fill(self, following: Following, change: LayoutChange) -> None:
        schema = self._tables.layouts[change.table]

        def work(connection: duckdb.DuckDBPyConnection) -> None:
            settle.fill(connection, schema, change, self._versions.moment(following))

        self._versions.make(work, frozenset([change.table]))
        self._tables.read_again()

    def part_with(self, following: Following, broken: Mapping[str, Breaking]) -> None:
        """Tables whose rows do not stand any more are read anew, or stand still."""
        for name, change in broken.items():
            following.copier.forget(name)
            if self._tables.is_compared(name):
                self._tables.end_comparison(name)  # the stream will tell what has become of it
                continue
            if isinstance(change, LayoutChange) and self._tables.is_of_other_terms(change):
                self._report("privacy_changed", table=name)
            self._tables.part_with(
                change,
                is_comparable=isinstance(change, LayoutChange)
                and following.source.has_ordered_keys(change.now.schema),
            )
            if isinstance(change, LayoutChange) and change.unfit is not None:
                following.joining.add(name)
        if broken:
            following.let_go_of_tables()
            self._versions.renew()

    def resync(self, names: Collection[str], *, anew: bool = False) -> None:
        """Compare tables with their source and read what differs, or with ``anew`` read all of
        them; callable from any thread.
        """
        if anew:
            self._to_read = self._to_read | set(names)
        self._to_resync = self._to_resync | set(names)

    @property
    def waiting(self) -> Collection[str]:
        """Tables that are to be read, compared or paused, or being so; from any thread. Of one that
        is no more among them, ``readings`` says how it was read last.
        """
        # In the order in which a table goes through them, so that none is missed on its way.
        return {*self._to_resync, *self._to_pause, *self._tables.copying, *self._ending}

    def pause(self, names: Collection[str]) -> None:
        """Let stored tables stand still until ``resync`` is asked for them; callable from any
        thread.
        """
        self._to_pause = self._to_pause | set(names)

    def pause_asked(self, following: Following) -> None:
        """Let tables stand still that are to be paused, of one source, also one that is away."""
        asked = {name for name in self._to_pause if source_of(name) == following.name}
        if not asked:
            return
        for name in asked & self._tables.layouts.keys():
            following.copier.forget(name)
            following.joining.discard(name)
            self._tables.pause(name)
        self._to_resync = self._to_resync - asked
        self._to_pause = self._to_pause - asked
        following.let_go_of_tables()
        self._versions.renew()

    def resync_asked(self, following: Following) -> None:
        """Begin what ``resync`` was asked for, of one source."""
        asked = {name for name in self._to_resync if source_of(name) == following.name}
        if not asked or following.stream is None:
            return
        states = {name: self._tables.state_of(name) for name in asked}
        known = [state for state in states.values() if state is not None]
        looked = following.source.look(known)
        anew = self._to_read & asked
        for state in known:
            now = looked.tables.get(state.name)
            self._reconciling.gently.discard(state.name)  # somebody waits for it from now on
            if now is None or state.name in self._tables.copying:
                continue
            is_paused = self._tables.is_paused(state.name)
            still = self._tables.still.get(state.name, looked.unlogged(state.name))
            still = "it was paused" if is_paused else still
            is_comparable = is_alike(state, looked) and state.state and state.name not in anew
            if is_comparable and following.source.has_ordered_keys(state.schema):
                self._tables.compare(now, still)
            else:
                self._tables.read_anew(now, "it was asked for")
        # Only now: whoever waits sees a table as asked for until it is seen as being read.
        self._to_resync, self._to_read = self._to_resync - asked, self._to_read - asked
        if asked & self._tables.absent:
            following.let_go_of_tables()
            self._versions.renew()

    def is_asked(self, following: Following) -> bool:
        """Whether a source whose log was lost is to be followed again: somebody asked for it, or
        decided beforehand. Not while nothing becomes durable: its log would only fill up again.
        """
        if following.log_policy.lost == "resync" and not self._versions.lake_trouble:
            return isinstance(following.lost, GapError)
        return any(source_of(name) == following.name for name in self._to_resync)

    def begin_anew(self, following: Following, why: UpwellError) -> None:
        """Follow a source again whose log was lost: all its tables are compared with what they are
        now, and stand still until then.
        """
        source = following.source
        names = {
            name for name in self._tables.names(source.name) if not self._tables.is_paused(name)
        }
        looked = source.look()
        tables = [looked.tables[name] for name in sorted(names & looked.tables.keys())]
        beginning = source.begin(tables)
        self._tables.stop(names, why.what)
        version = self._versions.next
        following.begin_at(beginning.position, beginning.at_us, version)

        def work(connection: duckdb.DuckDBPyConnection) -> None:
            ledger.begin_anew(connection, source.name, beginning.identity, version)

        self._versions.make(work)
        self._to_resync = self._to_resync | names
        self._versions.renew()

    def join(self, following: Following) -> None:
        """Read tables that are new, or that the source's log did not have for a time."""
        late, following.published_late = following.published_late, []
        new = following.new_tables()
        for name in late:
            state = self._tables.state_of(name)
            copying = self._tables.copying.get(name)
            if name in self._tables.layouts:
                self._late[name] = self._versions.now_us() + _LATE_US
                self._tables.late.add(name)
            if name in self._tables.absent and copying is not None and copying.is_by_keys:
                continue  # it is compared once it is late no more
            if state is not None and (copying is None or copying.parts):
                self._tables.read_anew(state, "its changes were not in the source's log for a time")
        self._begin_late(following)
        for table in new:
            self._tables.read_anew(table, "it is new")
            following.joining.discard(table.name)
            following.let_go_of_tables()
        if late or new:
            self._versions.renew()

    def _begin_late(self, following: Following) -> None:
        """Read tables again whose stream has passed the hole in it.

        Such a stream goes on where the store is: it first brings changes from before the hole,
        which must not count as newer than what is read behind it.
        """
        for name, at_us in list(self._late.items()):
            is_mine = source_of(name) == following.name
            if not is_mine or following.complete_through_us <= at_us:
                continue
            del self._late[name]
            self._tables.late.discard(name)
            copying = self._tables.copying.get(name)
            if copying is None or name not in self._tables.absent:
                continue  # it was paused again
            if copying.is_by_keys:
                self._tables.compare(copying.table, "its changes were not taken in for a time")
            else:
                self._tables.read_anew(
                    copying.table, "its changes were not in the source's log for a time"
                )

    def _end_comparisons(self, batch: SourceBatch) -> None:
        """What is compared while it is followed, and changes as a whole, is only followed."""
        for change in batch.changes:
            if not isinstance(change, TableChanges) and self._tables.is_compared(change.table):
                self._tables.end_comparison(change.table)

    def _breaking(self, batch: SourceBatch) -> dict[str, Breaking]:
        """Tables of whose changes nothing can be taken in, since their rows will be read anew."""
        return {
            change.table: change
            for change in batch.changes
            if not isinstance(change, TableChanges) and self._tables.breaks(change)
        }

    def settle(self, following: Following, read: Sequence[Copying]) -> bool:
        """Let tables that were read to their end take their places, in one version."""
        self._ending = frozenset(copying.table.name for copying in read)
        try:
            return self._settle(following, read)
        finally:
            self._ending = frozenset()

    def _settle(self, following: Following, read: Sequence[Copying]) -> bool:
        compared = [each for each in read if self._tables.is_compared(each.table.name)]
        for copying in compared:
            self._end_comparison(following, copying)
        read = [each for each in read if each not in compared]
        if not read:
            return bool(compared)
        names = frozenset(copying.table.name for copying in read)
        with self._store.relayout(unfilled=names) as connection:
            for copying in read:
                settle.prepare(connection, copying)
        reach("copy.prepared")
        news = names & self._tables.absent
        settled: dict[str, Settled] = {}

        def work(connection: duckdb.DuckDBPyConnection) -> None:
            for copying in read:
                found = settle.settle(connection, copying, self._versions.moment(following))
                settled[copying.table.name] = found

        with self._store.on_all_cores():
            self._versions.make(work, names)
        reach("copy.settled")
        with self._store.relayout() as connection:
            settle.clear(connection)
        self._tables.read_again()
        rows = sum(found.rows for found in settled.values())
        self._report("snapshot_finished", source=following.name, tables=sorted(names), rows=rows)
        news |= {name for name, found in settled.items() if found.differing}
        at_us = self._versions.now_us()
        for copying in read:
            name, parts = copying.table.name, copying.parts
            found = settled[name]
            reading = Reading(parts, parts - copying.same, found.rows, found.differing, at_us)
            self.readings[name] = reading
            log.info("table_read", table=name, **msgspec.to_builtins(reading))
        if news:
            self._versions.renew(news)
        return True

    def _end_comparison(self, following: Following, copying: Copying) -> None:
        """Of a table that was followed meanwhile."""
        found = self._reconciling.settle(following, copying)
        if found is None:
            return
        name, differing = copying.table.name, found.rows_differing
        self.readings[name] = Reading(
            found.ranges, found.ranges_read, found.rows, differing, found.compared_at_us
        )
        if differing:
            self._versions.renew(frozenset([name]))
