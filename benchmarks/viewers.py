"""Viewers: from the commit in the shop to each of many screens, and what that costs.

One demo at a steady rate; audiences of several sizes watch it in turn, round after round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.audience import CHROMIUM, Latencies, watch
from benchmarks.demonstration import CHANGES_AN_ORDER, Demonstration, running
from benchmarks.pages import Page, Table
from benchmarks.series import Series, Spread

BUDGET_P50_MS, BUDGET_P99_MS = 300, 1000


@dataclass(frozen=True)
class Audience:
    """How many look, at how many different views, and whether one has a browser."""

    viewers: int
    distinct: int
    with_browser: bool = False

    @property
    def name(self) -> str:
        return f"{self.viewers} on {self.distinct}"


AUDIENCES = (
    Audience(1, 1),
    Audience(10, 1),
    Audience(10, 10),
    Audience(50, 1),
    Audience(50, 10, with_browser=True),
)


@dataclass(frozen=True)
class Run:
    """One audience for a while."""

    streams_ms: Latencies
    browser_ms: Latencies | None
    events_a_second: float
    engine_share: float
    web_share: float


def measure(
    *,
    audiences: Sequence[Audience] = AUDIENCES,
    rate: int = 1000,
    seconds: float = 20,
    rounds: int = 3,
) -> Page:
    """All audiences of one demo."""
    browser = CHROMIUM.exists()
    by_name = {audience.name: audience for audience in audiences}
    series: Series[Run] = Series(list(by_name), rounds)
    with running(rate / CHANGES_AN_ORDER) as demonstration:
        series.measure(lambda name: _run(demonstration, by_name[name], seconds, browser=browser))
        demonstration.send_customers_home()
        demonstration.check()
    widest = series.kinds[-1]
    return Page(
        f"Commit in the shop to the event at each viewer, the sample project at {rate:,} changes a "
        f"second, for every transaction and every viewer; {seconds:.0f} s an audience, {rounds} "
        "rounds of all audiences, each beginning with another. Cells: median (least–greatest). "
        "After the last round each model equalled its full recompute and each table the shop's.",
        "the sample shop, seed 7",
        "python -m benchmarks viewers",
        [Table(_COLUMNS, [_row(name, series) for name in series.kinds])],
        notes=[
            f"Budget, {widest} views: p50 {_reached(series, widest, 50, BUDGET_P50_MS)}.",
            f"Budget, {widest} views: p99 {_reached(series, widest, 99, BUDGET_P99_MS)}.",
            _ABOUT_BROWSER if browser else "Chromium was not run: none here.",
        ],
    )


_ABOUT_BROWSER = (
    "One of the widest audience is Chromium: from the commit to the second animation frame after "
    "the event, counted apart. It shares the machine."
)
_COLUMNS = (
    "viewers on views",
    "p50 ms",
    "p99 ms",
    "browser p50 ms",
    "browser p99 ms",
    "events/s a viewer",
    "web, of a core",
    "engine, of a core",
)


def _run(demonstration: Demonstration, audience: Audience, seconds: float, *, browser: bool) -> Run:
    sight = watch(
        demonstration,
        viewers=audience.viewers,
        distinct=audience.distinct,
        seconds=seconds,
        with_browser=audience.with_browser and browser,
    )
    return Run(
        sight.streams_ms,
        sight.browser_ms,
        sight.events_a_second,
        sight.cpu_shares["engine"],
        sight.cpu_shares["web"],
    )


def _row(name: str, series: Series[Run]) -> tuple[str, ...]:
    has_browser = all(run.browser_ms is not None for run in series.runs[name])

    def drawn(percent: int) -> str:
        if not has_browser:
            return ""
        return series.spread(name, lambda run: _percentile(run.browser_ms, percent)).show()

    return (
        name,
        _of_streams(series, name, 50).show(),
        _of_streams(series, name, 99).show(),
        drawn(50),
        drawn(99),
        series.spread(name, lambda run: run.events_a_second).show(".1f"),
        series.spread(name, lambda run: run.web_share).show(".0%"),
        series.spread(name, lambda run: run.engine_share).show(".0%"),
    )


def _of_streams(series: Series[Run], name: str, percent: int) -> Spread:
    return series.spread(name, lambda run: _percentile(run.streams_ms, percent))


def _percentile(latencies: Latencies | None, percent: int) -> float:
    return float(np.percentile(latencies if latencies is not None else [], percent))


def _reached(series: Series[Run], name: str, percent: int, most_ms: float) -> str:
    found = _of_streams(series, name, percent).median
    return f"{found:.0f} of {most_ms:.0f} ms, {'reached' if found <= most_ms else 'missed'}"
