"""What has been observed, in the form that requirements are judged by.

Whoever shows a dashboard records, for each minute, how long every commit of the source took to be
visible there. Invariant: an observation is the merge of whole minutes, so that judging a week costs
as much memory as judging a minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Protocol

from upwell.core.histogram import Histogram

MINUTE_US = 60_000_000


@dataclass(frozen=True, slots=True)
class MinuteLatencies:
    """Commit-to-visible latencies of one dashboard, of the commits seen within one minute.

    ``minute_us`` is the beginning of the minute in microseconds since 1970 UTC.
    """

    dashboard: str
    minute_us: int
    latencies: Histogram


@dataclass(frozen=True, slots=True)
class Observation:
    """Latencies of a stretch of time. ``minutes`` counts those in which a commit was seen.

    ``from_us`` and ``until_us`` are the beginning of the first and the end of the last of them, or
    the time of the question where that minute is still running.
    """

    latencies: Histogram
    minutes: int
    from_us: int
    until_us: int


class Measurements(Protocol):
    """Everything that requirements can be held against."""

    def freshness(self, dashboard: str, *, since_us: int, until_us: int) -> Observation | None:
        """Latencies of the minutes that begin in [since, until); None if no commit was seen."""
        ...


@dataclass(frozen=True, slots=True)
class RecordedMinutes:
    """Measurements held as a list of minutes, in any order; a minute may come in several parts."""

    recorded: Sequence[MinuteLatencies]

    def freshness(self, dashboard: str, *, since_us: int, until_us: int) -> Observation | None:
        """As ``Measurements`` says."""
        chosen = [
            minute
            for minute in self.recorded
            if minute.dashboard == dashboard
            and since_us <= minute.minute_us < until_us
            and minute.latencies.count > 0
        ]
        if not chosen:
            return None
        begins = {minute.minute_us for minute in chosen}
        return Observation(
            latencies=reduce(Histogram.merge, (minute.latencies for minute in chosen)),
            minutes=len(begins),
            from_us=min(begins),
            until_us=min(max(begins) + MINUTE_US, until_us),
        )
