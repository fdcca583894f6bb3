"""Memory and processor time of Upwell's processes over minutes of steady changes."""

from __future__ import annotations

import time

from benchmarks.demonstration import CHANGES_AN_ORDER, Demonstration, running
from benchmarks.pages import Page, Table
from benchmarks.processes import pss_mb


def measure(*, minutes: float = 10, rate: int = 1000, looks: int = 10) -> Page:
    """The demo at one rate, looked at ``looks`` times."""
    with running(rate / CHANGES_AN_ORDER) as demonstration:
        names = list(demonstration.pids())
        rows = _rows(demonstration, minutes * 60, looks)
        demonstration.send_customers_home()
        demonstration.check()
    return Page(
        "Proportional set size (MiB), share of a core since the start, and size of the store "
        f"(MiB), at {rate:,} changes a second in the sample project. At the end each model "
        "equalled its full recompute and each table the shop's.",
        "the sample shop, seed 7",
        "python -m benchmarks memory",
        [
            Table(
                (
                    "minute",
                    *(f"{name} MiB" for name in names),
                    *(f"{name} CPU" for name in names),
                    "store",
                ),
                rows,
            )
        ],
    )


def _rows(demonstration: Demonstration, seconds: float, looks: int) -> list[tuple[str, ...]]:
    begun, used = time.monotonic(), demonstration.cpu_seconds()
    rows = []
    for _ in range(looks):
        time.sleep(seconds / looks)
        elapsed = time.monotonic() - begun
        sizes = [f"{pss_mb(pid):.0f}" for pid in demonstration.pids().values()]
        busy = [
            f"{100 * (now - used[name]) / elapsed:.0f} %"
            for name, now in demonstration.cpu_seconds().items()
        ]
        files = (demonstration.folder / ".upwell").glob("hot.duckdb*")
        store = sum(file.stat().st_size for file in files)
        rows.append((f"{elapsed / 60:.1f}", *sizes, *busy, f"{store / 2**20:.0f}"))
    return rows
