"""The grammar of targets and spans."""

from __future__ import annotations

import pytest

from upwell.project.target import Target, parse_span_hours, parse_target


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("p99 <= 5 s", Target("p99", 0.99, 5_000)),
        ("p50<=300ms", Target("p50", 0.5, 300)),
        (" p99.9 <= 1.5 min ", Target("p99.9", 0.999, 90_000)),
    ],
)
def test_a_target_is_a_percentile_and_a_limit(text: str, target: Target) -> None:
    parsed = parse_target(text)
    assert parsed.statistic == target.statistic
    assert parsed.quantile == pytest.approx(target.quantile)
    assert parsed.limit_ms == pytest.approx(target.limit_ms)


@pytest.mark.parametrize(
    "text",
    ["", "p99", "p0 <= 5 s", "p100 <= 5 s", "p99 < 5 s", "p99 >= 5 s", "p99 <= 5", "p99 <= 5 h",
     "p99 <= -5 s", "mean <= 5 s", "p99 <= 0 ms", "p99 <= 0.1 ms", "p99 <= 70 min"],
)  # fmt: skip
def test_anything_else_is_no_target(text: str) -> None:
    with pytest.raises(ValueError, match=r"such as p99 <= 5 s|from 1 ms to 69 min"):
        parse_target(text)


@pytest.mark.parametrize(("text", "hours"), [("24h", 24), ("7d", 168), ("1h", 1)])
def test_a_span_is_a_number_of_hours(text: str, hours: int) -> None:
    assert parse_span_hours(text) == hours


@pytest.mark.parametrize("text", ["", "7", "0d", "07d", "7w", "-1d", "1.5d", "7d ", "99999d"])
def test_anything_else_is_no_span(text: str) -> None:
    with pytest.raises(ValueError, match="such as 24h"):
        parse_span_hours(text)
