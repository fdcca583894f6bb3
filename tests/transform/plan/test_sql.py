"""Golden pairs: a node's full query and its delta, compiled from one plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from upwell.core.schema import Column, TableSchema
from upwell.project.values import Model
from upwell.transform.plan import delta, plan_models
from upwell.transform.plan.nodes import Aggregate, Input, Keyed, Linear, Node, Outer

GOLDEN = Path(__file__).parents[2] / "golden" / "deltas.sql"

A = TableSchema("shop.a", (Column("id", "BIGINT"), Column("x", "INTEGER")), ("id",))
B = TableSchema("shop.b", (Column("id", "BIGINT"), Column("a_id", "BIGINT")), ("id",))


def read_golden() -> dict[str, tuple[str, str, tuple[str, ...]]]:
    """Case → the model, what is expected, the relations that changed."""
    cases = {}
    for part in GOLDEN.read_text().split("\n-- case: ")[1:]:
        title, _, body = part.partition("\n")
        name, _, changed = title.partition("; changed: ")
        model, _, expected = body.partition("\n-- gives\n")
        cases[name] = model, expected.strip(), tuple(changed.split(", "))
    return cases


CASES = read_golden()

#: Cases in which the first node of the plan is shown, not the model that reads it.
_FIRST = ("left", "full", "anti")


def node_of(text: str, which: int = -1) -> Node:
    plan = plan_models([Model(name="m", sql=text, path=Path("m.sql"))], [A, B])
    return plan.model("m").nodes[which]


def compiled(node: Node, changed: tuple[str, ...]) -> str:
    deltas = {each: f"delta_of_{each.relation}" for each in node.inputs if each.relation in changed}
    match node.kind:
        case Linear():
            return delta.linear_delta(node, node.kind, deltas)
        case Outer():
            return delta.outer_delta(node, node.kind, deltas)
        case Aggregate():
            merge = delta.merge(node.kind, "grouped", frozenset())
            return f"{delta.grouped_delta(node.kind, deltas, {})}\n{merge}"
        case Keyed():
            compared = delta.keyed_difference(node, node.kind, "touched_keys", frozenset())
            return f"{delta.touched_keys(node.kind, deltas)}\n{compared}"
        case _:
            return delta.difference(node)


@pytest.mark.parametrize("case", CASES)
def test_a_delta_is_compiled_as_the_golden_file_says(case: str) -> None:
    text, expected, changed = CASES[case]
    first, _, _ = case.partition(" ")
    assert compiled(node_of(text, 0 if first in _FIRST else -1), changed) == expected


def joined(inputs: int) -> tuple[Node, list[Input]]:
    aliases = [f"t{index}" for index in range(inputs)]
    where = " and ".join(f"t0.id = {alias}.id" for alias in aliases[1:])
    tables = ", ".join(f"shop.a {alias}" for alias in aliases)
    node = node_of(f"select t0.id from {tables} where {where}")
    return node, list(node.inputs)


@pytest.mark.parametrize(("inputs", "terms"), [(2, 3), (3, 7), (4, 15), (5, 5), (7, 7)])
def test_the_terms_of_a_join_grow_by_subsets_up_to_four_inputs_and_by_one_each_beyond(
    inputs: int, terms: int
) -> None:
    node, changed = joined(inputs)
    assert isinstance(node.kind, Linear)
    compiled = delta.linear_delta(node, node.kind, dict.fromkeys(changed, "delta"))
    assert compiled.count("\nUNION ALL\n") + 1 == terms
