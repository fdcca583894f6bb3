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
from upwell.core.position import Position
from upwell.core.protocols import (
    Beginning,
    Burden,
    Checksum,
    CopiedRows,
    CopyPlan,
    FeedMessage,
    Heartbeat,
    KeyRange,
    LayoutChange,
    Operation,
    SourceBatch,
    SourceTable,
    SourceTables,
    SourceTime,
    TableChanges,
    TableDelta,
    TableSnapshot,
    Transactions,
    Truncation,
    VersionEnd,
)
from upwell.core.schema import TableSchema

_KEPT_VERSIONS = 1_000

# ── the feed ─────────────────────────────────────────────────────────────────────────────────────


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
                version == script.version or script.versions[0][0] - 1 <= version < script.version
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


# ── a source ─────────────────────────────────────────────────────────────────────────────────────

_FIRST_POSITION = Position("0")

ScriptStep = SourceBatch | UpwellError
"""A batch that a stream gives, or a fault that one poll meets."""


def changed_rows(
    schema: TableSchema, rows: pa.Table, operation: Operation = Operation.INSERT
) -> TableChanges:
    """The same change of every row, all in a batch's first transaction, no key moved."""
    count = rows.num_rows
    return TableChanges(
        schema=schema,
        rows=rows,
        operations=np.full(count, operation, np.int8),
        transaction=np.zeros(count, np.int32),
        old_key_rows=np.empty(0, np.int64),
    )


def one_transaction(
    position: str, *changes: TableChanges | Truncation | LayoutChange, committed_at_us: int
) -> SourceBatch:
    """A batch of one source transaction; without changes it only moves position and time."""
    transactions = Transactions([Position(position)], np.array([committed_at_us], np.int64))
    nothing = Transactions([], np.empty(0, np.int64))
    return SourceBatch(
        position=Position(position),
        transactions=transactions if changes else nothing,
        changes=changes,
        complete_through_us=committed_at_us,
        received_at_us=committed_at_us,
    )


class MemorySource:
    """A source that begins with given tables and then follows a script. Any thread may add to it.

    A stream gives the script's batches after its position, once each and in order. A fault in the
    script is met by one poll of one stream, at its place. Behind the script's end time goes on.
    ``acknowledged`` holds every position the engine declared safe, in order.
    """

    def __init__(
        self,
        name: str,
        tables: Sequence[tuple[TableSchema, pa.Table]],
        script: Sequence[ScriptStep] = (),
        *,
        identity: str = "memory",
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        idle_seconds: float = 0.1,
    ) -> None:
        self.name = name
        self.identity = identity
        self.acknowledged: list[Position] = []
        self.burden: Burden | None = None
        self.released = 0
        self._tables = list(tables)
        self._script = list(script)
        self._met: set[int] = set()
        self._clock_us = clock_us
        self._idle_seconds = idle_seconds
        self._news = threading.Condition()

    @property
    def tables(self) -> Sequence[TableSchema]:
        return [schema for schema, _ in self._tables]

    def look(self, known: Sequence[SourceTable] = ()) -> SourceTables:
        """The tables as given, none of which ever changes."""
        del known
        return SourceTables({each.name: SourceTable(each, "as given") for each in self.tables})

    def add(self, *steps: ScriptStep) -> None:
        """Let the script go on with these."""
        with self._news:
            self._script.extend(steps)
            self._news.notify_all()

    def checksum_sql(self, schema: TableSchema, relation: str) -> str:
        """Of the number of rows alone."""
        del schema
        return f"SELECT count(*), 0 FROM {relation}"

    def has_ordered_keys(self, schema: TableSchema) -> bool:
        """Ranges are not read."""
        del schema
        return False

    def begin(self, tables: Sequence[SourceTable]) -> Beginning:
        """From before the script's first batch."""
        del tables
        return Beginning(_FIRST_POSITION, self._clock_us(), self.identity)

    def follow_only(self, tables: Sequence[SourceTable]) -> Sequence[str]:
        """The script has what it has."""
        del tables
        return ()

    def stream(self, position: Position, tables: Sequence[SourceTable]) -> MemoryStream:
        del tables
        return MemoryStream(self, position)

    def copy(self) -> MemoryCopy:
        """The tables as given, from before the script's first batch."""
        return MemoryCopy({schema.name: rows for schema, rows in self._tables})

    def release(self) -> None:
        """From now on the log is lost."""
        self.released += 1

    def close(self) -> None:
        """Nothing is held."""

    def next_step(
        self, index: int, position: Position, timeout_seconds: float
    ) -> tuple[int, SourceBatch | None]:
        """The first batch from step ``index`` on that lies after ``position``, and its successor's
        index; raises the faults on the way that nobody has met yet.
        """
        with self._news:
            self._news.wait_for(lambda: len(self._script) > index, timeout_seconds)
            while index < len(self._script):
                step = self._script[index]
                index += 1
                if isinstance(step, SourceBatch):
                    if step.position > position:
                        return index, step
                elif index not in self._met:
                    self._met.add(index)
                    raise step
        return index, None

    def idle(self, position: Position) -> SourceBatch:
        """Nothing happened, up to now."""
        return one_transaction(position, committed_at_us=self._clock_us())

    def wait_seconds(self, given_at: float) -> float:
        """How long until a stream that gave something at ``given_at`` says that nothing happens."""
        return max(0.0, given_at + self._idle_seconds - time.monotonic())


