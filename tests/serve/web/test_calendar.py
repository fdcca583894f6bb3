"""Golden calendar: days, hours and windows on the clocks of real places."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import get_args
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upwell.core.errors import UsageError
from upwell.project.settings import BusinessTime, Weekday
from upwell.project.values import Grain
from upwell.serve.web.calendar import (
    HOUR_US,
    NO_BUCKET,
    Calendar,
    Span,
    Window,
    business_calendar,
)
from upwell.serve.web.period import parse_period

from .shop import instant_us, local

LONDON = business_calendar(BusinessTime(zone="Europe/London"))


def day_of(calendar: Calendar, us: int) -> int:
    return int(calendar.days(np.array([us]))[0])


def hour_of(calendar: Calendar, us: int) -> int:
    return int(calendar.hours(np.array([us]))[0])


def previous(window: Window) -> Span:
    assert window.previous is not None
    return window.previous


@pytest.mark.parametrize(
    ("day", "hours"),
    [((2026, 3, 28), 24), ((2026, 3, 29), 23), ((2026, 10, 24), 24), ((2026, 10, 25), 25)],
)
def test_a_day_has_as_many_hourly_buckets_as_hours_pass_in_it(
    day: tuple[int, int, int], hours: int
) -> None:
    window = LONDON.window(parse_period("1d"), instant_us(*day, 23, 59))
    buckets = LONDON.buckets(window.current, "hour")
    assert len(buckets) == hours
    assert np.all(np.diff(buckets) == HOUR_US)
    assert local(int(buckets[0])).endswith("00:00")
    assert local(int(buckets[-1])).endswith("23:00")


def test_the_repeated_hour_of_autumn_is_two_buckets() -> None:
    first = instant_us(2026, 10, 25, 1, 30)
    second = instant_us(2026, 10, 25, 1, 30, fold=1)
    assert second - first == HOUR_US
    assert hour_of(LONDON, second) - hour_of(LONDON, first) == HOUR_US
    assert day_of(LONDON, first) == day_of(LONDON, second)


@pytest.mark.parametrize("now", [(2026, 3, 30, 14, 37), (2026, 10, 26, 14, 37)])
@pytest.mark.parametrize("days", [1, 7, 30])
def test_days_windows_begin_at_local_midnight_and_compare_up_to_the_same_clock_time(
    now: tuple[int, ...], days: int
) -> None:
    now_us = instant_us(*now)
    window = LONDON.window(parse_period(f"{days}d"), now_us)
    today = date(*now[:3])
    first = today - timedelta(days=days - 1)
    assert local(window.current.start_us) == f"{first} 00:00"
    assert window.current.end_us == now_us + 1
    assert local(previous(window).start_us) == f"{first - timedelta(days=days)} 00:00"
    assert local(previous(window).end_us) == f"{today - timedelta(days=days)} 14:37"
    assert len(LONDON.buckets(window.current, "day")) == days


def test_a_month_ends_when_the_business_says_so() -> None:
    before = instant_us(2026, 6, 30, 23, 30)
    after = instant_us(2026, 7, 1, 0, 30)
    assert datetime.fromtimestamp(after / 1e6, UTC).month == 6
    assert local(day_of(LONDON, before)) == "2026-06-30 00:00"
    assert local(day_of(LONDON, after)) == "2026-07-01 00:00"


def test_a_day_that_starts_at_four_holds_the_night_after_it() -> None:
    calendar = business_calendar(BusinessTime(zone="Europe/London", day_starts="04:00"))
    night = instant_us(2026, 11, 22, 3, 59)
    assert local(day_of(calendar, night)) == "2026-11-21 04:00"
    assert local(day_of(calendar, night + 60_000_000)) == "2026-11-22 04:00"
    window = calendar.window(parse_period("7d"), night)
    assert local(window.current.start_us) == "2026-11-15 04:00"
    assert local(previous(window).end_us) == "2026-11-15 03:59"


def test_hours_begin_at_half_past_utc_where_the_zone_is_half_an_hour_off() -> None:
    calendar = business_calendar(BusinessTime(zone="Asia/Kolkata"))
    moment = instant_us(2026, 11, 22, 10, 45, zone="Asia/Kolkata")
    assert local(hour_of(calendar, moment), "Asia/Kolkata") == "2026-11-22 10:00"
    assert datetime.fromtimestamp(hour_of(calendar, moment) / 1e6, UTC).minute == 30


def test_a_midnight_that_the_clocks_skip_begins_the_day_when_they_jump() -> None:
    calendar = business_calendar(BusinessTime(zone="America/Santiago"))
    noon = instant_us(2026, 9, 6, 12, 0, zone="America/Santiago")
    assert local(day_of(calendar, noon), "America/Santiago") == "2026-09-06 01:00"


@pytest.mark.parametrize("now", [(2026, 3, 29, 12, 20), (2026, 10, 25, 12, 20)])
def test_hours_windows_are_so_many_hours_with_the_running_one_and_join_the_ones_before(
    now: tuple[int, ...],
) -> None:
    window = LONDON.window(parse_period("24h"), instant_us(*now))
    assert len(LONDON.buckets(window.current, "hour")) == 24
    assert window.current.start_us - previous(window).start_us == 24 * HOUR_US
    assert previous(window).end_us - previous(window).start_us == 23 * HOUR_US + 20 * 60_000_000
    assert window.changes_at_us == instant_us(*now[:3], 13, 0)


def test_a_daily_bucket_may_begin_before_a_window_of_hours() -> None:
    window = LONDON.window(parse_period("24h"), instant_us(2026, 11, 22, 12, 20))
    buckets = [local(int(bucket)) for bucket in LONDON.buckets(window.current, "day")]
    assert buckets == ["2026-11-21 00:00", "2026-11-22 00:00"]


def test_what_lies_outside_the_calendar_is_in_no_bucket() -> None:
    instants = np.array([0, np.iinfo(np.int64).max, np.iinfo(np.int64).min, NO_BUCKET])
    assert (LONDON.days(instants) == NO_BUCKET).all()
    assert (LONDON.hours(instants) == NO_BUCKET).all()
    with pytest.raises(UsageError, match="1970-01-01"):
        LONDON.window(parse_period("30d"), 0)


GRAINS: tuple[Grain, ...] = ("hour", "day", "week", "month")
MOMENTS = st.datetimes(datetime(1995, 1, 1), datetime(2040, 1, 1))  # noqa: DTZ001 - UTC below
CLOCKS = st.sampled_from(
    [
        BusinessTime(zone="Europe/London"),
        BusinessTime(zone="Europe/London", day_starts="04:00", week_starts="sunday"),
        BusinessTime(zone="Asia/Kolkata", day_starts="05:30", week_starts="thursday"),
        BusinessTime(zone="Australia/Lord_Howe", week_starts="saturday"),
        BusinessTime(zone="America/Santiago", week_starts="sunday"),
        BusinessTime(zone="Pacific/Apia", day_starts="04:00", week_starts="friday"),
    ]
)


def instant_of(moment: datetime) -> int:
    return int(moment.replace(tzinfo=UTC).timestamp()) * 1_000_000


@settings(deadline=None)
@given(
    clock=CLOCKS,
    now=MOMENTS,
    period=st.sampled_from(["1h", "24h", "1d", "7d", "30d", "1m", "5m", "12m"]),
)
def test_buckets_tile_every_window_and_hold_each_instant_of_it(
    clock: BusinessTime, now: datetime, period: str
) -> None:
    calendar = business_calendar(clock)
    now_us = instant_of(now)
    window = calendar.window(parse_period(period), now_us)
    if window.previous is not None:
        assert window.previous.start_us <= window.previous.end_us <= window.current.start_us
    assert now_us < window.changes_at_us <= now_us + HOUR_US
    instants = np.linspace(window.current.start_us, now_us, 97).astype(np.int64)
    for grain in GRAINS:
        buckets = calendar.buckets(window.current, grain)
        assert buckets[0] <= window.current.start_us
        assert buckets[-1] <= now_us
        assert np.isin(calendar.starts(instants, grain), buckets).all()
        assert (calendar.starts(buckets, grain) == buckets).all()
        assert (calendar.starts(buckets[1:] - 1, grain) == buckets[:-1]).all()


def day_begins(day: date, clock: BusinessTime) -> int:
    """When a business day begins, in plain datetime code."""
    at = datetime.combine(day, time.fromisoformat(clock.day_starts), ZoneInfo(clock.zone))
    return int(at.timestamp()) * 1_000_000


def business_date(us: int, clock: BusinessTime) -> date:
    day = datetime.fromtimestamp(us // 1_000_000, ZoneInfo(clock.zone)).date() + timedelta(days=1)
    while day_begins(day, clock) > us:
        day -= timedelta(days=1)
    return day


@settings(deadline=None)
@given(clock=CLOCKS, now=MOMENTS)
def test_weeks_and_months_begin_with_the_business_day_that_a_plain_calendar_says(
    clock: BusinessTime, now: datetime
) -> None:
    calendar = business_calendar(clock)
    us = instant_of(now)
    day = business_date(us, clock)
    first_weekday = get_args(Weekday).index(clock.week_starts)
    week = day - timedelta(days=(day.weekday() - first_weekday) % 7)
    instants = np.array([us])
    assert calendar.starts(instants, "day").tolist() == [day_begins(day, clock)]
    assert calendar.starts(instants, "week").tolist() == [day_begins(week, clock)]
    assert calendar.starts(instants, "month").tolist() == [day_begins(day.replace(day=1), clock)]


def months_earlier(day: date, count: int) -> date | None:
    """The same day so many months before; None if that month is shorter."""
    months = day.year * 12 + day.month - 1 - count
    try:
        return day.replace(year=months // 12, month=months % 12 + 1)
    except ValueError:
        return None


def first_of(day: date, months: int) -> date:
    found = months_earlier(day.replace(day=1), months)
    assert found is not None
    return found


@settings(deadline=None)
@given(clock=CLOCKS, now=MOMENTS, count=st.integers(1, 24))
def test_months_windows_are_whole_months_and_compare_with_as_much_of_the_months_before(
    clock: BusinessTime, now: datetime, count: int
) -> None:
    now_us = instant_of(now)
    window = business_calendar(clock).window(parse_period(f"{count}m"), now_us)
    today = business_date(now_us, clock)
    assert window.current == Span(day_begins(first_of(today, count - 1), clock), now_us + 1)
    before = previous(window)
    assert before.start_us == day_begins(first_of(today, 2 * count - 1), clock)
    earlier = months_earlier(today, count)
    if earlier is None:
        assert before.end_us == window.current.start_us
    else:
        ends = [day_begins(earlier + timedelta(days=each), clock) for each in (0, 1)]
        assert ends[0] <= before.end_us <= ends[1]


@pytest.mark.parametrize(
    ("now", "period", "current", "before"),
    [
        ((2026, 11, 22, 14, 37), "12m", "2025-12-01", ("2024-12-01 00:00", "2025-11-22 14:37")),
        ((2026, 4, 10, 9, 0), "1m", "2026-04-01", ("2026-03-01 00:00", "2026-03-10 09:00")),
        ((2026, 3, 30, 9, 0), "1m", "2026-03-01", ("2026-02-01 00:00", "2026-03-01 00:00")),
        ((2028, 2, 29, 9, 0), "12m", "2027-03-01", ("2026-03-01 00:00", "2027-03-01 00:00")),
        ((2026, 2, 28, 23, 59), "1m", "2026-02-01", ("2026-01-01 00:00", "2026-01-28 23:59")),
    ],
)
def test_months_compare_up_to_the_same_clock_time_and_a_shorter_month_with_all_of_it(
    now: tuple[int, ...], period: str, current: str, before: tuple[str, str]
) -> None:
    window = LONDON.window(parse_period(period), instant_us(*now))
    assert local(window.current.start_us) == f"{current} 00:00"
    assert (local(previous(window).start_us), local(previous(window).end_us)) == before


def test_a_month_that_starts_at_four_holds_the_night_after_its_last_day() -> None:
    calendar = business_calendar(BusinessTime(zone="Europe/London", day_starts="04:00"))
    window = calendar.window(parse_period("1m"), instant_us(2026, 3, 1, 2, 0))
    assert local(window.current.start_us) == "2026-02-01 04:00"
    assert local(window.last_day_us) == "2026-02-28 04:00"
    assert local(previous(window).end_us) == "2026-01-29 02:00"


# ── all of the data ──────────────────────────────────────────────────────────────────────────────

NOW = instant_us(2026, 11, 22, 14, 37)


def test_the_whole_reaches_from_the_first_day_with_data_through_the_last() -> None:
    held = Span(instant_us(2010, 12, 1, 8, 26), instant_us(2011, 12, 9, 12, 50) + 1)
    window = LONDON.whole(held, NOW)
    assert window.current == Span(instant_us(2010, 12, 1), instant_us(2011, 12, 10))
    assert local(window.last_day_us) == "2011-12-09 00:00"
    assert window.previous is None


def test_the_whole_ends_now_on_a_day_that_is_not_over() -> None:
    held = Span(instant_us(2026, 11, 20, 9), instant_us(2026, 11, 22, 9) + 1)
    assert LONDON.whole(held, NOW).current == Span(instant_us(2026, 11, 20), NOW + 1)
    one = Span(NOW, NOW + 1)
    assert LONDON.whole(one, NOW).current == Span(instant_us(2026, 11, 22), NOW + 1)


def test_the_whole_of_nothing_is_today() -> None:
    assert LONDON.whole(None, NOW).current == Span(instant_us(2026, 11, 22), NOW + 1)


@pytest.mark.parametrize("period", ["9999d", "999m"])
def test_what_a_period_reaches_before_the_calendar_is_left_out_and_not_compared_with(
    period: str,
) -> None:
    early = instant_us(1995, 5, 5, 5, 5)
    window = LONDON.window(parse_period(period), early)
    assert (local(window.current.start_us), window.previous) == ("1990-01-01 00:00", None)
    hours = LONDON.window(parse_period("9999h"), instant_us(1990, 1, 2, 5, 5))
    assert (local(hours.current.start_us), hours.previous) == ("1990-01-01 00:00", None)


@settings(deadline=None)
@given(
    grain=st.sampled_from(GRAINS),
    now=MOMENTS,
    days=st.integers(1, 12_000),
    points_max=st.integers(200, 2_000),
)
def test_a_grain_fits_when_it_has_few_enough_points_and_is_the_finest_that_does(
    grain: Grain, now: datetime, days: int, points_max: int
) -> None:
    end_us = instant_of(now)
    span = Span(max(end_us - 24 * days * HOUR_US, LONDON.span.start_us), end_us)
    fitting = LONDON.fitting(span, grain, points_max)
    places = [GRAINS.index(grain), GRAINS.index(fitting)]
    assert places == sorted(places)
    assert len(LONDON.buckets(span, fitting)) <= points_max or fitting == "month"
    if fitting != grain:
        finer = LONDON.buckets(span, GRAINS[places[1] - 1])
        assert len(finer) > points_max - 50  # hours are counted by whole days


def test_the_calendar_agrees_with_the_zone_database_day_by_day() -> None:
    zone = ZoneInfo("Europe/London")
    buckets = LONDON.buckets(Span(instant_us(2026, 1, 1), instant_us(2027, 1, 1)), "day")
    days = [date(2026, 1, 1) + timedelta(days=index) for index in range(365)]
    expected = [datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() for day in days]
    assert buckets.tolist() == [int(each) * 1_000_000 for each in expected]
