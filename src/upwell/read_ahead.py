"""A stream whose next batch is made while the one before is stored, as long as many changes come.

To decode and to store take about as long, and neither needs the other.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from upwell.core.position import Position
from upwell.core.protocols import (
    Burden,
    Failover,
    SourceBatch,
    Stream,
    Succession,
    TableChanges,
)

#: After a batch of fewer changes nothing waits that would be worth a thread.
WORTH_CHANGES = 5_000


class ReadAhead:
    """See ``core.protocols.Stream``: ``stream``, ahead by a batch at most.

    ``poll`` and ``close`` are one thread's. The stream itself is polled by one thread at a time:
    that one, or ours while nobody is in ``poll``.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._reader = ThreadPoolExecutor(1, "upwell-read-ahead")
        self._ahead: Future[SourceBatch | None] | None = None

    def poll(self, timeout_seconds: float) -> SourceBatch | None:
        """See ``core.protocols.Stream.poll``."""
        ahead, self._ahead = self._ahead, None
        batch = ahead.result() if ahead is not None else None
        if batch is None:
            batch = self._stream.poll(timeout_seconds)
        if batch is not None and _changes(batch) >= WORTH_CHANGES:
            self._ahead = self._reader.submit(self._stream.poll, 0.0)
        return batch

    def acknowledge(self, position: Position) -> None:
        """See ``core.protocols.Stream.acknowledge``."""
        self._stream.acknowledge(position)

    @property
    def burden(self) -> Burden | None:
        """See ``core.protocols.Stream.burden``."""
        return self._stream.burden

    @property
    def failover(self) -> Failover | None:
        """See ``core.protocols.Stream.failover``."""
        return self._stream.failover

    @property
    def succession(self) -> Succession | None:
        """See ``core.protocols.Stream.succession``."""
        return self._stream.succession

    def close(self) -> None:
        """Also what was made ahead is given up: it comes again where the next stream begins."""
        self._reader.shutdown()
        self._stream.close()


def _changes(batch: SourceBatch) -> int:
    return sum(
        len(change.operations) for change in batch.changes if isinstance(change, TableChanges)
    )
