"""The loop: batch → ingest → transform → commit → feed → acknowledge.

One thread, the single writer. Each turn takes what a source has, makes one version of it in one
transaction with the source's position, and announces the version. The source may forget what is
durable: what the lake has, or where there is no lake, what is committed. Losing a connection never
ends the loop: what is served stays, with the reason it grows old.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
from upwell.core.protocols import (
    Source,
    SourceBatch,
    SourceTime,
    Stream,
    TableChanges,
    VersionEnd,
)
from upwell.core.schema import TableSchema
from upwell.feed.hub import FeedHub
from upwell.ingest.apply import Ingest
from upwell.ingest.tables import merged_layout, widen
from upwell.store import ledger
from upwell.store.hot import HotStore
from upwell.transform.refresh import ModelFailedError, Refresher

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.25
RETRY_SECONDS = (0.1, 5.0)
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


@dataclass(slots=True)
class Following:
    """One source and how far it has been taken in; changed by the engine's thread only."""

    source: Source
    position: Position
    complete_through_us: int = 0  # our clock
    stream: Stream | None = None
    trouble: str = ""
    retry_at: float = 0.0
    retry_seconds: float = RETRY_SECONDS[0]
    committed_position: Position = field(init=False)
    committed_at: float = 0.0
    acknowledged: Position = BEGINNING  # to the stream that is open
    lost: UpwellError | None = None

    def __post_init__(self) -> None:
        self.committed_position = self.position


@dataclass(frozen=True, slots=True)
class Durable:
    """Through which version, and of each source which position, the lake holds everything."""

    version: int = 0
    positions: Mapping[str, Position] = field(default_factory=dict)


