"""Reads one large value in a process of its own, and says how much memory that took at most.

``python -m tests.sources.postgres.reading_large snapshot|stream URL SLOT POSITION`` prints the
bytes of the value and those by which the process grew.
"""

from __future__ import annotations

import resource
import sys

from upwell.core.position import Position
from upwell.core.protocols import TableChanges
from upwell.sources.postgres import PostgresSource


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _copied(source: PostgresSource) -> int:
    snapshot = source.snapshot()
    size: int = sum(batch.nbytes for batch in snapshot.read("shop.large"))
    snapshot.close()
    return size


def _streamed(source: PostgresSource, position: Position) -> int:
    stream = source.stream(position)
    size = 0
    while not size:
        batch = stream.poll(1.0)
        for change in batch.changes if batch is not None else ():
            assert isinstance(change, TableChanges)
            size += change.rows.nbytes
    return size


def main(way: str, url: str, slot: str, position: str) -> None:
    source = PostgresSource("shop", url, ["large"], slot=slot)
    before = _peak_bytes()
    size = _copied(source) if way == "snapshot" else _streamed(source, Position(position))
    print(size, _peak_bytes() - before)  # noqa: T201 - the answer
    source.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
