"""What is made ahead comes once, in order, and only where it is worth it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from upwell.core.errors import Unavailable
from upwell.core.position import Position
from upwell.core.protocols import SourceBatch, TableChanges, Transactions
from upwell.core.schema import Column, TableSchema
from upwell.read_ahead import WORTH_CHANGES, ReadAhead

_PATIENCE_SECONDS = 10.0


class Scripted:
    """A stream that gives batches of so many changes each, or raises; it notes who polls."""

    def __init__(self, *sizes: int | Exception) -> None:
        self._sizes = list(sizes)
        self._given = 0
        self._within = threading.Lock()
        self.threads: list[str] = []
        self.made = threading.Semaphore(0)
        self.is_closed = False
        self.acknowledged: list[Position] = []
        self.burden = self.failover = self.succession = None

    def poll(self, timeout_seconds: float) -> SourceBatch | None:
        assert self._within.acquire(blocking=False), "two threads are in the stream"
        try:
            assert not self.is_closed
            self.threads.append(threading.current_thread().name)
            if not self._sizes:
                time.sleep(timeout_seconds)
                return None
            size = self._sizes.pop(0)
            if isinstance(size, Exception):
                raise size
            self._given += 1
            return _batch(self._given, size)
        finally:
            self._within.release()
            self.made.release()

    def acknowledge(self, position: Position) -> None:
        self.acknowledged.append(position)

    def close(self) -> None:
        self.is_closed = True


def _batch(number: int, size: int) -> SourceBatch:
    changes = TableChanges(
        TableSchema("shop.orders", (Column("id", "BIGINT"),), ("id",)),
        pa.table({"id": pa.array(range(size), pa.int64())}),
        np.zeros(size, np.int8),
        np.zeros(size, np.int32),
        np.empty(0, np.int64),
    )
    return SourceBatch(
        position=Position(str(number)),
        transactions=Transactions((Position(str(number)),), np.zeros(1, np.int64)),
        changes=[changes],
        complete_through_us=number,
        received_at_us=number,
    )


def _is_ahead(stream: Scripted, batches: int) -> bool:
    """Whether so many batches are made within a time in which nobody polls."""
    return all(stream.made.acquire(timeout=_PATIENCE_SECONDS) for _ in range(batches))


def _positions(poll: Callable[[float], SourceBatch | None], count: int) -> list[str]:
    found = (poll(0.0) for _ in range(count))
    return [str(batch.position) for batch in found if batch is not None]


def test_the_next_batch_is_made_while_nobody_polls() -> None:
    stream = Scripted(WORTH_CHANGES, WORTH_CHANGES, WORTH_CHANGES)
    ahead = ReadAhead(stream)
    assert _positions(ahead.poll, 1) == ["1"]
    assert _is_ahead(stream, 2)
    assert stream.threads[1] != stream.threads[0] == threading.current_thread().name
    assert not stream.made.acquire(timeout=0.1), "it is ahead by more than one"
    assert _positions(ahead.poll, 3) == ["2", "3"]
    ahead.close()


def test_few_changes_are_waited_for_by_whoever_polls() -> None:
    stream = Scripted(1, WORTH_CHANGES - 1, 1)
    ahead = ReadAhead(stream)
    assert _positions(ahead.poll, 4) == ["1", "2", "3"]
    assert set(stream.threads) == {threading.current_thread().name}
    ahead.close()


def test_a_stream_that_had_nothing_yet_is_waited_for() -> None:
    """Nothing was there when it was looked ahead; the same poll waits for what comes."""
    stream = Scripted(WORTH_CHANGES)
    ahead = ReadAhead(stream)
    ahead.poll(0.0)
    assert _is_ahead(stream, 2)
    begun = time.monotonic()
    assert ahead.poll(0.2) is None
    assert time.monotonic() - begun >= 0.2
    ahead.close()


def test_what_goes_wrong_ahead_is_raised_where_it_is_polled_and_once() -> None:
    stream = Scripted(WORTH_CHANGES, Unavailable("connection_lost", "it is gone"), 1)
    ahead = ReadAhead(stream)
    assert _positions(ahead.poll, 1) == ["1"]
    assert _is_ahead(stream, 2)
    with pytest.raises(Unavailable, match="it is gone"):
        ahead.poll(0.0)
    assert _positions(ahead.poll, 1) == ["2"]
    ahead.close()


def test_closing_waits_for_what_is_being_made_and_gives_it_up() -> None:
    stream = Scripted(WORTH_CHANGES, WORTH_CHANGES)
    ahead = ReadAhead(stream)
    ahead.poll(0.0)
    ahead.close()
    assert stream.is_closed
    assert len(stream.threads) == 2


def test_everything_else_is_the_streams() -> None:
    stream = Scripted()
    ahead = ReadAhead(stream)
    ahead.acknowledge(Position("7"))
    assert stream.acknowledged == ["7"]
    assert (ahead.burden, ahead.failover, ahead.succession) == (None, None, None)
    ahead.close()
