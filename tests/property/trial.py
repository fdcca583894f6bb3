"""One world, models written for it, and a run of batches: is every model what its text says?

After each version every model is compared with its own text as DuckDB runs it over the tables and
models it reads, row for row; the deltas it gave so far must add up to it, and its key and NOT NULLs
must hold. Rows that agree but for the last digits of floats count as one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import duckdb
import pyarrow as pa

from tests.property.queries import Written, write_models
from tests.property.world import (
    START_US,
    TABLES,
    ZONE,
    Row,
    Rows,
    World,
    broken_promise,
    content,
    create_tables,
    delta_between,
    fill,
    weighted,
)
from upwell.core.sql import connect, quote_table
from upwell.project.values import Model
from upwell.transform.explain import IN_FULL, explain
from upwell.transform.plan import Plan, plan_models
from upwell.transform.refresh import ModelFailedError, Refresher, build

MODELS = 6
VERSIONS = 8

_TOLERANCE = 1e-9

Tables = Mapping[str, Rows]
"""The rows of each source table."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A model at a version: what is wrong with it, if anything, and from what it came about."""

    version: int
    model: str
    wrong: str | None
    before: Tables
    after: Tables


@dataclass(frozen=True, slots=True)
class Trial:
    """The models of one seed, planned."""

    seed: int
    written: Written
    plan: Plan

    @property
    def incremental(self) -> dict[str, frozenset[str]]:
        """What is shown by each model of which nothing is refreshed in full."""
        return {
            name: shown
            for name, shown in self.written.shows.items()
            if explain(self.plan, name).refresh != IN_FULL
        }


@cache
def prepare(seed: int) -> Trial:
    written = write_models(seed, MODELS)
    return Trial(seed, written, plan_models(written.models, TABLES))


def needed(plan: Plan, names: Collection[str]) -> list[Model]:
    """The models of these names and those they read, each after what it reads."""
    found = set(names)
    for model in reversed(plan.models):
        if model.name in found:
            found |= set(model.reads)
    return [model.model for model in plan.models if model.name in found]


def run(trial: Trial, versions: int = VERSIONS) -> Iterator[Comparison]:
    """Every comparison of a trial; a version that cannot be computed at all is its last."""
    world = World(trial.seed)
    world.change(share=1.0, most=8)
    names = [model.name for model in trial.plan.models]
    build(world.connection, trial.plan, names, START_US)
    kept = _Kept(world.connection, trial.plan)
    for version in range(versions):
        before = dict(world.rows)
        world.connection.execute("BEGIN")
        deltas = world.change(share=world.random.choice([0.3, 0.6, 1.0]))
        for model, wrong in kept.refresh(deltas):
            yield Comparison(version, model, wrong, before, dict(world.rows))
        if kept.lost:
            break
        world.connection.execute("COMMIT")
    world.connection.close()


def compare_once(plan: Plan, before: Tables, after: Tables) -> dict[str, str]:
    """Models built over one state and taken to another in one version: what is wrong with which."""
    connection = connect(zone=ZONE, threads=1)
    create_tables(connection)
    deltas = {}
    for table in TABLES:
        fill(connection, table, before[table.name])
    build(connection, plan, [model.name for model in plan.models], START_US)
    kept = _Kept(connection, plan)
    for table in TABLES:
        delta = delta_between(table, before[table.name], after[table.name])
        if delta.num_rows:
            fill(connection, table, after[table.name])
            deltas[table.name] = delta
    found = {model: wrong for model, wrong in kept.refresh(deltas) if wrong}
    connection.close()
    return found


class _Kept:
    """Models as they are kept, and the sum of the deltas of each. ``lost``: gone for good."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, plan: Plan) -> None:
        self._connection = connection
        self._plan = plan
        self._refresher = Refresher(connection, plan)
        self._sums = {
            model.name: content(connection, f"FROM {quote_table(model.name)}")
            for model in plan.models
        }
        self.lost = False

    def refresh(self, deltas: Mapping[str, pa.Table]) -> Iterator[tuple[str, str | None]]:
        """One version: each model, and what is wrong with it."""
        try:
            changed = self._refresher.apply(deltas, START_US)
        except ModelFailedError as error:
            self.lost = True
            yield error.model, f"cannot be refreshed: {error.reason}"
            return
        for model in self._plan.models:
            yield model.name, self._fault(model.name, changed.get(model.name))

    def _fault(self, name: str, delta: pa.Table | None) -> str | None:
        planned = self._plan.model(name)
        kept = content(self._connection, f"FROM {quote_table(name)}")
        expected = content(self._connection, planned.model.sql)
        if wrong := difference(kept, expected):
            return f"differs from its text: {wrong}"
        sums = self._sums[name]
        if delta is not None:
            try:
                change = weighted(delta)
            except AssertionError as error:
                return str(error)
            for row, weight in change.items():
                sums[row] += weight
                if not sums[row]:
                    del sums[row]
        if sums != kept:
            return f"is not the sum of its deltas: {difference(kept, sums)}"
        return broken_promise(planned.schema, kept)


def difference(kept: Rows, expected: Rows) -> str | None:
    """The first few rows that only one side has; None if there are none."""
    extra, missing = kept - expected, expected - kept
    if not extra and not missing:
        return None
    unmatched = _without_close_pairs(list(extra.elements()), list(missing.elements()))
    if not any(unmatched):
        return None
    extras, missed = unmatched
    return f"{len(extras)} unexpected {extras[:3]}, {len(missed)} missing {missed[:3]}"


def _without_close_pairs(
    extra: Sequence[Row], missing: Sequence[Row]
) -> tuple[list[Row], list[Row]]:
    """Both sides less the rows that have a close partner on the other, each partner taken once."""
    left, unmatched = list(missing), []
    for row in extra:
        partner = next((other for other in left if _is_close(row, other)), None)
        if partner is None:
            unmatched.append(row)
        else:
            left.remove(partner)
    return unmatched, left


def _is_close(one: Row, other: Row) -> bool:
    return all(
        math.isclose(a, b, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
        if isinstance(a, float) and isinstance(b, float)
        else a == b
        for a, b in zip(one, other, strict=True)
    )


def covered(trials: Sequence[Trial]) -> Counter[str]:
    """How many models show each construct with nothing of them refreshed in full."""
    return Counter(
        construct for trial in trials for shown in trial.incremental.values() for construct in shown
    )
