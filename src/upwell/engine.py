"""The loop: batch → ingest → transform → commit → feed → acknowledge.

One thread, the single writer. Each turn takes what a source has, makes one version of it in one
transaction with the source's position, and announces the version. The source may forget what is
durable: what the lake has, or where there is no lake, what is committed. Losing a connection never
ends the loop: what is served stays, with the reason it grows old.

Tables that are being read take their changes aside (``table_states.py``) and are brought in by
``gathering.py``; models are renewed whenever what they stand on is another.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
import structlog

from upwell.core.errors import (
    EnvironmentFault,
    GapError,
    IntegrityError,
    Unavailable,
    UpwellError,
    UsageError,
)
from upwell.core.faults import reach
from upwell.core.memory import give_back_memory
from upwell.core.position import BEGINNING, Position
from upwell.core.protocols import (
    Int64s,
    LayoutChange,
    SourceBatch,
    SourceTime,
    TableChanges,
    Truncation,
    VersionEnd,
    with_constants,
)
from upwell.feed.hub import FeedHub
from upwell.following import POLL_BETWEEN_PARTS_SECONDS, POLL_SECONDS, Following
from upwell.gathering import Gathering
from upwell.ingest import settle
from upwell.ingest.apply import Ingest
from upwell.ingest.conform import conformed
from upwell.ingest.copied import CopiedTables
from upwell.ingest.copies import Copying
from upwell.ingest.settle import Moment, Settled
from upwell.models import Models, Report
from upwell.store import ledger
from upwell.store.hot import HotStore
from upwell.table_states import TableStates
from upwell.transform.refresh import ModelFailedError

log = structlog.get_logger(__name__)

#: Versions begin at least this far apart, and no more than two thirds of the time is spent on
#: them, as long as nobody waits longer than the second figure: a version costs the same for one
#: change or a hundred. After a pause the first change is taken in at once.
VERSION_SECONDS = (0.05, 0.25)
#: An idle source's position is committed, and so acknowledged, this often.
IDLE_COMMIT_SECONDS = 10.0
#: After this long without a change the write-ahead log is folded in.
IDLE_CHECKPOINT_SECONDS = 5.0
#: A version of more changes than this is one of a flood, whose next ones are on their way.
BULK_CHANGES = 10_000
TRIM_SECONDS = 3600.0
#: Free memory is given back this often.
GIVE_BACK_SECONDS = 60.0
#: Models that read the clock are refreshed this often while no version does it anyway.
TICK_SECONDS = 60.0

Task = Callable[[duckdb.DuckDBPyConnection], None]
"""A small write that belongs to no version, run in a transaction of its own."""


@dataclass(frozen=True, slots=True)
class Durable:
    """Through which version, and of each source which position, the lake holds everything."""

    version: int = 0
    positions: Mapping[str, Position] = field(default_factory=dict)


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


class Engine:
    """Follows ``followings`` into ``store`` until stopped.

    ``clock`` gives seconds since 1970. With ``has_lake`` sources are acknowledged what
    ``became_durable`` names, else what is committed. ``on_ready`` is called once there is something
    to serve.
    """

    def __init__(
        self,
        store: HotStore,
        hub: FeedHub,
        followings: Sequence[Following],
        tables: TableStates,
        models: Models,
        *,
        has_lake: bool = False,
        on_ready: Callable[[], None] = lambda: None,
        report: Report = lambda _event, **_facts: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._hub = hub
        self._followings = followings
        self._tables = tables
        self._models = models
        self._ingest = Ingest(store.writer, tables.layouts)
        self._copied = CopiedTables(store.writer)
        self._gatherings = [
            Gathering(store, tables, following.source, following.copier, report)
            for following in followings
        ]
        self._clock = clock
        self._tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
        self._to_resync: frozenset[str] = frozenset()
        self._to_read: frozenset[str] = frozenset()  # of these, not to be compared first
        self.readings: dict[str, Reading] = {}
        self._has_lake = has_lake
        self._on_ready = on_ready
        self._is_ready = False
        self._report = report
        self._durable = Durable()
        self._lake_trouble = ""
        self._failure: UpwellError | None = None
        self._logged_bytes = 0
        self._trimmed_at = 0.0
        self._gave_back_at = time.monotonic()
        self._busy_at = 0.0
        self._changes = 0
        self._ticked_at = time.monotonic()
        self._next_version_at = 0.0
        self._announce_times()

    @property
    def followings(self) -> Sequence[Following]:
        return self._followings

    @property
    def to_resync(self) -> Collection[str]:
        """Tables that ``resync`` was asked for, and that are not begun yet."""
        return frozenset(self._to_resync)

    def submit(self, task: Task) -> None:
        """Have a small write done between versions; callable from any thread."""
        self._tasks.put(task)

    @property
    def has_lake(self) -> bool:
        return self._has_lake

    @property
    def durable(self) -> Durable:
        """What the lake is known to hold; nothing without one."""
        return self._durable

    @property
    def logged_bytes(self) -> int:
        """How much the change logs have taken in since the start, roughly."""
        return self._logged_bytes

    @property
    def is_source_waiting(self) -> bool:
        """Whether a source keeps much of its log only until the next round of the lake."""
        positions = self._durable.positions
        return any(
            each.is_log_growing and positions.get(each.name, BEGINNING) < each.committed_position
            for each in self._followings
        )

    def became_durable(self, durable: Durable) -> None:
        """What the lake holds from now on; callable from any thread."""
        self._durable = durable

    def note_lake_trouble(self, trouble: str) -> None:
        """Why nothing becomes durable just now, or nothing; callable from any thread."""
        self._lake_trouble = trouble

    def fail(self, error: UpwellError) -> None:
        """Have ``run`` raise ``error`` soon; callable from any thread."""
        self._failure = error

    def run(self, stop: threading.Event, *, finish: Callable[[], None] | None = None) -> None:
        """Work until ``stop`` is set. Raises what no waiting can mend (disk full, damaged data).

        ``finish`` is called once nothing more is taken in, before the sources are let go.
        """
        try:
            self._renew()
            while not stop.is_set():
                if self._failure is not None:
                    raise self._failure
                busy = False
                stop.wait(max(0.0, self._next_version_at - time.monotonic()))
                for following, gathering in zip(self._followings, self._gatherings, strict=True):
                    busy |= self._advance(following, gathering, stop)
                self._announce_times()
                self._run_tasks()
                self._care(busy=busy)
            if finish is not None:
                finish()
        finally:
            for following in self._followings:
                self._acknowledge(following)
                following.close()

    def _renew(self, anew: frozenset[str] = frozenset()) -> None:
        """Let the models stand on the tables as they are now."""
        self._store.use_threads(os.cpu_count() or 1)
        self._models.renew(self._tables.ground, self._make_version, anew)
        self._store.use_threads(1)
        if not self._is_ready and (self._tables.layouts or not self._tables.copying):
            self._is_ready = True
            self._announce_times()
            self._on_ready()

    # ── one source ───────────────────────────────────────────────────────────────────────────────

    def _advance(self, following: Following, gathering: Gathering, stop: threading.Event) -> bool:
        """Take what the source has. One that cannot go on stops, and everything else goes on.

        What is served of it stays right as of its time; going on would lose rows unseen.
        """
        if following.lost is not None and not self._is_asked(following):
            stop.wait(POLL_SECONDS)
            return False
        try:
            if following.lost is not None:
                self._begin_anew(following, following.lost)
            made = self._take_next(following, stop)
            if following.is_log_full and following.log_policy.beyond == "drop":
                following.give_up_log()
                return made
            self._join(following)
            self._resync_asked(following)
            self._part_with(following, gathering.moved())
            if following.stream is not None:  # whose log has the tables that are to be read
                made |= gathering.step(self._hub.version + 1)
            made |= self._settle(following, gathering.read_to(following.committed_position))
            self._acknowledge(following)
        except (Unavailable, EnvironmentFault, UsageError) as error:
            made = False
            following.lose(error)
        except (GapError, IntegrityError) as error:
            made = False
            following.stop(error)
        return made

    def _take_next(self, following: Following, stop: threading.Event) -> bool:
        name = following.name
        seconds = POLL_BETWEEN_PARTS_SECONDS if self._tables.is_reading(name) else POLL_SECONDS
        tables = partial(self._tables.followed, name)
        batch = following.poll(tables, seconds / len(self._followings), stop)
        return batch is not None and self._take(following, batch)

    def _acknowledge(self, following: Following) -> None:
        """Let the source forget what is durable."""
        position = following.committed_position
        if self._has_lake:
            is_of_this_log = self._durable.version >= following.begun_version
            positions = self._durable.positions if is_of_this_log else {}
            position = positions.get(following.name, BEGINNING)
        following.acknowledge(position)

    def _take(self, following: Following, batch: SourceBatch) -> bool:
        """Whether a version was made."""
        complete = batch.complete_through_us + batch.clock_skew_us
        following.complete_through_us = max(following.complete_through_us, complete)
        begun = time.monotonic()
        moved = batch.position != following.committed_position
        due = (
            begun - following.committed_at > IDLE_COMMIT_SECONDS
            or following.is_log_growing
            or self._tables.is_reading(following.name)
        )
        if not (batch.changes or (moved and due)):
            following.position = batch.position  # nothing lies between the two positions
            return False
        self._end_comparisons(batch)
        broken = self._breaking(batch)
        whole = [each for each in batch.changes if each.table not in broken]
        batch = self._grown(following, replace(batch, changes=whole))
        self._commit(following, batch)
        following.position = batch.position
        following.committed_position, following.committed_at = batch.position, begun
        self._part_with(following, broken)
        least, most = VERSION_SECONDS
        self._next_version_at = begun + min(max(least, 1.5 * (time.monotonic() - begun)), most)
        return True

    def _commit(self, following: Following, batch: SourceBatch) -> None:
        """Make one version of a batch. A model that fails on it is held, and the rest goes on."""
        while True:
            try:
                self._take_in(following, batch)
            except ModelFailedError as failure:
                self._models.hold(failure)
            else:
                return

    def _take_in(self, following: Following, batch: SourceBatch) -> None:
        version = self._hub.version + 1
        logical_time_us = int(self._clock() * 1_000_000)
        rows = [change for change in batch.changes if isinstance(change, TableChanges)]
        changes = sum(len(change.operations) for change in rows)
        self._changes = changes
        self._logged_bytes += sum(change.rows.nbytes for change in rows)
        deltas: dict[str, pa.Table] = {}
        end = self._end(version, logical_time_us, _commit_times(batch))
        announce = partial(self._hub.publish, end, deltas)
        reach("engine.batch_read")
        with self._store.transaction(announce) as connection:
            for name, copying in self._tables.copying.items():
                mine = [change for change in rows if change.table == name]
                if mine:
                    reached = copying.is_reached(following.committed_position)
                    self._copied.apply(
                        copying.table.schema, mine, batch.transactions, version, reached=reached
                    )
            deltas |= self._ingest.apply(self._followed(batch), version)
            reach("engine.batch_ingested")
            deltas |= self._models.refresher.apply(deltas, logical_time_us)
            reach("engine.models_refreshed")
            progress = ledger.SourceProgress(
                batch.position, following.complete_through_us, len(batch.transactions), changes
            )
            ledger.append(connection, version, logical_time_us, {following.name: progress})

    def _followed(self, batch: SourceBatch) -> SourceBatch:
        """A batch without the changes of tables that are being read, and fit for the others."""
        absent = self._tables.absent
        kept = [
            conformed(self._store.writer, each, self._tables.layouts[each.table])
            if isinstance(each, TableChanges) and self._tables.policy(each.table) == "quarantine"
            else each
            for each in batch.changes
            if each.table not in absent
        ]
        return replace(batch, changes=kept)

    # ── tables that change ───────────────────────────────────────────────────────────────────────

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
            self._renew()
        return replace(batch, changes=kept)

    def _fill(self, following: Following, change: LayoutChange) -> None:
        schema = self._tables.layouts[change.table]

        def work(connection: duckdb.DuckDBPyConnection) -> None:
            settle.fill(connection, schema, change, self._moment(following))

        self._make_version(work, frozenset([change.table]))
        self._tables.read_again()

    def _part_with(self, following: Following, broken: Mapping[str, Breaking]) -> None:
        """Tables whose rows do not stand any more are read anew, or stand still."""
        for name, change in broken.items():
            following.copier.forget(name)
            if self._tables.is_compared(name):
                self._tables.end_comparison(name)  # the stream will tell what has become of it
                continue
            if isinstance(change, LayoutChange) and self._tables.is_of_other_terms(change):
                self._report("privacy_changed", table=name)
            self._tables.part_with(change)
            if isinstance(change, LayoutChange) and change.unfit is not None:
                following.joining.add(name)
        if broken:
            following.let_go_of_tables()
            self._renew()

    def resync(self, names: Collection[str], *, anew: bool = False) -> None:
        """Compare tables with their source and read what differs, or with ``anew`` read all of
        them; callable from any thread.
        """
        if anew:
            self._to_read = self._to_read | set(names)
        self._to_resync = self._to_resync | set(names)

    def _resync_asked(self, following: Following) -> None:
        """Begin what ``resync`` was asked for, of one source."""
        asked = {name for name in self._to_resync if name.partition(".")[0] == following.name}
        if not asked or following.stream is None:
            return
        states = {name: self._tables.state_of(name) for name in asked}
        known = [state for state in states.values() if state is not None]
        looked = following.source.look(known)
        anew = self._to_read & asked
        for state in known:
            now = looked.tables.get(state.name)
            change = looked.changes.get(state.name)
            if now is None or state.name in self._tables.copying:
                continue
            still = self._tables.still.get(state.name, "")
            is_alike = change is None or (change.now.schema == state.schema and not change.why)
            is_alike = is_alike and now.terms == state.terms
            is_comparable = is_alike and state.state and state.name not in anew
            if is_comparable and following.source.has_ordered_keys(state.schema):
                self._tables.compare(now, still)
            else:
                self._tables.read_anew(now, "it was asked for")
        # Only now: whoever waits sees a table as asked for until it is seen as being read.
        self._to_resync, self._to_read = self._to_resync - asked, self._to_read - asked
        if asked & self._tables.absent:
            following.let_go_of_tables()
            self._renew()

    def _is_asked(self, following: Following) -> bool:
        """Whether a source whose log was lost is to be followed again: somebody asked for it, or
        decided beforehand. Not while nothing becomes durable: its log would only fill up again.
        """
        if following.log_policy.lost == "resync" and not self._lake_trouble:
            return isinstance(following.lost, GapError)
        return any(name.partition(".")[0] == following.name for name in self._to_resync)

    def _begin_anew(self, following: Following, why: UpwellError) -> None:
        """Follow a source again whose log was lost: all its tables are compared with what they are
        now, and stand still until then.
        """
        source = following.source
        names = self._tables.names(source.name)
        looked = source.look()
        tables = [looked.tables[name] for name in sorted(names & looked.tables.keys())]
        beginning = source.begin(tables)
        self._tables.stop(names, why.what)
        version = self._hub.version + 1
        following.begin_at(beginning.position, beginning.at_us, version)

        def work(connection: duckdb.DuckDBPyConnection) -> None:
            ledger.begin_anew(connection, source.name, beginning.identity, version)

        self._make_version(work)
        self._to_resync = self._to_resync | names
        self._renew()

    def _join(self, following: Following) -> None:
        """Read tables that are new, or that the source's log did not have for a time."""
        late, following.published_late = following.published_late, []
        new = following.new_tables()
        for name in late:
            state = self._tables.state_of(name)
            copying = self._tables.copying.get(name)
            if state is not None and (copying is None or copying.parts):
                self._tables.read_anew(state, "its changes were not in the source's log for a time")
        for table in new:
            self._tables.read_anew(table, "it is new")
            following.joining.discard(table.name)
            following.let_go_of_tables()
        if late or new:
            self._renew()

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

    def _settle(self, following: Following, read: Sequence[Copying]) -> bool:
        """Let tables that were read to their end take their places, in one version."""
        if not read:
            return False
        names = frozenset(copying.table.name for copying in read)
        with self._store.relayout(unfilled=names) as connection:
            for copying in read:
                settle.prepare(connection, copying)
        reach("copy.prepared")
        news = names & self._tables.absent
        settled: dict[str, Settled] = {}

        def work(connection: duckdb.DuckDBPyConnection) -> None:
            for copying in read:
                found = settle.settle(connection, copying, self._moment(following))
                settled[copying.table.name] = found

        self._make_version(work, names)
        reach("copy.settled")
        with self._store.relayout() as connection:
            settle.clear(connection)
        self._tables.read_again()
        rows = sum(found.rows for found in settled.values())
        self._report("snapshot_finished", source=following.name, tables=sorted(names), rows=rows)
        news |= {name for name, found in settled.items() if found.differing}
        at_us = int(self._clock() * 1_000_000)
        for copying in read:
            name, parts = copying.table.name, copying.parts
            found = settled[name]
            reading = Reading(parts, parts - copying.same, found.rows, found.differing, at_us)
            self.readings[name] = reading
            log.info("table_read", table=name, **msgspec.to_builtins(reading))
        if news:
            self._renew(news)
        return True

    # ── versions without changes of the source ───────────────────────────────────────────────────

    def _make_version(
        self,
        work: Callable[[duckdb.DuckDBPyConnection], None],
        anew: frozenset[str] = frozenset(),
        deltas: dict[str, pa.Table] | None = None,
    ) -> None:
        """See ``models.MakeVersion``; ``deltas`` are filled by ``work``."""
        version, logical_time_us = self._hub.version + 1, int(self._clock() * 1_000_000)
        end = self._end(version, logical_time_us, np.empty(0, np.int64))
        announce = partial(self._hub.publish, end, {} if deltas is None else deltas, anew=anew)
        with self._store.transaction(announce) as connection:
            work(connection)
            progresses = {
                each.name: ledger.SourceProgress(each.committed_position, each.complete_through_us)
                for each in self._followings
            }
            ledger.append(connection, version, logical_time_us, progresses)

    def _tick(self) -> None:
        """A version in which nothing but time has passed."""
        deltas: dict[str, pa.Table] = {}

        def work(_connection: duckdb.DuckDBPyConnection) -> None:
            nonlocal deltas
            deltas |= self._models.refresher.apply({}, int(self._clock() * 1_000_000))

        try:
            self._make_version(work, deltas=deltas)
        except ModelFailedError as failure:
            self._models.hold(failure)

    def _end(self, version: int, logical_time_us: int, committed_at_us: Int64s) -> VersionEnd:
        return VersionEnd(
            version, logical_time_us, self._times(), committed_at_us, self._troubles()
        )

    def _moment(self, following: Following) -> Moment:
        """What the change log says of rows that are there because of us, not of the source."""
        return Moment(
            self._hub.version + 1,
            following.committed_position,
            following.complete_through_us,
            int(self._clock() * 1_000_000),
        )

    # ── between versions ─────────────────────────────────────────────────────────────────────────

    def _times(self) -> tuple[SourceTime, ...]:
        return tuple(
            SourceTime(following.name, following.complete_through_us)
            for following in self._followings
        )

    def _announce_times(self) -> None:
        self._hub.set_times(self._times(), self._troubles())

    def _troubles(self) -> str:
        """What does not go on, a line each."""
        troubles = [each for following in self._followings for each in following.troubles]
        troubles += self._tables.still.values()
        troubles += [f"{model} stays as it was: {why}" for model, why in self._models.held.items()]
        troubles += [
            f"{model} is not there yet: {why}" for model, why in self._models.missing.items()
        ]
        if self._lake_trouble:
            troubles.append(self._lake_trouble)
        return "\n".join(dict.fromkeys(troubles))

    def _run_tasks(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                task = self._tasks.get_nowait()
                with self._store.transaction() as connection:
                    task(connection)

    def _care(self, *, busy: bool) -> None:
        """Forget old versions now and then; fold the log in while nothing happens."""
        now = time.monotonic()
        self._store.fold(in_bulk=busy and self._changes > BULK_CHANGES)
        if busy:
            self._busy_at = now
        elif now - self._busy_at > IDLE_CHECKPOINT_SECONDS and self._store.wal_bytes():
            self._store.try_checkpoint()
        if (
            self._models.refresher.reads_clock
            and now - max(self._busy_at, self._ticked_at) > TICK_SECONDS
        ):
            self._ticked_at = now
            self._tick()
        if now - self._gave_back_at > GIVE_BACK_SECONDS:
            self._gave_back_at = now
            give_back_memory()
        if now - self._trimmed_at > TRIM_SECONDS:
            self._trimmed_at = now
            with self._store.transaction() as connection:
                durable = self._durable.version if self._has_lake else None
                ledger.trim(connection, int(self._clock() * 1_000_000), durable)


Breaking = LayoutChange | Truncation
"""After which a table has to be read anew."""


def _commit_times(batch: SourceBatch) -> Int64s:
    return batch.transactions.committed_at_us + batch.clock_skew_us
