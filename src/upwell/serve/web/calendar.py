"""The business calendar: which day and hour an instant belongs to, and which window a period means.

A business day begins at ``day_starts`` of the local clock. Where the clocks skip that moment, it
is read with the offset from before the change; where they repeat it, the first one counts. Business
hours are counted from the start of their day, so a day whose clocks change has 23 or 25 of them,
and the last is cut short where the change is not a whole hour.

Invariant: buckets of one grain tile time without gap or overlap, a window's buckets are complete
whether or not anything happened in them, and nothing later than *now* is in a window. All instants
are microseconds since 1970 UTC. Instants outside 1990 to 2100 belong to no bucket.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np

from upwell.core.errors import UsageError
from upwell.core.protocols import Int64s
from upwell.project.values import BusinessTime, Grain

SECOND_US = 1_000_000
HOUR_US = 3_600 * SECOND_US

#: What an instant outside the calendar is given as its bucket; later than every window.
NO_BUCKET = np.iinfo(np.int64).max

_FIRST_DAY = date(1990, 1, 1)
_DAYS = (date(2100, 1, 1) - _FIRST_DAY).days
_PERIOD = re.compile(r"([1-9][0-9]{0,3})([hd])")
_HOURLY_UP_TO_DAYS = 7


@dataclass(frozen=True, slots=True)
class Span:
    """From ``start_us`` up to, but without, ``end_us``."""

    start_us: int
    end_us: int


@dataclass(frozen=True, slots=True)
class Period:
    """``24h`` or ``30d``: so many business hours or days, the current one so far included."""

    count: int
    unit: Grain

    @property
    def usual_grain(self) -> Grain:
        """Hours up to seven days, days beyond."""
        return "day" if self.unit == "day" and self.count > _HOURLY_UP_TO_DAYS else "hour"


@dataclass(frozen=True, slots=True)
class Window:
    """What a period means at one moment.

    ``current`` ends just after now. ``previous`` is the same elapsed part of the period before.
    ``changes_at_us``: when the next business hour begins, and with it another window.
    """

    current: Span
    previous: Span
    changes_at_us: int


@dataclass(frozen=True, slots=True, eq=False)
class Calendar:
    """``day_starts_us[i]`` is when the ``i``-th day since 1990 begins; the last one only ends."""

    zone: ZoneInfo
    day_starts_us: Int64s

    def days(self, instants_us: Int64s) -> Int64s:
        """The start of each instant's business day; ``NO_BUCKET`` outside the calendar."""
        index = np.searchsorted(self.day_starts_us, instants_us, side="right") - 1
        known = (index >= 0) & (index < _DAYS)
        return np.where(known, self.day_starts_us[np.clip(index, 0, _DAYS)], NO_BUCKET)

    def hours(self, instants_us: Int64s) -> Int64s:
        """The start of each instant's business hour; ``NO_BUCKET`` outside the calendar."""
        days = self.days(instants_us)
        known = days != NO_BUCKET
        elapsed = np.where(known, instants_us - days, 0)
        return np.where(known, days + elapsed // HOUR_US * HOUR_US, NO_BUCKET)

    def window(self, period: Period, now_us: int) -> Window:
        """The window of ``period`` at ``now_us``. Raises UsageError outside the calendar."""
        today = int(np.searchsorted(self.day_starts_us, now_us, side="right")) - 1
        if not 2 * period.count <= today < _DAYS:
            moment = datetime.fromtimestamp(now_us / SECOND_US, UTC)
            raise UsageError(
                "out_of_calendar",
                f"the business calendar does not hold the window of {moment:%Y-%m-%d}",
                next_step="set the clock of this machine",
            )
        if period.unit == "hour":
            current, previous = self._hours_window(period.count, now_us)
        else:
            current, previous = self._days_window(period.count, today, now_us)
        day_ends_us = int(self.day_starts_us[today + 1])
        hour_us = int(self.hours(np.array([now_us]))[0])
        return Window(current, previous, min(hour_us + HOUR_US, day_ends_us))

    def buckets(self, span: Span, grain: Grain) -> Int64s:
        """The starts of all buckets that touch ``span``; the first may begin before it."""
        first, last = np.searchsorted(
            self.day_starts_us, [span.start_us, span.end_us - 1], side="right"
        )
        starts = self.day_starts_us[int(first) - 1 : int(last)]
        if grain == "hour":
            ends = self.day_starts_us[int(first) : int(last) + 1]
            pairs = zip(starts, ends, strict=True)
            starts = np.concatenate([np.arange(start, end, HOUR_US) for start, end in pairs])
        starts = np.unique(starts)  # a date that a zone left out lasts no time
        first, last = np.searchsorted(starts, [span.start_us, span.end_us - 1], side="right")
        return starts[int(first) - 1 : int(last)]

    def _days_window(self, count: int, today: int, now_us: int) -> tuple[Span, Span]:
        starts = self.day_starts_us
        shifted_us = self._same_clock_time(now_us, days=-count)
        end_us = min(max(shifted_us, int(starts[today - count])), int(starts[today - count + 1]))
        current = Span(int(starts[today - count + 1]), now_us + 1)
        return current, Span(int(starts[today - 2 * count + 1]), end_us)

    def _hours_window(self, count: int, now_us: int) -> tuple[Span, Span]:
        reach = Span(now_us - (2 * count + 2) * HOUR_US, now_us + 1)
        starts = self.buckets(reach, "hour")
        current = Span(int(starts[-count]), now_us + 1)
        elapsed_us = now_us - int(starts[-1])
        end_us = min(int(starts[-count - 1]) + elapsed_us, current.start_us)
        return current, Span(int(starts[-2 * count]), end_us)

    def _same_clock_time(self, instant_us: int, *, days: int) -> int:
        """The instant at which the local clock shows the same time, so many days away."""
        seconds, micros = divmod(instant_us, SECOND_US)
        local = datetime.fromtimestamp(seconds, self.zone)
        shifted = local.replace(tzinfo=None, fold=0) + timedelta(days=days)
        return int(shifted.replace(tzinfo=self.zone).timestamp()) * SECOND_US + micros


def parse_period(text: str) -> Period:
    """``24h``, ``30d``. Raises UsageError for anything else."""
    match = _PERIOD.fullmatch(text)
    if match is None:
        raise UsageError(
            "unknown_period",
            f"{text!r} is not a period",
            next_step="write a number of hours or days, as in 24h or 30d",
        )
    return Period(int(match[1]), "hour" if match[2] == "h" else "day")


@lru_cache(maxsize=8)
def business_calendar(clock: BusinessTime) -> Calendar:
    """The calendar of a business's clock. Takes a tenth of a second, once."""
    zone = ZoneInfo(clock.zone)
    begins = time.fromisoformat(clock.day_starts).replace(tzinfo=zone)
    days = (_FIRST_DAY + timedelta(days=index) for index in range(_DAYS + 1))
    starts = [int(datetime.combine(day, begins).timestamp()) for day in days]
    return Calendar(zone, np.array(starts, np.int64) * SECOND_US)
