"""Through when we know everything: the source's clock read beside its log position.

A reading says: at this time of the source's clock its log had been flushed up to here. Once the
stream has come that far, it holds everything committed before that time, however quiet the captured
tables are. Readings come from a connection of their own; if that fails, time just stands still
until it is back.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import LiteralString

import psycopg

from upwell.core.errors import Unavailable
from upwell.core.protocols import Burden
from upwell.sources.asking import Asking
from upwell.sources.postgres.presence import Presence
from upwell.sources.postgres.session import kept_connection
from upwell.sources.postgres.standby import Offering
from upwell.sources.postgres.wal import is_reached, lsn_of, timeline_of

READING_SECONDS = 0.5
#: What following costs the source is looked at this often.
BURDEN_SECONDS = 5.0
_CONNECTING_SECONDS = 5.0
_MOST_READINGS = 120
_READ: LiteralString = """
    select pg_current_wal_flush_lsn()::text,
           (extract(epoch from clock_timestamp()) * 1000000)::bigint,
           pg_walfile_name(pg_current_wal_flush_lsn())
"""
_BURDEN: LiteralString = """
    select pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint, safe_wal_size,
           (select count(*) from pg_stat_activity
             where usename = current_user and starts_with(application_name, %(slot)s))
      from pg_replication_slots where slot_name = %(slot)s
"""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reading:
    """The log's flushed end at a time of the source's clock; our clock minus the source's; and the
    timeline on which the server was.
    """

    lsn: int
    at_us: int
    skew_us: int
    timeline: int


def read_clock(connection: psycopg.Connection, now_us: Callable[[], int]) -> Reading:
    """One reading; the source's clock is taken to have been read midway."""
    asked_us = now_us()
    row = connection.execute(_READ).fetchone()
    answered_us = now_us()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    skew_us = (asked_us + answered_us) // 2 - row[1]
    return Reading(lsn_of(row[0]), row[1], skew_us, timeline_of(row[2]))


class SourceClock:
    """Takes a reading twice a second in a thread of its own, and calls ``noticed`` with each.

    Readings of a server on another ``timeline`` than the stream's say nothing of it, and do not
    count. Now and then it looks at what following the slot costs, ``burden``, what standbys have of
    it, ``offering``, and at the ``presence`` of the tables.
    """

    def __init__(
        self,
        url: str,
        slot: str,
        timeline: int,
        presence: Presence,
        *,
        noticed: Callable[[Reading], None],
        now_us: Callable[[], int],
    ) -> None:
        self._slot = slot
        self._timeline = timeline
        self._presence = presence
        self.offering = Offering(slot)
        self.burden: Burden | None = None
        self._weighed_at = 0.0
        self._noticed = noticed
        self._now_us = now_us
        self._readings: deque[Reading] = deque(maxlen=_MOST_READINGS)
        self._asking = Asking(
            "upwell-clock",
            lambda: kept_connection(url, f"{slot} clock"),
            self._ask,
            failed=lambda error: _log.warning("the source's clock cannot be read: %s", error),
            every_seconds=READING_SECONDS,
            again_seconds=_CONNECTING_SECONDS,
        )
        self._asking.start()

    def passed(self, progress: int) -> Reading | None:
        """The newest reading that a stream at ``progress`` has reached, once; None if no newer."""
        newest = None
        while self._readings and is_reached(self._readings[0].lsn, progress):
            newest = self._readings.popleft()
        return newest

    def close(self) -> None:
        """Returns soon; ``noticed`` is not called any more, but for a call under way."""
        self._asking.close()

    def _ask(self, connection: psycopg.Connection) -> None:
        reading = read_clock(connection, self._now_us)
        if self._asking.is_closing:
            return
        if reading.timeline != self._timeline:
            raise Unavailable(
                "server_of_another_timeline",
                f"this server is on timeline {reading.timeline}, the log that is followed on "
                f"{self._timeline}",
                next_step="see that the URL leads to the server that takes writes",
            )
        self._readings.append(reading)
        self._noticed(reading)
        if time.monotonic() - self._weighed_at > BURDEN_SECONDS:
            self._weighed_at = time.monotonic()
            self.burden = _weigh(connection, self._slot)
            self.offering.look(connection)
            self._presence.look(connection)


def _weigh(connection: psycopg.Connection, slot: str) -> Burden | None:
    row = connection.execute(_BURDEN, {"slot": slot}).fetchone()
    if row is None:
        return None
    retained, safe, connections = row
    return Burden(retained or 0, None if safe is None else (retained or 0) + safe, connections)
