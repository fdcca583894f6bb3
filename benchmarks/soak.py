"""An hour of steady changes: memory, processor time and the lake's part of it, as time passes."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.demonstration import CHANGES_AN_ORDER, Demonstration, running
from benchmarks.pages import Page, Table
from benchmarks.processes import pss_mb


def measure(*, minutes: float = 60, rate: int = 1000, looks: int = 12) -> Page:
    """The demo at one rate, looked at ``looks`` times."""
    with running(rate / CHANGES_AN_ORDER) as demonstration:
        names = list(demonstration.pids())
        rows = _rows(demonstration, minutes * 60, looks)
        demonstration.send_customers_home()
        demonstration.check()
    return Page(
        "Proportional set size (MiB), share of a core and size of store and lake (MiB), at "
        f"{rate:,} changes a second in the sample project of six tables; shares and rounds are of "
        "the time since the look before. At the end each model equalled its full recompute and "
        "each table the shop's.",
        "the sample shop, seed 7",
        "python -m benchmarks soak",
        [
            Table(
                (
                    "minute",
                    *(f"{name} MiB" for name in names),
                    *(f"{name} CPU" for name in names),
                    "store",
                    "lake",
                    "rounds",
                    "longest round s",
                    "lake's thread CPU",
                ),
                rows,
            )
        ],
        notes=[
            (
                "A round commits to seven tables of the lake, every 30 s. Its thread compacts, "
                "expires, sweeps and publishes too: all that is in its share of a core."
            ),
        ],
    )


def _rows(demonstration: Demonstration, seconds: float, looks: int) -> list[tuple[str, ...]]:
    begun = before = time.monotonic()
    used, rounds = demonstration.cpu_seconds(), demonstration.rounds()
    rows = []
    for look in range(1, looks + 1):
        time.sleep(max(0.0, begun + seconds * look / looks - time.monotonic()))
        now = time.monotonic()
        sizes = [f"{pss_mb(pid):.0f}" for pid in demonstration.pids().values()]
        uses = demonstration.cpu_seconds()
        busy = [_share(uses[name] - used[name], now - before) for name in uses]
        every = demonstration.rounds()
        new = every[len(rounds) :]
        lake = _thread_seconds(every) - _thread_seconds(rounds)
        rows.append(
            (
                f"{(now - begun) / 60:.0f}",
                *sizes,
                *busy,
                f"{_size_mb(demonstration, '.upwell', 'hot.duckdb*'):.0f}",
                f"{_size_mb(demonstration, 'lake', '**/*'):.0f}",
                str(len(new)),
                f"{max((each['seconds'] for each in new), default=0.0):.2f}",
                _share(lake, now - before),
            )
        )
        before, used, rounds = now, uses, every
    return rows


def _share(cpu_seconds: float, seconds: float) -> str:
    return f"{100 * cpu_seconds / seconds:.1f} %"


def _thread_seconds(rounds: list[dict[str, Any]]) -> float:
    return float(rounds[-1]["thread_cpu_seconds"]) if rounds else 0.0


def _size_mb(demonstration: Demonstration, folder: str, pattern: str) -> float:
    files = (demonstration.folder / folder).glob(pattern)
    return sum(file.stat().st_size for file in files if file.is_file()) / 2**20
