"""Periods and grains: how much time a reader looks at, and how much of it one point covers.

A period is so many business hours, days or calendar months up to now, or ``all`` of the data there
is. Where a dashboard does not say how long a timeline's points last, the number of days looked at
does; a timeline that would have more than ``POINTS_MAX`` points takes a coarser grain instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from upwell.core.errors import UsageError
from upwell.project.values import Grain

#: From the finest to the coarsest.
GRAINS: tuple[Grain, ...] = get_args(Grain)

#: More points than a screen has room for, and than one may send to every viewer at each change.
POINTS_MAX = 1_500

_PERIOD = re.compile(r"([1-9][0-9]{0,3})([hd])|([1-9][0-9]{0,2})(m)")
_UNITS: dict[str, Literal["hour", "day", "month"]] = {"h": "hour", "d": "day", "m": "month"}
_USUAL_UP_TO_DAYS: tuple[tuple[int, Grain], ...] = ((7, "hour"), (120, "day"), (400, "week"))
_DAILY_UP_TO_MONTHS = 3


@dataclass(frozen=True, slots=True)
class Period:
    """``24h``, ``30d`` or ``12m``: so many of a unit, the current one so far included; or ``all``.

    ``count`` is 1 for ``all``.
    """

    count: int
    unit: Literal["hour", "day", "month", "all"]

    def usual_grain(self, days: int) -> Grain:
        """What a point covers where the dashboard does not say.

        ``days``: how many business days the period's window touches. An hour up to 7 of them, a day
        up to 120, a week up to 400, a month beyond. Of more than three months, a month.
        """
        if self.unit == "month":
            return "day" if self.count <= _DAILY_UP_TO_MONTHS else "month"
        if self.unit == "hour" and self.count <= _USUAL_UP_TO_DAYS[0][0] * 24:
            return "hour"  # 168 hours touch eight days
        return next((grain for most, grain in _USUAL_UP_TO_DAYS if days <= most), "month")

    def spelled(self) -> str:
        """As people say it: ``24 hours``, ``12 months``, ``All``."""
        if self.unit == "all":
            return "All"
        return f"{self.count} {self.unit}{'' if self.count == 1 else 's'}"

    def label(self) -> str:
        """As a button has room for it: ``24 h``, ``30 days``."""
        return f"{self.count} h" if self.unit == "hour" else self.spelled()


def parse_period(text: str) -> Period:
    """``24h``, ``30d``, ``12m``, ``all``. Raises UsageError for anything else."""
    if text == "all":
        return Period(1, "all")
    match = _PERIOD.fullmatch(text)
    if match is None:
        raise UsageError(
            "unknown_period",
            f"{text!r} is not a period",
            next_step="write a number of hours, days or months, as in 24h, 30d or 12m, or all",
        )
    count, unit = [group for group in match.groups() if group]
    return Period(int(count), _UNITS[unit])


def coarsest(*grains: Grain) -> Grain:
    """The coarsest of some grains."""
    return max(grains, key=GRAINS.index)
