"""A thread that keeps the log flowing while the engine is busy.

It alone reads the socket: it drains what arrives into a bounded queue. When the queue is full it
stops reading, and the server waits (back-pressure; our session lets it wait for an hour). A server
that shows no sign of life is taken for gone.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import deque

from upwell.core.errors import Unavailable
from upwell.sources.mysql.dump import Dump

#: More than this is not taken from the socket before the engine comes for it.
QUEUE_BYTES = 64 << 20
#: Many of the server's heartbeats.
SILENCE_SECONDS = 30.0
_READ_BYTES = 256 << 10
#: Under load, waiting this long lets the server's many small writes pile up into one read.
_PILE_UP_SECONDS = 0.0002
_SMALL_BYTES = 32 << 10
_BUSY_WITHIN_SECONDS = 0.005


class Receiver:
    """Owns ``dump`` from now on; starts at once. ``failure`` is set when it had to stop."""

    def __init__(self, dump: Dump, *, silence_seconds: float = SILENCE_SECONDS) -> None:
        self._dump = dump
        self._socket = dump.socket
        self._socket.settimeout(silence_seconds)
        self._changed = threading.Condition()
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._is_nudged = False
        self._is_closing = False
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="upwell-receiver", daemon=True)
        self._thread.start()

    def take(self, most_bytes: int) -> bytes:
        """What has arrived, in whole reads, up to about ``most_bytes``."""
        with self._changed:
            taken: list[bytes] = []
            size = 0
            while self._queue and size < most_bytes:
                taken.append(self._queue.popleft())
                size += len(taken[-1])
            self._queued_bytes -= size
            if taken:
                self._changed.notify_all()
        return b"".join(taken)

    def wait(self, timeout_seconds: float) -> None:
        """Until something has arrived, failed, or ``nudge`` was called."""
        with self._changed:
            self._changed.wait_for(self._has_news, timeout_seconds)
            self._is_nudged = False

    def nudge(self) -> None:
        """Ends a ``wait``, from any thread."""
        with self._changed:
            self._is_nudged = True
            self._changed.notify_all()

    def close(self) -> None:
        """End the thread and the connection."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        with contextlib.suppress(OSError):  # it is down already
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._dump.close()

    # ── the thread ───────────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        try:
            self._receive()
        except BaseException as error:  # noqa: BLE001 - raised again where the engine polls
            self.failure = error
        self.nudge()

    def _receive(self) -> None:
        last_read, last_size = 0.0, 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queued_bytes < QUEUE_BYTES or self._is_closing)
                if self._is_closing:
                    return
            data = self._read()
            now = time.monotonic()
            if now - last_read < _BUSY_WITHIN_SECONDS and last_size < _SMALL_BYTES:
                time.sleep(_PILE_UP_SECONDS)
            last_read, last_size = now, len(data)
            with self._changed:
                self._queue.append(data)
                self._queued_bytes += len(data)
                self._changed.notify_all()

    def _read(self) -> bytes:
        address = str(self._dump.session.address)
        try:
            data = self._socket.recv(_READ_BYTES)
        except OSError as error:  # a timeout is one too
            why = "it shows no sign of life" if isinstance(error, TimeoutError) else str(error)
            raise _lost(why, address) from error
        if not data:
            raise _lost("the server closed the connection", address)
        return data

    def _has_news(self) -> bool:
        return bool(self._queue) or self._is_nudged or self.failure is not None


def _lost(why: str, address: str) -> Unavailable:
    return Unavailable(
        "source_unavailable",
        f"the connection that follows the source's log was lost: {why}",
        where=address,
        next_step="it is opened again; check that the database runs and can be reached from here",
    )