@dataclass(frozen=True, slots=True)
class MemoryCopy:
    """The tables that a ``MemorySource`` begins with, so many rows in a part."""

    contents: dict[str, pa.Table]
    part_rows: int = 1_000

    def plan(self, table: SourceTable, part_bytes: int) -> CopyPlan:
        del part_bytes
        rows = self.contents[table.name].num_rows
        return CopyPlan([str(at) for at in range(0, max(rows, 1), self.part_rows)], rows)

    def read(self, table: SourceTable, part: str) -> CopiedRows:
        rows = self.contents[table.name].slice(int(part), self.part_rows)
        return CopiedRows(rows.to_batches(), (), _FIRST_POSITION, rows.nbytes)

    def compare(
        self, table: SourceTable, keys: KeyRange, stored: Checksum
    ) -> CopiedRows | Position:
        """Always the rows."""
        del keys, stored
        return self.read(table, "0")

    def read_rows(self, table: SourceTable, keys: pa.Table) -> CopiedRows:
        rows = self.contents[table.name].join(keys, list(table.schema.key), join_type="inner")
        return CopiedRows(rows.to_batches(), (), _FIRST_POSITION, rows.nbytes)

    def close(self) -> None:
        """Nothing is held."""


class MemoryStream:
    """One reading of a ``MemorySource``'s script."""

    def __init__(self, source: MemorySource, position: Position) -> None:
        self._source = source
        self._position = position
        self._step = 0
        self._given_at = time.monotonic()

    def poll(self, timeout_seconds: float) -> SourceBatch | None:
        """See ``core.protocols.Stream.poll``."""
        idle_seconds = self._source.wait_seconds(self._given_at)
        self._step, batch = self._source.next_step(
            self._step, self._position, min(timeout_seconds, idle_seconds)
        )
        if batch is None and idle_seconds <= timeout_seconds:
            batch = self._source.idle(self._position)
        if batch is not None:
            self._position, self._given_at = batch.position, time.monotonic()
        return batch

    @property
    def burden(self) -> Burden | None:
        """What the source was told to keep."""
        return self._source.burden

    @property
    def failover(self) -> None:
        """There is no other server."""
        return

    @property
    def succession(self) -> None:
        """There never is."""
        return

    def acknowledge(self, position: Position) -> None:
        self._source.acknowledged.append(position)

    def close(self) -> None:
        """Nothing is held."""
