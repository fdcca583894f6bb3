"""The spine as a user runs it: `upwell demo`, its own report, and what its processes weigh.

Latency is counted by the web process for every transaction of the shop: from its commit to its
being visible in the replica that pages are computed from. Shop, customers, Upwell and the measuring
share the machine.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: One order makes about this many changes of rows, over its life.
CHANGES_AN_ORDER = 9.4


@dataclass(frozen=True)
class Table:
    """A result: what it is about, and its rows."""

    about: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


def latency(rates: Sequence[int] = (50, 1000), seconds: int = 60, runs: int = 3) -> Table:
    """Commit to visible, at several rates of changes, the runs of all rates interleaved."""
    rows = []
    for run in range(1, runs + 1):
        for rate in rates:
            report = demo(rate / CHANGES_AN_ORDER, seconds)
            fresh, shop = report["freshness_ms"], report["shop"]
            rows.append(
                (
                    rate,
                    run,
                    round(shop["row_changes_per_second"]),
                    fresh["p50"],
                    fresh["p99"],
                    report["versions"],
                    "yes" if report["proved"] and report["source_equals_replica"] else "NO",
                )
            )
    return Table(
        f"Commit in the shop to visible in the web replica, {seconds} s a run, sample project.",
        ("changes/s asked", "run", "changes/s", "p50 ms", "p99 ms", "versions", "proved, equal"),
        sorted(rows, key=lambda row: (row[0], row[1])),
    )


def memory(minutes: float = 10, rate: int = 1000) -> Table:
    """Proportional set size of every process, and processor time, while changes come in."""
    rows = []
    with started(rate / CHANGES_AN_ORDER, minutes * 60 + 30) as (process, folder):
        pids = processes_of(process.pid)
        begun, used = time.monotonic(), {name: cpu_seconds(pid) for name, pid in pids.items()}
        while time.monotonic() - begun < minutes * 60:
            time.sleep(minutes * 60 / 10)
            sizes = {name: round(pss_mb(pid), 1) for name, pid in pids.items()}
            elapsed = time.monotonic() - begun
            busy = {
                name: f"{100 * (cpu_seconds(pid) - used[name]) / elapsed:.0f} %"
                for name, pid in pids.items()
            }
            store = sum(file.stat().st_size for file in (folder / ".upwell").glob("hot.duckdb*"))
            rows.append(
                (f"{elapsed / 60:.0f}", *sizes.values(), *busy.values(), f"{store / 2**20:.0f}")
            )
    names = list(pids)
    return Table(
        f"Memory (PSS, MiB), share of a core since the start, and size of the store (MiB), at "
        f"{rate} changes a second.",
        ("minute", *(f"{name} MiB" for name in names), *(f"{name} CPU" for name in names), "store"),
        rows,
    )


def demo(orders_a_second: float, seconds: float) -> dict[str, Any]:
    """One run of `upwell demo` in a folder of its own; its report."""
    with tempfile.TemporaryDirectory() as folder:
        output = subprocess.run(
            demo_command(orders_a_second, seconds, Path(folder)),
            capture_output=True,
            check=True,
        ).stdout
    return dict(json.loads(output)["data"])


@contextmanager
def started(
    orders_a_second: float, seconds: float
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A demo that runs inside, live and with its customers in."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            demo_command(orders_a_second, seconds, Path(folder)), stdout=subprocess.DEVNULL
        )
        try:
            while len(processes_of(process.pid)) < len(_MARKS):
                time.sleep(0.5)
            yield process, Path(folder)
        finally:
            process.terminate()
            process.wait(10)


def demo_command(orders_a_second: float, seconds: float, folder: Path) -> list[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    options = ["--no-browser", "--json", "--dir", str(folder), "--http", address]
    rate = ["--rate", f"{orders_a_second:.3f}", "--for", f"{seconds:.0f}s"]
    return [sys.executable, "-m", "upwell.cli.main", "demo", *options, *rate]


_MARKS = {
    "engine": "upwell.engine_process",
    "web": "upwell.web_process",
    "customers": "upwell.demo.simulator",
}


def processes_of(parent: int) -> dict[str, int]:
    """The children of a demo by name."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    found = {}
    for child in children:
        command = Path(f"/proc/{child}/cmdline").read_bytes().decode()
        for name, mark in _MARKS.items():
            if mark in command:
                found[name] = int(child)
    return found


def pss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
