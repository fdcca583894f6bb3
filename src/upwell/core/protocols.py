"""The roles of Upwell on one page.

Stages never import one another. They meet in tables, in these Protocols, and in arguments that
``app.py`` passes. Three words are kept apart everywhere: *received* (fsynced in the journal),
*committed* (in a version of the hot store), *durable* (in the lake).

A source gives changes in order, each at least once from a given position; the engine stores rows
and position in one transaction, which makes it exactly once. A feed gives each follower every
version in order, once, from the version the follower names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from upwell.core.errors import UpwellError
from upwell.core.position import Position
from upwell.core.schema import TableSchema

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

# ── sources ──────────────────────────────────────────────────────────────────────────────────────


class Operation(IntEnum):
    """What a source did to a row."""

    INSERT = 1
    UPDATE = 2
    DELETE = 3


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why some rows of a ``TableChanges`` cannot be stored as they are; they go to quarantine.

    ``column`` holds the refused values; empty where they are of no one column.
    """

    reason: str
    rows: Bools
    raw: Sequence[str]  # the refused value as text, one for each True in ``rows``
    column: str = ""


@dataclass(frozen=True, slots=True)
class TableChanges:
    """Changes of one table under one layout, in source order.

    Row ``i`` of ``rows`` is the new image of change ``i`` (for a DELETE: the key columns, the rest
    NULL). Arrow types may be narrower than the stored types of ``schema``, e.g. text that the hot
    store casts. ``transaction[i]`` indexes the batch's ``transactions``.

    ``old_keys`` holds the key columns before the change for the rows listed in ``old_key_rows``
    (ascending): at least every UPDATE that moved the key. ``unchanged[column]`` marks values the
    source did not send because they did not change (unchanged TOAST). ``is_filtered``: rows of the
    table are left out, so that an UPDATE may be of one that is not stored.
    """

    schema: TableSchema
    rows: pa.Table
    operations: npt.NDArray[np.int8]
    transaction: npt.NDArray[np.int32]
    old_key_rows: Int64s
    old_keys: pa.Table | None = None
    unchanged: Mapping[str, Bools] = field(default_factory=dict)
    refusals: Sequence[Refusal] = ()
    is_filtered: bool = False

    @property
    def table(self) -> str:
        return self.schema.name


def with_constants(change: TableChanges, constants: pa.Table | None) -> TableChanges:
    """``change`` with columns that its rows lack, each the same value in all of them.

    ``constants`` is one row; its columns come last, and are of types that Arrow carries.
    """
    if constants is None:
        return change
    rows = change.rows
    everywhere = pa.array(np.zeros(rows.num_rows, np.int64))
    for name in constants.column_names:
        if name not in rows.column_names:
            rows = rows.append_column(name, constants.column(name).take(everywhere))
    return replace(change, rows=rows)


@dataclass(frozen=True, slots=True)
class Truncation:
    """All rows of a table vanished."""

    schema: TableSchema
    transaction: int

    @property
    def table(self) -> str:
        return self.schema.name


@dataclass(frozen=True, slots=True)
class Transactions:
    """The source transactions a batch is made of, in commit order."""

    positions: Sequence[Position]
    committed_at_us: Int64s  # source clock, microseconds since 1970 UTC

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True, slots=True)
class SourceBatch:
    """Whole source transactions, up to and including ``position``; or with ``goes_on`` the next
    part of one that is larger than is held at once. Whoever takes that in shows nothing of it
    before its last part, the first batch without, has come; ``position`` is behind it only then.

    ``changes`` keeps, for each table, the order of the source; a table appears more than once when
    it was truncated or its layout changed in between. Rows that were changed under a layout the
    table no longer has are left out where a ``LayoutChange`` says that it must be read anew. An
    empty batch only moves position and time.

    ``complete_through_us``: this batch and those before hold everything the source committed up to
    this time of the source's clock. ``clock_skew_us``: our clock minus the source's.
    """

    position: Position
    transactions: Transactions
    changes: Sequence[TableChanges | Truncation | LayoutChange]
    complete_through_us: int
    received_at_us: int
    clock_skew_us: int = 0
    goes_on: bool = False


class BegunAnewError(Exception):
    """What was given of a transaction in parts is to be undone: the same stream gives it again,
    from its beginning.
    """


@dataclass(frozen=True, slots=True)
class SourceTable:
    """A table as it stands in its source.

    ``state`` is text that only the source can interpret. It is another one whenever rows read
    before may not be what they would be if read now; the engine keeps it beside the rows.
    ``terms`` stand for what of the table may be stored: rows of other terms do not stand with these
    in one log. Empty where all of it may.
    ``is_kept``: it is not read anew whatever becomes of it, so its stream leaves no row out.
    """

    schema: TableSchema
    state: str
    terms: str = ""
    is_kept: bool = field(default=False, compare=False)

    @property
    def name(self) -> str:
        return self.schema.name


