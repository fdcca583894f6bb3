"""FROM, JOIN and WHERE of one SELECT, read as an inner join of relations.

Raises ``Obstacle`` for whatever has no delta of its own: the SELECT around it is then recomputed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlglot import exp

from upwell.transform.plan.keys import Facts, Relation
from upwell.transform.plan.nodes import Branch, Input
from upwell.transform.plan.parse import DIALECT, function_name

#: Finds the relation a FROM item reads.
Resolve = Callable[[exp.Table | exp.Subquery], Relation]

#: What may stand in a SELECT that has a delta; ORDER BY has no effect on a stored result.
_SELECT_PARTS = frozenset(
    ("with_", "distinct", "expressions", "from_", "joins", "where", "group", "having", "order")
)
#: What may stand in an item of FROM.
_ITEM_PARTS = frozenset(("this", "db", "catalog", "alias"))


class Obstacle(Exception):  # noqa: N818 - a finding, not a fault: the planner goes another way
    """Why a query has no delta; completes "because it …"."""


@dataclass(frozen=True, slots=True)
class Joined:
    """An inner join: its inputs by alias, in order, and the conditions all its rows meet."""

    facts: Facts

    def branch(self, outputs: Sequence[exp.Expr]) -> Branch:
        """The join with these outputs; inputs name only the columns that are used."""
        used = {
            (column.table, column.name.lower())
            for expression in [*outputs, *self.facts.conditions]
            for column in expression.find_all(exp.Column)
        }
        if strangers := {alias for alias, _ in used} - set(self.facts.inputs):
            raise Obstacle(
                f"reads {', '.join(sorted(strangers)) or 'a column'} from outside its FROM"
            )
        return Branch(
            inputs=tuple(
                Input(
                    alias,
                    relation.name,
                    tuple(each for each in relation.columns if (alias, each.name.lower()) in used),
                )
                for alias, relation in self.facts.inputs.items()
            ),
            outputs=tuple(text(each) for each in outputs),
            conditions=tuple(text(each) for each in self.facts.conditions),
        )


def whole(relation: Relation) -> tuple[Joined, list[exp.Expr]]:
    """A relation read as it is, and its columns."""
    columns: list[exp.Expr] = [
        exp.column(each.name, "whole", quoted=True) for each in relation.columns
    ]
    return Joined(Facts({"whole": relation}, ())), columns


def read_join(select: exp.Select, resolve: Resolve) -> Joined:
    """The inner join a SELECT is made on. Raises ``Obstacle``."""
    _refuse_parts(select)
    source = select.args.get("from_")
    if source is None:
        raise Obstacle("reads no table")
    inputs: dict[str, Relation] = {}
    conditions: list[exp.Expr] = []
    for item, on in [(source.this, None), *_joins(select)]:
        _refuse_item(item)
        if item.alias_or_name in inputs:
            raise Obstacle(f"names two inputs {item.alias_or_name}")
        inputs[item.alias_or_name] = resolve(item)
        if on is not None:
            conditions += _conjuncts(on)
    if where := select.args.get("where"):
        conditions += _conjuncts(where.this)
    return Joined(Facts(inputs, conditions))


def text(expression: exp.Expr) -> str:
    return expression.sql(dialect=DIALECT, comments=False)


def own_expressions(select: exp.Select) -> Iterator[exp.Expr]:
    """The expressions of a SELECT itself, without what stands in FROM."""
    yield from select.expressions
    for name in ("where", "group", "having"):
        if part := select.args.get(name):
            yield part
    for _, on in _joins(select):
        if on is not None:
            yield on


def _joins(select: exp.Select) -> Iterator[tuple[exp.Expr, exp.Expr | None]]:
    for join in select.args.get("joins") or ():
        kind = " ".join(part for part in (join.method, join.side, join.kind) if part).upper()
        if kind not in ("", "INNER", "CROSS") or join.args.get("using"):
            raise Obstacle(f"uses {_article(kind)} {kind} JOIN" if kind else "joins by USING")
        yield join.this, join.args.get("on")


def _article(word: str) -> str:
    return "an" if word[:1] in "AEIOU" else "a"


def _refuse_parts(select: exp.Select) -> None:
    for part, value in select.args.items():
        if value and part not in _SELECT_PARTS:
            raise Obstacle(f"uses {part.strip('_').upper()}")
    for expression in own_expressions(select):
        _refuse_in(expression.walk())


def _refuse_in(parts: Iterable[exp.Expr]) -> None:
    for part in parts:
        match part:
            case exp.Window():
                raise Obstacle("uses a window function")
            case exp.Query():
                raise Obstacle("has a subquery inside an expression")
            case exp.Placeholder():
                raise Obstacle("reads the clock, so that its rows change as time passes")
            case exp.Explode() | exp.Unnest() | exp.GenerateSeries() | exp.Star() if not isinstance(
                part.parent, exp.Count
            ):
                raise Obstacle(f"uses {function_name(part) or '*'} where a value is expected")


def _refuse_item(item: exp.Expr) -> None:
    name = item.alias_or_name
    if not isinstance(item, exp.Table | exp.Subquery) or (
        isinstance(item, exp.Table) and not isinstance(item.this, exp.Identifier)
    ):
        raise Obstacle(
            f"reads {function_name(item) or item.key.upper()} in FROM, which is no table"
        )
    if extra := [part for part, value in item.args.items() if value and part not in _ITEM_PARTS]:
        raise Obstacle(f"reads {name} with {extra[0].strip('_').upper()}")
    alias = item.args.get("alias")
    if alias is not None and alias.args.get("columns"):
        raise Obstacle(f"renames the columns of {name} in FROM")


def _conjuncts(condition: exp.Expr) -> list[exp.Expr]:
    condition = condition.unnest()
    if isinstance(condition, exp.And):
        return [each for side in (condition.left, condition.right) for each in _conjuncts(side)]
    return [condition]
