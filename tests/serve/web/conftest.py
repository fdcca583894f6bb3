"""The application behind a real server, and a client that reads it as a browser does."""

from __future__ import annotations

import asyncio
import http.client
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from starlette.applications import Starlette

from upwell.project.values import Project
from upwell.serve.web.app import Site, create_app
from upwell.serve.web.server import serve_until
from upwell.testing import MemoryFeed

from .shop import SCHEMA, make_project, table


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Served:
    """An application that answers on a port of its own."""

    app: Starlette
    port: int
    opened: list[http.client.HTTPConnection] = field(default_factory=list)

    @property
    def site(self) -> Site:
        site: Site = self.app.state.site
        return site

    def get(self, path: str, *, method: str = "GET", **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers=sent)
            answer = connection.getresponse()
            received = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, received, answer.read())
        finally:
            connection.close()

    def stream(self, path: str) -> Iterator[tuple[str, Any]]:
        """Server-sent events as they come: name and data."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        self.opened.append(connection)
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        name = ""
        for raw in answer:
            line = raw.decode().rstrip("\n")
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))

    def views(self, path: str) -> Iterator[Any]:
        """The payloads of a stream."""
        return (data for name, data in self.stream(path) if name == "view")


class Running:
    """A server in a thread; ``stop`` gives the seconds it took."""

    def __init__(self, app: Starlette, port: int = 0) -> None:
        self._told: queue.Queue[str | BaseException] = queue.Queue()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, args=(app, port))
        self._thread.start()
        told = self._told.get(timeout=20)
        if isinstance(told, BaseException):
            self._thread.join()
            raise told
        self.served = Served(app, int(told.rpartition(":")[2]))

    def stop(self) -> float:
        started = time.monotonic()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=20)
        assert not self._thread.is_alive()
        for connection in self.served.opened:
            connection.close()
        return time.monotonic() - started

    def _run(self, app: Starlette, port: int) -> None:
        serving = serve_until(app, "127.0.0.1", port, self._stop, ready=self._told.put)
        try:
            self._loop.run_until_complete(serving)
        except BaseException as fault:  # noqa: BLE001 - raised in the thread that waits for it
            self._told.put(fault)
        finally:
            self._loop.close()


Serve = Callable[..., Served]


@pytest.fixture
def feed() -> Iterator[MemoryFeed]:
    feed = MemoryFeed(heartbeat_seconds=0.05)
    yield feed
    feed.end()


@pytest.fixture
def serve(feed: MemoryFeed) -> Iterator[Serve]:
    """Serves the small shop, or another project; stops everything at the end."""
    running: list[Running] = []

    def start(project: Project | None = None, **options: Any) -> Served:
        running.append(Running(create_app(project or make_project(), feed, **options)))
        return running[-1].served

    yield start
    for each in running:
        each.stop()


@pytest.fixture(scope="module")
def standing_shop() -> Iterator[Served]:
    """A shop with one order that nobody changes, served once for all tests that only ask."""
    feed = MemoryFeed(heartbeat_seconds=0.05)
    feed.replace(SCHEMA, table([(1, time.time_ns() // 1000, "North", "Hats", 1, Decimal(10))]))
    feed.commit()
    running = Running(create_app(make_project(), feed))
    wait_until(lambda: running.served.site.replica.version is not None)
    yield running.served
    running.stop()
    feed.end()


def wait_until(holds: Callable[[], object], *, seconds: float = 10.0) -> None:
    """Wait for a condition that another thread brings about."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.005)
