"""A thread that keeps the log flowing while the engine is busy.

It alone touches the channel: it drains what arrives into a bounded queue and tells the server how
far the engine has come, so that a long computation neither stalls the server nor makes it drop us.
When the queue is full it stops reading, and the server waits (back-pressure).

It never acknowledges what the engine has not: the server may forget only what ``acknowledge``
named.

A server from which nothing comes is asked for an answer, and given up if it gives none: a line may
be dead at the other end and look alive from here.
"""

from __future__ import annotations

import os
import select
import struct
import threading
import time
from collections import deque
from collections.abc import Callable

from upwell.core.errors import Unavailable
from upwell.sources.postgres.channel import SEND_SECONDS, Channel
from upwell.sources.postgres.wal import EPOCH_US

#: More than this is not taken from the socket before the engine comes for it.
QUEUE_BYTES = 64 << 20
STATUS_SECONDS = 10.0
#: PostgreSQL's own followers, too, give up after a minute without a word (wal_receiver_timeout).
SILENCE_SECONDS = 60.0
#: The last status is for the server's convenience: one that takes nothing does not get it.
_LAST_STATUS_SECONDS = 1.0
#: Nor are more reads than this kept, however small they are.
_QUEUE_READS = 1 << 16
#: The server may write its slot to disk for each acknowledgement: a few a second are enough.
ACKNOWLEDGE_SECONDS = 0.1
#: Under load, waiting this long lets the server's many small writes pile up into one read; not
#: after a large one, which may have emptied all that fits between the server and us.
_PILE_UP_SECONDS = 0.0002
_SMALL_BYTES = 32 << 10
_BUSY_WITHIN_SECONDS = 0.005