@dataclass(frozen=True, slots=True)
class SourceTables:
    """What a source has of the tables it was asked for, by name in SQL: those that can be followed,
    why the others cannot, and what has become of those that were known. ``leave_values_out`` names
    tables of whose rows the stream may leave out values that did not change.
    """

    tables: Mapping[str, SourceTable]
    unfit: Mapping[str, UpwellError] = field(default_factory=dict)
    changes: Mapping[str, LayoutChange] = field(default_factory=dict)
    leave_values_out: Collection[str] = ()

    def unlogged(self, name: str) -> str:
        """What the log does not tell of a table that was known; empty if nothing."""
        change = self.changes.get(name)
        return "" if change is None else change.unlogged


@dataclass(frozen=True, slots=True)
class LayoutChange:
    """From here on a table is another one than before.

    ``fills`` is one row of the columns that were added with a value for all rows there were.
    ``why`` says what happened if rows stored so far no longer stand for the source's: they must be
    read anew. ``unlogged`` says it if they may stand or not, since rows came or went of which the
    log does not tell: they are to be compared. Where the table can be followed no more, ``unfit``
    says why.
    """

    now: SourceTable
    fills: pa.Table | None = None
    why: str = ""
    unfit: UpwellError | None = None
    unlogged: str = ""

    @property
    def table(self) -> str:
        return self.now.name


@dataclass(frozen=True, slots=True)
class RefusedRows:
    """Copied rows that cannot be stored: why, the values as text, the rest of each row.

    ``column`` holds those values; empty where they are of no one column.
    """

    reason: str
    raw: Sequence[str]
    rows: pa.RecordBatch
    column: str = ""


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """The parts in which a table is read, each as text for ``Copy.read``; about how many rows."""

    parts: Sequence[str]
    estimated_rows: int


@dataclass(frozen=True, slots=True)
class KeyRange:
    """Keys from one on (None: the first) to before another (None: the last), as rows of one value
    a key column, as text that the source reads.
    """

    begin: tuple[str, ...] | None
    end: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class CopiedRows:
    """Some rows of a table as they stood at one moment.

    A stream that has reached ``position`` has given every change that these rows may have seen.
    Arrow types as in ``TableChanges.rows``; ``size_bytes`` is what the source had to send.
    """

    rows: Sequence[pa.RecordBatch]
    refused: Sequence[RefusedRows]
    position: Position
    size_bytes: int


class Checksum(NamedTuple):
    """How many rows, and the sum of their checksums."""

    rows: int
    sum: int


class Copy(Protocol):
    """A connection through which tables are read beside the stream, a part at a time.

    Parts are read at different moments, so a row may come twice, or, having moved meanwhile, not at
    all: then the stream has a change of it. Every change that the stream gave before ``plan``
    shows in what is read after it. Each call is short, and nothing stays open at the source between
    two. Used by one thread at a time.
    """

    def plan(self, table: SourceTable, part_bytes: int) -> CopyPlan:
        """Cut a table into parts of about ``part_bytes``; waits for writers that began before it
        was followed. Raises ``Unavailable`` naming them if they take long.
        """
        ...

    def read(self, table: SourceTable, part: str) -> CopiedRows:
        """One part. Raises ``LayoutChangedError`` if the table is not as ``table`` says."""
        ...

    def compare(
        self, table: SourceTable, keys: KeyRange, stored: Checksum
    ) -> CopiedRows | Position:
        """The rows whose keys are in a range, if they are not those of a stored checksum; if they
        are, the position as which they were looked at.
        """
        ...

    def read_rows(self, table: SourceTable, keys: pa.Table) -> CopiedRows:
        """The rows that have one of ``keys``, as far as they are there."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where following begins: the stream has everything after ``position``.

    ``at_us`` is the source's clock just before, moved onto ours; ``identity`` names the source
    itself, so that another one under the same address is noticed.
    """

    position: Position
    at_us: int
    identity: str


@dataclass(frozen=True, slots=True)
class Burden:
    """What following costs the source: how much log it keeps for us, beyond which amount it
    discards that by itself (None: never), and how many connections of ours it has.
    """

    retained_bytes: int
    limit_bytes: int | None
    connections: int


@dataclass(frozen=True, slots=True)
class Succession:
    """A source goes on as another server than the one last known, with everything that was read.

    ``identity`` is who it is now, as in ``Beginning``. What was read as of a position behind
    ``shared_through`` is nothing that this server ever had. ``what`` says it to people; empty if
    there is nothing to tell.
    """

    identity: str
    shared_through: Position
    what: str


@dataclass(frozen=True, slots=True)
class Failover:
    """What is known of whether following goes on where a standby takes over.

    ``is_offered``: the source lets standbys keep what we follow it by. ``waits_for`` names the
    standbys that have everything before we get it, and ``missing`` those of them that are away, for
    which we wait. ``is_synced``: whether the standby that is asked would let us go on; None: none
    is, or it does not answer, as ``why`` says.
    """

    is_offered: bool
    waits_for: Sequence[str] = ()
    missing: Sequence[str] = ()
    is_synced: bool | None = None
    why: str = ""


