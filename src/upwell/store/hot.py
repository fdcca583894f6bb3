"""The hot store: one DuckDB file that holds everything, and may be thrown away.

Everything in it is derived from the sources, so a damaged file is set aside and built anew, never
repaired. One process writes; DuckDB's file lock keeps a second one out. Schemas inside:

- one schema a source: current tables ``shop.orders`` and change logs ``shop.orders__log``
- ``main``: the models
- ``upwell``: what Upwell knows about itself (``ledger.py``), open to queries
- ``_upwell``: hidden state of models
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import structlog

from upwell.core.errors import EnvironmentFault, IntegrityError, Unavailable
from upwell.core.faults import reach
from upwell.core.sql import connect, literal
from upwell.store import ledger

log = structlog.get_logger(__name__)

#: A write-ahead log of this size is folded in between two versions; in bulk a larger one, since
#: what is folded in is compressed each time. See docs/decisions/0003-hot-store.md.
FOLD_AT_BYTES = 16 * 2**20
FOLD_IN_BULK_AT_BYTES = 128 * 2**20
#: One of this size DuckDB folds in itself, inside the commit that crosses it.
CHECKPOINT_AT = "512MB"
#: Longest wait for readers whose open transactions keep the log from being folded in.
CHECKPOINT_PATIENCE_SECONDS = 5.0
#: Longest wait of a reader for tables that are laid out and being filled.
FILLING_PATIENCE_SECONDS = 10.0
_PAUSE_SECONDS = 0.02


class HotStore:
    """An open store: ``writer`` is the one connection that writes, ``reader()`` gives snapshots.

    ``commit_lock`` is held while a version commits and is announced, so that whoever holds it sees
    tables and ledger at exactly the version last announced.
    """

    def __init__(self, path: Path, *, zone: str, memory_limit: str = "2GB") -> None:
        self.path = path
        self.zone = zone
        self.commit_lock = threading.Lock()
        self.writer = _open(path, zone)
        self.writer.execute(f"SET checkpoint_threshold = {literal(CHECKPOINT_AT)}")
        self.writer.execute(f"SET memory_limit = {literal(memory_limit)}")

    def reader(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own for reading, usable from one other thread. Close it."""
        cursor = self.writer.cursor()
        cursor.execute(f"SET TimeZone = {literal(self.zone)}")
        return cursor

    @contextmanager
    def transaction(
        self, announce: Callable[[], None] | None = None
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """Everything inside commits together or not at all; then ``announce`` is called."""
        self.writer.begin()
        try:
            yield self.writer
        except BaseException:
            self.writer.rollback()
            raise
        with self.commit_lock:
            reach("store.before_commit")
            self.writer.commit()
            reach("store.after_commit")
            if announce is not None:
                announce()

    @contextmanager
    def relayout(self, unfilled: Iterable[str] = ()) -> Iterator[duckdb.DuckDBPyConnection]:
        """A transaction that makes, changes or drops tables.

        Layout statements and rows never share a write-ahead log, since DuckDB has replayed such
        logs wrongly: what is in it is folded in before, and the new layout behind. Tables that are
        ``unfilled`` by it are shown to nobody until a version fills them and says so in the ledger.
        """
        self.checkpoint()
        with self.transaction() as connection:
            ledger.note_unfilled(connection, unfilled)
            yield connection
        self.checkpoint()

    @contextmanager
    def view(
        self, seen: Callable[[], None] = lambda: None, *, whole: bool = True
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that sees the version last announced, as long as the block lasts.

        ``seen`` is called while no newer one can be announced. What is to be ``whole`` waits for
        tables that are laid out and not filled; raises Unavailable if that takes too long.
        """
        connection = self.reader()
        deadline = time.monotonic() + FILLING_PATIENCE_SECONDS
        try:
            while True:
                with self.commit_lock:
                    connection.begin()
                    # DuckDB fixes what is seen at the first read.
                    unfilled = ledger.unfilled(connection)
                    if not (unfilled and whole):
                        seen()
                        break
                connection.rollback()
                if time.monotonic() > deadline:
                    raise _unfilled(unfilled)
                time.sleep(_PAUSE_SECONDS)
            yield connection
        finally:
            connection.close()

    @contextmanager
    def on_all_cores(self) -> Iterator[None]:
        """Inside, what is done in bulk gains from every core."""
        self.use_threads(os.cpu_count() or 1)
        try:
            yield
        finally:
            self.use_threads(1)

    def use_threads(self, count: int) -> None:
        """How many cores a statement may use: the loop of small versions is fastest on one."""
        self.writer.execute(f"SET threads = {int(count)}")

    def wal_bytes(self) -> int:
        """Size of the write-ahead log that the next checkpoint folds in."""
        try:
            return self.path.with_name(self.path.name + ".wal").stat().st_size
        except FileNotFoundError:
            return 0

    def fold(self, *, in_bulk: bool) -> None:
        """Fold the write-ahead log into the file if it has grown long and nobody reads just now.

        ``in_bulk``: large batches follow one another, and waiting a little saves work.
        """
        if self.wal_bytes() > (FOLD_IN_BULK_AT_BYTES if in_bulk else FOLD_AT_BYTES):
            self.try_checkpoint()

    def checkpoint(self) -> None:
        """Fold the write-ahead log into the file. Not inside a transaction.

        Waits for readers in the middle of something; raises Unavailable if they take too long.
        """
        deadline = time.monotonic() + CHECKPOINT_PATIENCE_SECONDS
        while not self.try_checkpoint():
            if time.monotonic() > deadline:
                raise Unavailable(
                    "store_busy",
                    f"Folding the hot store's log in: for {CHECKPOINT_PATIENCE_SECONDS:.0f} s "
                    f"somebody has been reading.",
                    where=str(self.path),
                    next_step="Wait for long reads (`upwell prove`, new followers) to end.",
                )
            time.sleep(_PAUSE_SECONDS)

    def try_checkpoint(self) -> bool:
        """As ``checkpoint``, at once or not at all: False where an open transaction forbids it."""
        try:
            reach("store.before_checkpoint")
            self.writer.execute("CHECKPOINT")
            reach("store.after_checkpoint")
        except duckdb.TransactionException as error:
            if "Cannot CHECKPOINT" not in str(error):
                raise
            return False
        return True

    def close(self) -> None:
        self.writer.close()


def _unfilled(names: Sequence[str]) -> Unavailable:
    return Unavailable(
        "store_unfilled",
        f"Reading the hot store: {', '.join(names)} has a new layout, and its rows are not in yet.",
        where=", ".join(names),
        next_step="`upwell status` says what it waits for; then ask again.",
    )


def _open(path: Path, zone: str) -> duckdb.DuckDBPyConnection:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return connect(str(path), zone=zone)
    except duckdb.IOException as error:
        if "Could not set lock" in str(error):
            raise EnvironmentFault(
                "store_locked",
                "Opening the hot store: another process holds it.",
                where=str(path),
                next_step="Stop the other `upwell run` of this project, or use another project.",
            ) from error
        raise _damaged(path, error) from error
    except duckdb.Error as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> IntegrityError:
    return IntegrityError(
        "store_damaged",
        f"Opening the hot store: the file does not open ({error}).",
        where=str(path),
        next_step="Start `upwell run` again: it sets the file aside and takes a new snapshot.",
    )


@contextmanager
def faults_named(path: Path) -> Iterator[None]:
    """Turns DuckDB's many ways to say that the disk is full into one error with the next step.

    A file whose damage shows when a part of it is read is set aside, and the error goes on: the
    process that is started next makes the store anew. The first failure is often buried under those
    that it caused, so the whole chain is searched.
    """
    try:
        yield
    except duckdb.Error as error:
        if _says(error, _DISK_FULL):
            raise EnvironmentFault(
                "disk_full",
                "Writing to the hot store: no space is left on the disk. Nothing is lost: what was "
                "not committed is read from the source again.",
                where=str(path),
                next_step="Free space on that disk, then start `upwell run` again.",
            ) from error
        if _says(error, _DAMAGED):
            moved = set_aside(path, "damaged")
            log.error(  # noqa: TRY400 - the trace comes with the error that goes on
                "store_set_aside", what=str(error), moved_to=str(moved)
            )
        raise


_DISK_FULL = ("no space left", "out of disk space", "disk quota exceeded")
_DAMAGED = ("corrupt database file", "could not read enough bytes")


def _says(error: BaseException, signs: Sequence[str]) -> bool:
    """Whether an error, or one that led to it, has one of these words."""
    cause: BaseException | None = error
    while cause is not None:
        if any(sign in str(cause).lower() for sign in signs):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def set_aside(path: Path, why: str) -> Path | None:
    """Rename a store and its log out of the way (``hot.duckdb.damaged-…``); where it is now."""
    moved, suffix = None, time.strftime(f"{why}-%Y%m%dT%H%M%S")
    for part in (path, path.with_name(path.name + ".wal")):
        if part.exists():
            target = part.with_name(f"{part.name}.{suffix}")
            part.rename(target)
            moved = moved or target
    return moved


def open_read_only(path: Path, *, zone: str) -> duckdb.DuckDBPyConnection:
    """Open a store that no engine holds, for reading. Raises EnvironmentFault if one does."""
    if not path.exists():
        raise EnvironmentFault(
            "no_data",
            "Reading the hot store: there is no data yet.",
            where=str(path),
            next_step="Start `upwell run` first.",
        )
    try:
        return connect(str(path), zone=zone, read_only=True)
    except duckdb.Error as error:
        raise EnvironmentFault(
            "store_unreadable",
            f"Reading the hot store: {error}",
            where=str(path),
            next_step="If `upwell run` is starting or stopping, try again in a moment.",
        ) from error
