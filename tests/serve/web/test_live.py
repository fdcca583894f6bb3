"""Views are computed once for all who watch them, and never queue."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any

import msgspec

from upwell.core.errors import Unavailable
from upwell.serve.web.board import Computed
from upwell.serve.web.follower import Standing
from upwell.serve.web.live import Hub
from upwell.serve.web.payload import Payload, WindowTimes
from upwell.serve.web.view import View

VIEW = View("sales", "30d")
TABLES = frozenset({"order_categories"})
FOREVER = 2**62


class CountingBoards:
    """Stands where ``Boards`` does: counts computations, and can hold one back."""

    def __init__(self) -> None:
        self.computed: list[View] = []
        self.version = 1
        self.expires_at_us = FOREVER
        self.may_finish = threading.Event()
        self.may_finish.set()

    def tables(self, _: str) -> frozenset[str]:
        return TABLES

    def compute(self, view: View, _: int) -> Computed:
        if self.version == 0:
            raise Unavailable("no_data_yet", "nothing yet")
        version = self.version
        self.computed.append(view)
        assert self.may_finish.wait(10)
        payload = Payload(
            dashboard="sales",
            version=version,
            period=view.period,
            zone="UTC",
            window=WindowTimes(starts_ms=0, ends_ms=1, last_day_ms=0, is_running=True),
            filters=[],
            tiles=[],
        )
        return Computed(payload, self.expires_at_us)


def with_hub(
    test: Callable[[Hub, CountingBoards], Coroutine[Any, Any, None]], viewers_max: int = 1000
) -> None:
    async def run() -> None:
        boards = CountingBoards()
        hub = Hub(
            boards,  # type: ignore[arg-type]
            standing=lambda: Standing(boards.version, 0),
            clock_us=lambda: 0,
            viewers_max=viewers_max,
        )
        hub.start()
        try:
            await asyncio.wait_for(test(hub, boards), 20)
        finally:
            boards.may_finish.set()
            await hub.close()

    asyncio.run(run())


async def next_version(events: Any) -> int:
    async for event in events:
        if b"event: view" in event:
            data = event.split(b"data: ")[1]
            version: int = msgspec.json.decode(data)["version"]
            return version
    raise AssertionError("the stream ended")


async def until(holds: Callable[[], object]) -> None:
    while not holds():  # noqa: ASYNC110 - what it waits for happens in another thread
        await asyncio.sleep(0.001)


def publish(hub: Hub, boards: CountingBoards) -> None:
    boards.version += 1
    hub.changed(TABLES)


def test_a_view_is_computed_once_for_all_who_watch_it() -> None:
    async def test(hub: Hub, boards: CountingBoards) -> None:
        streams = [hub.watch(VIEW) for _ in range(50)]
        assert await asyncio.gather(*map(next_version, streams)) == [1] * 50
        publish(hub, boards)
        assert await asyncio.gather(*map(next_version, streams)) == [2] * 50
        assert boards.computed == [VIEW, VIEW]
        assert (hub.viewers, hub.views) == (50, 1)
        for stream in streams:
            await stream.aclose()
        assert (hub.viewers, hub.views) == (0, 0)

    with_hub(test)


def test_readers_who_ask_at_once_share_one_computation() -> None:
    async def test(hub: Hub, boards: CountingBoards) -> None:
        boards.may_finish.clear()
        asked = [asyncio.create_task(hub.frame(VIEW)) for _ in range(20)]
        await until(lambda: boards.computed)
        boards.may_finish.set()
        frames = await asyncio.gather(*asked)
        assert len(set(map(id, frames))) == 1
        assert boards.computed == [VIEW]

    with_hub(test)


def test_a_slow_viewer_skips_to_the_latest_and_holds_nobody_up() -> None:
    async def test(hub: Hub, boards: CountingBoards) -> None:
        async with aclosing(hub.watch(VIEW)) as slow, aclosing(hub.watch(VIEW)) as quick:
            assert await next_version(slow) == 1
            assert await next_version(quick) == 1
            for version in (2, 3, 4):
                publish(hub, boards)
                assert await next_version(quick) == version
            assert await next_version(slow) == 4

    with_hub(test)


def test_what_arrives_while_a_view_is_computed_is_computed_next_and_together() -> None:
    async def test(hub: Hub, boards: CountingBoards) -> None:
        boards.may_finish.clear()
        async with aclosing(hub.watch(VIEW)) as stream:
            first = asyncio.create_task(next_version(stream))
            await until(lambda: boards.computed)
            for _ in range(5):
                publish(hub, boards)
            boards.may_finish.set()
            assert await first == 1
            assert await next_version(stream) == 6
            assert len(boards.computed) == 2

    with_hub(test)


def test_a_change_of_other_tables_computes_nothing() -> None:
    async def test(hub: Hub, boards: CountingBoards) -> None:
        async with aclosing(hub.watch(VIEW)) as stream:
            await next_version(stream)
            hub.changed(frozenset({"customers"}))
            publish(hub, boards)
            assert await next_version(stream) == 2
            assert len(boards.computed) == 2

    with_hub(test)


def test_time_alone_computes_a_view_again() -> None:
    async def test(hub: Hub, boards: CountingBoards) -> None:
        boards.expires_at_us = 1
        async with aclosing(hub.watch(VIEW)) as stream:
            await next_version(stream)
            boards.version = 2
            assert await next_version(stream) == 2

    with_hub(test)


def test_a_viewer_who_comes_first_waits_for_the_first_version() -> None:
    async def test(hub: Hub, boards: CountingBoards) -> None:
        boards.version = 0
        async with aclosing(hub.watch(VIEW)) as stream:
            waiting: Awaitable[int] = asyncio.create_task(next_version(stream))
            await until(lambda: hub.counters.computations)
            publish(hub, boards)
            assert await waiting == 1

    with_hub(test)


def test_closing_ends_every_stream() -> None:
    async def test(hub: Hub, boards: CountingBoards) -> None:
        streams = [hub.watch(VIEW) for _ in range(5)]
        await asyncio.gather(*map(next_version, streams))
        hub.end_streams()

        async def drain(stream: Any) -> None:
            async for _ in stream:
                pass

        await asyncio.gather(*map(drain, streams))
        assert hub.viewers == 0
        assert boards.computed == [VIEW]

    with_hub(test)
