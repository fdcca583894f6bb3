"""Nodes compiled to SQL: how each kind's relation changes when its inputs change.

A delta is a relation with the visible columns and ``_weight``. That of a join of two follows from
their deltas, and A and B as they stand NOW, so that no old state is kept:

    Δ(A ⋈ B)  =  ΔA ⋈ (B - ΔB)  +  A ⋈ ΔB

Larger joins are made of such (``chain.py``), aggregates are merged with their state (``merge.py``).

Relation and delta names in, SQL text out. What has no terms, since nothing came of them on the way,
is None.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from upwell.core.batch import WEIGHT
from upwell.core.sql import quote, quote_table, quoted_list
from upwell.transform.plan import sql
from upwell.transform.plan.chain import Ground, chained
from upwell.transform.plan.nodes import (
    Branch,
    Input,
    Keyed,
    Linear,
    Node,
    Outer,
    Span,
    group_column,
)

_TOUCHED = "_touched"

Deltas = Mapping[Input, str]
"""The inputs that changed, each with the name under which its delta can be read."""


# ── linear ───────────────────────────────────────────────────────────────────────────────────────


def linear_delta(node: Node, kind: Linear, deltas: Deltas, ground: Ground) -> str | None:
    """The consolidated delta of a linear node."""
    names = node.column_names
    found = [
        term
        for index, branch in enumerate(kind.branches)
        for term in terms(branch, deltas, names, _of_branch(ground, index))
    ]
    return consolidated(sql.union(found), names) if found else None


def _of_branch(ground: Ground, index: int) -> Ground:
    """The ground on which the rows of one branch are laid apart from those of another."""
    return replace(ground, lay=lambda role, query: ground.lay(f"{index} {role}", query))


def outer_delta(node: Node, kind: Outer, deltas: Deltas) -> str:
    """The consolidated delta of an outer or anti join: of the inner joins it amounts to.

    Where only the left side changed, its changed rows are joined as the whole is.
    """
    names = node.column_names
    if kind.side != "FULL" and deltas.keys() == {kind.left}:
        left = f"{sql.typed(kind.left.columns, deltas[kind.left])} AS {quote(kind.left.alias)}"
        weight = f"{quote(kind.left.alias)}.{WEIGHT} AS {WEIGHT}"
        return consolidated(
            sql.full_outer(kind, names, left, sql.current(kind.right), weight), names
        )
    found = [
        term
        for branch, negative in _inner_joins(kind)
        for term in _products(branch, deltas, names, negative=negative)
    ]
    return consolidated(sql.union(found), names)


def _inner_joins(kind: Outer) -> Iterator[tuple[Branch, bool]]:
    """The inner joins that add up to the join, and whether each is taken away instead."""
    if kind.side != "ANTI":
        yield Branch((kind.left, kind.right), _padded(kind, None), kind.on), False
    sides = (kind.left, kind.right)
    for side, match in zip(sides, kind.matches, strict=False):
        outputs = _padded(kind, side)
        yield Branch((side,), outputs, ()), False
        yield Branch((side, match.partners), outputs, match.conditions), True


def _padded(kind: Outer, only: Input | None) -> tuple[str, ...]:
    """The outputs; with ``only`` one side there, NULLs in the place of the other's columns."""
    return tuple(
        f"{quote(alias)}.{quote(column.name)}"
        if only is None or alias == only.alias
        else f"CAST(NULL AS {column.type})"
        for alias, column in kind.outputs
    )


def consolidated(terms: str, names: Sequence[str]) -> str:
    """Weighted rows with each different row once, and none of weight zero."""
    columns = ", ".join([*map(quote, names), f"CAST(sum({WEIGHT}) AS BIGINT) AS {WEIGHT}"])
    by = f" GROUP BY {quoted_list(names)}" if names else ""
    return f"SELECT {columns} FROM (\n{terms}\n){by} HAVING sum({WEIGHT}) <> 0"


def passed(reader: Input, delta: str) -> str:
    """What of a relation's delta readers with a condition see: the rows that meet it.

    ``reader`` reads whatever any of them reads.
    """
    read = sql.typed([*reader.columns, *reader.tested], delta)
    columns = ", ".join([*(quote(each.name) for each in reader.columns), WEIGHT])
    alias = quote(reader.alias)
    return f"SELECT {columns} FROM {read} AS {alias}{sql.where([reader.condition])}"


# ── touched keys recomputed, or everything ───────────────────────────────────────────────────────


def touched_keys(kind: Keyed, deltas: Deltas, ground: Ground) -> str | None:
    """The keys of which some row changed, each once, under the names of ``key_columns``."""
    keys = len(kind.key_columns)
    names = kind.row_names
    found = terms(kind.rows, deltas, names, ground)
    if not found:
        return None
    changed = consolidated(sql.union(found), names)
    shown = sql.named([quote(group_column(index)) for index in range(keys)], kind.key_columns)
    return f"SELECT DISTINCT {shown} FROM ({changed})"


