"""Targets and spans of time as requirements and dashboards write them: ``p99 <= 5 s``, ``7d``.

    target := "p" percentile "<=" number unit        p50 <= 300 ms, p99.9 <= 1 min
    unit   := "ms" | "s" | "min"
    span   := number ("h" | "d")                     a day here is 24 hours

Refuses a percentile outside 0 to 100, and limits that latencies are not measured to.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from upwell.core.histogram import LARGEST_MS, SMALLEST_MS

_TARGET = re.compile(
    r"p(?P<percentile>[0-9]{1,2}(?:\.[0-9]{1,3})?)\s*<=\s*"
    r"(?P<number>[0-9]{1,7}(?:\.[0-9]{1,3})?)\s*(?P<unit>ms|s|min)"
)
_UNIT_MS = {"ms": 1, "s": 1_000, "min": 60_000}

_SPAN = re.compile(r"(?P<number>[1-9][0-9]{0,3})(?P<unit>[hd])")
_UNIT_HOURS = {"h": 1, "d": 24}


@dataclass(frozen=True, slots=True)
class Target:
    """A share ``quantile`` of all latencies must be at most ``limit_ms``; ``statistic`` is as
    written, ``p99``.
    """

    statistic: str
    quantile: float
    limit_ms: float


def parse_target(text: str) -> Target:
    """Read a target. Raises ValueError, whose text completes "write …", if it is none."""
    match = _TARGET.fullmatch(text.strip())
    if match is None or float(match["percentile"]) == 0:
        raise ValueError("a percentile and a limit in ms, s or min, such as p99 <= 5 s")
    limit_ms = float(match["number"]) * _UNIT_MS[match["unit"]]
    if not SMALLEST_MS <= limit_ms <= LARGEST_MS:
        raise ValueError(f"a limit from 1 ms to {int(LARGEST_MS // 60_000)} min")
    return Target(f"p{match['percentile']}", float(match["percentile"]) / 100, limit_ms)


def parse_span_hours(text: str) -> int:
    """The hours of ``24h`` or ``7d``. Raises ValueError if it is no span."""
    match = _SPAN.fullmatch(text)
    if match is None:
        raise ValueError("a number of hours or days, such as 24h or 30d")
    return int(match["number"]) * _UNIT_HOURS[match["unit"]]
