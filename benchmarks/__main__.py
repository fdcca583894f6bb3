"""`make bench`: run the benchmarks named, or all of them, and write their pages to `results/`.

``--quick`` runs each at a small size, to see that it works: its page is printed and not written.
Figures are of the machine they ran on; compare ratios within one run, and leave the machine alone
meanwhile.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import (
    burden,
    capture,
    lake,
    large_transaction,
    latency,
    model_peers,
    models,
    mysql,
    rebuild,
    snapshot,
    soak,
    sustained,
    viewers,
)
from benchmarks.pages import Page, render
from benchmarks.viewers import Audience

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Benchmark:
    """A page to be made: in full, quickly, and how long each takes on two idle cores."""

    measure: Callable[[], Page]
    measure_quickly: Callable[[], Page]
    minutes: float
    minutes_quickly: float


BENCHMARKS = {
    "capture": Benchmark(
        capture.measure,
        partial(capture.measure, rows=50_000, sizes=(1000, 1), rounds=1),
        minutes=35,
        minutes_quickly=1.5,
    ),
    "mysql": Benchmark(
        mysql.measure,
        partial(mysql.measure, rows=50_000, sizes=(1000, 1), rounds=1),
        minutes=20,
        minutes_quickly=1,
    ),
    "snapshot": Benchmark(
        snapshot.measure,
        partial(snapshot.measure, rows=100_000, rounds=2),
        minutes=2,
        minutes_quickly=0.5,
    ),
    "burden": Benchmark(
        burden.measure,
        partial(burden.measure, seconds=5, rounds=1, scale=1),
        minutes=15,
        minutes_quickly=1.5,
    ),
    "large_transaction": Benchmark(
        large_transaction.measure,
        partial(large_transaction.measure, gigabytes=(0.2,)),
        minutes=25,
        minutes_quickly=1,
    ),
    "models": Benchmark(
        models.models,
        partial(models.models, sizes=(100_000,), runs=2),
        minutes=35,
        minutes_quickly=2,
    ),
    "model_peers": Benchmark(
        model_peers.model_peers,
        partial(model_peers.model_peers, items=50_000, rounds=2),
        minutes=8,
        minutes_quickly=3,
    ),
    "latency": Benchmark(
        latency.measure,
        partial(latency.measure, rates=(50, 5000), seconds=8, rounds=1),
        minutes=14,
        minutes_quickly=1,
    ),
    "viewers": Benchmark(
        viewers.measure,
        partial(
            viewers.measure,
            audiences=(Audience(1, 1), Audience(10, 10, with_browser=True)),
            seconds=6,
            rounds=1,
        ),
        minutes=7,
        minutes_quickly=1,
    ),
    "sustained": Benchmark(
        sustained.measure,
        partial(sustained.measure, rates=(1000, 3000), seconds=6),
        minutes=5,
        minutes_quickly=1,
    ),
    "lake": Benchmark(
        lake.measure,
        partial(lake.measure, seconds=10, rounds=1),
        minutes=17,
        minutes_quickly=1.5,
    ),
    "rebuild": Benchmark(
        rebuild.measure,
        partial(rebuild.measure, rows=200_000, rounds=1),
        minutes=10,
        minutes_quickly=0.5,
    ),
    "soak": Benchmark(
        soak.measure,
        partial(soak.measure, minutes=0.2, looks=2),
        minutes=62,
        minutes_quickly=0.7,
    ),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run benchmarks and write one page each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--quick", action="store_true", help="small sizes; nothing is written")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]}; there are: {', '.join(BENCHMARKS)}")
    for name in given.names or BENCHMARKS:
        benchmark = BENCHMARKS[name]
        minutes = benchmark.minutes_quickly if given.quick else benchmark.minutes
        sys.stderr.write(f"{name}: about {minutes:g} minutes\n")
        page = render(name, benchmark.measure_quickly() if given.quick else benchmark.measure())
        if not given.quick:
            (RESULTS / f"{name}.md").write_text(page, encoding="utf-8")
        print(page)


if __name__ == "__main__":
    main()
