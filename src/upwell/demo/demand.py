"""How much the sample shop sold in every hour of its past, and of what.

Demand follows the tide of the week, grows over the whole time, drifts from day to day by category,
and jumps during promotions. Times are microseconds since 1970 UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from upwell.demo import tide
from upwell.demo.assortment import CATEGORIES

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SECOND = 1_000_000
HOUR = 3_600 * SECOND
DAY = 24 * HOUR

_GROWTH = 0.35  # the last day over the first
#: Promotions sell more, for less: (category, days before now, length in days).
_PROMOTIONS = (("Garden", 71, 4), ("Toys", 45, 3), ("Outdoor", 24, 5), ("Beauty", 9, 3))
_PROMOTION_PULL = 2.2


def hours_of(now: datetime, zone: ZoneInfo, days: int) -> tuple[Ints, Ints]:
    """The start of every hour (microseconds) and which hour of the local week it is."""
    today = now.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    first = microseconds(today - timedelta(days=days - 1))  # wall clock, over any clock change
    starts = np.arange(first, microseconds(now) + 1, HOUR, dtype=np.int64)
    of_week = [
        tide.hour_of_week(datetime.fromtimestamp(start / SECOND, zone)) for start in starts.tolist()
    ]
    return starts, np.array(of_week, dtype=np.int64)


def demand_for(random: np.random.Generator, hours: Ints, local: Ints, now_us: int) -> Floats:
    """Demand for each category in each hour, around 1 an hour in all: shape (hours, categories)."""
    day = (hours - hours[0]) // DAY
    shape = (int(day[-1]) + 1, len(CATEGORIES))
    wandering = np.cumsum(random.normal(0, 0.025, shape), axis=0)
    drift = np.exp(wandering + random.normal(0, 0.06, shape))
    demand: Floats = tide.interest()[local] * drift[day]
    for category, running in promotions(now_us - hours):
        demand[running, category] *= _PROMOTION_PULL
    return demand


def promotions(age_us: Ints) -> Iterator[tuple[int, Bools]]:
    """Each promotion's category, and which of the ages (before now) fall into it."""
    names = [category.name for category in CATEGORIES]
    age_days = age_us // DAY
    for name, begins, length in _PROMOTIONS:
        yield names.index(name), (age_days < begins) & (age_days >= begins - length)


def arrivals(
    random: np.random.Generator, hours: Ints, local: Ints, orders_a_day: int, demand: Floats
) -> tuple[Ints, Ints]:
    """When each order was placed, ascending, and the index of its hour.

    ``orders_a_day`` is reached at the end of the growth.
    """
    trend = np.linspace(1 / (1 + _GROWTH), 1, len(hours))
    expected = orders_a_day / 24 * tide.visits()[local] * trend * demand
    hour = np.repeat(np.arange(len(hours)), random.poisson(expected))
    placed = hours[hour] + random.integers(0, HOUR, len(hour))
    order = np.argsort(placed, kind="stable")
    return placed[order], hour[order]


def choose(random: np.random.Generator, weights: Floats) -> Ints:
    """One column index a row, drawn by that row's weights."""
    edges = np.cumsum(weights, axis=1)
    drawn = random.random(len(weights))[:, None] * edges[:, -1:]
    chosen: Ints = (drawn >= edges).sum(axis=1)
    return chosen


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970 UTC of an aware time."""
    return int(moment.timestamp()) * SECOND + moment.microsecond
