"""The page's numbers over the hand-written shop equal those worked out without any SQL.

Source, capture, store, models, feed and web are the real ones; only the web's clock is set, so that
each clock change, month end and idle night of the shop is looked at from the right moment.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from tests.acceptance.running import ShopProject, bars, eventually, number, running
from tests.golden_numbers.shop import ZONE, Board, board, board_before, fill, utc
from upwell.project.read import read_project
from upwell.serve.web.app import create_app
from upwell.serve.web.server import serve_until

MOMENTS = {
    "Saturday night before the clocks go forward": "2026-03-28 23:59:59.5",
    "the Sunday of 23 hours": "2026-03-29 12:34",
    "its last second": "2026-03-29 22:59:59.5",
    "a week after the clocks went forward": "2026-04-04 11:00",
    "31 May in London": "2026-05-31 22:59",
    "1 June in London, still 31 May in UTC": "2026-05-31 23:45",
    "a day with a refund and cancelled orders": "2026-06-02 18:00",
    "30 days from the month's end": "2026-06-29 22:30",
    "an idle night": "2026-06-10 03:00",
    "the first 01:45 of the Sunday of 25 hours": "2026-10-25 00:45",
    "the second 01:45": "2026-10-25 01:45",
    "Monday after": "2026-10-26 00:00:01",
    "a month after the clocks went back": "2026-11-20 09:15",
}


@contextmanager
def pages_at(project: ShopProject, clock_us: Callable[[], int]) -> Iterator[ShopProject]:
    """The project's pages served in this process, by a clock of ours."""
    settings = read_project(project.folder, environment={})
    app = create_app(settings, project.engine, clock_us=clock_us)
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    address: list[str] = []
    thread = threading.Thread(
        target=loop.run_until_complete,
        args=(serve_until(app, "127.0.0.1", 0, stop, ready=address.append),),
    )
    thread.start()
    try:
        eventually(lambda: bool(address))
        served = replace(project, address=address[0])
        eventually(lambda: bool(served.board()))
        yield served
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


@pytest.mark.postgres
def test_the_page_shows_what_the_shop_sold(shop: ShopProject) -> None:
    with shop.connect() as connection:
        fill(connection)
    now = utc("2026-03-01 00:00")
    with running(shop, "engine"), pages_at(shop, lambda: microseconds(now)) as page:
        for moment, at in MOMENTS.items():
            now = utc(at)
            for period in ("24h", "7d", "30d"):
                for category, region in ((None, None), ("Books", None), (None, "London")):
                    chosen = {"category": category, "region": region}
                    shown = page.board(period, **{k: v for k, v in chosen.items() if v})
                    expected = board(now, period, category=category, region=region)
                    before = board_before(now, period, category=category, region=region)
                    where = f"{moment}, {period}, {chosen}"
                    assert totals(shown) == totals_of(expected), where
                    assert totals(shown, "previous") == totals_of(before), where
                    assert timeline(shown) == buckets_of(expected, period), where
            shown = page.board("30d")
            expected = board(now, "30d")
            assert exact(bars(shown, "category")) == expected.by_category, moment
            assert exact(bars(shown, "region")) == expected.by_region, moment


@pytest.mark.postgres
def test_orders_that_stream_in_show_as_those_of_the_snapshot(shop: ShopProject) -> None:
    now = utc("2026-06-20 12:00")
    with running(shop, "engine"), pages_at(shop, lambda: microseconds(now)) as page:
        with shop.connect() as connection:
            fill(connection)
        expected = totals_of(board(now, "30d"))
        eventually(lambda: totals(page.board("30d")) == expected)


def microseconds(moment: datetime) -> int:
    return int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000)


def exact(values: dict[str, float]) -> dict[str, Decimal]:
    return {name: Decimal(str(value)) for name, value in values.items()}


def totals(shown: dict[str, Any], of: str = "value") -> tuple[Decimal, int, int, Decimal | None]:
    average = number(shown, "average_order", of)
    return (
        Decimal(str(number(shown, "net_sales", of) or 0)),
        int(number(shown, "orders", of) or 0),
        int(number(shown, "units", of) or 0),
        None if average is None else Decimal(str(average)).quantize(Decimal("0.0001")),
    )


def totals_of(expected: Board) -> tuple[Decimal, int, int, Decimal | None]:
    average = expected.average_order
    return (
        expected.net_sales,
        expected.orders,
        expected.units,
        None if average is None else average.quantize(Decimal("0.0001")),
    )


def timeline(shown: dict[str, Any]) -> dict[tuple[int, str], Decimal]:
    """Value by (bucket start in milliseconds, category), without the empty ones."""
    (tile,) = [tile for tile in shown["tiles"] if tile["kind"] == "timeline"]
    return {
        (start, series["label"]): Decimal(str(value))
        for series in tile["series"]
        for start, value in zip(tile["buckets_ms"], series["values"], strict=True)
        if value
    }


def buckets_of(expected: Board, period: str) -> dict[tuple[int, str], Decimal]:
    if period == "30d":
        return {
            (microseconds(london_midnight(day)) // 1000, category): value
            for (day, category), value in expected.by_day.items()
            if value
        }
    return {
        (microseconds(utc(hour)) // 1000, category): value
        for (hour, category), value in expected.by_hour.items()
        if value
    }


def london_midnight(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=ZONE).astimezone(UTC)
