"""Latencies are counted once each and never lost."""

from __future__ import annotations

import numpy as np
import pytest

from upwell.core.errors import Unavailable
from upwell.core.histogram import Histogram
from upwell.serve.web.freshness import MINUTE_US, Freshness

AT = 30 * MINUTE_US


def committed(*milliseconds_ago: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array([AT - 1000 * ago for ago in milliseconds_ago], np.int64)


def test_a_version_counts_for_the_boards_that_show_it_alone() -> None:
    freshness = Freshness(["sales", "stock"])
    freshness.count(["sales"], committed(100, 300), AT)
    totals = freshness.totals()
    assert (totals["sales"].count, totals["stock"].count) == (2, 0)
    assert totals["sales"].quantile(1.0) == pytest.approx(300, rel=0.05)


def test_what_could_not_be_reported_is_reported_with_the_next() -> None:
    freshness = Freshness(["sales"])
    got: dict[tuple[str, int], Histogram] = {}

    def away(*_: object) -> None:
        raise Unavailable("away", "the engine is away")

    def report(board: str, minute_us: int, new: Histogram) -> None:
        got[board, minute_us] = got.get((board, minute_us), Histogram.empty()).merge(new)

    freshness.count(["sales"], committed(100), AT)
    with pytest.raises(Unavailable):
        freshness.hand_over(away)
    freshness.count(["sales"], committed(200), AT)
    freshness.count(["sales"], committed(300), AT + MINUTE_US)
    freshness.hand_over(report)
    freshness.hand_over(report)
    assert {key: seen.count for key, seen in got.items()} == {
        ("sales", AT): 2,
        ("sales", AT + MINUTE_US): 1,
    }
    assert freshness.totals()["sales"].count == 3
