"""Each rule by which models are refreshed matters: break one, and the law of the models fails.

The models and batches are those of ``test_random_queries.py``, where nothing goes wrong as long as
nothing is broken. What nobody notices is not tested.
"""

from __future__ import annotations

import pytest

from tests.property.breakages import BREAKAGES, DETOURS, Breakage, Edit, edited
from tests.property.trial import Trial, needed, prepare, run
from tests.property.world import TABLES
from upwell.transform.plan import plan_models

SEEDS = range(120)

#: What a model may fail with, when a rule it rests on is broken, instead of going wrong.
KNOWN_TO_US = ("contradicts its changes", "taken to be never NULL")


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda breakage: breakage.what)
def test_each_rule_is_still_written_as_its_breakage_says(breakage: Breakage) -> None:
    assert breakage.edit.code.count(breakage.edit.sound) == 1


@pytest.mark.torture
@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda breakage: breakage.what)
def test_the_law_fails_when_this_rule_is_broken(breakage: Breakage) -> None:
    assert any(is_noticed(prepare(seed), breakage) for seed in SEEDS), "nothing went wrong"


def is_noticed(sound: Trial, breakage: Breakage) -> bool:
    """Whether one of the models concerned goes wrong: its rows, not just its SQL."""
    concerned = [
        name for name, shown in sound.written.shows.items() if shown.intersection(breakage.shows)
    ]
    if not concerned:
        return False
    with edited([breakage.edit]):
        plan = plan_models(needed(sound.plan, concerned), TABLES)
        faults = (each.wrong for each in run(Trial(sound.seed, sound.written, plan)) if each.wrong)
        fault = next(faults, None)
    if fault and fault.startswith("cannot be refreshed"):
        assert any(each in fault for each in KNOWN_TO_US), fault
    return fault is not None


@pytest.mark.parametrize("detour", DETOURS, ids=lambda detour: detour.rule.__name__)
def test_the_law_holds_on_the_way_that_small_versions_do_not_take(detour: Edit) -> None:
    assert detour.code.count(detour.sound) == 1
    for seed in SEEDS[:8]:
        with edited([detour]):
            assert not [each.wrong for each in run(prepare(seed)) if each.wrong]
