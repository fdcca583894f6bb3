"""Golden calendar: days, hours and windows on the clocks of real places."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upwell.core.errors import UsageError
from upwell.project.values import BusinessTime
from upwell.serve.web.calendar import (
    HOUR_US,
    NO_BUCKET,
    Calendar,
    Span,
    business_calendar,
    parse_period,
)

from .shop import instant_us, local

LONDON = business_calendar(BusinessTime(zone="Europe/London"))


def day_of(calendar: Calendar, us: int) -> int:
    return int(calendar.days(np.array([us]))[0])


def hour_of(calendar: Calendar, us: int) -> int:
    return int(calendar.hours(np.array([us]))[0])


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
    assert local(window.previous.start_us) == f"{first - timedelta(days=days)} 00:00"
    assert local(window.previous.end_us) == f"{today - timedelta(days=days)} 14:37"
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
    assert local(window.previous.end_us) == "2026-11-15 03:59"


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
    assert window.current.start_us - window.previous.start_us == 24 * HOUR_US
    assert window.previous.end_us - window.previous.start_us == 23 * HOUR_US + 20 * 60_000_000
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


@pytest.mark.parametrize("text", ["", "30", "d", "0d", "30 d", "30m", "-1d", "30d ", "٣d"])
def test_anything_but_a_number_of_hours_or_days_is_no_period(text: str) -> None:
    with pytest.raises(UsageError):
        parse_period(text)


ZONES = ("Europe/London", "Asia/Kolkata", "Australia/Lord_Howe", "America/Santiago", "Pacific/Apia")


@given(
    zone=st.sampled_from(ZONES),
    starts=st.sampled_from(["00:00", "04:00", "05:30"]),
    now=st.datetimes(datetime(2005, 1, 1), datetime(2040, 1, 1)),  # noqa: DTZ001 - UTC below
    period=st.sampled_from(["1h", "24h", "1d", "7d", "30d"]),
)
def test_buckets_tile_every_window_and_hold_each_instant_of_it(
    zone: str, starts: str, now: datetime, period: str
) -> None:
    calendar = business_calendar(BusinessTime(zone=zone, day_starts=starts))
    now_us = int(now.replace(tzinfo=UTC).timestamp()) * 1_000_000
    window = calendar.window(parse_period(period), now_us)
    assert window.previous.end_us <= window.current.start_us
    assert now_us < window.changes_at_us <= now_us + HOUR_US
    instants = np.linspace(window.current.start_us, now_us, 97).astype(np.int64)
    for grain, placed in (("day", calendar.days(instants)), ("hour", calendar.hours(instants))):
        buckets = calendar.buckets(window.current, "day" if grain == "day" else "hour")
        assert (np.diff(buckets) > 0).all()
        assert buckets[0] <= window.current.start_us
        assert buckets[-1] <= now_us
        assert np.isin(placed, buckets).all()


def test_the_calendar_agrees_with_the_zone_database_day_by_day() -> None:
    zone = ZoneInfo("Europe/London")
    buckets = LONDON.buckets(Span(instant_us(2026, 1, 1), instant_us(2027, 1, 1)), "day")
    days = [date(2026, 1, 1) + timedelta(days=index) for index in range(365)]
    expected = [datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() for day in days]
    assert buckets.tolist() == [int(each) * 1_000_000 for each in expected]
