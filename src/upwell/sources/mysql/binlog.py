"""Decoder of the binary log as a server sends it to a replica.

Bytes in, values out, no I/O: ``feed`` takes bytes as they come, ``take`` gives the whole
transactions among them as columns. An unfinished transaction stays until its end, or is given in
parts where it is very large (``pending``).

The log has definitions as statements, and rows under whatever layout the table had then: what that
means for the followed tables, ``followed`` says. Every checksum is verified; what contradicts the
format is an ``IntegrityError`` and gives no values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from zlib import crc32

import numpy as np

from upwell.core.errors import GapError
from upwell.core.position import Position
from upwell.core.protocols import LayoutChange, Operation, TableChanges, Transactions, Truncation
from upwell.sources.mysql import events
from upwell.sources.mysql.changes import RowEvents, table_changes
from upwell.sources.mysql.followed import Followed, FollowedTables, Looked
from upwell.sources.mysql.packets import Packet, Packets, ServerNotice, notice_of
from upwell.sources.mysql.pending import Item, Pending, Rows
from upwell.sources.mysql.places import NOWHERE, Place, position_of
from upwell.sources.mysql.statements import savepoint_of
from upwell.sources.mysql.views import LittleViews, padded
from upwell.sources.mysql.wires import Wire, parse_table_map
from upwell.sources.postgres.frames import corrupt

#: A batch is cut at the last commit before about this many bytes, or else at the first commit.
BATCH_BYTES = 16 << 20
#: Of a transaction about this much is held, unless its rows turn out to be undone in part.
PART_BYTES = 32 << 20

_ARTIFICIAL = 0x20
_OFFSET_BITS = 32
_MOST_MAPS_KEPT = 1000
_END_OF_STATEMENT_TABLE = 0xFFFFFF  # a row event without rows, of no table
_NOT_WHOLE = "rows were logged in part: the session's binlog_row_image was not FULL"
_DISTRIBUTED = "it was changed by a distributed transaction (XA)"


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """Whole transactions up to ``position``, or the next part of one that ``goes_on``; it begins
    behind ``position`` then.
    """

    position: Position
    transactions: Transactions
    changes: Sequence[TableChanges | Truncation | LayoutChange]
    goes_on: bool = False


@dataclass(frozen=True, slots=True)
class _Mapped:
    """What an event says a table's number stands for.

    ``heads``: by type of row event, the part before the rows of the last one that had all columns.
    """

    followed: Followed | None
    wires: tuple[Wire, ...]
    heads: dict[int, bytes] = field(default_factory=dict)


class _Event(NamedTuple):
    """Where an event's body lies: in ``view``, which begins ``shift`` bytes into the stream unless
    it is of bytes of its ``own``.
    """

    view: memoryview
    begin: int
    end: int
    shift: int
    own: bytes | None

    @property
    def body(self) -> bytes:
        return bytes(self.view[self.begin : self.end])


class Decoder:
    """The state of one stream: bytes not yet released, and what the log said so far.

    ``tables`` are the followed ones by database and name. ``look`` asks the catalogue; what it
    raises leaves ``feed``, as ``GivenError`` does. A transaction that begins at a place which
    ``is_held`` names is not given in parts.
    """

    def __init__(
        self,
        tables: dict[tuple[str, str], Followed],
        place: Place,
        gtid: str = "",
        *,
        look: Callable[[str], Looked],
        is_checksummed: bool = True,
        folds_case: bool = False,
        part_bytes: int = PART_BYTES,
        is_held: Callable[[Place], bool] = lambda _: False,
    ) -> None:
        self._tables = FollowedTables(tables, look, folds_case=folds_case)
        self._is_checksummed = is_checksummed
        self._packets = Packets()
        self._pending = Pending()
        self._part_bytes = part_bytes
        self._is_held = is_held
        self._maps: dict[int, _Mapped] = {}
        self._parsed: dict[bytes, _Mapped] = {}
        self._place = place  # behind the last whole transaction
        self._file, self._offset = place  # behind the last event
        self._gtid = gtid
        self._group: events.Beginning | None = None
        self._is_open = False  # something has come of a transaction that has not ended
        self._has_begun = False  # statements do not end it
        self._begun_seconds = 0  # when, as its first event says
        self._prepared: dict[str, set[str]] = {}
        self._branch = ""
        self.ended: ServerNotice | None = None

    @property
    def pending_bytes(self) -> int:
        """Bytes held back because their transaction is not released."""
        return self._packets.held_bytes + self._pending.own_bytes

    @property
    def is_within(self) -> bool:
        """Whether parts of a transaction have been given, and the last has not."""
        return self._pending.is_within

    @property
    def is_ready(self) -> bool:
        """Whether ``take`` has something to give."""
        return self._pending.has_transaction or self._is_large

    @property
    def _is_large(self) -> bool:
        """Whether a part is to be given of the transaction that has not ended."""
        is_large = self._pending.is_begun and self.pending_bytes >= self._part_bytes
        return is_large and not self._is_held(self._pending.place)

    @property
    def place(self) -> Place:
        """Everything committed before this place has been decoded; given, once ``take`` is."""
        return self._place

    @property
    def position(self) -> Position:
        """``place``, with the GTID that ends there."""
        return position_of(self._place, self._gtid)

    def feed(self, data: bytes) -> None:
        """Take in bytes as they came, cut anywhere."""
        packets = self._packets
        found = packets.feed(data)
        buffer, dropped = packets.buffer.bytes.data, packets.dropped
        for start, end, own in found:
            view, shift = (buffer, dropped) if own is None else (memoryview(own), 0)
            at, stop = start - shift, end - shift
            first = view[at] if at < stop else 0xFF
            if self.ended is not None:
                corrupt("events behind the log's end")
            if first == 0:
                self._event(view, at + 1, stop, shift, own)
            elif first == 0xFF:
                self.ended = notice_of(bytes(view[at:stop]))
            elif first == 0xFE and stop - at < 9:
                self.ended = ServerNotice(0, "the server ended the log")
            else:
                corrupt("a message that is no event")
        if self._pending.is_empty:
            packets.drop_walked()

    def take(self) -> DecodedBatch | None:
        """The whole transactions so far, or a part of a large one; None when there is neither."""
        pending = self._pending
        if pending.has_transaction:
            taken = pending.take()
        elif self._is_large:
            taken = pending.take_part(position_of(pending.place, self._gtid), self._begun_at_us)
        else:
            return None
        transactions = Transactions(taken.positions, np.array(taken.times, np.int64))
        changes = tuple(self._changes(taken.items))
        self._release()
        return DecodedBatch(self.position, transactions, changes, taken.goes_on)

    def _release(self) -> None:
        first = self._pending.first_byte
        if first is None:
            self._packets.drop_walked()
        else:
            self._packets.drop_before(first)

    # ── events ───────────────────────────────────────────────────────────────────────────────────

    def _event(self, view: memoryview, at: int, end: int, shift: int, own: bytes | None) -> None:
        """One event as sent, from ``at`` to ``end`` of ``view``."""
        if end - at < events.HEADER_BYTES:
            corrupt("an event without a header")
        seconds, kind, server, size, log_end, flags = events.HEADER.unpack_from(view, at)
        if size != end - at:
            corrupt("an event of another length than its message")
        if kind == events.FORMAT:
            self._is_checksummed = events.is_checksummed(bytes(view[at:end]))
        if self._is_checksummed:
            end -= events.CHECKSUM_BYTES
            if end < at + events.HEADER_BYTES:
                corrupt("an event without a checksum")
            if crc32(view[at:end]) != events.CHECKSUM.unpack_from(view, end)[0]:
                corrupt("an event whose checksum does not fit")
        if log_end and not flags & _ARTIFICIAL and kind not in events.HEARTBEATS:
            self._move_to(log_end)
        event = _Event(view, at + events.HEADER_BYTES, end, shift, own)
        self._dispatch(kind, event, seconds=seconds, server=server, flags=flags)

    @property
    def _now(self) -> Place:
        """Behind the last event."""
        return Place(self._file, self._offset)

    def _move_to(self, end: int) -> None:
        """An event's header has the low 32 bits of where it ends."""
        offset = self._offset >> _OFFSET_BITS << _OFFSET_BITS | end
        if offset < self._offset:
            offset += 1 << _OFFSET_BITS
        self._offset = offset

    def _dispatch(self, kind: int, event: _Event, *, seconds: int, server: int, flags: int) -> None:
        if kind in events.ROWS:
            self._rows(kind, event)
        elif kind == events.TABLE_MAP:
            self._map(event.body)
        elif kind == events.XID:
            self._commit(seconds)
        elif kind == events.MARIADB_GTID:
            self._begin(events.parse_mariadb_gtid(event.body, server), seconds)
        elif kind in (events.GTID, events.ANONYMOUS_GTID, events.GTID_TAGGED):
            self._begin(events.parse_gtid(event.body, kind), seconds)
        elif kind in (events.QUERY, events.QUERY_COMPRESSED, events.LOADED):
            database, text = events.parse_query(event.body, kind)
            self._statement(database, text, seconds)
        elif kind == events.ROTATE:
            self._rotate(event.body)
        elif kind == events.XA_PREPARE:
            self._prepare(event.body, seconds)
        elif kind == events.TRANSACTION_PAYLOAD:
            self._payload(event.body)
        elif kind == events.PARTIAL_UPDATE:
            self._partial(event.body)
        elif kind == events.INCIDENT:
            raise _incident(self._now)
        elif kind == events.FORMAT or kind in events.SILENT or flags & events.IGNORABLE:
            if not self._is_open:
                self._settle()
        else:
            corrupt(f"an event of the unknown type {kind}")

    def _rotate(self, body: bytes) -> None:
        file, offset = events.parse_rotate(body)
        if self._is_open:
            corrupt("a change of log file within a transaction")
        if (file, offset) < self._place:
            raise _goes_back(self._place, Place(file, offset))
        self._file, self._offset = file, offset
        self._settle()

    def _payload(self, body: bytes) -> None:
        """A transaction in one compressed event; its own events have neither place nor checksum."""
        for start, end, plain in events.payload_events(body):
            seconds, kind, server, _, _, flags = events.HEADER.unpack_from(plain, start)
            if kind == events.TRANSACTION_PAYLOAD:
                corrupt("a compressed transaction in another")
            inner = _Event(memoryview(plain), start + events.HEADER_BYTES, end, 0, plain)
            self._dispatch(kind, inner, seconds=seconds, server=server, flags=flags)

    # ── transactions ─────────────────────────────────────────────────────────────────────────────

    def _begin(self, group: events.Beginning, seconds: int) -> None:
        if self._is_open:
            corrupt("a transaction within another")
        self._group = group
        self._open(seconds)
        self._has_begun = group.has_begun

    def _open(self, seconds: int) -> None:
        self._is_open = self._has_begun = True
        self._begun_seconds = seconds
        self._pending.begin(self._now)

    @property
    def _begun_at_us(self) -> int:
        group = self._group
        return (
            group.committed_at_us if group is not None else 0
        ) or self._begun_seconds * 1_000_000

    def _commit(self, seconds: int) -> None:
        """The transaction holds: it is given, if it has something for us."""
        group = self._group
        if group is not None and group.gtid:
            self._gtid = group.gtid
        at_us = (group.committed_at_us if group is not None else 0) or seconds * 1_000_000
        self._settle()
        self._pending.commit(self.position, at_us)

    def _settle(self) -> None:
        """What comes next begins a transaction."""
        self._place = self._now
        self._group = None
        self._is_open = self._has_begun = False
        self._branch = ""
        self._pending.end()
        self._maps.clear()

    def _statement(self, database: str, text: str, seconds: int) -> None:
        words = text[:80].split(None, 2)
        first = words[0].upper().rstrip(";") if words else ""
        if first == "BEGIN":
            self._open(seconds)
        elif first == "COMMIT":
            self._commit(seconds)
        elif first == "ROLLBACK" and len(words) > 1 and words[1].upper() == "TO":
            self._roll_back_to(savepoint_of(text))
        elif first == "ROLLBACK":
            self._pending.undo()
            self._commit(seconds)
        elif first == "SAVEPOINT":
            self._pending.note_savepoint(savepoint_of(text))
        elif first == "XA":
            self._distributed(text, seconds)
        else:
            transaction = self._pending.transaction
            self._pending.add(self._tables.apply(database, text, self._now, transaction))
            if not self._has_begun:
                self._commit(seconds)

    def _roll_back_to(self, savepoint: str) -> None:
        """To one that was set before the first row, or is spelled in a way that only the server
        knows to be the same, nobody can say what is undone.
        """
        if self._pending.knows(savepoint):
            self._pending.undo(savepoint)
            return
        names = {item.table.name for item in self._pending.open_items if isinstance(item, Rows)}
        self._pending.undo()
        for followed in self._tables:
            if followed.name in names:
                self._read_anew(followed, "its rows were rolled back to an unknown savepoint")

    def _distributed(self, text: str, seconds: int) -> None:
        """Rows of a prepared branch come long before its commit, which has none: read anew."""
        words = text.split(None, 2)
        verb, branch = words[1].upper(), words[2] if len(words) > 2 else ""
        if verb in ("START", "BEGIN"):
            self._open(seconds)
            self._branch = branch
        elif verb in ("COMMIT", "ROLLBACK"):
            names = self._prepared.pop(branch.removesuffix(" ONE PHASE"), None)
            for followed in self._tables if verb == "COMMIT" else ():
                if names is None or followed.name in names:
                    self._read_anew(followed, _DISTRIBUTED)
            self._commit(seconds)

    def _prepare(self, body: bytes, seconds: int) -> None:
        if body[:1] == b"\x01":  # in one phase: a commit
            self._commit(seconds)
            return
        self._prepared[self._branch] = {
            item.table.name for item in self._pending.open_items if isinstance(item, Rows)
        }
        self._pending.undo()
        self._commit(seconds)

    # ── rows ─────────────────────────────────────────────────────────────────────────────────────

    def _map(self, body: bytes) -> None:
        if len(body) < 8:
            corrupt("an event that maps a table ends too early")
        number, rest = int.from_bytes(body[:6], "little"), body[8:]
        mapped = self._parsed.get(rest)
        if mapped is None:
            table = parse_table_map(rest)
            followed = self._tables.find(table.database, table.table)
            mapped = _Mapped(followed, table.wires)
            if len(self._parsed) >= _MOST_MAPS_KEPT:
                self._parsed.clear()
            self._parsed[rest] = mapped
        self._maps[number] = mapped

    def _rows(self, kind: int, event: _Event) -> None:
        view, begin, end, shift, own = event
        if end - begin < 8:
            corrupt("rows that end before they begin")
        number = int.from_bytes(view[begin : begin + 6], "little")
        mapped = self._maps.get(number)
        if mapped is None:
            if number == _END_OF_STATEMENT_TABLE:
                return
            corrupt("rows of a table that was not named")
        if not self._is_open:
            corrupt("changes outside a transaction")
        followed = mapped.followed
        if followed is None or followed.table is None:
            return
        if followed.blind is not NOWHERE and self._now <= followed.blind:
            return
        operation, version, is_compressed = events.ROWS[kind]
        head = mapped.heads.get(kind, b"")
        if not head or view[begin + 8 : begin + 8 + len(head)] != head:
            found = self._head(mapped, operation, version, view[begin:end])
            if found is None:
                self._read_anew(followed, _NOT_WHOLE)
                return
            head = mapped.heads[kind] = found
        table = followed.table
        if not followed.fits(table, mapped.wires, self._now):
            self._read_anew(followed, "its rows in the log are of another layout")
            return
        rows_at = begin + 8 + len(head)
        place: Packet = (rows_at + shift, end + shift, own)
        if is_compressed:
            plain = events.uncompressed(bytes(view[rows_at:end]))
            place = (0, len(plain), plain)
        transaction = self._pending.transaction
        rows = Rows(table, followed.constants, mapped.wires, operation, place, transaction)
        self._pending.add([rows])

    def _head(
        self, mapped: _Mapped, operation: Operation, version: int, body: memoryview
    ) -> bytes | None:
        """What stands between a row event's flags and its rows; None if it lacks columns."""
        head = events.parse_rows_head(body, operation, version)
        if head.columns != len(mapped.wires):
            corrupt("rows with another number of columns than their table")
        return bytes(body[8 : head.rows_at]) if head.is_full else None

    def _read_anew(self, followed: Followed, why: str) -> None:
        self._pending.add(self._tables.read_anew(followed, why, self._now))

    def _partial(self, body: bytes) -> None:
        """JSON that was changed in place: what it was before is not in the log."""
        mapped = self._maps.get(int.from_bytes(body[:6], "little"))
        if mapped is not None and mapped.followed is not None:
            self._read_anew(mapped.followed, "JSON was logged in part (PARTIAL_JSON)")

    # ── changes ──────────────────────────────────────────────────────────────────────────────────

    def _changes(self, items: Sequence[Item]) -> Sequence[TableChanges | Truncation | LayoutChange]:
        """Changes in the order of their first row; a table's own always in the log's order."""
        runs: list[list[Rows] | Truncation | LayoutChange] = []
        latest: dict[str, list[Rows]] = {}
        for item in items:
            if not isinstance(item, Rows):
                latest.pop(item.table, None)
                runs.append(item)
                continue
            run = latest.get(item.table.name)
            if run is None or not _is_alike(run[0], item):
                run = latest[item.table.name] = []
                runs.append(run)
            run.append(item)
        changes: list[TableChanges | Truncation | LayoutChange] = []
        for each in runs:
            if isinstance(each, list):
                decoded = self._decoded(each)
                changes += [decoded] if decoded is not None else []
            else:
                changes.append(each)
        return changes

    def _decoded(self, run: Sequence[Rows]) -> TableChanges | None:
        first = run[0]
        places = np.array([item.place[:2] for item in run], np.int64)
        if any(item.place[2] is not None for item in run):
            buffer, places = self._gathered(run, places)
        else:
            buffer, places = self._packets.buffer.bytes, places - self._packets.dropped
        row_events = RowEvents(
            LittleViews(buffer),
            first.wires,
            places[:, 0],
            places[:, 1],
            np.array([item.operation for item in run], np.int64),
            np.array([item.transaction for item in run], np.int64),
        )
        return table_changes(row_events, first.table, first.constants)

    def _gathered(
        self, run: Sequence[Rows], places: np.ndarray[tuple[int, int], np.dtype[np.int64]]
    ) -> tuple[
        np.ndarray[tuple[int], np.dtype[np.uint8]], np.ndarray[tuple[int, int], np.dtype[np.int64]]
    ]:
        """The events' rows in one buffer, where some lie in bytes of their own."""
        parts = [bytes(self._packets.bytes_of(item.place)) for item in run]
        ends = np.cumsum(places[:, 1] - places[:, 0])
        return padded(parts), np.stack([ends - (places[:, 1] - places[:, 0]), ends], axis=1)


def _goes_back(place: Place, to: Place) -> GapError:
    return GapError(
        "log_changed",
        f"the log goes back from file {place.file}, {place.offset} to file {to.file}, {to.offset}: "
        "it was begun anew (RESET MASTER)",
        next_step="`upwell resync` reads the source's tables anew and goes on from there",
    )


def _incident(place: Place) -> GapError:
    return GapError(
        "log_incident",
        f"the server says that its log lacks changes before file {place.file}, {place.offset}",
        next_step="`upwell resync` reads the source's tables anew and goes on from there",
    )


def _is_alike(one: Rows, other: Rows) -> bool:
    return (
        one.table is other.table
        and (one.wires is other.wires or one.wires == other.wires)
        and one.constants is other.constants
    )
