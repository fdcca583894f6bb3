"""Reads one large value in a process of its own, and says how much memory that took at most.

``python -m tests.sources.postgres.reading_large copy|stream URL SLOT POSITION`` prints the
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
    copy, (table,) = source.copy(), source.look().tables.values()
    parts = copy.plan(table, 1 << 20).parts
    size: int = sum(batch.nbytes for part in parts for batch in copy.read(table, part).rows)
    copy.close()
    return size


def _streamed(source: PostgresSource, position: Position) -> int:
    stream = source.stream(position, list(source.look().tables.values()))
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
    size = _copied(source) if way == "copy" else _streamed(source, Position(position))
    print(size, _peak_bytes() - before)  # noqa: T201 - the answer
    source.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