def keyed_difference(
    node: Node,
    kind: Keyed,
    keys: str,
    null_keys: frozenset[str],
    ranges: Sequence[str] = (),
) -> str:
    """The delta that takes what is stored for some keys to what the query gives for them now.

    ``keys``: a relation of them, as SQL; ``null_keys``: those of its columns that hold a NULL;
    ``ranges``: what else is known of the rows of these keys.
    """
    names = node.column_names
    rows = restricted(
        kind.rows, kind.row_names, keys, kind.key_columns, null_keys=null_keys, ranges=ranges
    )
    stored = (
        f"SELECT {quoted_list(names, 'stored')}, -1 FROM {quote_table(node.name)} AS stored"
        f" JOIN {keys} AS {_TOUCHED}"
        f" ON {sql.match('stored', _TOUCHED, kind.key_columns, null_keys)}"
    )
    return consolidated(
        f"SELECT {quoted_list(names)}, 1 AS {WEIGHT} FROM ({sql.over_rows(kind, names, rows)})"
        f"\nUNION ALL\n{stored}",
        names,
    )


def restricted(
    branch: Branch,
    names: Sequence[str],
    keys: str,
    key_columns: Sequence[str],
    *,
    null_keys: frozenset[str],
    ranges: Sequence[str] = (),
) -> str:
    """The rows of a branch whose first outputs are one of ``keys``, a relation as SQL.

    ``null_keys``: those of ``key_columns`` that hold a NULL; ``ranges``: what else is known of the
    rows.
    """
    touched = _TOUCHED
    while touched in {each.alias for each in branch.inputs}:
        touched += "_"
    met = [
        f"({output}) {'IS NOT DISTINCT FROM' if name in null_keys else '='} {touched}.{quote(name)}"
        for output, name in zip(branch.outputs, key_columns, strict=False)
    ]
    sources = ", ".join([*map(sql.current, branch.inputs), f"{keys} AS {touched}"])
    return (
        f"SELECT {sql.named(branch.outputs, names)} FROM {sources}"
        f"{sql.where([*branch.all_conditions, *met, *ranges])}"
    )


def key_range(span: Span, least: datetime, greatest: datetime) -> str | None:
    """What is known of a time whose keys lie between two (of UTC, or of no zone).

    Two days more at both ends take in what zones and changes of the clocks may shift.
    """
    try:
        begin, end = least - timedelta(days=2), greatest + timedelta(days=span.days + 2)
    except OverflowError:
        return None
    zone = " 00:00:00+00" if span.type == "TIMESTAMP WITH TIME ZONE" else ""
    return " AND ".join(
        f"{span.time} {compared} {span.type} '{bound.date()}{zone}'"
        for compared, bound in ((">=", begin), ("<", end))
    )


def difference(node: Node) -> str:
    """The delta that takes a stored result to what its full query gives now."""
    names = quoted_list(node.column_names)
    return consolidated(
        f"SELECT {names}, 1 AS {WEIGHT} FROM ({sql.full(node.kind, node.column_names)})"
        f"\nUNION ALL\nSELECT {names}, -1 FROM {quote_table(node.name)}",
        node.column_names,
    )


# ── the terms of a join's delta ──────────────────────────────────────────────────────────────────


def terms(branch: Branch, deltas: Deltas, names: Sequence[str], ground: Ground) -> list[str]:
    """The SELECTs whose sum is the branch's delta, its outputs under ``names``."""
    changed = {each: deltas[each] for each in branch.inputs if each in deltas}
    if branch.flat is None:
        return list(_products(branch, changed, names))
    return chained(branch, branch.flat, changed, names, ground) if changed else []


def _products(
    branch: Branch, deltas: Deltas, names: Sequence[str], *, negative: bool = False
) -> Iterator[str]:
    """The products by which one input, or two, change a branch; with ``negative``, its opposite.

    An input that changed is read as its delta in one product, as it stands in those after, and as
    it stood in those before.
    """
    changed = [each for each in branch.inputs if each in deltas]
    for place, as_delta in enumerate(changed):
        sources, weights, conditions = [], [], []
        for each in branch.inputs:
            alias = quote(each.alias)
            if each in changed[place:]:
                read = sql.typed(each.columns, deltas[each])
                if each is not as_delta:
                    read = _before(each, deltas[each])
                sources.append(f"{read} AS {alias}")
                weights.append(f"{alias}.{WEIGHT}")
            else:
                sources.append(sql.current(each))
                conditions += [each.condition] if each.condition else []
        weight = f"{'-' if negative else ''}{' * '.join(weights)}"
        yield (
            f"SELECT {sql.named([*branch.outputs, weight], [*names, WEIGHT])}"
            f" FROM {', '.join(sources)}{sql.where([*conditions, *branch.conditions])}"
        )


def _before(source: Input, delta: str) -> str:
    """An input as it stood before its delta, as weighted rows."""
    names = quoted_list(column.name for column in source.columns)
    comma = ", " if names else ""
    condition = sql.where([source.condition] if source.condition else [])
    return (
        f"(SELECT {names}{comma}CAST(1 AS BIGINT) AS {WEIGHT} FROM {sql.current(source)}{condition}"
        f" UNION ALL SELECT {names}{comma}-{WEIGHT} FROM {sql.typed(source.columns, delta)})"
    )
