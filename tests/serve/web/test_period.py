"""Periods as they are written and said, and the grains that suit them."""

from __future__ import annotations

import pytest

from upwell.core.errors import UsageError
from upwell.serve.web.period import Period, coarsest, parse_period


@pytest.mark.parametrize(
    ("text", "period", "spelled", "label"),
    [
        ("1h", Period(1, "hour"), "1 hour", "1 h"),
        ("24h", Period(24, "hour"), "24 hours", "24 h"),
        ("30d", Period(30, "day"), "30 days", "30 days"),
        ("1m", Period(1, "month"), "1 month", "1 month"),
        ("12m", Period(12, "month"), "12 months", "12 months"),
        ("all", Period(1, "all"), "All", "All"),
    ],
)
def test_a_period_is_read_and_said_in_full_and_short(
    text: str, period: Period, spelled: str, label: str
) -> None:
    assert parse_period(text) == period
    assert (period.spelled(), period.label()) == (spelled, label)


@pytest.mark.parametrize(
    "text",
    ["", "30", "d", "0d", "0m", "30 d", "30min", "1000m", "1all", "ALL", "4w", "-1d", "30d ", "٣d"],
)
def test_anything_but_a_number_of_hours_days_or_months_or_all_is_no_period(text: str) -> None:
    with pytest.raises(UsageError):
        parse_period(text)


@pytest.mark.parametrize(
    ("text", "days", "grain"),
    [
        ("24h", 2, "hour"),
        ("168h", 8, "hour"),
        ("169h", 9, "day"),
        ("7d", 7, "hour"),
        ("8d", 8, "day"),
        ("120d", 120, "day"),
        ("121d", 121, "week"),
        ("3m", 92, "day"),
        ("4m", 93, "month"),
        ("12m", 335, "month"),
        ("all", 1, "hour"),
        ("all", 90, "day"),
        ("all", 400, "week"),
        ("all", 401, "month"),
    ],
)
def test_the_longer_one_looks_back_the_more_a_point_covers(
    text: str, days: int, grain: str
) -> None:
    assert parse_period(text).usual_grain(days) == grain


def test_a_month_is_coarser_than_a_week_and_a_week_than_a_day() -> None:
    assert coarsest("day", "hour") == "day"
    assert coarsest("week", "day") == "week"
    assert coarsest("week", "month", "hour") == "month"
