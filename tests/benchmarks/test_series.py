"""Interleaved runs, and ratios round by round."""

from __future__ import annotations

import pytest

from benchmarks.series import Series, spread, verdict


def test_every_round_runs_every_kind_and_begins_with_another() -> None:
    order: list[str] = []

    def run(kind: str) -> int:
        order.append(kind)
        return len(order)

    series: Series[int] = Series(["a", "b", "c"], rounds=4)
    series.measure(run)
    assert "".join(order) == "abc" + "bca" + "cab" + "abc"
    assert series.runs == {"a": [1, 6, 8, 10], "b": [2, 4, 9, 11], "c": [3, 5, 7, 12]}


def test_a_ratio_compares_the_runs_of_one_round() -> None:
    series: Series[float] = Series(["ours", "theirs"], rounds=3)
    series.runs = {"ours": [2.0, 20.0, 200.0], "theirs": [1.0, 10.0, 50.0]}
    ratio = series.ratio("ours", "theirs", lambda run: run)
    assert (ratio.median, ratio.least, ratio.greatest) == (2, 2, 4)


def test_a_spread_shows_median_least_and_greatest() -> None:
    assert spread([3.0, 1000.0, 1.0]).show() == "3 (1–1,000)"
    assert spread([0.5]).show(".0%") == "50% (50%–50%)"


@pytest.mark.parametrize(("least", "said"), [(2.0, "reached"), (2.1, "missed")])
def test_the_median_decides_whether_a_budget_is_reached(least: float, said: str) -> None:
    assert verdict(spread([1.0, 2.0, 3.0]), least) == said
