"""GROUP BY and aggregate functions of one SELECT, read as counters over groups.

SUM, COUNT, MIN and MAX of exact types, with DISTINCT and FILTER, inside any expression; what merges
is exact or not merged at all, so floats are refused. Raises ``Obstacle`` for every other aggregate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlglot import exp

from upwell.transform.plan.joins import Obstacle, text
from upwell.transform.plan.keys import WHOLE_NUMBERS
from upwell.transform.plan.nodes import (
    ROWS,
    Extreme,
    count_column,
    extreme_column,
    group_column,
    sum_column,
)
from upwell.transform.plan.parse import function_name

#: The type DuckDB gives each of these expressions.
Types = Callable[[Sequence[exp.Expr]], Sequence[str]]
#: Whether an expression has a value in every row.
NeverNull = Callable[[exp.Expr], bool]

#: Types in which the greater of two values is the same wherever they are compared.
_COMPARED = ("DECIMAL(", "DATE", "TIMESTAMP", "VARCHAR", "BOOLEAN", "UUID")


@dataclass(frozen=True, slots=True)
class Counted:
    """An expression that is counted over each group, and maybe summed or compared.

    ``always``: it has a value in every row, so that counting it is counting rows.
    """

    value: exp.Expr
    always: bool
    distinct: bool = False
    summed: bool = False
    extremes: tuple[Extreme, ...] = ()


@dataclass(frozen=True, slots=True)
class Grouped:
    """A GROUP BY: its groups, its counted values, and what it shows as SQL over the state."""

    groups: list[exp.Expr]
    counted: list[Counted]
    types: list[str]
    sum_types: list[str | None]
    outputs: list[exp.Expr]
    having: exp.Expr | None


def is_grouped(select: exp.Select, functions: Mapping[str, tuple[str, str]]) -> bool:
    """Whether the SELECT groups its rows, by GROUP BY or by calling an aggregate."""
    if select.args.get("group") or select.args.get("having"):
        return True
    return any(_aggregates(each, functions) for each in select.expressions)


def read_groups(
    select: exp.Select,
    functions: Mapping[str, tuple[str, str]],
    types: Types,
    never_null: NeverNull,
) -> Grouped:
    """The groups and counters of a SELECT. Raises ``Obstacle``."""
    outputs = [each.unalias() for each in select.expressions]
    groups = group_expressions(select, functions)
    having = select.args.get("having")
    counters = _Counters(functions, never_null, has_groups=bool(groups))
    shown = [counters.over_state(each, groups) for each in outputs]
    kept = counters.over_state(having.this, groups) if having else None
    found = types([each.value for each in counters.counted])
    sums = types([exp.Sum(this=each.value.copy()) for each in counters.counted if each.summed])
    sums_in_order = iter(sums)
    sum_types = [next(sums_in_order) if each.summed else None for each in counters.counted]
    for each, of_type, sum_type in zip(counters.counted, found, sum_types, strict=True):
        _refuse_inexact(each, of_type, sum_type)
    return Grouped(
        groups=groups,
        counted=counters.counted,
        types=list(found),
        sum_types=sum_types,
        outputs=shown,
        having=kept,
    )


def _refuse_inexact(counted: Counted, of_type: str, sum_type: str | None) -> None:
    value = text(counted.value).replace('"', "")
    if sum_type is not None and not sum_type.startswith("DECIMAL") and sum_type != "HUGEINT":
        raise Obstacle(f"adds up {value}, a {sum_type}, whose sums depend on their order")
    if counted.extremes and of_type not in WHOLE_NUMBERS and not of_type.startswith(_COMPARED):
        raise Obstacle(f"uses {counted.extremes[0]}() of a {of_type}, which is not merged")


def group_expressions(
    select: exp.Select, functions: Mapping[str, tuple[str, str]]
) -> list[exp.Expr]:
    """What a SELECT groups by, each once. Raises ``Obstacle``."""
    outputs = [each.unalias() for each in select.expressions]
    group = select.args.get("group")
    if group is None:
        return []
    if group.args.get("all"):
        found = [
            each for each in outputs if _reads_columns(each) and not _aggregates(each, functions)
        ]
        if not found and not any(_aggregates(each, functions) for each in outputs):
            raise Obstacle("groups by no column")
    else:
        found = list(group.expressions)
    for each in found:
        if isinstance(each, exp.Rollup | exp.Cube | exp.GroupingSets | exp.Tuple):
            raise Obstacle("groups by several sets of columns")
    if any(value for part, value in group.args.items() if part not in ("expressions", "all")):
        raise Obstacle("groups by several sets of columns")
    return [each for index, each in enumerate(found) if each not in found[:index]]


def _reads_columns(expression: exp.Expr) -> bool:
    """Whether GROUP BY ALL groups by an output: DuckDB leaves those out that read no column."""
    return any(isinstance(part, exp.Column) for part in _outside_subqueries(expression))


def _aggregates(expression: exp.Expr, functions: Mapping[str, tuple[str, str]]) -> bool:
    return any(is_aggregate(part, functions) for part in _outside_subqueries(expression))


def _outside_subqueries(expression: exp.Expr) -> Iterator[exp.Expr]:
    return expression.walk(prune=lambda part: isinstance(part, exp.Query))


@dataclass(slots=True)
class _Counters:
    """Collects what the aggregates of one SELECT count, each value once."""

    functions: Mapping[str, tuple[str, str]]
    never_null: NeverNull
    has_groups: bool
    counted: list[Counted] = field(default_factory=list)

    def over_state(self, expression: exp.Expr, groups: Sequence[exp.Expr]) -> exp.Expr:
        """The expression with groups and aggregates replaced by columns of the state."""

        def replace(part: exp.Expr) -> exp.Expr:
            if part in groups:
                return _state(group_column(groups.index(part)))
            if isinstance(part, exp.Filter):
                return self._aggregate(part.this, part.expression.this)
            if is_aggregate(part, self.functions):
                return self._aggregate(part, None)
            if isinstance(part, exp.Column):
                raise Obstacle(f"shows {text(part)}, which it does not group by")
            return part

        return expression.copy().transform(replace)

    def _aggregate(self, call: exp.Expr, condition: exp.Expr | None) -> exp.Expr:
        if not isinstance(call, exp.Sum | exp.Count | exp.Min | exp.Max):
            raise Obstacle(f"uses {function_name(call) or text(call)}(), which cannot be merged")
        value, distinct = call.this, False
        if isinstance(value, exp.Distinct):
            value, distinct = _single(call, value.expressions), True
        elif isinstance(value, exp.Order) or call.expressions:
            raise Obstacle(f"uses {text(call)}, which cannot be merged")
        if isinstance(value, exp.Star) or value is None:
            if condition is None:
                return _state(ROWS)
            value = exp.Literal.number(1)
        if condition is not None:
            value = exp.Case(ifs=[exp.If(this=condition.copy(), true=value.copy())])
        always = self.never_null(value)
        if isinstance(call, exp.Min | exp.Max):
            extreme: Extreme = "min" if isinstance(call, exp.Min) else "max"
            wanted = Counted(value, always, extremes=(extreme,))
            return _state(extreme_column(extreme, self._slot(wanted)))
        counts_rows = always and not distinct
        if isinstance(call, exp.Count) and counts_rows:
            return _state(ROWS)
        index = self._slot(Counted(value, always, distinct, summed=isinstance(call, exp.Sum)))
        count = _state(ROWS if counts_rows else count_column(index))
        if isinstance(call, exp.Count):
            return count
        total = _state(sum_column(index))
        if counts_rows and self.has_groups:
            return total
        some = exp.GT(this=count, expression=exp.Literal.number(0))
        return exp.Case(ifs=[exp.If(this=some, true=total)])  # a SUM of nothing is NULL

    def _slot(self, wanted: Counted) -> int:
        for index, each in enumerate(self.counted):
            if (each.value, each.distinct) == (wanted.value, wanted.distinct):
                self.counted[index] = replace(
                    each,
                    summed=each.summed or wanted.summed,
                    extremes=tuple(dict.fromkeys([*each.extremes, *wanted.extremes])),
                )
                return index
        self.counted.append(wanted)
        return len(self.counted) - 1


def _state(column: str) -> exp.Expr:
    return exp.column(column, quoted=True)


def _single(call: exp.Expr, values: Sequence[exp.Expr]) -> exp.Expr:
    if len(values) != 1:
        raise Obstacle(f"uses {text(call)}, which cannot be merged")
    return values[0]


def is_aggregate(part: exp.Expr, functions: Mapping[str, tuple[str, str]]) -> bool:
    """Whether the part calls an aggregate function over the rows of a group, not of a window."""
    if not isinstance(part, exp.Func) or _is_of_window(part):
        return False
    kind, _ = functions.get(function_name(part), ("", ""))
    return isinstance(part, exp.AggFunc) or kind == "aggregate"


def _is_of_window(part: exp.Expr) -> bool:
    """Whether the part is the function that a window calls."""
    while isinstance(part.parent, exp.Filter | exp.IgnoreNulls | exp.RespectNulls):
        if part.arg_key != "this":
            return False
        part = part.parent
    return isinstance(part.parent, exp.Window) and part.arg_key == "this"
