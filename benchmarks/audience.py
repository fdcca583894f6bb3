"""Viewers of live boards, and when each of them saw which change.

A viewer is an open stream of server-sent events, as a page has one; one may be a real browser. What
arrives says which version it shows; the feed says which of the shop's transactions a version holds
and when they were committed. Together: the time from each commit to each screen.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import numpy.typing as npt
from playwright.async_api import async_playwright

from benchmarks.demonstration import Demonstration
from upwell.core.errors import Unavailable
from upwell.core.protocols import TableDelta, VersionEnd

BOARD = "sales"
#: What the board of the sample project is made of: only a version that changes it can be seen.
BOARD_TABLE = "order_categories"
CHROMIUM = Path("/usr/bin/chromium")

_LARGEST_EVENT_BYTES = 8 << 20
_FIRST_DRAWING_SECONDS = 30.0
_RECORDER = """
window.__seen = [];
window.EventSource = class extends EventSource {
  constructor(...given) {
    super(...given);
    this.addEventListener("view", (event) => {
      const version = Number(event.lastEventId);
      requestAnimationFrame(() => requestAnimationFrame(() =>
        window.__seen.push([version, performance.timeOrigin + performance.now()])));
    });
  }
};
"""

Latencies = npt.NDArray[np.float64]


@dataclass
class Commits:
    """The commit times (microseconds since 1970) of the transactions of each version seen."""

    versions: list[int] = field(default_factory=list)
    committed_at_us: list[npt.NDArray[np.int64]] = field(default_factory=list)

    def latencies_ms(self, seen: Sequence[tuple[int, float]]) -> Latencies:
        """From commit to the first sight of it, for what was committed between first and last.

        ``seen`` are versions and moments (seconds since 1970) in the order they came.
        """
        shown = np.array([version for version, _ in seen], np.int64)
        moments = np.array([moment for _, moment in seen])
        parts = [np.empty(0)]
        for version, committed in zip(self.versions, self.committed_at_us, strict=True):
            if shown[0] < version <= shown[-1]:
                at = moments[np.searchsorted(shown, version)]
                parts.append(at * 1000 - committed / 1000)
        return np.concatenate(parts)


class CommitsFollower:
    """Follows the feed in a thread: what each version that changed the board holds."""

    def __init__(self, demonstration: Demonstration) -> None:
        self.commits = Commits()
        self._demonstration = demonstration
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def close(self) -> Commits:
        """All that was gathered."""
        self._stop.set()
        self._thread.join()
        return self.commits

    def _follow(self) -> None:
        changed = False
        try:
            for message in self._demonstration.engine.follow([BOARD_TABLE], None):
                if isinstance(message, TableDelta):
                    changed = True
                elif isinstance(message, VersionEnd):
                    if changed:
                        self.commits.versions.append(message.version)
                        self.commits.committed_at_us.append(message.committed_at_us)
                    changed = False
                if self._stop.is_set():
                    return
        except Unavailable:
            return  # the engine has ended; what came until then counts


@dataclass(frozen=True)
class Sight:
    """What an audience saw: latencies of all its streams, and of the browser among them."""

    streams_ms: Latencies
    browser_ms: Latencies | None
    events_a_second: float  # of one viewer
    cpu_shares: Mapping[str, float]  # of a core, by process of the demo


def views(address: str, count: int) -> list[str]:
    """Addresses of ``count`` different views of the board: unfiltered, by category, by region."""
    with urllib.request.urlopen(f"http://{address}/api/v1/dashboards/{BOARD}", timeout=10) as reply:
        tiles = json.load(reply)["tiles"]
    filters: list[dict[str, str]] = [{}]
    keys = {
        tile["by"]: [row["key"] for row in tile["rows"] if row["key"] is not None]
        for tile in tiles
        if tile["kind"] == "bars"
    }
    filters += [{by: key} for by, found in keys.items() for key in found]
    filters += [
        {"category": category, "region": region}
        for category in keys["category"]
        for region in keys["region"]
    ]
    return [f"?{urlencode({'dashboard': BOARD, **each})}" for each in filters[:count]]


def watch(
    demonstration: Demonstration,
    *,
    viewers: int,
    distinct: int,
    seconds: float,
    with_browser: bool = False,
) -> Sight:
    """Look at the board for a while, ``viewers`` streams over ``distinct`` views."""
    follower = CommitsFollower(demonstration)
    chosen = views(demonstration.address, distinct)
    streams = [chosen[number % distinct] for number in range(viewers - with_browser)]
    try:
        seen, browser, shares = asyncio.run(
            _watch(demonstration, streams, seconds, with_browser=with_browser)
        )
    finally:
        commits = follower.close()
    latencies = np.concatenate([np.empty(0), *(commits.latencies_ms(each) for each in seen)])
    events = sum(len(each) for each in seen) / max(1, len(seen)) / seconds
    drawn = commits.latencies_ms(browser) if browser else None
    return Sight(latencies, drawn, events, shares)


Seen = list[tuple[int, float]]


async def _watch(
    demonstration: Demonstration, streams: Sequence[str], seconds: float, *, with_browser: bool
) -> tuple[list[Seen], Seen | None, dict[str, float]]:
    address = demonstration.address
    seen: list[Seen] = [[] for _ in streams]

    async def gather(query: str, sights: Seen) -> None:
        async for sight in _stream(address, query):
            sights.append(sight)

    async with _page(address) if with_browser else _nobody() as read_browser:
        begun, before = time.monotonic(), demonstration.cpu_seconds()
        tasks = [
            asyncio.create_task(gather(query, sights))
            for query, sights in zip(streams, seen, strict=True)
        ]
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        elapsed, after = time.monotonic() - begun, demonstration.cpu_seconds()
        for task in done:
            task.result()  # a stream that ended before its time says why
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        shares = {name: (used - before[name]) / elapsed for name, used in after.items()}
        return seen, await read_browser(), shares


async def _stream(address: str, query: str) -> AsyncIterator[tuple[int, float]]:
    """A stream's version and moment, for each event that shows numbers, until cancelled."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=_LARGEST_EVENT_BYTES)
    try:
        writer.write(f"GET /live{query} HTTP/1.0\r\nHost: {address}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head.partition(b"\r\n")[0]:
            raise ConnectionError(head.decode())
        while True:
            event = await reader.readuntil(b"\n\n")
            if event.startswith(b"id: "):
                yield int(event[4 : event.index(b"\n")]), time.time()
    finally:
        writer.close()


@asynccontextmanager
async def _page(address: str) -> AsyncIterator[Callable[[], Awaitable[Seen | None]]]:
    """The board in a real browser: versions and the moments at which they were drawn."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        page = await browser.new_page()
        await page.add_init_script(_RECORDER)
        await page.goto(f"http://{address}/dashboards/{BOARD}")
        async with asyncio.timeout(_FIRST_DRAWING_SECONDS):
            # The page's own policy forbids to wait for a condition inside it.
            while not await page.evaluate("window.__seen.length"):  # noqa: ASYNC110 - see above
                await asyncio.sleep(0.05)

        async def read() -> Seen:
            drawn = await page.evaluate("window.__seen")
            return [(int(version), moment_ms / 1000) for version, moment_ms in drawn]

        yield read
        await browser.close()


@asynccontextmanager
async def _nobody() -> AsyncIterator[Callable[[], Awaitable[Seen | None]]]:
    async def read() -> None:
        return None

    yield read
