"""Boards over months and over all of the data: the same numbers, whatever their age."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upwell.core.protocols import TableDelta, TableSnapshot, VersionEnd
from upwell.project.values import Grain, Project
from upwell.serve.web.board import Boards
from upwell.serve.web.export import file_name, to_csv
from upwell.serve.web.live import Frame
from upwell.serve.web.payload import Bars, Number, Payload, Timeline, to_json
from upwell.serve.web.period import POINTS_MAX
from upwell.serve.web.replica import Replica
from upwell.serve.web.tiles import SERIES_MAX
from upwell.serve.web.view import Filter, View

from .shop import (
    CATEGORIES,
    LONG_DASHBOARD,
    METRICS,
    NET_SALES,
    NOTHING_COMMITTED,
    ORDERS,
    REGIONS,
    SCHEMA,
    TIMELINE,
    Row,
    batch,
    instant_us,
    local,
    make_project,
    table,
)

LONDON = ZoneInfo("Europe/London")
NOW = instant_us(2026, 11, 22, 14, 37)
DAY = 86_400_000_000
ALL = View("sales", "all")


class Shop:
    """A board over rows that come and go."""

    def __init__(self, rows: Iterable[Row], project: Project | None = None) -> None:
        project = project or make_project(dashboard=LONG_DASHBOARD)
        self.replica = Replica(project)
        self.boards = Boards(project, self.replica)
        self.version = 1
        self.replica.receive(TableSnapshot(1, SCHEMA, table(rows)))
        self.replica.receive(VersionEnd(1, NOW, (), NOTHING_COMMITTED))

    def change(self, rows: Iterable[Row], weight: int = 1) -> None:
        rows = list(rows)
        self.version += 1
        delta = batch(rows, [weight] * len(rows))
        self.replica.receive(TableDelta(self.version, SCHEMA.name, delta))
        self.replica.receive(VersionEnd(self.version, NOW, (), NOTHING_COMMITTED))

    def show(self, view: View = ALL, now: int = NOW) -> Payload:
        return self.boards.compute(view, now).payload


TILE = "metric: net_sales, by: category, over: time, as: stacked_area"


def long_board(grain: str = "", *, granularity: str = "hour", timeline: str = TILE) -> Project:
    dashboard = LONG_DASHBOARD.replace("grain: {}", f"grain: {{{grain}}}").replace(TILE, timeline)
    metrics = METRICS.replace("time_granularity: hour", f"time_granularity: {granularity}")
    return make_project(dashboard=dashboard, metrics_file=metrics)


def sale(order: int, at: int | None, amount: str = "10.00", category: str = "Hats") -> Row:
    return (order, at, "North", category, 1, Decimal(amount))


def timeline(payload: Payload) -> Timeline:
    tile = payload.tiles[TIMELINE]
    assert isinstance(tile, Timeline)
    return tile


def numbers(payload: Payload) -> list[object]:
    return [tile.value for tile in payload.tiles if isinstance(tile, Number)]


def total(payload: Payload) -> Decimal:
    return sum((Decimal(value or 0) for value in timeline(payload).totals), Decimal())


def days_of(payload: Payload) -> tuple[str, str]:
    times = payload.window
    return local(times.starts_ms * 1000)[:10], local(times.last_day_ms * 1000)[:10]


# ── all: against plain Python ────────────────────────────────────────────────────────────────────

TIMES = (
    st.integers(instant_us(2019, 1, 1), NOW)
    | st.integers(instant_us(1985, 1, 1), NOW + 40 * DAY)
    | st.sampled_from([None, 0, NOW, NOW + 1, instant_us(1990, 1, 1), instant_us(2101, 1, 1)])
)
ROWS = st.builds(
    sale,
    st.integers(1, 30),
    TIMES,
    st.decimals(-500, 500, places=2).map(str),
    st.sampled_from(["Hats", "Shoes", "Gloves"]),
)


def bucket_date(us: int, grain: str) -> date:
    day = datetime.fromtimestamp(us // 1_000_000, UTC).astimezone(LONDON).date()
    if grain == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if grain == "month" else day


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(ROWS, max_size=30), grain=st.sampled_from(["", "day", "week", "month"]))
def test_all_is_every_row_dated_from_1990_to_now_and_its_parts_add_up(
    rows: list[Row], grain: str
) -> None:
    shop = Shop(rows, long_board(grain and f"all: {grain}"))
    payload = shop.show()
    counted = [row for row in rows if row[1] and instant_us(1990, 1, 1) <= row[1] <= NOW]
    assert payload.window.rows_left_out == len(rows) - len(counted)
    assert payload.window.is_empty == (not counted)
    amount = sum((row[5] or 0 for row in counted), Decimal())
    assert numbers(payload)[:3] == [amount, len({row[0] for row in counted}), len(counted)]
    assert total(payload) == amount
    for place in (REGIONS, CATEGORIES):
        bars = payload.tiles[place]
        assert isinstance(bars, Bars)
        assert sum((Decimal(row.value or 0) for row in bars.rows), Decimal()) == amount
    drawn = timeline(payload)
    for at, value in zip(drawn.buckets_ms, drawn.totals, strict=True):
        if drawn.grain != "hour":
            day = bucket_date(at * 1000, drawn.grain)
            held = [row for row in counted if bucket_date(row[1] or 0, drawn.grain) == day]
            assert value == sum((row[5] or 0 for row in held), Decimal())
    if counted:
        ends = [min(row[1] or 0 for row in counted), max(row[1] or 0 for row in counted)]
        assert days_of(payload) == tuple(local(each)[:10] for each in ends)


@pytest.mark.parametrize("grain", ["week", "month"])
def test_a_row_counts_once_in_every_bucket_it_is_in_also_where_counts_are_distinct(
    grain: str,
) -> None:
    project = long_board(f"all: {grain}", timeline="metric: orders, over: time")
    at = [instant_us(2011, 12, day, 10) for day in (1, 2, 14, 14)]
    rows = [sale(1, at[0]), sale(1, at[1], category="Shoes"), sale(1, at[2]), sale(2, at[3])]
    drawn = timeline(Shop(rows, project).show())
    assert drawn.totals == ([1, 0, 2] if grain == "week" else [2])


# ── all: as data and time move ───────────────────────────────────────────────────────────────────


def test_data_of_any_age_is_shown_with_its_own_days_and_compared_with_nothing() -> None:
    shop = Shop([sale(1, instant_us(1996, 7, 4, 10)), sale(2, instant_us(1998, 5, 6, 17))])
    payload = shop.show()
    assert days_of(payload) == ("1996-07-04", "1998-05-06")
    assert numbers(payload)[:2] == [20, 2]
    assert not payload.window.is_running
    assert (payload.window.previous_starts_ms, payload.window.previous_ends_ms) == (None, None)
    for tile in payload.tiles:
        if isinstance(tile, Number):
            assert (tile.previous, tile.change) == (None, None)
        if isinstance(tile, Bars):
            assert [(row.previous, row.change) for row in tile.rows] == [(None, None)]
    drawn = timeline(payload)
    assert (drawn.grain, len(drawn.buckets_ms), drawn.is_running) == ("month", 23, False)


def test_the_span_grows_with_new_events_and_with_late_ones_and_shrinks_when_they_go() -> None:
    middle, late, new = (sale(n, instant_us(2011, n, 5)) for n in (6, 3, 9))
    shop = Shop([middle])
    assert days_of(shop.show()) == ("2011-06-05", "2011-06-05")
    shop.change([late])
    assert days_of(shop.show()) == ("2011-03-05", "2011-06-05")
    shop.change([new])
    assert days_of(shop.show()) == ("2011-03-05", "2011-09-05")
    shop.change([late], weight=-1)
    assert days_of(shop.show()) == ("2011-06-05", "2011-09-05")


def test_filters_do_not_move_the_axis() -> None:
    rows = [sale(1, instant_us(2010, 1, 1)), sale(2, instant_us(2012, 1, 1), category="Shoes")]
    shop = Shop(rows)
    filtered = shop.show(View("sales", "all", (Filter("category", ("Shoes",)),)))
    assert timeline(filtered).buckets_ms == timeline(shop.show()).buckets_ms
    assert numbers(filtered)[NET_SALES] == 10


def test_a_model_without_rows_shows_zero_today() -> None:
    payload = Shop([]).show()
    assert payload.window.is_empty
    assert days_of(payload) == ("2026-11-22", "2026-11-22")
    assert numbers(payload) == [0, 0, 0, None]
    assert timeline(payload).series == []
    assert b"NaN" not in to_json(payload)


def test_a_row_of_the_future_is_left_out_until_its_time_has_come() -> None:
    shop = Shop([sale(1, instant_us(2011, 1, 1)), sale(2, NOW + 2_000_000)])
    early = shop.boards.compute(ALL, NOW)
    assert (numbers(early.payload)[ORDERS], early.payload.window.rows_left_out) == (1, 1)
    assert early.expires_at_us == NOW + 2_000_000
    late = shop.show(now=early.expires_at_us)
    assert (numbers(late)[ORDERS], late.window.rows_left_out) == (2, 0)
    assert days_of(late) == ("2011-01-01", "2026-11-22")


def test_the_day_after_the_last_event_the_whole_ends_with_it_and_viewers_are_told() -> None:
    shop = Shop([sale(1, instant_us(2026, 11, 1)), sale(2, instant_us(2026, 11, 22, 9))])
    night = instant_us(2026, 11, 22, 23, 59, 59)
    before = shop.boards.compute(ALL, night)
    assert before.payload.window.is_running
    assert timeline(before.payload).is_running
    assert before.expires_at_us == instant_us(2026, 11, 23)
    after = shop.boards.compute(ALL, before.expires_at_us)
    assert not after.payload.window.is_running
    assert not timeline(after.payload).is_running
    assert after.payload.window.ends_ms * 1000 == instant_us(2026, 11, 23)
    # Nothing but the window is another on a board without a timeline.
    over = msgspec.structs.replace(before.payload, window=after.payload.window)
    frames = [Frame(payload, b"", 0) for payload in (before.payload, over)]
    assert frames[1].says_more_than(frames[0])
    assert not frames[1].says_more_than(frames[1])


def test_a_month_runs_on_after_the_last_day_with_data() -> None:
    rows = [sale(1, instant_us(2020, 1, 1)), sale(2, instant_us(2026, 11, 20))]
    payload = Shop(rows).show()
    assert (payload.window.is_running, timeline(payload).is_running) == (False, True)


# ── grains ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("days", "grain"),
    [
        (0, "hour"),
        (6, "hour"),
        (7, "day"),
        (119, "day"),
        (120, "week"),
        (399, "week"),
        (400, "month"),
    ],
)
def test_the_usual_grain_of_all_follows_the_span_of_the_data(days: int, grain: str) -> None:
    rows = [sale(1, NOW), sale(2, NOW - days * DAY)]
    assert timeline(Shop(rows).show()).grain == grain


@pytest.mark.parametrize("grain", ["hour", "day", "week", "month"])
def test_a_grain_that_the_dashboard_names_wins(grain: str) -> None:
    drawn = timeline(
        Shop([sale(1, NOW), sale(2, NOW - 9 * DAY)], long_board(f"all: {grain}")).show()
    )
    assert (drawn.grain, drawn.asked) == (grain, None)


@pytest.mark.parametrize(
    ("asked", "days", "taken"),
    [("hour", 60, "hour"), ("hour", 63, "day"), ("hour", 1600, "week"), ("day", 1600, "week")],
)
def test_too_many_points_take_the_next_coarser_grain_and_the_payload_says_so(
    asked: Grain, days: int, taken: Grain
) -> None:
    rows = [sale(1, NOW), sale(2, NOW - days * DAY)]
    payload = Shop(rows, long_board(f"all: {asked}")).show()
    drawn = timeline(payload)
    assert (drawn.grain, drawn.asked) == (taken, None if taken == asked else asked)
    assert len(drawn.buckets_ms) <= POINTS_MAX
    assert total(payload) == 20


@pytest.mark.parametrize(
    ("granularity", "period", "grain"),
    [
        ("second", "24h", "hour"),
        ("day", "24h", "day"),
        ("day", "all", "day"),
        ("month", "30d", "month"),
    ],
)
def test_the_usual_grain_is_never_finer_than_the_times_are_known(
    granularity: str, period: str, grain: str
) -> None:
    shop = Shop([sale(1, NOW - DAY)], long_board(granularity=granularity))
    assert timeline(shop.show(View("sales", period))).grain == grain


# ── months ───────────────────────────────────────────────────────────────────────────────────────


def test_twelve_months_are_calendar_months_and_compared_with_as_much_of_the_twelve_before() -> None:
    at = [
        (2024, 11, 30),
        (2024, 12, 1),
        (2025, 11, 22, 14, 36),
        (2025, 11, 22, 14, 38),
        (2025, 12, 1),
    ]
    rows = [sale(n, instant_us(*each), f"{10**n}.00") for n, each in enumerate(at)]
    payload = Shop([*rows, sale(9, NOW, "7.00")]).show(View("sales", "12m"))
    shown = payload.tiles[NET_SALES]
    assert isinstance(shown, Number)
    assert (shown.value, shown.previous) == (10_007, 110)
    drawn = timeline(payload)
    assert (drawn.grain, len(drawn.buckets_ms), drawn.is_running) == ("month", 12, True)
    assert [local(drawn.buckets_ms[each] * 1000) for each in (0, -1)] == [
        "2025-12-01 00:00",
        "2026-11-01 00:00",
    ]
    assert [drawn.totals[each] for each in (0, 1, -1)] == [10_000, 0, 7]


# ── a dimension of very many values ──────────────────────────────────────────────────────────────


def test_of_very_many_values_the_greatest_are_drawn_and_the_others_together() -> None:
    rng = np.random.default_rng(5)
    rows = [
        sale(n, NOW - int(rng.integers(200)) * DAY, f"{rng.integers(1, 9999)}.25", f"c{n % 150:03}")
        for n in range(900)
    ]
    payload = Shop(rows).show()
    sizes: dict[str, Decimal] = {}
    for row in rows:
        sizes[row[3] or ""] = sizes.get(row[3] or "", Decimal()) + (row[5] or 0)
    drawn = timeline(payload)
    greatest = sorted(sizes, key=lambda name: -sizes[name])[:SERIES_MAX]
    assert [each.key for each in drawn.series] == [*sorted(greatest), None]
    for each in drawn.series[:-1]:
        assert sum((Decimal(value or 0) for value in each.values), Decimal()) == sizes[each.label]
    for place, value in enumerate(drawn.totals):
        assert sum((Decimal(each.values[place] or 0) for each in drawn.series), Decimal()) == value
    chosen = View("sales", "all", (Filter("category", (greatest[0], "c000")),))
    assert {each.key for each in timeline(Shop(rows).show(chosen)).series} == {greatest[0], "c000"}


# ── export ───────────────────────────────────────────────────────────────────────────────────────


def test_the_export_says_of_every_point_what_it_covers() -> None:
    shop = Shop([sale(1, instant_us(2011, 6, 30, 12)), sale(2, instant_us(2013, 1, 2))])
    payload = shop.show()
    lines = to_csv(payload).decode().splitlines()
    assert lines[1] == "net_sales,2011-06-30T00:00:00+01:00,,,,20.00,,,"
    points = [line for line in lines if ",month,category,Hats," in line]
    assert len(points) == 20
    assert points[0] == "net_sales,2011-06-01T00:00:00+01:00,month,category,Hats,10.00,,,"
    assert file_name(payload) == "sales_all_2013-01-03T0000.csv"
