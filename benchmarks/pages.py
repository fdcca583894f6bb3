"""What a benchmark reports: tables with a sentence about each, on a page that says where it ran."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True)
class Table:
    """Rows of one kind of thing. ``title`` may be empty where a page has one table."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    title: str = ""
    about: str = ""


@dataclass(frozen=True)
class Page:
    """A benchmark's result. ``data`` says what was measured on, seed and sizes included."""

    about: str
    data: str
    script: str
    tables: Sequence[Table]
    versions: Mapping[str, str] = field(default_factory=dict)  # of what is not ours
    notes: Sequence[str] = ()


def render(name: str, page: Page) -> str:
    """The page in Markdown."""
    lines = [f"# {name}", "", page.about, "", f"Data: {page.data}", "", _surroundings(page)]
    for table in page.tables:
        lines += ["", *_table(table)]
    if page.notes:
        lines += ["", *(f"- {note}" for note in page.notes)]
    return "\n".join(lines) + "\n"


def _table(table: Table) -> list[str]:
    head = [f"## {table.title}", ""] if table.title else []
    head += [table.about, ""] if table.about else []
    return [
        *head,
        "| " + " | ".join(table.columns) + " |",
        "|" + "---|" * len(table.columns),
        *("| " + " | ".join(str(cell) for cell in row) + " |" for row in table.rows),
    ]


def _surroundings(page: Page) -> str:
    versions = {"Python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in ("duckdb", "pyarrow", "numpy")}
    versions |= page.versions
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"Machine: {_processor()}, {os.cpu_count()} cores, {_memory_gib():.0f} GiB, "
        f"{platform.system()} {platform.release()}; load average {os.getloadavg()[0]:.1f} at the "
        f"end, the benchmark's own included. {listed}. {datetime.now(UTC).date()}, "
        f"`{page.script}`."
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
