"""Through when we know everything: the source's clock read beside its log's end.

A reading says: at this time of the source's clock its log ended here. Once the stream has come that
far, it holds everything committed before that time, however quiet the captured tables are. Readings
come from a connection of their own; if that fails, time just stands still until it is back.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

from upwell.core.protocols import Burden
from upwell.sources.asking import Asking
from upwell.sources.mysql.places import Place
from upwell.sources.mysql.server import Reading, Server, bytes_from, connections_of_user, read_clock
from upwell.sources.mysql.session import Session, session
from upwell.sources.mysql.url import Address

READING_SECONDS = 0.5
#: What following costs the source is looked at this often.
BURDEN_SECONDS = 5.0
_CONNECTING_SECONDS = 5.0
_MOST_READINGS = 120
_log = logging.getLogger(__name__)


class SourceClock:
    """Takes a reading twice a second in a thread of its own, and calls ``noticed`` with each.

    Now and then it looks at what following costs: ``burden``, the log from ``needed_from`` on.
    """

    def __init__(
        self,
        address: Address,
        server: Server,
        *,
        needed_from: Place,
        noticed: Callable[[Reading], None],
        now_us: Callable[[], int],
    ) -> None:
        self._server = server
        self.needed_from = needed_from
        self.burden: Burden | None = None
        self._weighed_at = 0.0
        self._noticed = noticed
        self._now_us = now_us
        self._readings: deque[Reading] = deque(maxlen=_MOST_READINGS)
        self._asking = Asking(
            "upwell-clock",
            lambda: session(address),
            self._ask,
            failed=lambda error: _log.warning("the source's clock cannot be read: %s", error),
            every_seconds=READING_SECONDS,
            again_seconds=_CONNECTING_SECONDS,
        )
        self._asking.start()

    def passed(self, place: Place) -> Reading | None:
        """The newest reading that a stream at ``place`` has reached, once; None if no newer."""
        newest = None
        while self._readings and self._readings[0].place <= place:
            newest = self._readings.popleft()
        return newest

    def close(self) -> None:
        """Returns soon, whatever the server does."""
        self._asking.close()

    def _ask(self, opened: Session) -> None:
        reading = read_clock(opened, self._server, self._now_us)
        self._readings.append(reading)
        self._noticed(reading)
        self._weigh(opened)

    def _weigh(self, opened: Session) -> None:
        """The server discards its log by a rule of its own: there is no limit to tell."""
        if self._weighed_at and time.monotonic() - self._weighed_at < BURDEN_SECONDS:
            return
        self._weighed_at = time.monotonic()
        retained = bytes_from(opened, self.needed_from)
        self.burden = Burden(retained, None, connections_of_user(opened))
