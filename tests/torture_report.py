"""What the crash and soak suites saw, as a table in ``docs/torture.md``."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

_PAGE = Path(__file__).parent.parent / "docs" / "torture.md"
_HEAD = """# What the crash and soak suites saw

Written by `make torture`, from the last run of each suite. Every row ended with all models equal to
their full recompute and every table equal to the shop's, row for row.
"""


@dataclass
class Report:
    """Rows of one test; kept only by tests that were asked to write down what they saw."""

    suite: str
    rows: list[dict[str, object]] = field(default_factory=list)

    def row(self, **facts: object) -> None:
        """Add what was seen, by column."""
        self.rows.append(facts)

    def write(self) -> None:
        """Replace this suite's section of the page, keeping the others."""
        sections = _sections()
        machine = f"{platform.machine()}, {_cores()} cores, Python {platform.python_version()}"
        when = datetime.now(UTC).date().isoformat()
        heads = list(self.rows[0])
        lines = [f"{when}, {machine}.", "", _line(heads), _line(["---"] * len(heads))]
        lines += [_line([str(row[head]) for head in heads]) for row in self.rows]
        sections[self.suite] = "\n".join(lines)
        body = "\n".join(f"\n## {suite}\n\n{text}" for suite, text in sorted(sections.items()))
        _PAGE.write_text(f"{_HEAD}{body}\n", encoding="utf-8")


def _sections() -> dict[str, str]:
    if not _PAGE.exists():
        return {}
    parts = _PAGE.read_text(encoding="utf-8").split("\n## ")[1:]
    return {part.partition("\n")[0]: part.partition("\n")[2].strip() for part in parts}


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cores() -> int:
    return os.cpu_count() or 1
