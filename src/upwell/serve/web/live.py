"""Views kept up to date for whoever watches them.

Each distinct view that someone watches is computed once per change, in a few threads, and its
latest result goes to all its viewers. Nothing queues: a viewer that reads slowly skips to the
latest result, and a view is computed the less often the more it costs and the more views there are.
Every second each viewer hears the age of the data, so an idle night and a broken line look
different.

Runs on one event loop; only ``changed`` may be called from another thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec
import structlog

from upwell.core.errors import Unavailable
from upwell.serve.web.board import Boards
from upwell.serve.web.follower import Standing
from upwell.serve.web.payload import Payload, to_json
from upwell.serve.web.view import View

DELAYED_AFTER_MS = 5_000
RETRY_MS = 1_000

_THREADS = 2
_PAUSE_MIN_SECONDS = 0.1
_PAUSE_AFTER_FAULT_SECONDS = 2.0
_AGE_EVERY_SECONDS = 1.0

_log = structlog.get_logger(__name__)


class Age(msgspec.Struct, frozen=True, kw_only=True):
    """How old the data is now, and why when it is too old. ``age_ms`` is None before any data."""

    age_ms: int | None
    state: str  # live, delayed, waiting
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """One result of a view: the payload, and as JSON."""

    payload: Payload
    json: bytes
    expires_at_us: int

    def says_more_than(self, other: Frame | None) -> bool:
        """Is there anything in it that a viewer of ``other`` has not seen?"""
        if other is None:
            return True
        new, old = self.payload, other.payload
        return (
            new.version != old.version
            or new.window.starts_ms != old.window.starts_ms
            or new.window.is_running != old.window.is_running
            or new.tiles != old.tiles
        )

    def event(self) -> bytes:
        """The frame as a server-sent event."""
        return b"id: %d\nevent: view\ndata: %b\n\n" % (self.payload.version, self.json)


@dataclass(slots=True, eq=False)
class _Channel:
    """One watched view: its latest frame and who waits for the next."""

    view: View
    frame: Frame | None = None
    stale: asyncio.Event = field(default_factory=asyncio.Event)
    viewers: set[asyncio.Event] = field(default_factory=set)
    task: asyncio.Task[None] | None = None


@dataclass(slots=True)
class Counters:
    """What the hub has done, for ``/metrics``."""

    computations: int = 0
    computation_seconds: float = 0.0
    refused_viewers: int = 0


class Hub:
    """All watched views of one process."""

    def __init__(
        self,
        boards: Boards,
        *,
        standing: Callable[[], Standing],
        clock_us: Callable[[], int],
        viewers_max: int,
    ) -> None:
        self.counters = Counters()
        self._boards = boards
        self._standing = standing
        self._clock_us = clock_us
        self._viewers_max = viewers_max
        self._channels: dict[View, _Channel] = {}
        self._asked: dict[View, asyncio.Task[Frame]] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="upwell-view")
        self._age_event = b""
        self._ticker: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False

    @property
    def viewers(self) -> int:
        """How many streams are open."""
        return sum(len(channel.viewers) for channel in self._channels.values())

    @property
    def views(self) -> int:
        """How many distinct views are watched."""
        return len(self._channels)

    def start(self) -> None:
        """Begin; on the event loop that everything else is called on."""
        self._loop = asyncio.get_running_loop()
        self._ticker = asyncio.create_task(self._tick())

    def end_streams(self) -> None:
        """End every stream, so that a server with open pages can stop. No new one begins."""
        self._is_closed = True
        for channel in self._channels.values():
            for viewer in channel.viewers:
                viewer.set()

    async def close(self) -> None:
        """End everything. Computations under way are waited for: they take milliseconds."""
        self.end_streams()
        tasks = [channel.task for channel in self._channels.values() if channel.task]
        tasks += [self._ticker] if self._ticker else []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)

    def changed(self, tables: frozenset[str]) -> None:
        """Tables have changed: recompute what is seen of them. From any thread."""
        loop = self._loop
        if loop is not None and tables:
            with suppress(RuntimeError):  # the loop has ended, and with it all viewers
                loop.call_soon_threadsafe(self._mark_stale, tables)

    def age(self) -> Age:
        """How old the data is."""
        standing = self._standing()
        if standing.version is None or standing.complete_through_us is None:
            return Age(age_ms=None, state="waiting", trouble=standing.trouble)
        age_ms = max(0, (self._clock_us() - standing.complete_through_us) // 1000)
        state = "delayed" if age_ms > DELAYED_AFTER_MS else "live"
        return Age(age_ms=age_ms, state=state, trouble=standing.trouble)

    async def frame(self, view: View) -> Frame:
        """The view now, for one reader; all who ask while it is computed share it."""
        channel = self._channels.get(view)
        frame = channel.frame if channel and not channel.stale.is_set() else None
        if frame is not None and frame.expires_at_us > self._clock_us():
            return frame
        asked = self._asked.get(view)
        if asked is None:
            asked = self._asked[view] = asyncio.create_task(self._compute(view))
            asked.add_done_callback(lambda _: self._asked.pop(view, None))
        return await asyncio.shield(asked)

    def check_room(self) -> None:
        """Raises Unavailable if one more viewer is too many, or the process is stopping."""
        if self._is_closed or self.viewers >= self._viewers_max:
            self.counters.refused_viewers += 1
            raise Unavailable(
                "too_many_viewers",
                f"{self.viewers} pages are open, which is as many as this process serves"
                if not self._is_closed
                else "the server is stopping",
                next_step="close a page that is not needed, or try again in a while",
            )

    async def watch(self, view: View) -> AsyncGenerator[bytes, None]:
        """Server-sent events of a view until the reader leaves or the hub closes."""
        viewer = asyncio.Event()
        channel = self._join(view, viewer)
        try:
            yield b"retry: %d\n\n" % RETRY_MS
            frame: Frame | None = None
            age_event = b""
            while not self._is_closed:
                viewer.clear()
                if channel.frame is not None and channel.frame.says_more_than(frame):
                    frame = channel.frame
                    yield frame.event()
                if self._age_event != age_event:
                    age_event = self._age_event
                    yield age_event
                await viewer.wait()
        finally:
            self._leave(channel, viewer)

    def _join(self, view: View, viewer: asyncio.Event) -> _Channel:
        channel = self._channels.get(view)
        if channel is None:
            channel = self._channels[view] = _Channel(view)
            channel.task = asyncio.create_task(self._keep_fresh(channel))
        channel.viewers.add(viewer)
        viewer.set()
        return channel

    def _leave(self, channel: _Channel, viewer: asyncio.Event) -> None:
        channel.viewers.discard(viewer)
        if not channel.viewers and self._channels.get(channel.view) is channel:
            del self._channels[channel.view]
            if channel.task:
                channel.task.cancel()

    def _mark_stale(self, tables: frozenset[str]) -> None:
        for view, channel in self._channels.items():
            if self._boards.tables(view.dashboard) & tables:
                channel.stale.set()

    async def _keep_fresh(self, channel: _Channel) -> None:
        while True:
            channel.stale.clear()
            started = time.monotonic()
            try:
                channel.frame = await self._compute(channel.view)
            except Unavailable:
                await channel.stale.wait()  # for the first version
                continue
            except Exception:  # noqa: BLE001 - logged; one bad moment must not end the view
                _log.exception("computing a view failed", dashboard=channel.view.dashboard)
                await asyncio.sleep(_PAUSE_AFTER_FAULT_SECONDS)
                continue
            for viewer in channel.viewers:
                viewer.set()
            cost_seconds = time.monotonic() - started
            await asyncio.sleep(
                max(_PAUSE_MIN_SECONDS, cost_seconds * max(2, self.views / _THREADS))
            )
            rest_seconds = (channel.frame.expires_at_us - self._clock_us()) / 1e6
            with suppress(TimeoutError):
                await asyncio.wait_for(channel.stale.wait(), max(0.0, rest_seconds))

    async def _compute(self, view: View) -> Frame:
        def compute() -> Frame:
            computed = self._boards.compute(view, self._clock_us())
            return Frame(computed.payload, to_json(computed.payload), computed.expires_at_us)

        started = time.monotonic()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, compute)
        finally:
            self.counters.computations += 1
            self.counters.computation_seconds += time.monotonic() - started

    async def _tick(self) -> None:
        """Tell every viewer the age of the data each second."""
        while True:
            age = msgspec.json.encode(self.age())
            self._age_event = b"event: age\ndata: %b\n\n" % age
            for channel in self._channels.values():
                for viewer in channel.viewers:
                    viewer.set()
            await asyncio.sleep(_AGE_EVERY_SECONDS)
