"""Reads a source's tables with a few connections of their own, ahead of the engine by a few parts.

What is read waits here until the engine stores it; so the source is never asked for more than that.
A connection that breaks, and a source that is away, are tried again; a table that is not what it
was is told to the engine, which decides. With a budget, no more than so much a second is asked for,
all connections together.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

import pyarrow as pa
import structlog

from upwell.core.errors import LayoutChangedError, UpwellError
from upwell.core.position import Position
from upwell.core.protocols import (
    Checksum,
    CopiedRows,
    Copy,
    CopyPlan,
    KeyRange,
    Source,
    SourceTable,
)
from upwell.ingest.copies import Part

log = structlog.get_logger(__name__)

#: How much one part has, usually.
PART_BYTES = 16 << 20
_LEAST_PART_BYTES = 256 << 10
#: So many parts may lie ready for each connection.
_PARTS_AHEAD = 2
RETRY_SECONDS = (0.2, 10.0)


@dataclass(frozen=True, slots=True)
class Budget:
    """How hard a source may be read: connections at once, and bytes a second (None: no limit).

    ``most_part_bytes`` is read at once, or what the budget allows in a second if that is less.
    """

    connections: int = 2
    bytes_per_second: float | None = None
    most_part_bytes: int = PART_BYTES

    @property
    def part_bytes(self) -> int:
        if self.bytes_per_second is None:
            return self.most_part_bytes
        return max(_LEAST_PART_BYTES, min(self.most_part_bytes, int(self.bytes_per_second)))


@dataclass(frozen=True, slots=True)
class Planned:
    """A table was cut into parts."""

    table: SourceTable
    plan: CopyPlan


@dataclass(frozen=True, slots=True)
class PartRead:
    """A part was read."""

    table: SourceTable
    part: Part
    rows: CopiedRows


@dataclass(frozen=True, slots=True)
class PartSame:
    """The stored rows of a range of keys are those of the source, as of a position."""

    table: SourceTable
    part: Part
    keys: KeyRange
    position: Position


@dataclass(frozen=True, slots=True)
class RowsRead:
    """Rows were read by their keys, asked for after a version."""

    table: SourceTable
    asked_in: int
    rows: CopiedRows


@dataclass(frozen=True, slots=True)
class Moved:
    """A table is not what it was; nothing more of it is read."""

    table: SourceTable
    why: str


Done = Planned | PartRead | PartSame | RowsRead | Moved
Job = Callable[[Copy], Done]


@dataclass(frozen=True, slots=True)
class _Asked:
    """Something to be done for a table, in which of its readings."""

    table: SourceTable
    number: int
    job: Job


class Copier:
    """Reads what it is asked for until closed; used by the engine's thread alone."""

    def __init__(self, source: Source, budget: Budget) -> None:
        self._source = source
        self._budget = budget
        self._jobs: deque[_Asked] = deque()
        self._news = threading.Condition()
        self._done: queue.SimpleQueue[tuple[_Asked, Done]] = queue.SimpleQueue()
        self._room = threading.Semaphore(_PARTS_AHEAD * budget.connections)
        self._closing = threading.Event()
        self._troubles: dict[int, str] = {}
        self._pace = _Pace(budget.bytes_per_second)
        self._readings: dict[str, int] = {}  # table → number of the reading that counts
        self._numbers = count(1)
        self.times_begun = 0
        self._threads: list[threading.Thread] = []

    @property
    def trouble(self) -> str:
        """Why reading does not go on just now; empty if it does."""
        return next(iter(self._troubles.values()), "")

    @property
    def has_budget(self) -> bool:
        """Whether only so many bytes a second are read."""
        return self._budget.bytes_per_second is not None

    def begin(self, name: str) -> None:
        """From now on a table is read anew: what is still read of it as it was is void."""
        self._readings[name] = next(self._numbers)

    def plan(self, table: SourceTable) -> None:
        """Have a table cut into parts."""
        part_bytes = self._budget.part_bytes
        self._ask(table, [lambda copy: Planned(table, copy.plan(table, part_bytes))])

    def read(self, table: SourceTable, parts: Sequence[Part]) -> None:
        """Have parts of a table read."""

        def job(part: Part) -> Job:
            return lambda copy: PartRead(table, part, self._paid(copy.read(table, part.where)))

        self._ask(table, [job(part) for part in parts])

    def compare(
        self, table: SourceTable, part: Part, keys: KeyRange, stored: Checksum, size_bytes: int
    ) -> None:
        """Have stored rows of a range of keys, of about so many bytes, compared, and read if they
        differ. What the source reads to compare counts as read.
        """

        def job(copy: Copy) -> Done:
            found = copy.compare(table, keys, stored)
            if isinstance(found, CopiedRows):
                self._pay(size_bytes + found.size_bytes)
                return PartRead(table, part, found)
            self._pay(size_bytes)
            return PartSame(table, part, keys, found)

        self._ask(table, [job])

    def read_rows(self, table: SourceTable, keys: pa.Table, asked_in: int) -> None:
        """Have rows read by their keys."""
        self._ask(
            table,
            [lambda copy: RowsRead(table, asked_in, self._paid(copy.read_rows(table, keys)))],
        )

    def begin_again(self) -> None:
        """All that was asked for has to be asked for again: what is read of it now is void."""
        self._readings.clear()
        self.times_begun += 1

    def forget(self, name: str) -> None:
        """Read nothing more of a table; what is read of it now is void."""
        self._readings.pop(name, None)

    def take(self) -> Done | None:
        """Something that was done and is still asked for; None if there is nothing now."""
        while True:
            try:
                asked, done = self._done.get_nowait()
            except queue.Empty:
                return None
            if isinstance(done, PartRead):
                self._room.release()
            if self._counts(asked):
                return done

    def close(self) -> None:
        """End, without waiting for what is being read."""
        self._closing.set()
        with self._news:
            self._news.notify_all()
        for _ in self._threads:
            self._room.release()

    def _ask(self, table: SourceTable, jobs: Sequence[Job]) -> None:
        number = self._readings[table.name]
        with self._news:
            self._jobs.extend(_Asked(table, number, job) for job in jobs)
            self._news.notify_all()
        while len(self._threads) < self._budget.connections:
            place = len(self._threads)
            thread = threading.Thread(
                target=self._run, args=(place,), name=f"upwell-copy-{place}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    # ── the threads ──────────────────────────────────────────────────────────────────────────────

    def _run(self, place: int) -> None:
        pause = RETRY_SECONDS[0]
        copy: Copy | None = None
        while (asked := self._next_job()) is not None:
            self._room.acquire()
            has_room = False
            try:
                if self._closing.is_set() or not self._counts(asked):
                    continue
                copy = copy or self._source.copy()
                done: Done = asked.job(copy)
                has_room = isinstance(done, PartRead)  # until the engine has taken it
            except LayoutChangedError as error:
                done = Moved(asked.table, error.what)
            except Exception as error:  # noqa: BLE001 - a thread that died would leave all waiting
                if copy is not None:
                    copy.close()
                copy = None
                self._troubles[place] = _said(error)
                log.warning("copy_interrupted", table=asked.table.name, what=_said(error))
                self._put_back(asked)
                self._closing.wait(pause)
                pause = min(2 * pause, RETRY_SECONDS[1])
                continue
            finally:
                if not has_room:
                    self._room.release()
            self._troubles.pop(place, None)
            pause = RETRY_SECONDS[0]
            self._done.put((asked, done))
        if copy is not None:
            copy.close()

    def _next_job(self) -> _Asked | None:
        with self._news:
            self._news.wait_for(lambda: self._jobs or self._closing.is_set())
            return None if self._closing.is_set() else self._jobs.popleft()

    def _put_back(self, asked: _Asked) -> None:
        with self._news:
            self._jobs.appendleft(asked)
            self._news.notify()

    def _counts(self, asked: _Asked) -> bool:
        return self._readings.get(asked.table.name) == asked.number

    def _paid(self, rows: CopiedRows) -> CopiedRows:
        """Wait until what was read is within the budget."""
        self._pay(rows.size_bytes)
        return rows

    def _pay(self, size_bytes: int) -> None:
        self._closing.wait(self._pace.wait_seconds(size_bytes))


class _Pace:
    """Spreads bytes evenly over time, for all threads together."""

    def __init__(self, bytes_per_second: float | None) -> None:
        self._bytes_per_second = bytes_per_second
        self._free_at = 0.0
        self._lock = threading.Lock()

    def wait_seconds(self, size_bytes: int) -> float:
        """How long whoever has just read so much is to wait before reading on."""
        if self._bytes_per_second is None:
            return 0.0
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + size_bytes / self._bytes_per_second
            return self._free_at - now


def _said(error: Exception) -> str:
    return error.in_a_line if isinstance(error, UpwellError) else f"{type(error).__name__}: {error}"
