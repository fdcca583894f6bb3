"""The drill that users run, in full."""

from __future__ import annotations

import threading

import pytest

from tests.torture_report import Report
from upwell.drill.run import run_drill


@pytest.mark.torture
@pytest.mark.postgres
@pytest.mark.timeout(900)
def test_a_full_drill_loses_and_doubles_nothing(report: Report) -> None:
    found = run_drill(quick=False, tell=lambda *_: None, stop=threading.Event())
    assert found is not None
    report.row(
        fault="all points in one run",
        times=found["faults"],
        changes=found["changes"],
        lost=found["lost"],
        doubled=found["doubled"],
        seconds=found["seconds"],
    )
    assert found["untried"] == []
    assert found["survived"] == found["faults"]
    assert (found["lost"], found["doubled"]) == (0, 0)
    assert found["equal"]
    assert found["proved"]
    assert found["settled"]
