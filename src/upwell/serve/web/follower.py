"""The thread that follows the change feed into the replica, and starts over when the feed breaks.

It never ends of a fault: a lost connection, an engine that restarts or a replica that disagrees
with the feed are shown as the reason why data is old, and tried again with growing pauses. After a
lost connection it goes on from its version; after a disagreement it asks for a snapshot.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import structlog

from upwell.core.errors import IntegrityError, UpwellError
from upwell.core.protocols import Feed, FeedMessage, Heartbeat, SourceTime, VersionEnd
from upwell.serve.web.replica import Replica

_PAUSE_FIRST_SECONDS = 0.1
_PAUSE_MAX_SECONDS = 2.0
_STOP_SECONDS = 0.5

#: Called in the follower's thread when a version is visible: its end, and the tables it changed.
Visible = Callable[[VersionEnd, frozenset[str]], None]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Standing:
    """How far the replica has come, through when that is complete, and why not further."""

    version: int | None = None
    complete_through_us: int | None = None
    trouble: str = ""


class Follower:
    """One thread between ``start`` and ``stop``."""

    def __init__(
        self, feed: Feed, replica: Replica, tables: Sequence[str], *, visible: Visible
    ) -> None:
        self._feed = feed
        self._replica = replica
        self._tables = tables
        self._visible = visible
        self._standing = Standing(trouble="waiting for the engine")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upwell-follower", daemon=True)

    @property
    def standing(self) -> Standing:
        """A snapshot of where things are; from any thread."""
        return self._standing

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end and give it a moment; stuck in a silent feed, it ends with us."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        pause_seconds = _PAUSE_FIRST_SECONDS
        version: int | None = None
        while not self._stopping.is_set():
            before = self._standing.version
            try:
                for message in self._feed.follow(self._tables, version):
                    if self._stopping.is_set():
                        return
                    self._take(message)
                    version = self._replica.version
                self._trouble("the engine has ended")
            except IntegrityError as fault:
                _log.warning("replica starts over from a snapshot", **fault.as_dict())
                self._trouble(fault.what)
                version = None
            except UpwellError as fault:
                self._trouble(fault.what)
            except Exception as fault:  # noqa: BLE001 - logged and shown; following must go on
                _log.exception("following the feed failed")
                self._trouble(f"following the engine failed: {fault}")
                version = None
            self._replica.forget_unfinished()
            progressed = self._standing.version != before
            pause_seconds = _PAUSE_FIRST_SECONDS if progressed else pause_seconds * 2
            self._stopping.wait(min(pause_seconds, _PAUSE_MAX_SECONDS))

    def _take(self, message: FeedMessage) -> None:
        touched = self._replica.receive(message)
        if isinstance(message, VersionEnd):
            through_us = _complete_through_us(message.times)
            self._standing = Standing(message.version, through_us, message.trouble)
            self._visible(message, touched)
        elif isinstance(message, Heartbeat):
            self._standing = replace(
                self._standing,
                complete_through_us=_complete_through_us(message.times)
                or self._standing.complete_through_us,
                trouble=message.trouble,
            )

    def _trouble(self, why: str) -> None:
        if not self._stopping.is_set():
            self._standing = replace(self._standing, trouble=why)


def _complete_through_us(times: Iterable[SourceTime]) -> int | None:
    """The time through which all sources are complete; None if there is none to ask."""
    return min((time.complete_through_us for time in times), default=None)
