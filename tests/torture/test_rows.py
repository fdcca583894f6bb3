"""Every fault of the engine and the lake has its tests, and these are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.drill.test_trials import points
from tests.torture.rows import ROWS
from tests.torture_report import PAGE, Report

TESTS = Path(__file__).parents[1]

#: What may happen to an engine, a lake and a source.
NUMBERS = {
    *range(1, 16),
    *range(18, 27),
    29,
    *range(34, 53),
    53,
    54,
    57,
    62,
    63,
    64,
    66,
    67,
    68,
}


def test_every_fault_has_its_row_once() -> None:
    assert [row.number for row in ROWS] == sorted(NUMBERS)


def test_every_test_that_a_row_names_is_there() -> None:
    for row in ROWS:
        for named in row.tests:
            file, _, name = named.partition("::")
            text = (TESTS / file).read_text(encoding="utf-8")
            assert f"def {name.partition('[')[0]}(" in text, f"{row.number}: {named}"


def test_every_point_that_a_row_names_is_in_the_source() -> None:
    named = re.findall(r"\[([a-z_]+\.[a-z_]+)\]", " ".join(str(row.tests) for row in ROWS))
    assert set(named) <= set(points())


def test_a_report_replaces_its_own_rows_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / PAGE.name
    monkeypatch.setattr("tests.torture_report.PAGE", page)
    for case, lost in (("a", 1), ("b", 0), ("a", 0)):
        report = Report(f"tests/test_x.py::test_x[{case}]")
        report.row(fault=f"kill {case}", times=3, lost=lost)
        report.write()
    whole = Report("tests/test_x.py::test_y")
    whole.row(fault="kill", times=1)
    whole.write()
    rows = re.findall(r"^\| (kill.*?) \| \d{4}-", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == ["kill a | 3 | 0", "kill b | 3 | 0", "kill | 1"]
