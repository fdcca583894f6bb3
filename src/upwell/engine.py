"""The loop: batch → ingest → transform → commit → feed → acknowledge.

One thread, the single writer. Each turn takes what a source has, makes one version of it in one
transaction with the source's position, and announces the version. The source may forget what is
durable: what the lake has, or where there is no lake, what is committed. Losing a connection never
ends the loop: what is served stays, with the reason it grows old.

Tables that are being read take their changes aside (``table_states.py``) and are brought in by
``gathering.py``; ``upkeep.py`` follows what becomes of them.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import duckdb
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
from upwell.core.protocols import Int64s, SourceBatch, TableChanges
from upwell.feed.hub import FeedHub
from upwell.following import POLL_BETWEEN_PARTS_SECONDS, POLL_SECONDS, Following
from upwell.gathering import Gathering
from upwell.ingest.apply import Ingest
from upwell.ingest.conform import conformed
from upwell.ingest.copied import CopiedTables
from upwell.models import Models, Report
from upwell.parts import Parts, UndoneError
from upwell.reconciling import LogInLake, Reconciling, no_lake
from upwell.store import ledger
from upwell.store.hot import HotStore
from upwell.table_states import TableStates
from upwell.transform.refresh import ModelFailedError
from upwell.upkeep import Upkeep
from upwell.versions import Versions

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
#: So long is waited for a gap between two versions by whoever would slow one down.
GAP_PATIENCE_SECONDS = 0.5

Task = Callable[[duckdb.DuckDBPyConnection], None]
"""A small write that belongs to no version, run in a transaction of its own."""


@dataclass(frozen=True, slots=True)
class Durable:
    """Through which version, and of each source which position, the lake holds everything."""

    version: int = 0
    positions: Mapping[str, Position] = field(default_factory=dict)


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
        log_in_lake: LogInLake = no_lake,
        on_ready: Callable[[], None] = lambda: None,
        report: Report = lambda _event, **_facts: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._hub = hub
        self._followings = followings
        self._tables = tables
        self._models = models
        self._versions = Versions(
            store, hub, followings, tables, models, on_ready=on_ready, clock=clock
        )
        self._reconciling = Reconciling(store, tables, self._versions, report, log_in_lake)
        self._upkeep = Upkeep(store, tables, self._versions, self._reconciling, report)
        self._ingest = Ingest(store.writer, tables.layouts)
        self._copied = CopiedTables(store.writer)
        self._gatherings = [
            Gathering(
                store,
                tables,
                following.source,
                following.copier,
                report,
                gently=self._reconciling.gently,
            )
            for following in followings
        ]
        self._tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
        self._in_gap = threading.Event()
        self._in_gap.set()
        self._has_lake = has_lake
        self._durable = Durable()
        self._failure: UpwellError | None = None
        self._logged_bytes = 0
        self._trimmed_at = 0.0
        self._gave_back_at = time.monotonic()
        self._busy_at = 0.0
        self._changes = 0
        self._ticked_at = time.monotonic()
        self._next_version_at = 0.0
        self._versions.announce_times()

    @property
    def followings(self) -> Sequence[Following]:
        return self._followings

    @property
    def upkeep(self) -> Upkeep:
        """How the tables are, and how to have them read again."""
        return self._upkeep

    @property
    def reconciling(self) -> Reconciling:
        """What comparisons with the sources found, and when the next ones are due."""
        return self._reconciling

    def submit(self, task: Task) -> None:
        """Have a small write done between versions; callable from any thread."""
        self._tasks.put(task)

    def await_gap(self) -> None:
        """Wait until no version is being made, a moment at most; callable from any thread."""
        self._in_gap.wait(GAP_PATIENCE_SECONDS)

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
        self._versions.lake_trouble = trouble

    def fail(self, error: UpwellError) -> None:
        """Have ``run`` raise ``error`` soon; callable from any thread."""
        self._failure = error

    def run(self, stop: threading.Event, *, finish: Callable[[], None] | None = None) -> None:
        """Work until ``stop`` is set. Raises what no waiting can mend (disk full, damaged data).

        ``finish`` is called once nothing more is taken in, before the sources are let go.
        """
        try:
            self._versions.renew()
            while not stop.is_set():
                if self._failure is not None:
                    raise self._failure
                busy = False
                stop.wait(max(0.0, self._next_version_at - time.monotonic()))
                for following, gathering in zip(self._followings, self._gatherings, strict=True):
                    busy |= self._advance(following, gathering, stop)
                self._versions.announce_times()
                self._run_tasks()
                self._care(busy=busy)
            if finish is not None:
                finish()
        finally:
            for following in self._followings:
                self._acknowledge(following)
                following.close()

    # ── one source ───────────────────────────────────────────────────────────────────────────────

    def _advance(self, following: Following, gathering: Gathering, stop: threading.Event) -> bool:
        """Take what the source has. One that cannot go on stops, and everything else goes on.

        What is served of it stays right as of its time; going on would lose rows unseen.
        """
        self._upkeep.pause_asked(following)
        if following.lost is not None and not self._upkeep.is_asked(following):
            stop.wait(POLL_SECONDS)
            return False
        try:
            if following.lost is not None:
                self._upkeep.begin_anew(following, following.lost)
            made = self._take_next(following, stop)
            if following.is_log_full and following.log_policy.beyond == "drop":
                following.give_up_log()
                return made
            self._upkeep.join(following)
            self._upkeep.resync_asked(following)
            self._reconciling.step(following, is_busy=bool(self._upkeep.to_resync))
            self._upkeep.part_with(following, gathering.moved())
            if following.stream is not None:  # whose log has the tables that are to be read
                made |= gathering.step(self._versions.next)
            made |= self._upkeep.settle(following, gathering.read_to(following.committed_position))
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
        return batch is not None and self._take(following, batch, stop)

    def _acknowledge(self, following: Following) -> None:
        """Let the source forget what is durable."""
        position = following.committed_position
        if self._has_lake:
            is_of_this_log = self._durable.version >= following.begun_version
            positions = self._durable.positions if is_of_this_log else {}
            position = positions.get(following.name, BEGINNING)
        following.acknowledge(position)

    def _take(self, following: Following, batch: SourceBatch, stop: threading.Event) -> bool:
        """Whether a version was made."""
        if not batch.goes_on:
            complete = batch.complete_through_us + batch.clock_skew_us
            following.complete_through_us = max(following.complete_through_us, complete)
        begun = time.monotonic()
        moved = batch.position != following.committed_position
        due = (
            begun - following.committed_at > IDLE_COMMIT_SECONDS
            or following.is_log_growing
            or self._tables.is_reading(following.name)
        )
        if not (batch.changes or batch.goes_on or (moved and due)):
            following.position = batch.position  # nothing lies between the two positions
            return False
        broken, batch = self._upkeep.follow_layouts(following, batch)
        parts = Parts(following, batch, self._upkeep, lambda: self._is_to_end(stop))
        self._in_gap.clear()
        try:
            self._commit(following, parts)
        except UndoneError as undone:
            log.info("transaction_undone", source=following.name, why=undone.why)
            if undone.met is not None:
                following.disconnect()
                broken, _ = self._upkeep.follow_layouts(following, undone.met)
                self._upkeep.part_with(following, broken)
            return False
        finally:
            following.taking = ""
            self._in_gap.set()
        following.position = parts.last.position
        following.committed_position, following.committed_at = parts.last.position, begun
        self._upkeep.part_with(following, broken)
        least, most = VERSION_SECONDS
        self._next_version_at = begun + min(max(least, 1.5 * (time.monotonic() - begun)), most)
        return True

    def _is_to_end(self, stop: threading.Event) -> bool:
        return stop.is_set() or self._failure is not None

    def _commit(self, following: Following, parts: Parts) -> None:
        """Make one version of a batch, or of all parts of a transaction.

        A model that fails on it is held, and the rest goes on.
        """
        while True:
            try:
                self._take_in(following, parts)
            except ModelFailedError as failure:
                self._models.hold(failure)
                if parts.are_many:  # the source has to give them again
                    following.disconnect()
                    raise UndoneError(f"{failure.model} failed") from failure
            else:
                return

    def _take_in(self, following: Following, parts: Parts) -> None:
        version = self._versions.next
        logical_time_us = self._versions.now_us()
        taken = _Taken()

        def announce() -> None:
            times = np.concatenate(taken.committed_at_us)
            end = self._versions.end(version, logical_time_us, times)
            self._hub.publish(end, taken.deltas, anew=frozenset(taken.anew))

        reach("engine.batch_read")
        with self._store.transaction(announce) as connection:
            for batch in parts:
                self._apply(following, batch, version, logical_time_us, taken)
                if batch.goes_on:
                    following.taking = (
                        f"{following.name}: a transaction of more than {taken.changes:,} changes "
                        f"is being taken in"
                    )
                    self._versions.announce_times()
            following.taking = ""
            self._changes = taken.changes
            progress = ledger.SourceProgress(
                parts.last.position,
                following.complete_through_us,
                taken.transactions,
                taken.changes,
            )
            ledger.append(connection, version, logical_time_us, {following.name: progress})

    def _apply(
        self,
        following: Following,
        batch: SourceBatch,
        version: int,
        logical_time_us: int,
        taken: _Taken,
    ) -> None:
        """Take a batch in, inside the transaction of its version."""
        rows = [change for change in batch.changes if isinstance(change, TableChanges)]
        self._logged_bytes += sum(change.rows.nbytes for change in rows)
        for name, copying in self._tables.copying.items():
            mine = [change for change in rows if change.table == name]
            if mine:
                reached = copying.is_reached(following.committed_position)
                self._copied.apply(
                    copying.table.schema, mine, batch.transactions, version, reached=reached
                )
        deltas = self._ingest.apply(self._followed(batch), version)
        reach("engine.batch_ingested")
        deltas |= self._models.refresher.apply(deltas, logical_time_us)
        reach("engine.models_refreshed")
        taken.add(batch, deltas, sum(len(change.operations) for change in rows))

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

    def _tick(self) -> None:
        """A version in which nothing but time has passed."""
        deltas: dict[str, pa.Table] = {}

        def work(_connection: duckdb.DuckDBPyConnection) -> None:
            nonlocal deltas
            deltas |= self._models.refresher.apply({}, self._versions.now_us())

        try:
            self._versions.make(work, deltas=deltas)
        except ModelFailedError as failure:
            self._models.hold(failure)

    # ── between versions ─────────────────────────────────────────────────────────────────────────

    def _run_tasks(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                task = self._tasks.get_nowait()
                with self._store.transaction() as connection:
                    task(connection)

    def _care(self, *, busy: bool) -> None:
        """Forget old versions now and then; fold the log in while nothing happens."""
        now = time.monotonic()
        is_flood = self._changes > BULK_CHANGES or bool(self._tables.absent)
        self._store.fold(in_bulk=busy and is_flood)
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
                ledger.trim(connection, self._versions.now_us(), durable)


@dataclass(slots=True)
class _Taken:
    """What has been taken in of one version."""

    deltas: dict[str, pa.Table] = field(default_factory=dict)
    anew: set[str] = field(default_factory=set)
    committed_at_us: list[Int64s] = field(default_factory=list)
    transactions: int = 0
    changes: int = 0

    def add(self, batch: SourceBatch, deltas: Mapping[str, pa.Table], changes: int) -> None:
        """Deltas of parts are not kept: whoever follows the tables gets all their rows again."""
        if batch.goes_on or self.changes:
            self.anew |= deltas.keys()
        else:
            self.deltas |= deltas
        self.changes += changes
        if not batch.goes_on:
            self.transactions += len(batch.transactions)
            self.committed_at_us.append(_commit_times(batch))


def _commit_times(batch: SourceBatch) -> Int64s:
    return batch.transactions.committed_at_us + batch.clock_skew_us
