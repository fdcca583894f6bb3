"""What the lake costs: the engine's processor time and its latency, with it and without."""

from __future__ import annotations

import time
from dataclasses import dataclass

from benchmarks.demonstration import CHANGES_AN_ORDER, running
from benchmarks.pages import Page, Table
from benchmarks.series import Series

WITHOUT, USUAL, OFTEN = "no lake", "a round every 30 s", "a round every 5 s"
_SETTINGS = {
    WITHOUT: "lake: null",
    USUAL: "lake: {commit_seconds: 30}",
    OFTEN: "lake: {commit_seconds: 5, publish_minutes: 0.5}",
}


@dataclass(frozen=True)
class Run:
    """One demo's figures; the share of a core is the engine's."""

    engine_share: float
    thread_share: float
    rounds: int
    p50_ms: float
    p99_ms: float


def measure(*, rate: int = 1000, seconds: float = 60, rounds: int = 5) -> Page:
    """The demo at one rate, without a lake and with rounds as by default and more often."""
    series: Series[Run] = Series(list(_SETTINGS), rounds)
    series.measure(lambda kind: _run(_SETTINGS[kind], rate, seconds))
    cost = [
        (
            kind,
            series.spread(kind, lambda run: run.rounds).show(),
            series.spread(kind, lambda run: run.thread_share).show(".1%"),
            series.spread(kind, lambda run: run.engine_share).show(".1%"),
            series.spread(kind, lambda run: run.p50_ms).show(),
            series.spread(kind, lambda run: run.p99_ms).show(),
        )
        for kind in series.kinds
    ]
    ratios = [
        (name, *(series.ratio(kind, WITHOUT, figure).show(".2f") for kind in (USUAL, OFTEN)))
        for name, figure in (
            ("engine's processor time", lambda run: run.engine_share),
            ("p50", lambda run: run.p50_ms),
            ("p99", lambda run: run.p99_ms),
        )
    ]
    return Page(
        f"The sample project of six tables at {rate:,} changes a second, {seconds:.0f} s a run, "
        f"{rounds} rounds of all kinds in turns. A round every 30 s is the default, with tables "
        "published once in a run; at six times as many they are published every 30 s. Compactions "
        "are made as they fall due. Cells: median "
        "(least–greatest). After every run each model equalled its full recompute and each table "
        "the shop's.",
        "the sample shop, seed 7",
        "python -m benchmarks lake",
        [
            Table(
                ("", "rounds", "lake's thread", "engine, of a core", "p50 ms", "p99 ms"),
                cost,
                "Cost and latency",
                "Latency is from the commit in the shop to visible in the web replica.",
            ),
            Table(("÷ no lake", USUAL, OFTEN), ratios, "Pairs, round by round"),
        ],
    )


def _run(settings: str, rate: int, seconds: float) -> Run:
    with running(rate / CHANGES_AN_ORDER, settings) as demonstration:
        time.sleep(10)  # a start is not what is measured
        begun, used = time.monotonic(), demonstration.cpu_seconds()["engine"]
        before = demonstration.rounds()
        time.sleep(seconds)
        elapsed = time.monotonic() - begun
        share = (demonstration.cpu_seconds()["engine"] - used) / elapsed
        rounds = demonstration.rounds()
        fresh = demonstration.freshness_ms()
        demonstration.send_customers_home()
        demonstration.check()
    spent = [float(every[-1]["thread_cpu_seconds"]) if every else 0.0 for every in (before, rounds)]
    return Run(
        share,
        (spent[1] - spent[0]) / elapsed,
        len(rounds) - len(before),
        fresh["p50"],
        fresh["p99"],
    )