class Receiver:
    """Owns ``channel`` from now on; starts at once. ``failure`` is set when it had to stop."""

    def __init__(
        self,
        channel: Channel,
        start_lsn: int,
        *,
        status_seconds: float = STATUS_SECONDS,
        silence_seconds: float = SILENCE_SECONDS,
        now_us: Callable[[], int],
    ) -> None:
        self._channel = channel
        self._status_seconds = status_seconds
        self._silence_seconds = silence_seconds
        self._now_us = now_us
        self._arrived = threading.Condition()
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._is_nudged = False
        self._acknowledged = start_lsn
        self._reported_at = 0.0
        self._status_at = time.monotonic() + status_seconds
        self._is_reply_wanted = False
        self._is_closing = False
        self._is_closed = False
        self._wake_end, self._woken_end = os.pipe()[::-1]
        os.set_blocking(self._wake_end, False)
        os.set_blocking(self._woken_end, False)
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="upwell-receiver", daemon=True)
        self._thread.start()

    @property
    def acknowledged(self) -> int:
        """Everything before this LSN has been acknowledged."""
        return self._acknowledged

    def take(self, most_bytes: int) -> bytes:
        """What has arrived, in whole reads, up to about ``most_bytes``."""
        with self._arrived:
            was_full = self._is_full()
            taken: list[bytes] = []
            size = 0
            while self._queue and size < most_bytes:
                taken.append(self._queue.popleft())
                size += len(taken[-1])
            self._queued_bytes -= size
        if was_full:
            self._wake()
        return b"".join(taken)

    def wait(self, timeout_seconds: float) -> None:
        """Until something has arrived, failed, or ``nudge`` was called."""
        with self._arrived:
            self._arrived.wait_for(self._has_news, timeout_seconds)
            self._is_nudged = False

    def nudge(self) -> None:
        """Ends a ``wait``, from any thread."""
        with self._arrived:
            self._is_nudged = True
            self._arrived.notify_all()

    def acknowledge(self, lsn: int) -> None:
        """Everything before ``lsn`` is safe with us; the server is told within a moment."""
        self._acknowledged = max(self._acknowledged, lsn)
        self._report_by(self._reported_at + ACKNOWLEDGE_SECONDS)

    def report(self, *, reply: bool = False) -> None:
        """Tell the server where we are; with ``reply`` it answers where it is."""
        with self._arrived:
            self._is_reply_wanted |= reply
        self._report_by(0.0)

    def close(self) -> None:
        """End the thread after a last status, so that the server knows what we have."""
        self._is_closing = True
        self._wake()
        self._thread.join()
        with self._arrived:
            if self._is_closed:
                return
            self._is_closed = True
            self._channel.close()
            os.close(self._wake_end)
            os.close(self._woken_end)

    # ── the thread ───────────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        try:
            self._receive_and_report()
        except BaseException as error:  # noqa: BLE001 - raised again where the engine polls
            self.failure = error
        self.nudge()

    def _receive_and_report(self) -> None:
        last_read, last_size = 0.0, 0
        patience = self._silence_seconds / 2  # until it is asked, and again until it is given up
        is_asked, patient_until = False, time.monotonic() + patience
        self._enqueue(self._channel.receive())
        while True:
            was_full = self._is_full()
            readable = self._await_event(min(self._status_at, patient_until) - time.monotonic())
            now = time.monotonic()
            if readable or was_full:
                is_asked, patient_until = False, now + patience
            elif now >= patient_until and is_asked:
                raise _silent(self._silence_seconds)
            elif now >= patient_until:
                is_asked, patient_until = True, now + patience
                self.report(reply=True)
            if now >= self._status_at:
                self._reported_at, self._status_at = now, now + self._status_seconds
                self._send_status()
            if self._is_closing:
                self._send_status(timeout_seconds=_LAST_STATUS_SECONDS)
                return
            if readable:
                if now - last_read < _BUSY_WITHIN_SECONDS and last_size < _SMALL_BYTES:
                    time.sleep(_PILE_UP_SECONDS)
                data = self._channel.receive()
                self._enqueue(data)
                last_read, last_size = now, len(data)

    def _await_event(self, timeout_seconds: float) -> bool:
        """Wait for bytes, a call, or the timeout; whether there are bytes and room for them."""
        poller = select.poll()
        poller.register(self._woken_end, select.POLLIN)
        if not self._is_full():
            poller.register(self._channel.fileno(), select.POLLIN)
        ready = [descriptor for descriptor, _ in poller.poll(max(0.0, timeout_seconds) * 1000)]
        if self._woken_end in ready:
            os.read(self._woken_end, 4096)
        return self._channel.fileno() in ready

    def _enqueue(self, data: bytes) -> None:
        if not data:
            return
        with self._arrived:
            self._queue.append(data)
            self._queued_bytes += len(data)
            self._arrived.notify_all()

    def _send_status(self, *, timeout_seconds: float = SEND_SECONDS) -> None:
        with self._arrived:
            reply, self._is_reply_wanted = self._is_reply_wanted, False
        lsn = self._acknowledged
        clock = self._now_us() - EPOCH_US
        status = struct.pack(">cQQQqB", b"r", lsn, lsn, lsn, clock, reply)
        self._channel.send(status, timeout_seconds=timeout_seconds)

    def _report_by(self, moment: float) -> None:
        """Have a status sent at ``moment`` at the latest."""
        if moment < self._status_at:
            self._status_at = moment
            self._wake()

    def _wake(self) -> None:
        with self._arrived:
            if self._is_closed:
                return
            try:
                os.write(self._wake_end, b"\0")
            except BlockingIOError:
                return  # the pipe is full of wake-ups already

    def _is_full(self) -> bool:
        return self._queued_bytes >= QUEUE_BYTES or len(self._queue) >= _QUEUE_READS

    def _has_news(self) -> bool:
        return bool(self._queue) or self._is_nudged or self.failure is not None


def _silent(seconds: float) -> Unavailable:
    return Unavailable(
        "connection_silent",
        f"nothing has come from the source database for {seconds:g} seconds, nor an answer",
        next_step="check what lies between here and the database: a proxy, a firewall, a tunnel",
    )
