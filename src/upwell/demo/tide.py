"""When people visit the sample shop and what draws them: shares by hour of the week.

Everything is an array over the 168 hours of a week, Monday 00:00 first, in the shop's own time.
The history uses it for how much is bought and what; the simulator, whose rate is given, for what.
"""

from __future__ import annotations

from datetime import datetime

import numpy as np
import numpy.typing as npt

from upwell.demo.assortment import CATEGORIES, CHANNELS

Floats = npt.NDArray[np.float64]

HOURS_A_WEEK = 168

_BY_HOUR = np.array(
    [
        *(0.35, 0.20, 0.12, 0.09, 0.10, 0.20, 0.45, 0.80),  # night, breakfast
        *(1.05, 1.20, 1.30, 1.40, 1.65, 1.50, 1.25, 1.20),  # office hours with a lunch peak
        *(1.25, 1.40, 1.65, 1.95, 2.20, 2.10, 1.55, 0.85),  # evening on the sofa
    ]
)
_BY_WEEKDAY = np.array([1.02, 0.96, 0.95, 1.00, 1.05, 1.12, 1.18])
#: Weekend mornings begin late and last until the afternoon.
_LATE_MORNING = 2

#: How much more a category draws at these hours: name → (hours, factor).
_DAILY_PULL = {
    "Kitchen": (range(16, 20), 1.35),
    "Books": (range(20, 24), 1.60),
    "Stationery": (range(8, 12), 1.70),
    "Beauty": (range(19, 23), 1.25),
}
_WEEKEND_PULL = {"Garden": 1.55, "Toys": 1.35, "Outdoor": 1.30, "Stationery": 0.60}


def visits() -> Floats:
    """Visits in each hour of the week, as a multiple of the average hour. Shape (168,)."""
    working = np.outer(_BY_WEEKDAY[:5], _BY_HOUR)
    weekend = np.outer(_BY_WEEKDAY[5:], np.roll(_BY_HOUR, 1) * 0.6 + _flat_afternoon() * 0.4)
    week = np.concatenate([working, weekend]).ravel()
    shares: Floats = week / week.mean()
    return shares


def interest() -> Floats:
    """The chance of each category at each hour of the week; rows add up to 1. Shape (168, 8)."""
    names = [category.name for category in CATEGORIES]
    pull = np.ones((7, 24, len(names)))
    for name, (hours, factor) in _DAILY_PULL.items():
        pull[:, list(hours), names.index(name)] *= factor
    for name, factor in _WEEKEND_PULL.items():
        pull[5:, :, names.index(name)] *= factor
    weighted = pull.reshape(HOURS_A_WEEK, -1) * [category.share for category in CATEGORIES]
    shares: Floats = weighted / weighted.sum(axis=1, keepdims=True)
    return shares


def channels() -> Floats:
    """The chance of each channel at each hour of the week; rows add up to 1. Shape (168, 3)."""
    day = np.empty((24, len(CHANNELS)))
    day[:] = (0.68, 0.32, 0.0)  # at night the phone
    day[9:18] = (0.38, 0.50, 0.12)  # office hours: the desk, and the store is open
    return np.tile(day, (7, 1))


def hour_of_week(moment: datetime) -> int:
    """Which of the 168 hours a local time falls in."""
    return moment.weekday() * 24 + moment.hour


def _flat_afternoon() -> Floats:
    day = np.full(24, 0.15)
    day[7 + _LATE_MORNING : 19] = 1.8
    day[19:23] = 1.3
    return day
