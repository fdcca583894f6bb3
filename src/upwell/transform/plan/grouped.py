"""GROUP BY and DISTINCT as nodes: counters merged where that is exact, else groups recomputed.

``distinct_rows`` and ``aggregate`` add the nodes to a draft; ``keyed`` adds the one that recomputes
touched keys, which windows use too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from sqlglot import exp

from upwell.transform.plan import sql
from upwell.transform.plan.aggregates import Grouped, group_expressions, read_groups
from upwell.transform.plan.draft import Draft, Target, alone
from upwell.transform.plan.joins import Joined, Obstacle, text, whole
from upwell.transform.plan.keys import Reference, Relation
from upwell.transform.plan.nodes import (
    HIDDEN,
    ROWS,
    Aggregate,
    Argument,
    Branch,
    Keyed,
    Linear,
    Span,
    group_column,
    value_column,
)

_TIMES = ("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE")
#: How many days a unit of time has at most.
_UNITS = {"MINUTE": 1, "HOUR": 1, "DAY": 1, "WEEK": 7, "MONTH": 31, "QUARTER": 92, "YEAR": 366}

#: Writes the clauses of a query over given rows, from a function that writes expressions so.
Clauses = Callable[[Callable[[exp.Expr], str]], str]


def distinct_rows(
    draft: Draft,
    joined: Joined,
    outputs: Sequence[exp.Expr],
    target: Target,
    *,
    reason: str = "counts how often each row occurs: it matters when one comes or goes",
) -> Relation:
    """Each different row once: an aggregate that groups by everything and counts rows."""
    shown = [exp.column(group_column(index), quoted=True) for index in range(len(outputs))]
    grouped = Grouped(list(outputs), [], [], [], list(shown), None)
    kind = Aggregate(
        rows=joined.branch(outputs),
        group_types=tuple(draft.types(joined, outputs)),
        null_groups=_null_groups(joined, outputs),
        arguments=(),
        outputs=tuple(text(each) for each in shown),
        having=None,
        state=_state_name(target),
    )
    return draft.add(
        target,
        kind,
        reason=reason,
        never_null=[joined.facts.never_null(each) for each in outputs],
        unique=_unique_groups(joined, grouped, target),
    )


def aggregate(draft: Draft, select: exp.Select, joined: Joined, target: Target) -> Relation:
    """The GROUP BY of a SELECT: counters where they merge, else its touched groups recomputed."""
    groups = group_expressions(select, draft.binder.functions)
    mark = len(draft.nodes)
    try:
        return _merged(draft, select, joined, target)
    except Obstacle as obstacle:
        draft.forget(mark)
        if not groups:
            raise
        return _recomputed_groups(draft, select, joined, target, str(obstacle))


# ── counters ─────────────────────────────────────────────────────────────────────────────────────


def _merged(draft: Draft, select: exp.Select, joined: Joined, target: Target) -> Relation:
    grouped = read_groups(
        select, draft.binder.functions, partial(draft.types, joined), joined.facts.never_null
    )
    values = [each.value for each in grouped.counted]
    group_types = draft.types(joined, grouped.groups)
    rows = joined.branch([*grouped.groups, *values])
    distinct: dict[int, str] = {}
    if any(each.distinct for each in grouped.counted):
        rows, distinct = _distinct_values(draft, joined, rows, grouped, group_types)
    arguments = tuple(
        Argument(of_type, sum_type, distinct.get(index), counted.extremes, counted.always)
        for index, (counted, of_type, sum_type) in enumerate(
            zip(grouped.counted, grouped.types, grouped.sum_types, strict=True)
        )
    )
    kind = Aggregate(
        rows=rows,
        group_types=tuple(group_types),
        null_groups=_null_groups(joined, grouped.groups),
        arguments=arguments,
        outputs=tuple(text(each) for each in grouped.outputs),
        having=None if grouped.having is None else text(grouped.having),
        state=_state_name(target),
    )
    return draft.add(
        target,
        kind,
        reason="the counters of each touched group are merged with what is stored",
        never_null=[_state_never_null(each, grouped, joined) for each in grouped.outputs],
        unique=_unique_groups(joined, grouped, target),
    )


def _null_groups(joined: Joined, groups: Sequence[exp.Expr]) -> frozenset[str]:
    """The columns of those groups that may be NULL."""
    return frozenset(
        group_column(index)
        for index, each in enumerate(groups)
        if not joined.facts.never_null(each)
    )


def _state_name(target: Target) -> str:
    name = target.name.removeprefix(HIDDEN + ".")
    return f"{HIDDEN}.{name}#state"


def _distinct_values(
    draft: Draft, of: Joined, rows: Branch, grouped: Grouped, group_types: Sequence[str]
) -> tuple[Branch, dict[int, str]]:
    """Hidden nodes for an aggregate with DISTINCT: its rows, and each value once a group."""
    groups = len(grouped.groups)
    names = [group_column(index) for index in range(groups)]
    columns = names + [f"_a{index}" for index in range(len(grouped.counted))]
    given = draft.add(
        draft.hidden("rows", columns),
        Linear((rows,), stored=False),
        reason="gathers once what several counters read",
    )
    joined, outputs = whole(given)
    distinct: dict[int, str] = {}
    for index, each in enumerate(grouped.counted):
        if not each.distinct:
            continue
        value = outputs[groups + index]
        branch = joined.branch([*outputs[:groups], value])
        label = each.value.name if isinstance(each.value, exp.Column) else "values"
        target = draft.hidden(f"distinct {label}", [*names, sql.VALUE])
        shown = [group_column(position) for position in range(groups + 1)]
        kind = Aggregate(
            rows=replace(branch, conditions=(f"{text(value)} IS NOT NULL",)),
            group_types=(*group_types, grouped.types[index]),
            null_groups=_null_groups(of, grouped.groups),
            arguments=(),
            outputs=tuple(text(exp.column(name, quoted=True)) for name in shown),
            having=None,
            state=_state_name(target),
        )
        reason = "counts how often each value occurs in a group: it matters when one comes or goes"
        distinct[index] = draft.add(target, kind, reason=reason).name
    return joined.branch(outputs), distinct


def _unique_groups(joined: Joined, grouped: Grouped, target: Target) -> tuple[int, ...]:
    """Positions of outputs that identify a group: the declared ones if they do."""
    shown = {
        index: grouped.groups[int(each.name[2:])]
        for index, each in enumerate(grouped.outputs)
        if isinstance(each, exp.Column) and each.name.startswith("_g")
    }
    return joined.facts.unique_groups(
        grouped.groups, shown, len(grouped.outputs), target.declared_positions
    )


def _state_never_null(shown: exp.Expr, grouped: Grouped, joined: Joined) -> bool:
    """Whether an output over the state always has a value."""
    if not isinstance(shown, exp.Column):
        return False
    if shown.name == ROWS or shown.name.startswith(("_n", "_s")):
        return True  # a sum is shown as it is kept only where it cannot be one of nothing
    return shown.name.startswith("_g") and joined.facts.never_null(
        grouped.groups[int(shown.name[2:])]
    )


# ── touched keys recomputed ──────────────────────────────────────────────────────────────────────


def _recomputed_groups(
    draft: Draft, select: exp.Select, joined: Joined, target: Target, because: str
) -> Relation:
    groups = group_expressions(select, draft.binder.functions)
    outputs = [each.unalias() for each in select.expressions]
    having = select.args.get("having")
    shown = {
        index: groups[groups.index(each)] for index, each in enumerate(outputs) if each in groups
    }

    def clauses(write: Callable[[exp.Expr], str]) -> str:
        by = f"GROUP BY {', '.join(write(each) for each in groups)}"
        return f"{by} HAVING {write(having.this)}" if having else by

    return keyed(
        draft,
        joined,
        keys=groups,
        outputs=outputs,
        clauses=clauses,
        read=[*outputs, *([having.this] if having else [])],
        target=target,
        reason=f"each touched group is recomputed, since the query {because}",
        never_null=[
            index in shown and joined.facts.never_null(each) for index, each in enumerate(outputs)
        ],
        unique=joined.facts.unique_groups(groups, shown, len(outputs), target.declared_positions),
    )


def keyed(
    draft: Draft,
    joined: Joined,
    *,
    keys: Sequence[exp.Expr],
    outputs: Sequence[exp.Expr],
    clauses: Clauses,
    read: Sequence[exp.Expr],
    target: Target,
    reason: str,
    never_null: Sequence[bool],
    unique: tuple[int, ...],
) -> Relation:
    """A query over a join, recomputed for the keys whose rows changed.

    ``read``: all expressions of the query. A key that the query does not show is kept in a hidden
    relation beside what it shows.
    """
    columns = _columns_outside(read, keys)
    names: dict[Reference, exp.Column] = {
        (each.table, each.name.lower()): exp.column(value_column(index), quoted=True)
        for index, each in enumerate(columns)
    }

    def write(expression: exp.Expr) -> str:
        return text(_over_rows(expression, keys, names))

    shown = [outputs.index(key) if key in outputs else None for key in keys]
    unseen = [index for index, place in enumerate(shown) if place is None]
    inner = target
    if unseen:
        extra = [f"_key{index}" for index in unseen]
        inner = draft.hidden("by key", [*target.columns, *extra])
    places = {key: len(outputs) + place for place, key in enumerate(unseen)}
    kind = Keyed(
        rows=joined.branch([*keys, *columns]),
        key_columns=tuple(
            inner.columns[places[index] if place is None else place]
            for index, place in enumerate(shown)
        ),
        outputs=tuple(write(each) for each in [*outputs, *(keys[index] for index in unseen)]),
        clauses=clauses(write),
        spans=tuple(_spans(draft, joined, keys)),
    )
    known = [*never_null, *(joined.facts.never_null(keys[index]) for index in unseen)]
    relation = draft.add(inner, kind, reason=reason, never_null=known, unique=unique)
    if not unseen:
        return relation
    visible = alone("all", relation)
    shows = [exp.column(each, "all", quoted=True) for each in target.columns]
    return draft.add(
        target,
        Linear((visible.branch(shows),), stored=not target.hidden),
        reason="each changed row gives its own changed rows",
        never_null=never_null,
        unique=unique,
    )


def _spans(draft: Draft, joined: Joined, keys: Sequence[exp.Expr]) -> Iterator[Span]:
    """The keys that are times cut to a day, an hour, a month."""
    for index, key in enumerate(keys):
        match key:
            case exp.Cast(this=exp.Column() as time) if key.is_type("date"):
                days = 1
            case (
                exp.TimestampTrunc(this=exp.Column() as time)
                | exp.DateTrunc(this=exp.Column() as time)
            ) if key.text("unit").upper() in _UNITS:
                days = _UNITS[key.text("unit").upper()]
            case _:
                continue
        (of_type,) = draft.types(joined, [time])
        if of_type in _TIMES:
            yield Span(index, text(time), of_type, days)


def _columns_outside(expressions: Sequence[exp.Expr], keys: Sequence[exp.Expr]) -> list[exp.Column]:
    """The columns that expressions read other than within a key, each once."""
    found: dict[Reference, exp.Column] = {}
    for expression in expressions:
        for part in expression.walk(prune=lambda part: part in keys):
            if isinstance(part, exp.Column) and part not in keys:
                found.setdefault((part.table, part.name.lower()), part)
    return list(found.values())


def _over_rows(
    expression: exp.Expr, keys: Sequence[exp.Expr], names: Mapping[Reference, exp.Column]
) -> exp.Expr:
    """The expression over rows of keys and values."""

    def replace_part(part: exp.Expr) -> exp.Expr:
        if part in keys:
            return exp.column(group_column(keys.index(part)), quoted=True)
        if isinstance(part, exp.Column) and part.table:
            return names[part.table, part.name.lower()].copy()
        return part

    return expression.copy().transform(replace_part)
