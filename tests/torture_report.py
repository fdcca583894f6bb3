"""What the crash and soak suites saw, as tables in ``docs/torture.md``.

``Report`` is what a test takes down by itself. As a plugin of pytest (``-p tests.torture_report``)
this module also chooses and follows every test that stands for a row of ``tests/torture/rows.py``,
whichever suite it belongs to. What did not run keeps the line of its last run. Nothing of the
machine is written down, save what its own clock measured.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.torture.rows import ROWS, stands_for

PAGE = Path(__file__).parent.parent / "docs" / "torture.md"
_HEAD = """# What the crash and soak suites saw

Written by `make torture`, from the last run of each test. Every fault is a real one: processes end
by `kill -9`, disks are full, files are gone, a line to a server breaks. `lost` and `doubled` count
rows over change logs, current tables and the lake; `seconds` is the longest that it took until
everything was there again.
"""
_FAULTS = "Faults"
_NOTES = "What is met in another way"
_ABOUT_NOTES = (
    "Where Upwell's answer is another one than the fault's row asks for, or a part of it:"
)
_COLUMNS = ["row", "fault", "test", "times", "outcome", "lost", "doubled", "seconds", "date"]


@dataclass
class Report:
    """Rows of one test, by its id; those of a ``torture`` test are kept in the page."""

    test: str
    rows: list[dict[str, object]] = field(default_factory=list)

    def row(self, **facts: object) -> None:
        """Add what was seen, by column: ``times``, ``lost``, ``doubled`` and ``seconds`` count."""
        self.rows.append(facts)
        _cases.setdefault(self.test, _Case()).rows.append(facts)

    def write(self) -> None:
        """Put the rows into this suite's section of the page.

        Where a test has several cases, a row takes the place of the one that begins as it does.
        """
        suite, _, case = self.test.rpartition("::")[2].partition("[")
        heads = [*self.rows[0], "date"]
        cells = [[*map(str, row.values()), _today()] for row in self.rows]
        with _page() as tables:
            before = tables.get(suite, [[]])[1:] if case else []
            rows = {each[0]: each for each in [*before, *cells]}
            tables[suite] = [heads, *rows.values()]


@dataclass
class _Case:
    """One test of this run: how it ended, and what it took down."""

    outcome: str = ""
    rows: list[dict[str, object]] = field(default_factory=list)


_cases: dict[str, _Case] = {}


@contextmanager
def _page() -> Iterator[dict[str, list[list[str]]]]:
    """The page's tables by the heading they stand under, to be changed by one run at a time.

    The first line of each is its head.
    """
    with PAGE.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        parts = (part.partition("\n") for part in file.read().split("\n## ")[1:])
        tables = {name: _table(body) for name, _, body in parts if name != _NOTES}
        tables = {name: table for name, table in tables.items() if "date" in table[0]}
        yield tables
        file.truncate(0)
        file.write(_text(tables))


def _text(tables: Mapping[str, list[list[str]]]) -> str:
    notes = "\n".join(f"- {row.number}: {row.note}" for row in ROWS if row.note)
    parts = [_HEAD, f"## {_FAULTS}\n", *_lines(tables.get(_FAULTS, [_COLUMNS]))]
    parts += [f"\n## {_NOTES}\n", f"{_ABOUT_NOTES}\n", notes]
    for name, table in sorted(tables.items()):
        if name != _FAULTS:
            parts += [f"\n## {name}\n", *_lines(table)]
    return "\n".join(parts) + "\n"


def _table(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [line[2:-2].split(" | ") for line in lines if not line.startswith("| ---")] or [[]]


def _lines(table: Sequence[Sequence[str]]) -> list[str]:
    head, *rows = table
    return [_line(head), _line(["---"] * len(head)), *map(_line, rows)]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


# ── the plugin ───────────────────────────────────────────────────────────────────────────────────


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fault: stands for a row of the faults, see `make torture`")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if any(stands_for(test, item.nodeid) for row in ROWS for test in row.tests):
            item.add_marker(pytest.mark.fault)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    case = _cases.setdefault(report.nodeid, _Case())
    if report.outcome != "passed" or (report.when == "call" and not case.outcome):
        case.outcome = report.outcome
    if report.when == "teardown":
        _take_down(report.nodeid)


def _take_down(test: str) -> None:
    """Bring the lines up to date that a test stands for."""
    with _page() as tables:
        known = {(each[0], each[2]): each[3:] for each in tables.get(_FAULTS, [_COLUMNS])[1:]}
        lines = [_COLUMNS]
        for row in ROWS:
            for named in row.tests:
                begin = [str(row.number), row.fault, named]
                ended = known.get((begin[0], named), ["0", "not run", "", "", "", ""])
                lines.append(begin + (_seen(named) if stands_for(named, test) else ended))
        tables[_FAULTS] = lines


def _seen(named: str) -> list[str]:
    """What this run has seen so far of the cases that a row names together."""
    cases = [case for test, case in _cases.items() if case.outcome and stands_for(named, test)]
    rows = [each for case in cases for each in case.rows]
    ended = {case.outcome for case in cases}
    outcome = next((each for each in ("failed", "skipped") if each in ended), "passed")
    figures = [f"{sum(_values(rows, 'times')) or len(cases):g}", outcome]
    for name, over in (("lost", sum), ("doubled", sum), ("seconds", max)):
        values = _values(rows, name)
        figures.append(f"{over(values):g}" if values else "")
    return [*figures, _today()]


def _values(rows: Sequence[dict[str, object]], name: str) -> list[float]:
    return [float(str(row[name])) for row in rows if name in row]
