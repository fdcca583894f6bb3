"""One thing wrong in the shop's project: where it is said to be, and in which words.

``wrong_projects.txt`` holds a block for each: the file, the text that is taken out (-) and put in
(+), then every problem with its next step indented below.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

import pytest

from upwell.core.errors import ProjectError


class Case(NamedTuple):
    file: str
    old: str
    new: str
    said: str


class Shop(Protocol):
    """As in conftest.py."""

    def replace(self, file: str, old: str, new: str) -> None: ...
    def problems(self) -> list[ProjectError]: ...


def _cases() -> list[Case]:
    text = Path(__file__).with_name("wrong_projects.txt").read_text()
    return [_case(block) for block in text.strip().split("\n\n")]


def _case(block: str) -> Case:
    file, *lines = block.splitlines()
    old = [line[2:] for line in lines if line.startswith("-")]
    new = [line[2:] for line in lines if line.startswith("+")]
    said = lines[len(old) + len(new) :]
    return Case(file, "\n".join(old), "\n".join(new), "\n".join(said))


@pytest.mark.parametrize("case", _cases(), ids=lambda case: f"{case.file}: {case.new.strip()}")
def test_what_is_wrong_is_said_where_it_is_with_what_to_write_instead(
    shop: Shop, case: Case
) -> None:
    shop.replace(case.file, case.old, case.new)
    said = "\n".join(
        f"{problem.where}: {problem.what}\n    {problem.next_step}" for problem in shop.problems()
    )
    assert said == case.said


def test_a_time_zone_that_only_this_machine_knows_is_refused(shop: Shop) -> None:
    shop.replace("upwell.yaml", "Europe/London", "localtime")
    (problem,) = shop.problems()
    assert problem.what == "the IANA database has no time zone `localtime`"
