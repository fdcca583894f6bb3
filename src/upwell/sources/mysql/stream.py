"""The log of the source, as batches of whole transactions, or parts of one that is very large.

``poll`` gives what has arrived, or, while nothing does, empty batches that move position and time.
Commit times are the server's whole seconds where its log has no finer ones; they never count as
later than the source's clock, which a session may set for itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from upwell.core.errors import GapError, Unavailable, UpwellError
from upwell.core.position import Position
from upwell.core.protocols import (
    Burden,
    LayoutChange,
    SourceBatch,
    SourceTable,
    TableChanges,
    Transactions,
    Truncation,
)
from upwell.sources.mysql.binlog import BATCH_BYTES, PART_BYTES, DecodedBatch, Decoder
from upwell.sources.mysql.catalog import Catalog, read_catalog
from upwell.sources.mysql.completeness import SourceClock
from upwell.sources.mysql.drift import compare, constants, gone
from upwell.sources.mysql.dump import open_dump
from upwell.sources.mysql.fitness import require_fit
from upwell.sources.mysql.followed import Followed, Looked
from upwell.sources.mysql.packets import ServerNotice
from upwell.sources.mysql.pending import GivenError
from upwell.sources.mysql.places import Place, parse_position
from upwell.sources.mysql.receiver import Receiver
from upwell.sources.mysql.server import Reading, Server, log_end, read_clock
from upwell.sources.mysql.session import START_ANEW, fault, session
from upwell.sources.mysql.tables import state_of
from upwell.sources.mysql.url import Address

_IDLE_SECONDS = 1.0
#: What the server reports when its log no longer serves us.
_LOG_LOST = (1236, 1789, 1787)
_NO_TRANSACTIONS = Transactions((), np.empty(0, np.int64))

Change = TableChanges | Truncation | LayoutChange


@dataclass(frozen=True, slots=True)
class Following:
    """What to follow: a server, and the tables by their names in SQL and in the project.

    ``held`` are the places of transactions that are not given in parts: see ``pending``.
    """

    address: Address
    server: Server
    source: str
    names: Mapping[str, str]
    held: set[Place] = field(default_factory=set)


class MySQLStream:
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
        self._now_us = now_us
        self._position = position
        self._complete_through_us = 0
        self._given_at = time.monotonic()
        place, gtid = parse_position(position)
        address, server = following.address, following.server
        with session(address) as opened:
            require_fit(opened, server)
            names = [following.names[table.name] for table in tables]
            catalog = read_catalog(opened, server, following.source, names)
            ahead = log_end(opened, server)
            self._skew_us = read_clock(opened, server, now_us).skew_us
            folds_case = int(opened.row("SELECT @@lower_case_table_names")[0]) > 0
        followed, self._opening = _opening(tables, catalog, ahead)
        dump = open_dump(address, server, place, gtid)
        self._decoder = Decoder(
            followed,
            place,
            gtid,
            look=self._look,
            is_checksummed=dump.is_checksummed,
            folds_case=folds_case,
            part_bytes=PART_BYTES,
            is_held=following.held.__contains__,
        )
        self._receiver = Receiver(dump)
        self._clock = SourceClock(
            address, server, needed_from=place, noticed=self._notice, now_us=now_us
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
        """Nothing to do: the server keeps its log for a time of its own, whoever reads it.

        What lies behind the position is what it must keep for us.
        """
        self._clock.needed_from = max(self._clock.needed_from, parse_position(position)[0])

    @property
    def burden(self) -> Burden | None:
        """See ``core.protocols.Stream.burden``."""
        return self._clock.burden

    @property
    def failover(self) -> None:
        """Nothing is known of replicas."""
        return

    @property
    def succession(self) -> None:
        """Another server is another identity, and refused."""
        return

    def close(self) -> None:
        self._clock.close()
        self._receiver.close()

    # ── batches ──────────────────────────────────────────────────────────────────────────────────

    def _next_batch(self) -> SourceBatch | None:
        if self._opening:
            opening, self._opening = self._opening, ()
            return self._given(_NO_TRANSACTIONS, opening, self._position)
        decoder, receiver = self._decoder, self._receiver
        failure = receiver.failure  # before the queue: what came before the failure still counts
        while decoder.pending_bytes < BATCH_BYTES or not decoder.is_ready:
            data = receiver.take(BATCH_BYTES)
            if not data:
                break
            self._feed(data)
        decoded = decoder.take()
        if decoded is not None:
            return self._batch(decoded)
        if decoder.ended is not None:
            raise self._ended(decoder.ended)
        if failure is not None:
            raise failure
        return None if decoder.is_within else self._heartbeat()

    def _feed(self, data: bytes) -> None:
        try:
            self._decoder.feed(data)
        except GivenError as given:
            self._following.held.add(given.place)
            raise Unavailable(
                "transaction_undone",
                "a large transaction undid rows of which parts were taken in already",
                where=str(self._following.address),
                next_step="nothing: it is read again, and taken in once it is whole",
            ) from given

    def _batch(self, decoded: DecodedBatch) -> SourceBatch:
        clock_us = self._now_us() - self._skew_us
        times = np.minimum(decoded.transactions.committed_at_us, clock_us)
        transactions = Transactions(decoded.transactions.positions, times)
        if not decoded.goes_on:
            self._complete_through_us = max(self._complete_through_us, int(times.max()))
        return self._given(transactions, decoded.changes, decoded.position, goes_on=decoded.goes_on)

    def _heartbeat(self) -> SourceBatch | None:
        """Nothing came, and that is news: time has passed, or other things were logged."""
        reading = self._clock.passed(self._decoder.place)
        position = self._decoder.position
        if reading is not None and reading.at_us > self._complete_through_us:
            self._complete_through_us = reading.at_us
            return self._given(_NO_TRANSACTIONS, (), position)
        is_due = time.monotonic() - self._given_at >= _IDLE_SECONDS
        if is_due and position > self._position:
            return self._given(_NO_TRANSACTIONS, (), position)
        return None

    def _given(
        self,
        transactions: Transactions,
        changes: Sequence[Change],
        position: Position,
        *,
        goes_on: bool = False,
    ) -> SourceBatch:
        self._position = max(self._position, position)
        self._given_at = time.monotonic()
        return SourceBatch(
            position=self._position,
            transactions=transactions,
            changes=changes,
            complete_through_us=self._complete_through_us,
            received_at_us=self._now_us(),
            clock_skew_us=self._skew_us,
            goes_on=goes_on,
        )

    # ── the server ───────────────────────────────────────────────────────────────────────────────

    def _notice(self, reading: Reading) -> None:
        """The clock's thread calls this: poll looks whether the log has come so far."""
        self._skew_us = reading.skew_us
        self._receiver.nudge()

    def _look(self, name: str) -> Looked:
        """The catalogue first, then the log's end: what the catalogue has is before it."""
        following = self._following
        with session(following.address) as opened:
            catalog = read_catalog(
                opened, following.server, following.source, [following.names[name]]
            )
            through = log_end(opened, following.server)
        return Looked(catalog.tables.get(name), catalog.unfit.get(name), through)

    def _ended(self, notice: ServerNotice) -> UpwellError:
        address = self._following.address
        if notice.number in _LOG_LOST:
            what = f"the server cannot continue the log: {notice.message}"
            return GapError("log_lost", what, where=str(address), next_step=START_ANEW)
        number = notice.number or 2013
        return fault("follow the source database", number, notice.message, address)


def _opening(
    tables: Sequence[SourceTable], catalog: Catalog, ahead: Place
) -> tuple[dict[tuple[str, str], Followed], tuple[LayoutChange, ...]]:
    """The tables as the catalogue has them, and what that means for those last known."""
    followed: dict[tuple[str, str], Followed] = {}
    changes: list[LayoutChange] = []
    for before in tables:
        now = catalog.tables.get(before.name)
        if now is None:
            unfit = catalog.unfit.get(before.name) or gone(before.name)
            changes.append(LayoutChange(before, why=unfit.what, unfit=unfit))
            continue
        change = compare(before, now, ahead)
        through = state_of(before).read_through
        each = Followed(before.name, now, through, ahead, constants(now))
        if change is not None:
            changes.append(change)
            if change.why:
                each.blind = ahead
        followed[now.database, now.table] = each
    return followed, tuple(changes)


def known_layouts_changed(
    known: Sequence[SourceTable], catalog: Catalog, log_end: Place
) -> dict[str, LayoutChange]:
    """What has become of these tables, by name; those that are as they were are left out."""
    _, changes = _opening(known, catalog, log_end)
    return {change.table: change for change in changes}
