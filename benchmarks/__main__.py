"""`make bench`: run the benchmarks named, or all of them, and write their tables to `results/`.

Figures are of the machine they ran on; compare ratios within one run.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import spine

RESULTS = Path(__file__).parent / "results"

BENCHMARKS: dict[str, Callable[[], spine.Table]] = {
    "latency": spine.latency,
    "memory": spine.memory,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run benchmarks and write one page each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], help="which; default: all")
    for name in parser.parse_args(arguments).names or BENCHMARKS:
        table = BENCHMARKS[name]()
        page = render(name, table)
        (RESULTS / f"{name}.md").write_text(page, encoding="utf-8")
        print(page)


def render(name: str, table: spine.Table) -> str:
    """The page: what was measured, on what, and the rows."""
    load = statistics.mean(os.getloadavg())
    lines = [
        f"# {name}",
        "",
        table.about,
        "",
        (
            f"{datetime.now(UTC).date()}, {platform.machine()}, {os.cpu_count()} cores, "
            f"Python {platform.python_version()}, load average {load:.1f} at the end. "
            "Script: `benchmarks/spine.py`, seed 7."
        ),
        "",
        "| " + " | ".join(table.columns) + " |",
        "|" + "---|" * len(table.columns),
        *("| " + " | ".join(str(cell) for cell in row) + " |" for row in table.rows),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
