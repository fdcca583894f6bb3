"""The law of the models: incremental equals full, row for row, after every batch.

The shapes of ``golden/models.sql`` over random rows with NULLs and duplicates, random batches over
several tables at once with moved keys, models over models. The oracle is the model's text as DuckDB
itself runs it; the deltas are summed up in Python and must give the same rows.
``UPWELL_PROPERTY_SEEDS`` sets how many worlds are tried.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from tests.property.world import (
    HOUR_US,
    START_US,
    TABLES,
    World,
    broken_promise,
    content,
    read_parts,
    weighted,
)
from upwell.project.values import Model
from upwell.transform.explain import explain
from upwell.transform.plan import Plan, plan_models
from upwell.transform.refresh import Refresher, build, prove

SEEDS = int(os.environ.get("UPWELL_PROPERTY_SEEDS", "2"))
VERSIONS = 8

#: Shapes whose text DuckDB may answer with another last digit, or at another time.
INEXACT = {"float_sums", "recent", "clock_inside", "groups_by_clock"}


def read_shapes() -> dict[str, tuple[str, str]]:
    """Each shape's text, with the plan that is expected of it."""
    shapes = {}
    for name, body in read_parts().items():
        text, _, expected = body.partition("\n-->")
        if name != "tables" and text.strip():
            shapes[name] = text, ("-->" + expected).strip()
    return shapes


SHAPES = read_shapes()


@pytest.fixture(scope="module")
def plan() -> Plan:
    models = [
        Model(name=name, sql=text, path=Path(f"models/{name}.sql"))
        for name, (text, _) in SHAPES.items()
    ]
    return plan_models(models, TABLES)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_incremental_equals_full_after_every_batch(plan: Plan, seed: int) -> None:
    world = World(seed)
    world.change(share=1.0)
    connection, now = world.connection, START_US + 8 * HOUR_US
    build(connection, plan, list(SHAPES), now)
    refresher = Refresher(connection, plan)
    sums = {name: content(connection, f"FROM {name}") for name in SHAPES}
    for version in range(VERSIONS):
        now += world.random.choice([0, HOUR_US])
        connection.execute("BEGIN")
        deltas = world.change(share=world.random.choice([0.3, 1.0]))
        changed = refresher.apply(deltas, now)
        connection.execute("COMMIT")
        for name, (text, _) in SHAPES.items():
            case = f"seed {seed}, version {version}, model {name}, changed {sorted(deltas)}"
            if name in changed:
                sums[name].update(weighted(changed[name]))
            kept = content(connection, f"FROM {name}")
            summed = Counter({row: count for row, count in sums[name].items() if count})
            assert summed == kept, f"deltas do not add up: {case}"
            proof = prove(connection, plan, name, logical_time_us=now)
            assert proof.holds, f"{case}: {proof.sample}"
            if "avg(" not in text and name not in INEXACT:
                assert kept == content(connection, text), case
            assert broken_promise(plan.model(name).schema, kept) is None, case


@pytest.mark.parametrize("name", SHAPES)
def test_each_shape_is_planned_as_the_golden_file_says(plan: Plan, name: str) -> None:
    assert plan_lines(plan, name) == SHAPES[name][1]


def plan_lines(plan: Plan, name: str) -> str:
    """``--> by_region/rows: incremental, view``, a line for each node."""
    explanation = explain(plan, name)
    lines = []
    for step in explanation.steps:
        because = f" because {step.why}" if step.refresh == "full" else ""
        lines.append(
            f"--> {step.gives}: {step.refresh}, {'kept' if step.kept else 'view'}{because}"
        )
    if explanation.key:
        lines[-1] += f", key {', '.join(explanation.key)}"
    return "\n".join(lines)
