"""Decoder of PostgreSQL's logical replication stream (pgoutput, protocol version 1).

Bytes in, values out, no I/O: ``feed`` takes CopyData messages as they come from the server,
``take`` gives the whole transactions among them as columns. An unfinished transaction stays until
it grows too large to be held, and comes in parts then: what has begun to come is committed at the
source already. Within a batch a table's changes keep their order, and a truncation or a new layout
of a table starts a new ``TableChanges``.

Which columns are the key is the catalogue's word: with REPLICA IDENTITY FULL the stream marks
every column. Every length is checked before it is followed; what contradicts the protocol is an
``IntegrityError`` and gives no values.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from upwell.core.protocols import (
    Int64s,
    LayoutChange,
    TableChanges,
    Transactions,
    Truncation,
    with_constants,
)
from upwell.sources.postgres import frames
from upwell.sources.postgres.buffer import ByteBuffer
from upwell.sources.postgres.datatypes import Aliases
from upwell.sources.postgres.frames import Bytes, corrupt
from upwell.sources.postgres.layout import Admission, Announcement, Layout, parse_layout
from upwell.sources.postgres.tables import CapturedTable
from upwell.sources.postgres.tuples import table_changes
from upwell.sources.postgres.views import Views
from upwell.sources.postgres.wal import EPOCH_US, LATEST_COMMIT_US, positions_of

#: A batch is cut at the last commit before this many bytes, or else at the first commit.
BATCH_BYTES = 16 << 20
#: Of a transaction not more than this is held; a message that is larger is held until it is whole.
PART_BYTES = 32 << 20

_OPENINGS = (ord("w") << 8, ord("k") << 8)
_PASSED = b"NSA"  # notices, changed settings, notifications
_XLOG_DATA, _KEEPALIVE = ord("w"), ord("k")
_DATA_HEADER_BYTES = 25
_LARGEST_LSN = (1 << 63) - 1
_NONE_BEGUN = np.empty((0, 2), np.int64)
_BEGIN, _COMMIT, _RELATION, _TRUNCATE = (ord(letter) for letter in "BCRT")
_INSERT, _UPDATE, _DELETE = (ord(letter) for letter in "IUD")
#: What has its place in a transaction, or is an end of one.
_WITHIN = (_BEGIN, _COMMIT, _RELATION, _INSERT, _UPDATE, _DELETE, _TRUNCATE)
#: Message → the fewest bytes it can have; all messages of protocol version 1.
_SHORTEST = {"B": 21, "C": 26, "R": 8, "Y": 7, "O": 9, "M": 14, "I": 8, "U": 8, "D": 8, "T": 6}
_SHORTEST_OF = np.full(256, 1 << 62, np.int64)
for _letter, _bytes in _SHORTEST.items():
    _SHORTEST_OF[ord(_letter)] = _bytes
_LONGEST_OF = np.full(256, 1 << 62, np.int64)
_LONGEST_OF[[_BEGIN, _COMMIT]] = _SHORTEST["B"], _SHORTEST["C"]


@dataclass(frozen=True, slots=True)
class ServerNotice:
    """Why the server ended the stream: its SQLSTATE (empty for a regular end) and message."""

    sqlstate: str
    message: str


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """Whole transactions up to the one that ends at ``lsn``, or the next part of one that
    ``goes_on``; ``lsn`` is before it then.
    """

    lsn: int
    transactions: Transactions
    changes: Sequence[TableChanges | Truncation | LayoutChange]
    goes_on: bool = False


@dataclass(frozen=True, slots=True)
class _Messages:
    """Messages to be given: type, place, end, and index of the transaction."""

    views: Views
    types: Bytes
    starts: Int64s
    ends: Int64s
    transaction: Int64s


class Decoder:
    """The state of one stream: bytes not yet released, and the layouts the server announced.

    ``admit`` is asked about those of a batch at once, in the log's order, each with where in the
    log its transaction ends; what it raises leaves ``take`` before any row is given.
    """

    def __init__(
        self,
        tables: Sequence[CapturedTable],
        aliases: Aliases,
        start_lsn: int,
        *,
        batch_bytes: int = BATCH_BYTES,
        part_bytes: int = PART_BYTES,
        admit: Callable[[Sequence[Announcement]], Sequence[Admission]] | None = None,
    ) -> None:
        self._tables = {table.oid: table for table in tables}
        self._aliases = aliases
        self._batch_bytes = batch_bytes
        self._part_bytes = part_bytes
        #: The transaction of which parts have been given: where in the log its commit's record
        #: begins, and when it was committed.
        self._begun: tuple[int, int] | None = None
        self._admit = admit or _only_with_key
        self._layouts: dict[int, Admission] = {}
        self._others: set[int] = set()  # announced, though nobody asked for them
        self._buffer = ByteBuffer()
        self._forgotten = 0  # bytes that were here before these
        self._walked = 0  # bytes whose messages are known
        self._needed = 0  # bytes that must be there before more can be known
        self._starts: list[Int64s] = []
        self._ends: list[Int64s] = []
        self._has_commit = False
        self._released = start_lsn
        self._read_by_server = start_lsn
        self._keepalive: int | None = None  # a keepalive behind all data so far
        self._reply_wanted = False
        self.ended: ServerNotice | None = None

    @property
    def pending_bytes(self) -> int:
        """Bytes held back because their transaction is not released."""
        return self._buffer.filled

    @property
    def unfinished(self) -> tuple[int, int]:
        """Where in the stream the message begins that is still coming, and how much of it is here.

        In bytes.
        """
        return self._forgotten + self._walked, self._buffer.filled - self._walked

    @property
    def is_within(self) -> bool:
        """Whether parts of a transaction have been given, and the last has not."""
        return self._begun is not None

    @property
    def is_ready(self) -> bool:
        """Whether ``take`` has something to give."""
        return self._has_commit or (bool(self._starts) and self._walked >= self._part_bytes)

    @property
    def progress(self) -> int:
        """Everything committed before this LSN has been released."""
        return max(self._released, self._read_by_server)

    def is_reply_wanted(self) -> bool:
        """Whether the server has asked for a status since the last call."""
        wanted, self._reply_wanted = self._reply_wanted, False
        return wanted

    def feed(self, data: bytes) -> None:
        """Take in bytes as they came, cut anywhere."""
        self._buffer.append(data)
        self._walk()
        if not self._starts:  # signs of life alone: nothing of them is kept
            self._drop(self._walked)

    def take(self) -> DecodedBatch | None:
        """The next whole transactions, or part of one; None when there are none."""
        if not self.is_ready:
            return None
        starts, ends = np.concatenate(self._starts), np.concatenate(self._ends)
        commits = np.flatnonzero(self._buffer.bytes[starts] == _COMMIT)
        if len(commits):
            within = int(np.searchsorted(ends[commits], self._batch_bytes, "right"))
            cut = int(commits[max(within, 1) - 1]) + 1
        else:
            cut = len(starts)
        messages = self._checked(starts[:cut], ends[:cut])
        lsns, committed_at, ended_at = self._transactions(messages)
        if not len(lsns):
            corrupt("much, and no transaction in it")
        changes = tuple(self._changes(messages, lsns))
        goes_on = len(lsns) > len(ended_at)
        if len(ended_at):
            self._released = int(ended_at[-1])
        self._begun = (int(lsns[-1]) - 1, int(committed_at[-1])) if goes_on else None
        self._release(starts, ends, cut, has_commit=bool(len(commits)) and cut <= int(commits[-1]))
        transactions = Transactions(positions_of(lsns), committed_at + EPOCH_US)
        return DecodedBatch(self._released, transactions, changes, goes_on)

    # ── messages ─────────────────────────────────────────────────────────────────────────────────

    def _walk(self) -> None:
        """Find the messages in the bytes that are new."""
        if self.ended is not None or self._buffer.filled < self._needed:
            return
        found = frames.split(
            self._buffer.bytes, self._walked, self._buffer.filled, _OPENINGS, passed=_PASSED
        )
        self._walked, self._needed = found.next, found.needs
        self._sort(found.starts, found.ends)
        if not found.is_control:
            return
        message = frames.control(self._buffer.bytes, found.next, self._buffer.filled)
        if message is not None:
            letter, payload, self._walked = message
            self.ended = ending(letter, payload)

    def _sort(self, starts: Int64s, ends: Int64s) -> None:
        """Keepalives are noted, the rest is kept.

        How far the server has read counts once nothing that came before is held back.
        """
        if len(starts) == 0:
            return
        kinds = self._buffer.bytes[starts]
        is_data = kinds == _XLOG_DATA
        is_keepalive = kinds == _KEEPALIVE
        if not (is_data | is_keepalive).all():
            corrupt("data that is neither log nor keepalive")
        if (ends - starts <= np.where(is_data, _DATA_HEADER_BYTES, 17)).any():
            corrupt("a message too short for its kind")
        if is_data.any():
            places = starts[is_data] + _DATA_HEADER_BYTES
            types, sizes = self._buffer.bytes[places], ends[is_data] - places
            if (sizes < _SHORTEST_OF[types]).any() or (sizes > _LONGEST_OF[types]).any():
                corrupt("an unknown message, or one of a length that its kind does not have")
            self._has_commit |= bool((types == _COMMIT).any())
            self._starts.append(places)
            self._ends.append(ends[is_data])
            self._keepalive = None
        if is_keepalive.any():
            places = starts[is_keepalive]
            self._reply_wanted |= bool(self._buffer.bytes[places + 17].any())
            if is_keepalive[-1]:
                last = int(places[-1])
                lsn = self._buffer.bytes[last + 1 : last + 9].tobytes()
                self._keepalive = int.from_bytes(lsn, "big")
                if self._keepalive > _LARGEST_LSN:
                    corrupt("a position beyond the end of any log")
        self._settle()

    def _settle(self) -> None:
        if self._keepalive is not None and not self._starts and self._begun is None:
            self._read_by_server = max(self._read_by_server, self._keepalive)

    def _checked(self, starts: Int64s, ends: Int64s) -> _Messages:
        """The messages; every change stands between a begin and a commit."""
        types = self._buffer.bytes[starts]
        begins = np.cumsum(types == _BEGIN) + self.is_within
        commits_before = np.cumsum(types == _COMMIT) - (types == _COMMIT)
        is_outside = begins != commits_before + 1
        if (is_outside & np.isin(types, _WITHIN)).any():
            corrupt("changes outside a transaction")
        return _Messages(Views(self._buffer.bytes), types, starts, ends, begins - 1)

    def _transactions(self, messages: _Messages) -> tuple[Int64s, Int64s, Int64s]:
        """Where in the log the transactions of these messages are, when they were committed, and
        where those end that do not go on.

        One that was whole when it came is where its commit's record ends. Of one in parts only the
        record's beginning is known yet, which may be where the one before ends: it is a byte on.
        """
        views = messages.views
        begins = messages.starts[messages.types == _BEGIN]
        commits = messages.starts[messages.types == _COMMIT]
        known = np.array([self._begun], np.int64) if self._begun is not None else _NONE_BEGUN
        announced = np.append(known[:, 0], views.i8[begins + 1].astype(np.int64))
        committed_at = np.append(known[:, 1], views.i8[begins + 9].astype(np.int64))
        if (announced[: len(commits)] != views.i8[commits + 2]).any():
            corrupt("a commit that does not match its begin")
        committed_at[: len(commits)] = views.i8[commits + 18]
        if ((committed_at < -EPOCH_US) | (committed_at >= LATEST_COMMIT_US)).any():
            corrupt("a commit before 1970 or after 9999")
        ended_at = views.i8[commits + 10].astype(np.int64)
        lsns = announced + 1
        lsns[len(known) : len(ended_at)] = ended_at[len(known) :]
        # A keepalive, too, says that everything before it has come.
        if (lsns <= np.append(self.progress, lsns[:-1])).any() or (
            ended_at < lsns[: len(ended_at)]
        ).any():
            corrupt("transactions out of order")
        return lsns, committed_at, ended_at

    def _release(self, starts: Int64s, ends: Int64s, cut: int, *, has_commit: bool) -> None:
        """Forget what was given out and move the rest to the front."""
        used = int(ends[cut - 1])
        self._drop(used)
        self._has_commit = has_commit
        self._starts = [starts[cut:] - used] if cut < len(starts) else []
        self._ends = [ends[cut:] - used] if cut < len(ends) else []
        self._settle()

    def _drop(self, count: int) -> None:
        self._buffer.drop(count)
        self._forgotten += count
        self._walked -= count
        self._needed -= count

    # ── changes ──────────────────────────────────────────────────────────────────────────────────

    def _changes(
        self, messages: _Messages, lsns: Int64s
    ) -> Iterator[TableChanges | Truncation | LayoutChange]:
        """Changes in the order of their first row; a table's own always in the log's order."""
        views, types = messages.views, messages.types
        is_change = np.isin(types, (_INSERT, _UPDATE, _DELETE))
        rows = np.flatnonzero(is_change)
        relations = views.u4[messages.starts[rows] + 1].astype(np.int64)
        pieces: list[tuple[int, TableChanges | Truncation | LayoutChange]] = []
        since: dict[int, int] = {}

        order = np.argsort(relations, kind="stable")  # in runs already where tables are few
        oids, begins = np.unique(relations[order], return_index=True)
        rows_of = dict(zip(oids.tolist(), np.split(rows[order], begins[1:]), strict=False))

        def close(oid: int, until: int) -> None:
            mine = rows_of.get(oid, rows[:0])
            first, last = np.searchsorted(mine, (since.get(oid, 0), until))
            mine = mine[first:last]
            since[oid] = until
            if len(mine) == 0 or not self._is_captured(oid):
                return
            admission = self._layout(oid)
            mine = mine[lsns[messages.transaction[mine]] > admission.read_through]
            if len(mine) and not admission.is_stale:
                changes = with_constants(
                    self._rows(messages, admission.layout, mine), admission.constants
                )
                pieces.append((int(mine[0]), changes))

        admitted = self._admitted(messages, lsns)
        for index in np.flatnonzero((types == _RELATION) | (types == _TRUNCATE)).tolist():
            if types[index] == _RELATION:
                admission = admitted.get(index)
                if admission is None:
                    continue
                oid = admission.layout.oid
                if admission != self._layouts.get(oid):
                    close(oid, index)
                    self._layouts[oid] = admission
                if admission.change is not None:
                    pieces.append((index, admission.change))
                continue
            for oid in _truncated(messages, index):
                close(oid, index)
                if not self._is_captured(oid):
                    continue
                admission = self._layout(oid)
                at = int(messages.transaction[index])
                if not admission.is_stale and lsns[at] > admission.read_through:
                    pieces.append((index, Truncation(admission.layout.schema, at)))
        for oid in rows_of:
            close(oid, len(types))
        yield from (piece for _, piece in sorted(pieces, key=lambda piece: piece[0]))

    def _admitted(self, messages: _Messages, lsns: Int64s) -> dict[int, Admission]:
        """What to make of the layouts of our tables, each by the index of its message."""
        announced: dict[int, Announcement] = {}
        for index in np.flatnonzero(messages.types == _RELATION).tolist():
            layout = self._parsed(messages, index)
            if layout is not None:
                announced[index] = Announcement(layout, int(lsns[messages.transaction[index]]))
            elif index - 1 in announced:  # a partition is announced right behind its table
                oid = int(messages.views.u4[messages.starts[index] + 1])
                announced[index - 1] = replace(announced[index - 1], partition=oid)
        if not announced:
            return {}
        return dict(zip(announced, self._admit(list(announced.values())), strict=True))

    def _parsed(self, messages: _Messages, index: int) -> Layout | None:
        start, end = int(messages.starts[index]), int(messages.ends[index])
        payload = self._buffer.bytes[start:end].tobytes()
        try:
            oid: int = struct.unpack_from(">I", payload, 1)[0]
            table = self._tables.get(oid)
            if table is not None:
                return parse_layout(payload, table, self._aliases)
            self._others.add(oid)
        except (struct.error, ValueError, IndexError) as error:
            corrupt(f"a table layout that cannot be read: {error}")
        return None

    def _is_captured(self, oid: int) -> bool:
        """Whether a change's table is ours, or one that somebody else had published."""
        if oid not in self._tables and oid not in self._others:
            corrupt(f"changes of a table (number {oid}) that was not announced")
        return oid in self._tables

    def _layout(self, oid: int) -> Admission:
        admission = self._layouts.get(oid)
        if admission is None:
            corrupt(f"changes of table {self._tables[oid].name} before its layout")
        return admission

    def _rows(self, messages: _Messages, layout: Layout, rows: Int64s) -> TableChanges:
        return table_changes(
            messages.views,
            layout,
            starts=messages.starts[rows],
            ends=messages.ends[rows],
            transaction=messages.transaction[rows].astype(np.int32),
        )


def _only_with_key(announced: Sequence[Announcement]) -> Sequence[Admission]:
    layouts = [each.layout for each in announced]
    return [Admission(layout, None, is_stale=not layout.has_key) for layout in layouts]


def _truncated(messages: _Messages, index: int) -> list[int]:
    start, end = int(messages.starts[index]), int(messages.ends[index])
    count = int(messages.views.u4[start + 1])
    if end - start != 6 + 4 * count:
        corrupt("a truncation whose length is not that of its tables")
    return messages.views.u4[start + 6 + 4 * np.arange(count)].tolist()  # type: ignore[no-any-return]  # NumPy gives Any


def ending(letter: str, payload: bytes) -> ServerNotice:
    """What an error, the end of copying, or anything else says about the end of the stream."""
    if letter != "E":
        return ServerNotice("", "the server ended the stream")
    fields = {part[:1]: part[1:].decode(errors="replace") for part in payload.split(b"\0") if part}
    return ServerNotice(fields.get(b"C", ""), fields.get(b"M", "no message"))
