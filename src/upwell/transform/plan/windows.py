"""Window functions as nodes: the partitions in which something changed are computed anew.

A SELECT with windows is one query over a join, or over its own groups: ``over_groups`` takes the
two apart. DISTINCT ON is written as the window function it is. Windows of one SELECT must share a
part of their PARTITION BY. Raises ``Obstacle`` where they do not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sqlglot import exp

from upwell.transform.plan.aggregates import group_expressions, is_aggregate
from upwell.transform.plan.draft import Draft, Target
from upwell.transform.plan.grouped import keyed
from upwell.transform.plan.joins import Joined, Obstacle, refuse
from upwell.transform.plan.keys import Relation

_GROUPED = "grouped"


def has_windows(select: exp.Select) -> bool:
    """Whether a SELECT calls window functions for its result."""
    qualify = select.args.get("qualify")
    return qualify is not None or any(each.find(exp.Window) for each in select.expressions)


def windowed(draft: Draft, select: exp.Select, joined: Joined, target: Target) -> Relation:
    """A SELECT of window functions over a join, by the keys that all its windows partition by."""
    outputs = [each.unalias() for each in select.expressions]
    qualify = select.args.get("qualify")
    read = [*outputs, *([qualify.this] if qualify else [])]
    refuse(read, windows=True)
    plain = [exp.Null() if each.find(exp.Window) else each for each in outputs]

    def clauses(write: Callable[[exp.Expr], str]) -> str:
        return f"QUALIFY {write(qualify.this)}" if qualify else ""

    return keyed(
        draft,
        joined,
        keys=_partition_keys(read),
        outputs=outputs,
        clauses=clauses,
        read=read,
        target=target,
        reason="each touched partition is computed anew",
        never_null=[joined.facts.never_null(each) for each in plain],
        unique=joined.facts.unique(plain, target.declared_positions),
    )


def _partition_keys(expressions: Sequence[exp.Expr]) -> list[exp.Expr]:
    windows = [window for each in expressions for window in each.find_all(exp.Window)]
    if not windows:
        raise Obstacle("uses QUALIFY without a window function")
    if any(window.args.get("alias") for window in windows):
        raise Obstacle("uses a named window")
    first, *others = [list(window.args.get("partition_by") or ()) for window in windows]
    keys: list[exp.Expr] = [key for key in first if all(key in other for other in others)]
    if not keys:
        raise Obstacle(
            "uses a window function over all rows"
            if not all([first, *others])
            else "uses window functions that share no part of their PARTITION BY"
        )
    return list(dict.fromkeys(keys))


def over_groups(select: exp.Select, functions: Mapping[str, tuple[str, str]]) -> exp.Select:
    """A SELECT of windows over groups as a SELECT of windows over a SELECT of groups."""
    groups = group_expressions(select, functions)
    aggregates: list[exp.Expr] = []

    def column(kind: str, index: int) -> exp.Column:
        return exp.column(f"{kind}{index}", _GROUPED, quoted=True)

    def over(part: exp.Expr) -> exp.Expr:
        """The part over the columns of the groups."""
        if part in groups:
            return column("g", groups.index(part))
        called = part.this if isinstance(part, exp.Filter) else part
        if is_aggregate(called, functions):
            if part not in aggregates:
                aggregates.append(part.copy())
            return column("a", aggregates.index(part))
        return part

    def rewritten(expression: exp.Expr) -> exp.Expr:
        return expression.copy().transform(over)

    outer = exp.Select()
    outer.set("expressions", [rewritten(each) for each in select.expressions])
    for name in ("qualify", "distinct"):
        if part := select.args.get(name):
            outer.set(name, rewritten(part))
    inner = select.copy()
    for name in ("qualify", "distinct", "order"):
        inner.set(name, None)
    shown = [(f"g{index}", each) for index, each in enumerate(groups)]
    shown += [(f"a{index}", each) for index, each in enumerate(aggregates)]
    inner.set(
        "expressions",
        [exp.alias_(each.copy(), name, quoted=True) for name, each in shown],
    )
    if group := inner.args.get("group"):
        group.set("all", None)
        group.set("expressions", [each.copy() for each in groups])
    outer.set("from_", exp.From(this=inner.subquery(_GROUPED)))
    return outer


def distinct_on(select: exp.Select) -> exp.Select:
    """DISTINCT ON (keys) … ORDER BY as QUALIFY row_number() OVER (…) = 1."""
    shown: dict[str, exp.Expr] = {
        each.alias_or_name.lower(): each.unalias() for each in select.expressions
    }

    def spelled(part: exp.Expr) -> exp.Expr:
        if isinstance(part, exp.Column) and not part.table and part.name.lower() in shown:
            return shown[part.name.lower()].copy()
        return part

    if select.args.get("qualify"):
        raise Obstacle("uses DISTINCT ON with QUALIFY")
    copy = select.copy()
    on = copy.args["distinct"].args["on"]
    keys = [each.transform(spelled) for each in on.expressions]
    order = copy.args.get("order")
    number = exp.Window(
        this=exp.RowNumber(),
        partition_by=keys,
        order=order.transform(spelled) if order else None,
    )
    condition = exp.EQ(this=number, expression=exp.Literal.number(1))
    copy.set("qualify", exp.Qualify(this=condition))
    copy.set("distinct", None)
    copy.set("order", None)
    return copy
