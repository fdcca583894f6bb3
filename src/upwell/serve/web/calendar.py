"""The business calendar: which bucket an instant belongs to, and which window a period means.

A business day begins at ``day_starts`` of the local clock. Where the clocks skip that moment, it
is read with the offset from before the change; where they repeat it, the first one counts. Business
hours are counted from the start of their day, so a day whose clocks change has 23 or 25 of them,
and the last is cut short where the change is not a whole hour. A week begins with the business day
``week_starts``, a month with the business day of its 1st.

Invariant: buckets of one grain tile time without gap or overlap, a window's buckets are complete
whether or not anything happened in them, and nothing later than *now* is in a window. All instants
are microseconds since 1970 UTC. Instants outside 1990 to 2100 belong to no bucket and no window:
before 1990 lie the dates that databases write for "not known" (1900, 1970), hardly any sale.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import get_args
from zoneinfo import ZoneInfo

import numpy as np

from upwell.core.errors import UsageError
from upwell.core.protocols import Int64s
from upwell.project.settings import BusinessTime, Weekday
from upwell.project.values import Grain
from upwell.serve.web.period import GRAINS, Period

SECOND_US = 1_000_000
HOUR_US = 3_600 * SECOND_US

#: What an instant outside the calendar is given as its bucket; later than every window.
NO_BUCKET = np.iinfo(np.int64).max

_FIRST_DAY = date(1990, 1, 1)
_END = date(2100, 1, 1)
_DAYS = (_END - _FIRST_DAY).days


@dataclass(frozen=True, slots=True)
class Span:
    """From ``start_us`` up to, but without, ``end_us``."""

    start_us: int
    end_us: int


@dataclass(frozen=True, slots=True)
class Window:
    """What a period means at one moment.

    ``current`` ends just after now, or with the last day of the data. ``previous`` is the same
    elapsed part of the period before; None where there is none. ``last_day_us``: the start of the
    last business day in ``current``. ``changes_at_us``: when the next business hour begins, and
    with it another window.
    """

    current: Span
    previous: Span | None
    last_day_us: int
    changes_at_us: int


@dataclass(frozen=True, slots=True, eq=False)
class Calendar:
    """``day_starts_us[i]`` is when the ``i``-th day since 1990 begins; the last one only ends.

    ``week_firsts`` and ``month_firsts`` say with which of these days weeks and months begin, and
    close with the last. The first week is cut short where 1990 did not begin with a week.
    """

    zone: ZoneInfo
    day_starts_us: Int64s
    week_firsts: Int64s
    month_firsts: Int64s

    @property
    def span(self) -> Span:
        """All time that is in the calendar."""
        return Span(int(self.day_starts_us[0]), int(self.day_starts_us[-1]))

    def starts(self, instants_us: Int64s, grain: Grain) -> Int64s:
        """The start of each instant's bucket; ``NO_BUCKET`` outside the calendar."""
        edges = self._edges(grain)
        index = np.searchsorted(edges, instants_us, side="right") - 1
        known = (index >= 0) & (index < len(edges) - 1)
        begun_us = edges[np.clip(index, 0, len(edges) - 1)]
        if grain == "hour":
            elapsed_us = np.where(known, instants_us - begun_us, 0)
            begun_us = begun_us + elapsed_us // HOUR_US * HOUR_US
        starts: Int64s = np.where(known, begun_us, NO_BUCKET)
        return starts

    def days(self, instants_us: Int64s) -> Int64s:
        """The start of each instant's business day; ``NO_BUCKET`` outside the calendar."""
        return self.starts(instants_us, "day")

    def hours(self, instants_us: Int64s) -> Int64s:
        """The start of each instant's business hour; ``NO_BUCKET`` outside the calendar."""
        return self.starts(instants_us, "hour")

    def buckets(self, span: Span, grain: Grain) -> Int64s:
        """The starts of all buckets that touch ``span``; the first may begin before it."""
        edges = self._touched(span, grain)
        if grain != "hour":
            return np.unique(edges[:-1])  # a date that a zone left out lasts no time
        counts = _hours_in(edges)
        place = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        starts: Int64s = np.repeat(edges[:-1], counts) + place * HOUR_US
        first, last = np.searchsorted(starts, [span.start_us, span.end_us - 1], side="right")
        return starts[max(int(first) - 1, 0) : int(last)]

    def fitting(self, span: Span, grain: Grain, points_max: int) -> Grain:
        """``grain``, or the next coarser one with at most ``points_max`` buckets in ``span``."""
        for each in GRAINS[GRAINS.index(grain) :]:
            edges = self._touched(span, each)
            points = int(_hours_in(edges).sum()) if each == "hour" else len(edges) - 1
            if points <= points_max:
                return each
        return GRAINS[-1]

    def window(self, period: Period, now_us: int) -> Window:
        """The window of so many hours, days or months at ``now_us``.

        What a period reaches beyond the calendar's beginning is left out, and there is then none
        before it. Raises UsageError where ``now_us`` is outside the calendar.
        """
        today = self._today(now_us)
        if period.unit == "hour":
            current, previous = self._hours_window(period.count, now_us)
        elif period.unit == "day":
            current, previous = self._days_window(period.count, today, now_us)
        else:
            current, previous = self._months_window(period.count, today, now_us)
        return self._window(current, previous, today, now_us)

    def whole(self, held: Span | None, now_us: int) -> Window:
        """The window from the first day of the instants in ``held`` to their last.

        ``held`` lies inside the calendar and not after now; where it is None, nothing has happened
        yet and the window is today. There is no period before. Raises as ``window`` does.
        """
        today = self._today(now_us)
        first, last = today, today
        if held is not None:
            ends = [held.start_us, held.end_us - 1]
            first, last = (np.searchsorted(self.day_starts_us, ends, side="right") - 1).tolist()
        end_us = min(int(self.day_starts_us[last + 1]), now_us + 1)
        return self._window(Span(int(self.day_starts_us[first]), end_us), None, last, now_us)

    def _edges(self, grain: Grain) -> Int64s:
        """Where the buckets of a grain begin, and the end; of hours, their days."""
        if grain == "week":
            return self.day_starts_us[self.week_firsts]
        return self.day_starts_us[self.month_firsts] if grain == "month" else self.day_starts_us

    def _touched(self, span: Span, grain: Grain) -> Int64s:
        """The edges around all buckets (of hours: days) that touch ``span``."""
        edges = self._edges(grain)
        first, last = np.searchsorted(edges, [span.start_us, span.end_us - 1], side="right")
        return edges[max(int(first) - 1, 0) : int(last) + 1]

    def _today(self, now_us: int) -> int:
        today = int(np.searchsorted(self.day_starts_us, now_us, side="right")) - 1
        if 0 <= today < _DAYS:
            return today
        moment = datetime.fromtimestamp(now_us / SECOND_US, UTC)
        raise UsageError(
            "out_of_calendar",
            f"the business calendar does not hold the window of {moment:%Y-%m-%d}",
            next_step="set the clock of this machine",
        )

    def _window(self, current: Span, previous: Span | None, last: int, now_us: int) -> Window:
        day_ends_us = int(self.day_starts_us[self._today(now_us) + 1])
        next_hour_us = int(self.hours(np.array([now_us]))[0]) + HOUR_US
        last_day_us = int(self.day_starts_us[last])
        return Window(current, previous, last_day_us, min(next_hour_us, day_ends_us))

    def _hours_window(self, count: int, now_us: int) -> tuple[Span, Span | None]:
        reach = Span(now_us - (2 * count + 2) * HOUR_US, now_us + 1)
        starts = self.buckets(reach, "hour")
        current = Span(int(starts[-min(count, len(starts))]), now_us + 1)
        if len(starts) < 2 * count:
            return current, None
        elapsed_us = now_us - int(starts[-1])
        end_us = min(int(starts[-count - 1]) + elapsed_us, current.start_us)
        return current, Span(int(starts[-2 * count]), end_us)

    def _days_window(self, count: int, today: int, now_us: int) -> tuple[Span, Span | None]:
        starts = self.day_starts_us
        current = Span(int(starts[max(today - count + 1, 0)]), now_us + 1)
        first = today - 2 * count + 1
        if first < 0:
            return current, None
        return current, Span(int(starts[first]), self._same_elapsed(today - count, today, now_us))

    def _months_window(self, count: int, today: int, now_us: int) -> tuple[Span, Span | None]:
        """Calendar months. A day that the earlier month does not have counts as its end."""
        firsts = self.month_firsts
        month = int(np.searchsorted(firsts, today, side="right")) - 1
        current = Span(int(self.day_starts_us[firsts[max(month - count + 1, 0)]]), now_us + 1)
        if month - 2 * count + 1 < 0:
            return current, None
        earlier = int(firsts[month - count] + today - firsts[month])
        end_us = current.start_us
        if earlier < firsts[month - count + 1]:
            end_us = self._same_elapsed(earlier, today, now_us)
        return current, Span(int(self.day_starts_us[firsts[month - 2 * count + 1]]), end_us)

    def _same_elapsed(self, earlier: int, today: int, now_us: int) -> int:
        """When, on the day ``earlier``, the local clock showed what it shows now."""
        shifted_us = self._same_clock_time(now_us, days=earlier - today)
        starts = self.day_starts_us
        return min(max(shifted_us, int(starts[earlier])), int(starts[earlier + 1]))

    def _same_clock_time(self, instant_us: int, *, days: int) -> int:
        """The instant at which the local clock shows the same time, so many days away."""
        seconds, micros = divmod(instant_us, SECOND_US)
        local = datetime.fromtimestamp(seconds, self.zone)
        shifted = local.replace(tzinfo=None, fold=0) + timedelta(days=days)
        return int(shifted.replace(tzinfo=self.zone).timestamp()) * SECOND_US + micros


@lru_cache(maxsize=8)
def business_calendar(clock: BusinessTime) -> Calendar:
    """The calendar of a business's clock. Takes a tenth of a second, once."""
    zone = ZoneInfo(clock.zone)
    begins = time.fromisoformat(clock.day_starts).replace(tzinfo=zone)
    days = (_FIRST_DAY + timedelta(days=index) for index in range(_DAYS + 1))
    starts = [int(datetime.combine(day, begins).timestamp()) for day in days]
    weekday = (get_args(Weekday).index(clock.week_starts) - _FIRST_DAY.weekday()) % 7
    weeks = np.unique([0, *range(weekday, _DAYS, 7), _DAYS])
    months = np.arange(np.datetime64(_FIRST_DAY, "M"), np.datetime64(_END, "M") + 1)
    month_firsts = (months.astype("M8[D]") - np.datetime64(_FIRST_DAY)).astype(np.int64)
    return Calendar(zone, np.array(starts, np.int64) * SECOND_US, weeks, month_firsts)


def _hours_in(days_us: Int64s) -> Int64s:
    """How many business hours begin in each day between these edges."""
    hours: Int64s = -(-np.diff(days_us) // HOUR_US)
    return hours
