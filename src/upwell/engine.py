"""The loop: batch → ingest → transform → commit → feed → acknowledge.

One thread, the single writer. Each turn takes what a source has, makes one version of it in one
transaction with the source's position, announces the version, and only then lets the source forget.
Losing a connection never ends the loop: what is served stays, with the reason it grows old.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa
import structlog

from upwell.core.errors import EnvironmentFault, GapError, Unavailable
from upwell.core.position import Position
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
from upwell.ingest.apply import apply_batch
from upwell.ingest.tables import merged_layout, widen
from upwell.store import ledger
from upwell.store.hot import HotStore

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.25
RETRY_SECONDS = (0.1, 5.0)
#: Versions begin at least this far apart, and no more than half of the time is spent on them, as
#: long as nobody waits longer than the second figure: a version costs the same for one change or
#: a hundred. After a pause the first change is taken in at once.
VERSION_SECONDS = (0.05, 0.25)
#: An idle source's position is committed, and so acknowledged, this often.
IDLE_COMMIT_SECONDS = 10.0
#: After this long without a change the write-ahead log is folded in.
IDLE_CHECKPOINT_SECONDS = 5.0
TRIM_SECONDS = 3600.0

Transform = Callable[[Mapping[str, pa.Table], int], Mapping[str, pa.Table]]
"""Deltas of tables and the logical time (microseconds) to deltas of models, in the transaction."""

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
    lost: GapError | None = None

    def __post_init__(self) -> None:
        self.committed_position = self.position


class Engine:
    """Follows ``sources`` into ``store`` until stopped.

    ``layouts`` are the stored layouts by SQL name. ``clock`` gives seconds since 1970.
    """

    def __init__(
        self,
        store: HotStore,
        hub: FeedHub,
        followings: Sequence[Following],
        transform: Transform,
        layouts: dict[str, TableSchema],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._hub = hub
        self._followings = followings
        self._transform = transform
        self._layouts = layouts
        self._clock = clock
        self._tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
        self._trimmed_at = 0.0
        self._busy_at = 0.0
        self._next_version_at = 0.0

    @property
    def followings(self) -> Sequence[Following]:
        return self._followings

    def submit(self, task: Task) -> None:
        """Have a small write done between versions; callable from any thread."""
        self._tasks.put(task)

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set. Raises what no waiting can mend (disk full, damaged data)."""
        try:
            while not stop.is_set():
                busy = False
                stop.wait(max(0.0, self._next_version_at - time.monotonic()))
                for following in self._followings:
                    batch = self._poll(following, stop)
                    if batch is not None:
                        busy |= self._take(following, batch)
                self._announce_times()
                self._run_tasks()
                self._care(busy=busy)
        finally:
            for following in self._followings:
                _disconnect(following)

    # ── one source ───────────────────────────────────────────────────────────────────────────────

    def _poll(self, following: Following, stop: threading.Event) -> SourceBatch | None:
        if following.lost is not None:
            stop.wait(POLL_SECONDS)
            return None
        try:
            if following.stream is None:
                wait = following.retry_at - time.monotonic()
                if wait > 0:
                    stop.wait(min(wait, POLL_SECONDS))
                    return None
                following.stream = following.source.stream(following.position)
            batch = following.stream.poll(POLL_SECONDS / len(self._followings))
        except Unavailable as error:
            self._lose(following, error)
            return None
        except GapError as error:
            # What is served stays right as of its time; going on would lose rows unseen.
            _disconnect(following)
            following.lost = error
            following.trouble = str(error)
            log.error(  # noqa: TRY400 - told to the user, not a defect to be traced
                "source_gap", source=following.source.name, what=error.what
            )
            return None
        if batch is not None:
            following.trouble = ""
            following.retry_seconds = RETRY_SECONDS[0]
        return batch

    def _lose(self, following: Following, error: Unavailable) -> None:
        _disconnect(following)
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
        self._next_version_at = begun + min(max(least, 2 * (time.monotonic() - begun)), most)
        assert following.stream is not None  # noqa: S101 - it gave the batch
        with contextlib.suppress(Unavailable):  # the next poll meets the loss, and handles it
            following.stream.acknowledge(batch.position)
        return True

    def _commit(self, following: Following, batch: SourceBatch) -> None:
        """Make one version of a batch."""
        self._widen(batch)
        version = self._hub.version + 1
        logical_time_us = int(self._clock() * 1_000_000)
        changes = sum(
            len(change.operations) for change in batch.changes if isinstance(change, TableChanges)
        )
        deltas: dict[str, pa.Table] = {}
        end = VersionEnd(
            version,
            logical_time_us,
            self._times(),
            batch.transactions.committed_at_us + batch.clock_skew_us,
        )
        with (
            _disk_full_named(self._store),
            self._store.transaction(lambda: self._hub.publish(end, deltas)) as connection,
        ):
            deltas |= apply_batch(connection, batch, version, self._layouts)
            deltas |= self._transform(deltas, logical_time_us)
            progress = ledger.SourceProgress(
                batch.position, following.complete_through_us, len(batch.transactions), changes
            )
            ledger.append(connection, version, logical_time_us, {following.source.name: progress})

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
        trouble = "\n".join(
            following.trouble for following in self._followings if following.trouble
        )
        self._hub.set_times(self._times(), trouble)

    def _run_tasks(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                task = self._tasks.get_nowait()
                with _disk_full_named(self._store), self._store.transaction() as connection:
                    task(connection)

    def _care(self, *, busy: bool) -> None:
        """Forget old versions now and then; fold the log in while nothing happens."""
        now = time.monotonic()
        if busy:
            self._busy_at = now
        elif now - self._busy_at > IDLE_CHECKPOINT_SECONDS and self._store.wal_bytes():
            with _disk_full_named(self._store):
                self._store.checkpoint()
        if now - self._trimmed_at > TRIM_SECONDS:
            self._trimmed_at = now
            with self._store.transaction() as connection:
                ledger.trim(connection, int(self._clock() * 1_000_000))


def _disconnect(following: Following) -> None:
    stream, following.stream = following.stream, None
    if stream is not None:
        stream.close()


@contextlib.contextmanager
def _disk_full_named(store: HotStore) -> Iterator[None]:
    """DuckDB's many ways to say that the disk is full, as one error with the next step."""
    try:
        yield
    except duckdb.Error as error:
        if "No space left" in str(error) or "out of disk space" in str(error).lower():
            raise EnvironmentFault(
                "disk_full",
                "Committing a version: no space left on the disk. Nothing is lost: what was not "
                "committed is read from the source again.",
                where=str(store.path),
                next_step="Free space on that disk, then start `upwell run` again.",
            ) from error
        raise
