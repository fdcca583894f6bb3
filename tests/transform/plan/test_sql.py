"""Golden pairs: a node's full query and its delta, compiled from one plan."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

import pytest

from upwell.core.schema import Column, TableSchema
from upwell.core.sql import quote
from upwell.project.values import Model
from upwell.transform.plan import delta, merge, plan_models
from upwell.transform.plan.chain import Ground
from upwell.transform.plan.nodes import Aggregate, Keyed, Linear, Node, Outer

GOLDEN = Path(__file__).parents[2] / "golden" / "deltas.sql"

C, D = (TableSchema(f"shop.{name}", (Column("id", "BIGINT"),), ("id",)) for name in "cd")
ALL = ("shop.a", "shop.b", "shop.c", "shop.d")
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
    plan = plan_models([Model(name="m", sql=text, path=Path("m.sql"))], [A, B, C, D])
    return plan.model("m").nodes[which]


def compiled(node: Node, changed: tuple[str, ...]) -> str:
    """Every statement of a node's delta; of what is laid on the way, there always are rows."""
    deltas = {
        each: f"delta_of_{each.relation}"
        for each in node.inputs
        if each.relation in changed or each.relation.startswith("_upwell.")
    }
    laid: list[str] = []
    ground = noting(laid)
    match node.kind:
        case Linear():
            last = delta.linear_delta(node, node.kind, deltas, ground)
        case Outer():
            last = delta.outer_delta(node, node.kind, deltas)
        case Aggregate() if merge.merges_at_once(node.kind):
            grouped = merge.grouped_delta(node.kind, deltas, distinct_of(node.kind), ground)
            last = merge.merge(node.kind, f"({grouped})", node.kind.null_groups)
        case Aggregate():
            grouped = merge.grouped_delta(node.kind, deltas, distinct_of(node.kind), ground)
            read = merge.read_grouped(node.kind, "grouped")
            last = f"{grouped}\n{merge.merge(node.kind, read, frozenset())}"
        case Keyed():
            keys = delta.touched_keys(node.kind, deltas, ground)
            compared = delta.keyed_difference(node, node.kind, "touched_keys", frozenset())
            last = f"{keys}\n{compared}"
        case _:
            last = delta.difference(node)
    return "\n".join([*laid, last or "nothing"])


def distinct_of(kind: Aggregate) -> dict[str, str]:
    """The relations of distinct values, all of them changed."""
    names = [each.distinct for each in kind.arguments if each.distinct]
    return {name: quote(f"delta_of_{name}") for name in names}


def noting(laid: list[str], *, written: Container[str] = ALL, empty: Container[str] = ()) -> Ground:
    """Notes what is laid, under the name of its role; nothing lies in the ``empty`` ones."""

    def lay(role: str, query: str) -> str | None:
        shown = role.replace('"', "").replace(",", "")
        laid.append(f"{shown}: {query}")
        return None if shown in empty else f"laid {shown}"

    return Ground(lay, written.__contains__)


@pytest.mark.parametrize("case", CASES)
def test_a_delta_is_compiled_as_the_golden_file_says(case: str) -> None:
    text, expected, changed = CASES[case]
    first, _, _ = case.partition(" ")
    assert compiled(node_of(text, 0 if first in _FIRST else -1), changed) == expected


CHAIN = """
select l.id from shop.b l join shop.a o on o.id = l.a_id join shop.c on c.id = o.x
join shop.d p on p.id = l.id
"""


def laid_for(
    changed: str, *, written: Container[str] = ALL, empty: Container[str] = ()
) -> tuple[list[str], int]:
    """What is laid on the way when inputs of ``CHAIN`` changed, and how many terms are left."""
    node = node_of(CHAIN)
    assert isinstance(node.kind, Linear)
    deltas = {each: "delta" for each in node.inputs if each.alias in changed}
    laid: list[str] = []
    ground = noting(laid, written=written, empty=empty)
    last = delta.linear_delta(node, node.kind, deltas, ground)
    terms = 0 if last is None else last.count('\nUNION ALL\nSELECT "l.id') + 1
    return [each.partition(":")[0] for each in laid], terms


@pytest.mark.parametrize(
    ("changed", "laid", "terms"),
    [
        ("l", ["0 l o", "0 l o c"], 1),
        ("o", ["0 o l", "0 o l c"], 1),
        ("p", ["0 p l", "0 p l o"], 1),
        ("lo", ["0 l o", "0 l o c"], 1),
        ("lc", ["0 l o", "0 c o", "0 l o c"], 1),
        ("lp", ["0 l p", "0 l p o"], 1),
        ("locp", ["0 l o", "0 c o", "0 l o c", "0 p l", "0 p l o"], 2),
    ],
)
def test_inputs_are_joined_along_their_conditions_one_by_one_changed_ones_first(
    changed: str, laid: list[str], terms: int
) -> None:
    assert laid_for(changed) == (laid, terms)


@pytest.mark.parametrize(
    ("changed", "written", "laid"),
    [
        ("l", ["shop.b"], []),
        ("l", ["shop.b", "shop.d"], []),
        ("l", ["shop.b", "shop.a"], ["0 l p o"]),
        ("l", ["shop.b", "shop.a", "shop.d"], ["0 l o"]),
        ("lc", ["shop.b", "shop.c"], ["0 l o", "0 l o c"]),
    ],
)
def test_inputs_that_the_version_did_not_write_to_are_joined_at_once(
    changed: str, written: list[str], laid: list[str]
) -> None:
    assert laid_for(changed, written=written)[0] == laid


def test_what_comes_to_nothing_on_the_way_costs_no_more() -> None:
    assert laid_for("l", empty=["0 l o"]) == (["0 l o"], 0)
    assert laid_for("lc", empty=["0 l o"]) == (["0 l o", "0 c o", "0 l o c"], 1)
    assert laid_for("lc", empty=["0 c o"]) == (["0 l o", "0 c o", "0 l o c"], 1)
    assert laid_for("lp", empty=["0 l p"]) == (["0 l p"], 0)
