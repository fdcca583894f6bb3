"""The law of the models over models that nobody chose: incremental equals full, row for row.

Each seed writes six models out of a grammar of what is supported, some over others, and changes
their tables eight times. ``UPWELL_PROPERTY_COMPARISONS`` says how many comparisons of a model with
its text to make, ``UPWELL_PROPERTY_SEED`` with which seed to begin.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.property.queries import CONSTRUCTS
from tests.property.shrinking import describe
from tests.property.trial import MODELS, VERSIONS, covered, prepare, run
from tests.torture_report import Report

FIRST = int(os.environ.get("UPWELL_PROPERTY_SEED", "0"))
COMPARISONS = int(os.environ.get("UPWELL_PROPERTY_COMPARISONS", "1440"))
SEEDS = range(FIRST, FIRST + -(-COMPARISONS // (MODELS * VERSIONS)))

TORTURE_COMPARISONS = 20_000
TORTURE_FIRST = 1_000
ANY = "anything"

#: How many of the written models may be such that DuckDB does not bind them.
MOST_DISCARDED = 0.1


@pytest.mark.parametrize("seed", SEEDS)
def test_incremental_equals_full_for_models_written_at_random(seed: int) -> None:
    trial = prepare(seed)
    compared = 0
    for comparison in run(trial):
        compared += 1
        assert comparison.wrong is None, describe(trial, comparison)
    assert compared == MODELS * VERSIONS


@pytest.mark.skipif(COMPARISONS < 1440, reason="a few models cannot show every construct")
def test_every_construct_is_refreshed_incrementally_by_some_model() -> None:
    seen = covered([prepare(seed) for seed in SEEDS])
    missing = [construct for construct in CONSTRUCTS if not seen[construct]]
    assert not missing, f"refreshed in full wherever they appear: {missing}"


def test_nearly_every_model_that_is_written_binds() -> None:
    written = [prepare(seed).written for seed in SEEDS]
    discarded = sum(each.discarded for each in written)
    assert discarded <= MOST_DISCARDED * sum(len(each.models) + each.discarded for each in written)


@pytest.mark.torture
def test_incremental_equals_full_over_twenty_thousand_comparisons(report: Report) -> None:
    compared: Counter[str] = Counter()
    incremental: Counter[str] = Counter()
    faults: dict[tuple[int, str], str] = {}
    seed = TORTURE_FIRST
    while compared[ANY] < TORTURE_COMPARISONS:
        trial = prepare(seed)
        for comparison in run(trial):
            shown = [ANY, *trial.written.shows[comparison.model]]
            compared.update(shown)
            if comparison.model in trial.incremental:
                incremental.update(shown)
            place = seed, comparison.model
            if comparison.wrong and place not in faults:
                faults[place] = describe(trial, comparison)
        seed += 1
    seeds = f"seeds {TORTURE_FIRST} to {seed - 1}"
    for construct in [ANY, *sorted(set(compared) - {ANY})]:
        report.row(
            shown=f"{ANY}, {seeds}" if construct == ANY else construct,
            comparisons=compared[construct],
            incremental=incremental[construct],
        )
    summary = f"{seeds}: {compared[ANY]} comparisons, {len(faults)} models were wrong"
    print(summary)  # noqa: T201 - what the run is for
    assert not faults, "\n\n".join([summary, *faults.values()])
