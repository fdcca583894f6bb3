"""Every point at which something commits is tried by a drill, or by the suite that says why not."""

from __future__ import annotations

import re
from pathlib import Path

import upwell
from upwell.drill.trials import TRIALS, Phase

SOURCE = Path(upwell.__file__).parent

#: Points that a drill on a folder does not pass, and the suite that crashes there.
ELSEWHERE = {
    "reconcile.mended": "tests/capture/test_reconciling.py",
    "lake.object_before_put": "tests/store/lake/test_overtaking.py",
    "lake.fold_written": "tests/store/lake/test_crashes.py",
    "lake.fold_committed": "tests/store/lake/test_crashes.py",
    "lake.file_swept": "tests/store/lake/test_crashes.py",
    "lake.repair_written": "tests/store/lake/test_crashes.py",
}


def points() -> list[str]:
    """Every point named in the source."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        found += re.findall(r"\breach\(\s*\"([a-z_.]+)\"", path.read_text(encoding="utf-8"))
    return found


def test_every_point_is_named_once() -> None:
    found = points()
    assert len(found) == len(set(found))


def test_every_point_is_tried() -> None:
    tried = {trial.point for trial in TRIALS} | ELSEWHERE.keys()
    assert set(points()) == tried


def test_the_other_suites_name_their_points() -> None:
    for point, suite in ELSEWHERE.items():
        assert point in Path(suite).read_text(encoding="utf-8"), f"{suite} lacks {point}"


def test_a_quick_drill_passes_every_phase_but_the_start_anew() -> None:
    phases = {trial.phase for trial in TRIALS}
    assert {trial.phase for trial in TRIALS if trial.is_quick} == phases - {Phase.ANEW}