class Engine:
    """Follows ``sources`` into ``store`` until stopped.

    ``layouts`` are the stored layouts by SQL name. ``clock`` gives seconds since 1970. With
    ``has_lake`` sources are acknowledged what ``became_durable`` names, else what is committed.
    """

    def __init__(
        self,
        store: HotStore,
        hub: FeedHub,
        followings: Sequence[Following],
        refresher: Refresher,
        layouts: dict[str, TableSchema],
        *,
        has_lake: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._hub = hub
        self._followings = followings
        self._refresher = refresher
        self._layouts = layouts
        self._ingest = Ingest(store.writer, layouts)
        self._clock = clock
        self._tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
        self._has_lake = has_lake
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
    def held(self) -> Mapping[str, str]:
        """Models that stay at their last good result, and why."""
        return self._refresher.held

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
            while not stop.is_set():
                if self._failure is not None:
                    raise self._failure
                busy = False
                stop.wait(max(0.0, self._next_version_at - time.monotonic()))
                for following in self._followings:
                    busy |= self._advance(following, stop)
                self._announce_times()
                self._run_tasks()
                self._care(busy=busy)
            if finish is not None:
                finish()
        finally:
            for following in self._followings:
                self._acknowledge(following)
                _disconnect(following)

    # ── one source ───────────────────────────────────────────────────────────────────────────────

    def _advance(self, following: Following, stop: threading.Event) -> bool:
        """Take what the source has. One that cannot go on stops, and everything else goes on.

        What is served of it stays right as of its time; going on would lose rows unseen.
        """
        if following.lost is not None:
            stop.wait(POLL_SECONDS)
            return False
        try:
            batch = self._poll(following, stop)
            made = batch is not None and self._take(following, batch)
            self._acknowledge(following)
        except (GapError, IntegrityError) as error:
            made = False
            _disconnect(following)
            following.lost = error
            following.trouble = str(error)
            log.error(  # noqa: TRY400 - told to the user, not a defect to be traced
                "source_stopped", source=following.source.name, what=error.what
            )
        return made

    def _acknowledge(self, following: Following) -> None:
        """Let the source forget what is durable."""
        position = following.committed_position
        if self._has_lake:
            position = self._durable.positions.get(following.source.name, BEGINNING)
        if following.stream is not None and position > following.acknowledged:
            following.acknowledged = position
            with contextlib.suppress(Unavailable):  # the next poll meets the loss, and handles it
                following.stream.acknowledge(position)
            reach("engine.acknowledged")

    def _poll(self, following: Following, stop: threading.Event) -> SourceBatch | None:
        try:
            if following.stream is None:
                wait = following.retry_at - time.monotonic()
                if wait > 0:
                    stop.wait(min(wait, POLL_SECONDS))
                    return None
                following.stream = following.source.stream(following.committed_position)
                following.acknowledged = BEGINNING
            batch = following.stream.poll(POLL_SECONDS / len(self._followings))
        except (Unavailable, EnvironmentFault, UsageError) as error:
            self._lose(following, error)  # somebody may mend it; what is served stays meanwhile
            return None
        if batch is not None:
            following.trouble = ""
            following.retry_seconds = RETRY_SECONDS[0]
        return batch

    def _lose(self, following: Following, error: UpwellError) -> None:
        _disconnect(following)
        following.position = following.committed_position
        following.trouble = error.what
        following.retry_at = time.monotonic() + following.retry_seconds
        following.retry_seconds = min(following.retry_seconds * 2, RETRY_SECONDS[1])
        log.warning("source_unavailable", source=following.source.name, what=error.what)

    def _take(self, following: Following, batch: SourceBatch) -> bool:
        """Whether a version was made."""
        complete = batch.complete_through_us + batch.clock_skew_us
        following.complete_through_us = max(following.complete_through_us, complete)
        begun = time.monotonic()
        moved = batch.position != following.committed_position
        due = begun - following.committed_at > IDLE_COMMIT_SECONDS
        if not (batch.changes or (moved and due)):
            following.position = batch.position  # nothing lies between the two positions
            return False
        self._commit(following, batch)
        following.position = batch.position
        following.committed_position, following.committed_at = batch.position, begun
        least, most = VERSION_SECONDS
        self._next_version_at = begun + min(max(least, 1.5 * (time.monotonic() - begun)), most)
        return True

    def _commit(self, following: Following, batch: SourceBatch) -> None:
        """Make one version of a batch. A model that fails on it is held, and the rest goes on."""
        self._widen(batch)
        while True:
            try:
                self._make_version(following, batch)
            except ModelFailedError as failure:
                self._hold(failure)
            else:
                return

    def _make_version(self, following: Following, batch: SourceBatch) -> None:
        version = self._hub.version + 1
        logical_time_us = int(self._clock() * 1_000_000)
        changes = sum(
            len(change.operations) for change in batch.changes if isinstance(change, TableChanges)
        )
        self._changes = changes
        self._logged_bytes += sum(
            change.rows.nbytes for change in batch.changes if isinstance(change, TableChanges)
        )
        deltas: dict[str, pa.Table] = {}
        end = VersionEnd(
            version,
            logical_time_us,
            self._times(),
            batch.transactions.committed_at_us + batch.clock_skew_us,
            self._troubles(),
        )
        announce = partial(self._hub.publish, end, deltas)
        reach("engine.batch_read")
        with self._store.transaction(announce) as connection:
            deltas |= self._ingest.apply(batch, version)
            reach("engine.batch_ingested")
            deltas |= self._refresher.apply(deltas, logical_time_us)
            reach("engine.models_refreshed")
            progress = ledger.SourceProgress(
                batch.position, following.complete_through_us, len(batch.transactions), changes
            )
            ledger.append(connection, version, logical_time_us, {following.source.name: progress})

    def _tick(self) -> None:
        """A version in which nothing but time has passed."""
        version, logical_time_us = self._hub.version + 1, int(self._clock() * 1_000_000)
        deltas: dict[str, pa.Table] = {}
        nothing = np.empty(0, np.int64)
        end = VersionEnd(version, logical_time_us, self._times(), nothing, self._troubles())
        try:
            with self._store.transaction(partial(self._hub.publish, end, deltas)) as connection:
                deltas |= self._refresher.apply({}, logical_time_us)
                progresses = {
                    each.source.name: ledger.SourceProgress(
                        each.committed_position, each.complete_through_us
                    )
                    for each in self._followings
                }
                ledger.append(connection, version, logical_time_us, progresses)
        except ModelFailedError as failure:
            self._hold(failure)

    def _hold(self, failure: ModelFailedError) -> None:
        """Leave a model and its readers at their last good result; the next start builds them.

        Raises the failure again where holding did not help, so that this cannot go on for ever.
        """
        if failure.model in self._refresher.held:
            raise failure
        self._refresher.hold(failure.model, failure.reason)
        with self._store.transaction() as connection:
            built = ledger.built_models(connection)
            kept = {name: of for name, of in built.items() if name not in self._refresher.held}
            ledger.write_built_models(connection, kept)
        log.error("model_held", model=failure.model, why=failure.reason)

    def _widen(self, batch: SourceBatch) -> None:
        """Let stored layouts follow grown ones, before the version that needs it.

        Layout statements and rows never share a write-ahead log: DuckDB has replayed such logs
        wrongly, so each is checkpointed on its own.
        """
        for change in batch.changes:
            stored = self._layouts[change.table]
            wanted = merged_layout(stored, change.schema)
            if wanted == stored:
                continue
            self._store.checkpoint()
            with self._store.transaction() as connection:
                widen(connection, stored, wanted)
            self._store.checkpoint()
            self._layouts[change.table] = wanted
            log.info("layout_grew", table=change.table, columns=wanted.column_names)

    # ── between versions ─────────────────────────────────────────────────────────────────────────

    def _times(self) -> tuple[SourceTime, ...]:
        return tuple(
            SourceTime(following.source.name, following.complete_through_us)
            for following in self._followings
        )

    def _announce_times(self) -> None:
        self._hub.set_times(self._times(), self._troubles())

    def _troubles(self) -> str:
        """What does not go on, a line each."""
        troubles = [following.trouble for following in self._followings if following.trouble]
        troubles += [
            f"{model} stays as it was: {reason}" for model, reason in self._refresher.held.items()
        ]
        if self._lake_trouble:
            troubles.append(self._lake_trouble)
        return "\n".join(troubles)

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
        if self._refresher.reads_clock and now - max(self._busy_at, self._ticked_at) > TICK_SECONDS:
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


def _disconnect(following: Following) -> None:
    stream, following.stream = following.stream, None
    if stream is not None:
        stream.close()
