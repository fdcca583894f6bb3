"""What a stream of orders has given."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from upwell.core.protocols import Operation, SourceBatch, Stream, TableChanges


def gather(stream: Stream, changes: int) -> list[SourceBatch]:
    """The batches up to this many changes."""
    batches: list[SourceBatch] = []
    deadline = time.monotonic() + 20
    while sum(ids_of(batches).values()) < changes:
        assert time.monotonic() < deadline
        batch = stream.poll(1.0)
        batches += [batch] if batch is not None else []
    return batches


def ids_of(batches: list[SourceBatch]) -> Counter[Any]:
    found: Counter[Any] = Counter()
    for batch in batches:
        for change in batch.changes:
            assert isinstance(change, TableChanges)
            assert set(change.operations.tolist()) == {Operation.INSERT}
            found.update(change.rows.column("id").to_pylist())
    return found
