"""Doubles of Upwell's roles, for tests of what stands on either side of them.

They keep the Protocols of ``core/protocols.py`` as the real ones do, but hold everything in memory
and do what a test tells them, faults included.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from upwell.core.batch import add, consolidate, from_rows, row_columns
from upwell.core.errors import UpwellError, UsageError
from upwell.core.protocols import (
    FeedMessage,
    Heartbeat,
    SourceTime,
    TableDelta,
    TableSnapshot,
    VersionEnd,
)
from upwell.core.schema import TableSchema

_KEPT_VERSIONS = 1_000


@dataclass(slots=True)
class _Table:
    """A table as the sum of batches; summed up when somebody asks for its rows."""

    schema: TableSchema
    batches: list[pa.Table]

    def rows(self) -> pa.Table:
        first = self.batches[0]
        alike = [each.select(first.column_names).cast(first.schema) for each in self.batches]
        total = consolidate(add(alike))
        self.batches = [total]
        copies = np.repeat(np.arange(total.num_rows), total.column("_weight").to_numpy())
        return total.select(row_columns(total)).take(pa.array(copies))


@dataclass(slots=True)
class _Script:
    """What followers have been told, oldest first, and what is being put together."""

    tables: dict[str, _Table] = field(default_factory=dict)
    versions: list[tuple[int, list[FeedMessage]]] = field(default_factory=list)
    draft: list[FeedMessage] = field(default_factory=list)
    version: int = 0
    complete_through_us: int | None = None
    trouble: str = ""
    fault: UpwellError | None = None
    breaks: int = 0
    is_ended: bool = False

    def take(self, message: FeedMessage) -> None:
        """What a follower that begins now must find in its snapshot."""
        if isinstance(message, TableSnapshot):
            self.tables[message.schema.name] = _Table(message.schema, [from_rows(message.rows)])
        elif isinstance(message, TableDelta):
            self.tables[message.table].batches.append(message.batch)


class MemoryFeed:
    """A change feed whose every version a test writes. Any number of followers, any thread.

    ``replace`` and ``change`` put the next version together, ``commit`` publishes it::

        feed = MemoryFeed()
        feed.replace(schema, rows)
        feed.commit()
        feed.change("orders", batch)
        feed.commit(committed_at_us=[...])
    """

    def __init__(
        self,
        *,
        source: str = "memory",
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        heartbeat_seconds: float = 1.0,
    ) -> None:
        self._source = source
        self._clock_us = clock_us
        self._heartbeat_seconds = heartbeat_seconds
        self._script = _Script()
        self._news = threading.Condition()

    @property
    def version(self) -> int:
        """The last version committed; 0 before the first."""
        return self._script.version

    def replace(self, schema: TableSchema, rows: pa.Table) -> None:
        """In the next version the table has these columns and rows, whatever it had before."""
        with self._news:
            script = self._script
            script.draft.append(TableSnapshot(script.version + 1, schema, rows))

    def change(self, table: str, batch: pa.Table) -> None:
        """In the next version the table has this change batch more."""
        with self._news:
            script = self._script
            script.draft.append(TableDelta(script.version + 1, table, batch))

    def commit(
        self, *, committed_at_us: Sequence[int] = (), complete_through_us: int | None = None
    ) -> int:
        """Publish the next version and give its number.

        ``complete_through_us`` stays where it was put; never put, it is always now.
        """
        with self._news:
            script = self._script
            script.version += 1
            for message in script.draft:
                script.take(message)
            script.complete_through_us = complete_through_us or script.complete_through_us
            end = VersionEnd(
                script.version,
                self._clock_us(),
                self._times(),
                np.array(committed_at_us, np.int64),
            )
            script.versions.append((script.version, [*script.draft, end]))
            del script.versions[:-_KEPT_VERSIONS]
            script.draft = []
            self._news.notify_all()
            return script.version

    def stand_still(self, trouble: str, *, complete_through_us: int) -> None:
        """From now on heartbeats say that nothing newer is known, and why. "" ends it."""
        with self._news:
            self._script.trouble = trouble
            self._script.complete_through_us = complete_through_us if trouble else None
            self._news.notify_all()

    def fail(self, fault: UpwellError | None) -> None:
        """Break every stream with this fault, and every new one, until it is None."""
        with self._news:
            self._script.fault = fault
            self._script.breaks += 1
            self._news.notify_all()

    def end(self) -> None:
        """End every stream, as when the engine ends."""
        with self._news:
            self._script.is_ended = True
            self._news.notify_all()

    def follow(self, tables: Sequence[str], version: int | None) -> Iterator[FeedMessage]:
        """As ``core.protocols.Feed``; a table becomes known by its first ``replace``."""
        script = self._script
        with self._news:
            self._news.wait_for(lambda: script.version > 0 or script.fault or script.is_ended)
            self._raise_fault()
            unknown = [name for name in tables if name not in script.tables]
        if unknown and not script.is_ended:
            raise UsageError("unknown_table", f"there is no table {unknown[0]}")
        breaks = script.breaks
        while not script.is_ended:
            messages, version = self._next(tables, version, breaks)
            yield from messages

    def _next(
        self, tables: Sequence[str], version: int | None, breaks: int
    ) -> tuple[list[FeedMessage], int | None]:
        script = self._script
        with self._news:
            is_within_reach = version is not None and (
                version == script.version or version >= script.versions[0][0] - 1
            )
            if not is_within_reach:
                return self._snapshot(tables), script.version
            assert version is not None  # noqa: S101 - within reach
            self._news.wait_for(
                lambda: script.version > version or script.breaks > breaks or script.is_ended,
                self._heartbeat_seconds,
            )
            if script.breaks > breaks:
                self._raise_fault()
            if script.version == version:
                return [Heartbeat(version, self._times(), script.trouble)], version
            news = [
                message for number, told in script.versions if number > version for message in told
            ]
            return [each for each in news if _concerns(each, tables)], script.version

    def _snapshot(self, tables: Sequence[str]) -> list[FeedMessage]:
        script = self._script
        messages: list[FeedMessage] = [
            TableSnapshot(script.version, table.schema, table.rows())
            for name, table in script.tables.items()
            if name in tables
        ]
        nothing = np.empty(0, np.int64)
        return [
            *messages,
            VersionEnd(script.version, self._clock_us(), self._times(), nothing),
        ]

    def _times(self) -> tuple[SourceTime, ...]:
        through_us = self._script.complete_through_us
        return (SourceTime(self._source, self._clock_us() if through_us is None else through_us),)

    def _raise_fault(self) -> None:
        if self._script.fault is not None:
            raise self._script.fault


def _concerns(message: FeedMessage, tables: Sequence[str]) -> bool:
    if isinstance(message, TableSnapshot):
        return message.schema.name in tables
    return not isinstance(message, TableDelta) or message.table in tables
