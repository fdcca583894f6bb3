"""A wrong model made small: only the models it needs, and as few rows as still show the fault.

Greedy, in the manner of delta debugging (Zeller and Hildebrandt, 2002): halves of what is left are
taken away first, then ever smaller parts, for as long as the model stays wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tests.property.trial import Comparison, Tables, Trial, compare_once, needed
from tests.property.world import TABLES, Row
from upwell.transform.plan import Plan, plan_models

MOST_ATTEMPTS = 300


@dataclass(frozen=True, slots=True)
class _Rows:
    """Equal rows of a table: how many there are before a version and after it."""

    table: str
    row: Row
    before: int
    after: int


def describe(trial: Trial, comparison: Comparison) -> str:
    """All that is needed to see the fault again: the models, the rows, the changes, the command."""
    models = needed(trial.plan, [comparison.model])
    plan = plan_models(models, TABLES)
    rows, wrong = _shrunk(plan, comparison)
    again = f"UPWELL_PROPERTY_SEED={trial.seed} UPWELL_PROPERTY_COMPARISONS=1"
    lines = [
        f"model {comparison.model} {comparison.wrong}",
        f"seed {trial.seed}, version {comparison.version}; once more:",
        f"  {again} pytest tests/property/test_random_queries.py",
        *(f"{model.name}: {model.sql}" for model in models),
    ]
    if not wrong:
        return "\n".join([*lines, "it takes the versions before it to come about"])
    lines.append(f"one version over these rows suffices ({wrong}):")
    lines += [f"  {each.table} {each.row}: {each.before} → {each.after}" for each in rows]
    return "\n".join(lines)


def _shrunk(plan: Plan, comparison: Comparison) -> tuple[list[_Rows], str | None]:
    rows = [
        _Rows(table, row, before[row], after[row])
        for table, before in comparison.before.items()
        for after in [comparison.after[table]]
        for row in before | after
    ]
    wrong = _fault(plan, comparison.model, rows)
    if wrong is None:
        return rows, None
    size, attempts = len(rows) // 2, 0
    while size and attempts < MOST_ATTEMPTS:
        start = 0
        while start < len(rows) and attempts < MOST_ATTEMPTS:
            fewer = rows[:start] + rows[start + size :]
            attempts += 1
            if still := _fault(plan, comparison.model, fewer):
                rows, wrong = fewer, still
            else:
                start += size
        size //= 2
    return rows, wrong


def _fault(plan: Plan, name: str, rows: Sequence[_Rows]) -> str | None:
    return compare_once(plan, _state(rows, "before"), _state(rows, "after")).get(name)


def _state(rows: Sequence[_Rows], side: str) -> Tables:
    return {
        table.name: +Counter(
            {each.row: getattr(each, side) for each in rows if each.table == table.name}
        )
        for table in TABLES
    }
