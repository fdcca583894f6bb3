"""Latency: from the commit in the shop to visible in the replica that pages are computed from.

Counted by the web process for every transaction of the shop, as `upwell demo` reports it. Each run
is a demo of its own, its models proved and its tables compared with the shop at the end. Customers
act one at a time; what they cannot do a throng does, fifty transactions a second.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.demonstration import CHANGES_AN_ORDER, HARDLY_ANY_ORDERS, reported, running
from benchmarks.pages import Page, Table
from benchmarks.programs import WrongRunError, told_by
from benchmarks.series import Series

#: More changes a second than this one customer after another cannot make.
CUSTOMERS_MOST = 2000


@dataclass(frozen=True)
class Run:
    """One demo's report."""

    changes_a_second: float
    p50_ms: float
    p99_ms: float
    versions: float


def measure(*, rates: Sequence[int] = (50, 1000, 5000), seconds: int = 60, rounds: int = 3) -> Page:
    """The demo at each rate of changes."""
    by_name = {f"{rate:,}": rate for rate in rates}
    series: Series[Run] = Series(list(by_name), rounds)
    series.measure(lambda name: _run(by_name[name], seconds))
    return Page(
        "Commit in the shop to visible in the web replica: the sample project, its customers at "
        f"each rate, {seconds} s a run, {rounds} rounds of all rates, each beginning with "
        "another rate. Cells: median (least–greatest). After every run each model equalled its "
        "full recompute and each table the shop's.",
        "the sample shop, seed 7",
        "python -m benchmarks latency",
        [
            Table(
                ("changes/s asked", "changes/s made", "p50 ms", "p99 ms", "versions"),
                [
                    (
                        rate,
                        series.spread(rate, lambda run: run.changes_a_second).show(),
                        series.spread(rate, lambda run: run.p50_ms).show(),
                        series.spread(rate, lambda run: run.p99_ms).show(),
                        series.spread(rate, lambda run: run.versions).show(),
                    )
                    for rate in series.kinds
                ],
            )
        ],
        notes=[
            "Latencies are read from histograms whose buckets are 9 % wide.",
            _ABOUT_THRONG,
        ],
    )


_ABOUT_THRONG = (
    f"Above {CUSTOMERS_MOST:,} changes/s a throng writes, fifty transactions a second "
    "(`benchmarks/throng.sql`), not single customers."
)


def _run(rate: int, seconds: int) -> Run:
    return _with_customers(rate, seconds) if rate <= CUSTOMERS_MOST else _with_throng(rate, seconds)


def _with_customers(rate: int, seconds: int) -> Run:
    report = reported(rate / CHANGES_AN_ORDER, seconds)
    if not (report["proved"] and report["source_equals_replica"]):
        raise WrongRunError(f"{rate} changes/s: {report}")
    fresh = report["freshness_ms"]
    return Run(
        report["shop"]["row_changes_per_second"], fresh["p50"], fresh["p99"], report["versions"]
    )


def _with_throng(rate: int, seconds: int) -> Run:
    with running(HARDLY_ANY_ORDERS) as demonstration:
        written = told_by(
            sys.executable,
            "benchmarks.throng",
            options={"url": demonstration.shop_url, "rate": rate, "seconds": seconds},
        )
        demonstration.send_customers_home()
        demonstration.check()
        fresh = demonstration.freshness_ms()
        versions = demonstration.engine.ask("status")["version"]
    return Run(written["changes"] / written["seconds"], fresh["p50"], fresh["p99"], versions)
