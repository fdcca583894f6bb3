"""Sustained: how many changes a second go through models and tiles before Upwell falls behind.

A throng of customers writes to the sample shop at a rate that rises from step to step while one
viewer watches the board. A step is kept up with when what was written in its last third took no
longer to be seen than what was written in its middle third, or less than a second.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from benchmarks.audience import Latencies, watch
from benchmarks.demonstration import HARDLY_ANY_ORDERS, Demonstration, running
from benchmarks.pages import Page, Table
from benchmarks.programs import told_by

BUDGET_CHANGES_A_SECOND = 10_000
RATES = (1_000, 2_000, 5_000, 7_500, 10_000, 15_000, 20_000, 30_000)

_SEEN_WITHIN_MS = 1000.0
_STEADY = 1.25
_SETTLE_SECONDS = 5.0
_WRITTEN_SHARE = 0.95


@dataclass(frozen=True)
class Step:
    """One rate for a while."""

    rate: int
    written_a_second: float
    latencies_ms: Latencies  # in the order of the commits
    engine_share: float
    web_share: float

    @property
    def is_kept_up(self) -> bool:
        return self.last_ms <= max(_SEEN_WITHIN_MS, _STEADY * self.middle_ms)

    @property
    def middle_ms(self) -> float:
        """Median of what was written in the middle third."""
        return float(np.median(np.array_split(self.latencies_ms, 3)[1]))

    @property
    def last_ms(self) -> float:
        """Median of what was written in the last third."""
        return float(np.median(np.array_split(self.latencies_ms, 3)[2]))

    @property
    def is_written(self) -> bool:
        """Whether the writer reached the rate: if not, it is the database that falls behind."""
        return self.written_a_second >= _WRITTEN_SHARE * self.rate


def measure(*, rates: Sequence[int] = RATES, seconds: float = 20) -> Page:
    """Raise the rate until it is not kept up with, or not reached by the writer."""
    steps: list[Step] = []
    with running(HARDLY_ANY_ORDERS) as demonstration:
        for rate in rates:
            steps.append(_step(demonstration, rate, seconds))
            sys.stderr.write(f"  {rate:,} changes/s: last {steps[-1].last_ms:.0f} ms\n")
            if not (steps[-1].is_kept_up and steps[-1].is_written):
                break
        demonstration.send_customers_home()
        demonstration.check()
    kept = [step.written_a_second for step in steps if step.is_kept_up]
    most = max(kept, default=0.0)
    return Page(
        "Changes a second through models and tiles: the sample project, one viewer, "
        f"{seconds:.0f} s a step. The rate is raised until the last third of a step is seen later "
        f"than its middle third (by more than {_STEADY - 1:.0%}, and than a second), or the writer "
        "does not reach the rate. At the end each model equalled its full recompute and each table "
        "the shop's.",
        "the sample shop, seed 7; `benchmarks/throng.sql`, fifty transactions a second",
        "python -m benchmarks sustained",
        [Table(_COLUMNS, [_row(step) for step in steps])],
        notes=[f"Budget: {BUDGET_CHANGES_A_SECOND:,} changes/s; kept up with {most:,.0f}."],
    )


_COLUMNS = (
    "changes/s asked",
    "changes/s written",
    "p50 ms",
    "p99 ms",
    "p50 ms, middle third",
    "p50 ms, last third",
    "engine, of a core",
    "web, of a core",
    "kept up",
)


def _step(demonstration: Demonstration, rate: int, seconds: float) -> Step:
    options = {"url": demonstration.shop_url, "rate": rate, "seconds": seconds}
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(told_by, sys.executable, "benchmarks.throng", options=options)
        sight = watch(demonstration, viewers=1, distinct=1, seconds=seconds + _SETTLE_SECONDS)
        told = writing.result()
    return Step(
        rate,
        told["changes"] / told["seconds"],
        sight.streams_ms,
        sight.cpu_shares["engine"],
        sight.cpu_shares["web"],
    )


def _row(step: Step) -> tuple[str, ...]:
    p50, p99 = np.percentile(step.latencies_ms, [50, 99])
    return (
        f"{step.rate:,}",
        f"{step.written_a_second:,.0f}",
        f"{p50:.0f}",
        f"{p99:.0f}",
        f"{step.middle_ms:.0f}",
        f"{step.last_ms:.0f}",
        f"{step.engine_share:.0%}",
        f"{step.web_share:.0%}",
        "yes" if step.is_kept_up else "no",
    )
