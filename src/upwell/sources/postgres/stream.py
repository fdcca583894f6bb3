"""The log of the source, as batches of whole transactions, or parts of one that is very large.

``poll`` gives what has arrived, or, while nothing does, empty batches that move position and time.
Only what the engine acknowledges is acknowledged to the server. Starts with binary values where
every captured column has a binary form for us, and turns to text by itself if a value comes along
that has none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import psycopg

from upwell.core.errors import GapError, Unavailable, UpwellError
from upwell.core.position import Position
from upwell.core.protocols import (
    BegunAnewError,
    Burden,
    Failover,
    LayoutChange,
    SourceBatch,
    SourceTable,
    Succession,
    TableChanges,
    Transactions,
    Truncation,
)
from upwell.sources.postgres.catalog import Catalog, read_aliases, read_catalog
from upwell.sources.postgres.channel import Channel, open_channel
from upwell.sources.postgres.columns import BinaryUnsupportedError
from upwell.sources.postgres.completeness import Reading, SourceClock, read_clock
from upwell.sources.postgres.drift import KnownLayouts, partitions_of
from upwell.sources.postgres.fitness import require_fit
from upwell.sources.postgres.frames import corrupt
from upwell.sources.postgres.pgoutput import (
    BATCH_BYTES,
    PART_BYTES,
    DecodedBatch,
    Decoder,
    ServerNotice,
)
from upwell.sources.postgres.presence import Presence
from upwell.sources.postgres.receiver import SILENCE_SECONDS, STATUS_SECONDS, Receiver
from upwell.sources.postgres.replication import (
    START_ANEW,
    offer_slot,
    published,
    require_slot,
    start_replication,
)
from upwell.sources.postgres.session import address, fault, session
from upwell.sources.postgres.standby import StandbyWatch
from upwell.sources.postgres.timeline import Line, read_line, require_same, require_system
from upwell.sources.postgres.wal import lsn_of, position_of

_IDLE_SECONDS = 1.0
#: A message of which less than this comes within ``SILENCE_SECONDS`` is not waited for.
_TRICKLE_BYTES = 64 << 10
#: Acknowledges nothing: the server leaves its slot where it is.
_NOTHING = 0
#: What the server reports when the log, the slot or the publication no longer serves us.
_LOG_LOST_STATES = ("42704", "55000", "58P01")
_NO_TRANSACTIONS = Transactions((), np.empty(0, np.int64))


@dataclass(frozen=True, slots=True)
class Following:
    """What to follow: database, slot, publication, and the tables' names there by those in SQL.

    ``line`` is what is known of the server; ``is_offered``: standbys may keep a copy of the slot,
    and the one at ``standby`` is asked whether it has one.
    """

    url: str
    slot: str
    publication: str
    source: str
    tables: Mapping[str, str]
    line: Line | None = None
    is_sole_follower: bool = False  # see ``replication.require_slot``
    is_offered: bool = True
    standby: str = ""


class PostgresStream:
    """Changes after a position; see ``core.protocols.Stream``."""

    def __init__(
        self,
        following: Following,
        position: Position,
        tables: Sequence[SourceTable],
        *,
        now_us: Callable[[], int],
    ) -> None:
        self._following = following
        self._known = {table.name: table for table in tables}
        self._now_us = now_us
        self._position = position
        self._complete_through_us = 0
        self._given_at = time.monotonic()
        self._opening: tuple[LayoutChange, ...] = ()
        self._unfinished = (0, 0)
        self._unfinished_at = self._given_at
        self._line = following.line
        self._presence: Presence | None = None
        self._succession: Succession | None = None
        self._receiver, self._decoder = self._open(_NOTHING)
        self._clock = SourceClock(
            following.url,
            following.slot,
            self.line.timeline,
            self.presence,
            noticed=self._ask_for,
            now_us=now_us,
        )
        self._standby = (
            StandbyWatch(following.standby, following.slot) if following.standby else None
        )

    def poll(self, timeout_seconds: float) -> SourceBatch | None:
        """See ``core.protocols.Stream.poll``."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            batch = self._next_batch()
            if batch is not None:
                return batch
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self._receiver.wait(left)

    def acknowledge(self, position: Position) -> None:
        """The server may forget its log up to ``position``."""
        self._receiver.acknowledge(lsn_of(position))

    @property
    def burden(self) -> Burden | None:
        """See ``core.protocols.Stream.burden``."""
        return self._clock.burden

    @property
    def failover(self) -> Failover | None:
        """See ``core.protocols.Stream.failover``."""
        seen = self._clock.offering.seen
        if seen is None or self._standby is None or not seen.is_offered:
            return seen
        return replace(seen, is_synced=self._standby.is_synced, why=self._standby.why)

    @property
    def line(self) -> Line:
        """Of the server that is followed."""
        assert self._line is not None  # noqa: S101 - known once it is open
        return self._line

    @property
    def presence(self) -> Presence:
        """Of the followed tables, since the stream was opened."""
        assert self._presence is not None  # noqa: S101 - known once it is open
        return self._presence

    @property
    def succession(self) -> Succession | None:
        """See ``core.protocols.Stream.succession``."""
        return self._succession

    def close(self) -> None:
        if self._standby is not None:
            self._standby.close()
        self._clock.close()
        self._receiver.close()

    # ── opening ──────────────────────────────────────────────────────────────────────────────────

    def _open(self, acknowledged: int, *, binary: bool = True) -> tuple[Receiver, Decoder]:
        """Begin at our position. What was given up to there may not be safe yet: the server is
        told ``acknowledged`` and no more.
        """
        following = self._following
        with session(following.url) as connection:  # whose reasons say what to do
            require_fit(connection, slot=following.slot, publication=following.publication)
        channel = open_channel(following.url, replication=True, application=following.slot)
        try:
            self._require_same_line(channel)
            return self._open_on(channel, acknowledged, binary=binary)
        except BaseException:
            channel.close()
            raise

    def _require_same_line(self, channel: Channel) -> None:
        """Raise unless the server has everything that was read; note who it is."""
        known, where = self._line, address(self._following.url)
        line, end = read_line(channel)
        if channel.query("SELECT pg_is_in_recovery() AS is_standby")[0]["is_standby"] != "f":
            raise Unavailable(
                "source_standby",
                "the server is a standby, which cannot be followed",
                where=where,
                next_step="put the primary's address into the URL; if it is one, see that only the "
                "server that takes writes answers there (target_session_attrs=read-write)",
            )
        if known is not None:
            source = self._following.source
            require_system(known, line, where, source=source, anew=START_ANEW)
            self._succession = require_same(known, line, end, self._position, where)
        self._line = line

    def _open_on(
        self, channel: Channel, acknowledged: int, *, binary: bool
    ) -> tuple[Receiver, Decoder]:
        following = self._following
        lsn = lsn_of(self._position)
        with session(following.url) as connection:
            catalog = self._looked_at(connection)
            aliases = read_aliases(connection)
            has_tables = published(connection, following.publication)
            was_offered = require_slot(
                connection,
                following.slot,
                self._position,
                is_sole_follower=following.is_sole_follower,
            )
            reading = read_clock(connection, self._now_us)
            self._skew_us = reading.skew_us
            self._require_same_timeline(reading)
            status_seconds = _status_seconds(connection.execute(_SENDER_TIMEOUT).fetchone())
        layouts = KnownLayouts(following.source, following.url, tuple(self._known.values()))
        self._opening = layouts.opening(catalog, has_tables)
        columns = (column for table in catalog.tables for column in table.columns)
        binary = binary and all(column.type.has_binary for column in columns)
        self._is_text = not binary
        if was_offered is not None and was_offered != following.is_offered:
            offer_slot(channel, following.slot, is_offered=following.is_offered)
        start_replication(channel, following.slot, following.publication, lsn, binary=binary)
        receiver = Receiver(
            channel,
            acknowledged,
            status_seconds=status_seconds,
            silence_seconds=SILENCE_SECONDS,
            now_us=self._now_us,
        )
        decoder = Decoder(catalog.tables, aliases, lsn, part_bytes=PART_BYTES, admit=layouts.admit)
        return receiver, decoder

    def _looked_at(self, connection: psycopg.Connection) -> Catalog:
        """The tables, at one moment with their presence: nothing happens to them in between."""
        following, seen = self._following, partitions_of(self._known.values())
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            names = list(following.tables.values())
            catalog = read_catalog(connection, following.source, names, seen)
            oids = [each.oid for each in catalog.tables]
            self._presence = self._presence or Presence(following.publication, oids)
            self._presence.look(connection)
        return catalog

    def _require_same_timeline(self, reading: Reading) -> None:
        """Raise if what was just asked is not the server that is to be followed."""
        if reading.timeline != self.line.timeline:
            raise Unavailable(
                "server_of_another_timeline",
                f"two connections led to servers on timelines {self.line.timeline} and "
                f"{reading.timeline}: one is taking over from the other",
                where=address(self._following.url),
                next_step="see that the URL leads to one server alone, the one that takes writes",
            )

    def _reopen_as_text(self) -> None:
        """A value came in binary that we read only as text: the same log again, as text."""
        if self._is_text:
            corrupt("a value in binary, which was asked for as text")
        self._receiver.close()
        line = self.line
        opened = self._open(self._receiver.acknowledged, binary=False)
        if self.line != line:  # who follows has to know that before anything comes
            opened[0].close()
            raise Unavailable(
                "connection_lost",
                "another server has taken over meanwhile",
                where=address(self._following.url),
                next_step="nothing: it is connected to anew",
            )
        self._receiver, self._decoder = opened

    def _ask_for(self, reading: Reading) -> None:
        """The clock's thread calls this: the server tells how far it has read, and poll looks."""
        self._skew_us = reading.skew_us
        if self._decoder.progress < reading.lsn:
            self._receiver.report(reply=True)
        self._receiver.nudge()

    # ── batches ──────────────────────────────────────────────────────────────────────────────────

    def _next_batch(self) -> SourceBatch | None:
        if self._opening:
            changes, self._opening = self._opening, ()
            return self._given(self._decoder.progress, None, changes)
        decoder, receiver = self._decoder, self._receiver
        failure = receiver.failure  # before the queue: what came before the failure still counts
        while decoder.pending_bytes < BATCH_BYTES or not decoder.is_ready:
            data = receiver.take(BATCH_BYTES)
            if not data:
                break
            decoder.feed(data)
        try:
            decoded = decoder.take()
        except BinaryUnsupportedError:
            is_within = decoder.is_within
            self._reopen_as_text()
            if is_within:
                raise BegunAnewError from None
            return None
        if decoder.is_reply_wanted():
            receiver.report()
        if decoded is not None:
            return self._batch(decoded)
        if decoder.ended is not None:
            raise self._ended(decoder.ended)
        if failure is not None:
            raise failure
        if self.presence.has_changed:
            raise Unavailable(
                "tables_changed",
                "tables were dropped, renamed or taken out of the publication",
                where=address(self._following.url),
                next_step="nothing: they are looked at, and followed as they are now",
            )
        self._require_progress()
        return None if decoder.is_within else self._heartbeat()

    def _require_progress(self) -> None:
        """A message that comes byte by byte is as good as none, though the line is not silent."""
        (begins, size), now = self._decoder.unfinished, time.monotonic()
        known, seen = self._unfinished
        if begins != known or size == 0 or size >= seen + _TRICKLE_BYTES:
            self._unfinished, self._unfinished_at = (begins, size), now
        elif now - self._unfinished_at > SILENCE_SECONDS:
            raise Unavailable(
                "connection_silent",
                f"a message from the source database has not come whole in {SILENCE_SECONDS:g} "
                f"seconds, only {size} bytes of it",
                where=address(self._following.url),
                next_step="check what lies between here and the database: a proxy, a tunnel",
            )

    def _batch(self, decoded: DecodedBatch) -> SourceBatch:
        if not decoded.goes_on:
            last_commit_us = int(decoded.transactions.committed_at_us.max())
            self._complete_through_us = max(self._complete_through_us, last_commit_us)
        return self._given(decoded.lsn, decoded, decoded.changes)

    def _heartbeat(self) -> SourceBatch | None:
        """Nothing came, and that is news: time has passed, or the server has read on."""
        progress = self._decoder.progress
        reading = self._clock.passed(progress)
        if reading is not None and reading.at_us > self._complete_through_us:
            self._complete_through_us = reading.at_us
            return self._given(progress, None)
        is_due = time.monotonic() - self._given_at >= _IDLE_SECONDS
        if is_due and position_of(progress) > self._position:
            return self._given(progress, None)
        return None

    def _given(
        self,
        lsn: int,
        decoded: DecodedBatch | None,
        changes: Sequence[TableChanges | Truncation | LayoutChange] = (),
    ) -> SourceBatch:
        for change in changes:
            if isinstance(change, LayoutChange):
                is_kept = self._known[change.table].is_kept
                self._known[change.table] = replace(change.now, is_kept=is_kept)
        self._position = max(self._position, position_of(lsn))
        self._given_at = time.monotonic()
        return SourceBatch(
            position=self._position,
            transactions=decoded.transactions if decoded else _NO_TRANSACTIONS,
            changes=changes,
            complete_through_us=self._complete_through_us,
            received_at_us=self._now_us(),
            clock_skew_us=self._skew_us,
            goes_on=decoded is not None and decoded.goes_on,
        )

    def _ended(self, notice: ServerNotice) -> UpwellError:
        where = address(self._following.url)
        if notice.sqlstate in _LOG_LOST_STATES:
            what = f"the server cannot continue the log: {notice.message}"
            return GapError("log_lost", what, where=where, next_step=START_ANEW)
        return fault("follow the source database", notice.sqlstate, notice.message, where)


_SENDER_TIMEOUT = "select setting::bigint from pg_settings where name = 'wal_sender_timeout'"


def _status_seconds(row: tuple[int, ...] | None) -> float:
    """Often enough that the server never takes us for dead (milliseconds; 0: it never does)."""
    timeout_ms = row[0] if row else 0
    return min(STATUS_SECONDS, timeout_ms / 3000) if timeout_ms else STATUS_SECONDS