class Stream(Protocol):
    """Changes after a position, as they come."""

    def poll(self, timeout_seconds: float) -> SourceBatch | None:
        """What has arrived, or None after the timeout.

        Returns at once when something is there: everything up to the last whole transaction, within
        a bounded size. A transaction larger than that comes in parts, with nothing between them.
        While the source is idle, an empty batch comes at least every second with a newer
        ``complete_through_us``. Raises ``Unavailable`` when the connection is lost, ``GapError``
        when the log no longer reaches back to the position, ``BegunAnewError`` between parts.
        """
        ...

    def acknowledge(self, position: Position) -> None:
        """The engine has everything up to ``position`` safe: the source may forget it."""
        ...

    @property
    def burden(self) -> Burden | None:
        """What following costs the source, as last seen; None if it was not yet."""
        ...

    @property
    def failover(self) -> Failover | None:
        """What would become of following if a standby took over, as last seen; None if it was not
        yet, or the source has nothing of the kind.
        """
        ...

    @property
    def succession(self) -> Succession | None:
        """Whether opening it found another server than the one last known; None if not."""
        ...

    def close(self) -> None: ...


class Source(Protocol):
    """A place changes come from. State is explicit: the engine owns positions, not the source."""

    @property
    def name(self) -> str: ...

    def look(self, known: Sequence[SourceTable] = ()) -> SourceTables:
        """The configured tables as they stand, compared with the states last ``known``.

        Raises ``EnvironmentFault`` where a known table may not be read just now: that can be mended
        without its rows becoming others.
        """
        ...

    def checksum_sql(self, schema: TableSchema, relation: str) -> str:
        """DuckDB's query for rows and checksum of ``relation``, a quoted name or a subquery, as
        ``Copy.compare`` computes them at the source.
        """
        ...

    def has_ordered_keys(self, schema: TableSchema) -> bool:
        """Whether the source and the store put a table's keys in the same order."""
        ...

    def begin(self, tables: Sequence[SourceTable]) -> Beginning:
        """Prepare the source for following these tables from now on (publication, slot).

        What was prepared before is given up.
        """
        ...

    def follow_only(self, tables: Sequence[SourceTable]) -> Sequence[str]:
        """From now on the stream's log has these tables, and no others; which it had not before."""
        ...

    def stream(self, position: Position, tables: Sequence[SourceTable]) -> Stream:
        """The changes of ``tables``, in the states last known, after ``position``.

        What has become of them since is the first thing it gives. Opening it acknowledges nothing.
        Raises ``GapError`` when the log no longer reaches back to the position, ``IntegrityError``
        when the source never had what was read up to there.
        """
        ...

    def copy(self) -> Copy:
        """Open a connection for reading tables."""
        ...

    def release(self) -> None:
        """Give up the log that the source keeps for us. Streams must be closed."""
        ...

    def close(self) -> None: ...


# ── the change feed ──────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class SourceTime:
    """Through when a source is complete, on our clock (microseconds since 1970 UTC)."""

    source: str
    complete_through_us: int


@dataclass(frozen=True, slots=True)
class TableSnapshot:
    """A table as it stands at ``version``: forget what you had of it."""

    version: int
    schema: TableSchema
    rows: pa.Table


@dataclass(frozen=True, slots=True)
class TableDelta:
    """A consolidated change batch that takes a table from the version before to ``version``."""

    version: int
    table: str
    batch: pa.Table


@dataclass(frozen=True, slots=True)
class VersionEnd:
    """All of ``version`` has been sent: what was received since the last end shows together.

    ``committed_at_us`` holds the commit times (source clock moved onto ours) of the source
    transactions in this version; empty where the follower started from a snapshot. ``trouble`` says
    what does not go on, though something does.
    """

    version: int
    logical_time_us: int
    times: Sequence[SourceTime]
    committed_at_us: Int64s
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing new, and through when that is known. ``trouble`` says why time stands still."""

    version: int
    times: Sequence[SourceTime]
    trouble: str = ""


FeedMessage = TableSnapshot | TableDelta | VersionEnd | Heartbeat


class Feed(Protocol):
    """Every published table's changes, version by version."""

    def follow(self, tables: Sequence[str], version: int | None) -> Iterator[FeedMessage]:
        """Messages from just after ``version`` on; None or a version out of reach starts with one
        ``TableSnapshot`` a table and a ``VersionEnd``. A heartbeat comes at least every second. A
        table that is not there yet is left out until it is.

        The iterator ends when the engine ends or the connection breaks (``Unavailable``); the
        follower calls again with the last version it has seen the end of. Raises ``UsageError``
        for a table that does not exist.
        """
        ...
