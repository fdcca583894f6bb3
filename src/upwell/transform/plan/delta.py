"""Nodes compiled to SQL: how each kind's relation changes when its inputs change.

A delta is a relation with the visible columns and ``_weight``. The delta of a join follows by
inclusion and exclusion over the inputs that changed, read against the NEW state of the others:

    Δ(A ⋈ B) = ΔA ⋈ B + A ⋈ ΔB - ΔA ⋈ ΔB

so that no old state is ever kept. That is 2ⁿ-1 terms for n changed inputs; past four it goes
through them one after the other, with ``old = new - Δ`` for those already passed: n terms.

All functions are pure: relation and delta names in, SQL text out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from itertools import combinations

import sqlglot
from sqlglot import exp

from upwell.core.batch import WEIGHT
from upwell.core.schema import Column
from upwell.core.sql import quote, quote_table, quoted_list
from upwell.transform.plan import sql
from upwell.transform.plan.nodes import (
    ROWS,
    Aggregate,
    Branch,
    Extreme,
    Input,
    Keyed,
    Linear,
    Node,
    Outer,
    Span,
    count_column,
    extreme_column,
    group_column,
)

#: With more changed inputs than this, telescoping takes over from inclusion and exclusion.
MAX_SUBSETS_OF = 4

MERGED_ROWID = "_rowid"
SHOWS, SHOWED, SAME = "_shows", "_showed", "_same"
STALE = "_stale"

_PRESENT = "_present"
_WAS = "_was"
_TOUCHED = "_touched"

#: How a value compares that is further out than another, and the function that takes it.
_FURTHER: dict[Extreme, str] = {"min": "<", "max": ">"}
_OUTER: dict[Extreme, str] = {"min": "least", "max": "greatest"}

Deltas = Mapping[Input, str]
"""The inputs that changed, each with the name under which its delta can be read."""


# ── linear ───────────────────────────────────────────────────────────────────────────────────────


def linear_delta(node: Node, kind: Linear, deltas: Deltas) -> str:
    """The consolidated delta of a linear node."""
    terms = sql.union(
        term for branch in kind.branches for term in _terms(branch, deltas, node.column_names)
    )
    return consolidated(terms, node.column_names)


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
    terms = [
        term
        for branch, negative in _inner_joins(kind)
        for term in _terms(branch, deltas, names, negative=negative)
    ]
    return consolidated(sql.union(terms), names)


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
    """What of a relation's delta a reader with a condition sees: rows that meet it."""
    names = [each.name for each in reader.columns]
    read = sql.typed([*reader.columns, *reader.tested], delta)
    rows = f"SELECT {', '.join([*map(quote, names), WEIGHT])} FROM {read} AS {quote(reader.alias)}"
    return consolidated(f"{rows}{sql.where([reader.condition])}", names)


# ── aggregates ───────────────────────────────────────────────────────────────────────────────────


def grouped_delta(kind: Aggregate, deltas: Deltas, distinct: Mapping[str, str]) -> str:
    """How much each counter of each group changes; groups without change are left out.

    ``distinct``: the hidden relations of distinct values that changed, each with its delta as SQL.
    Of an argument whose extremes are kept it also gives those of the values that come, and of those
    that go.
    """
    of_values = [argument.distinct for argument in kind.arguments]
    names = sql.row_names(kind)
    terms = list(_terms(kind.rows, deltas, names, of_values))
    if kind.extremes:  # a value that goes and comes again is no change of the extremes
        terms = [consolidated(sql.union(terms), names)] if terms else []
    rows = f"sum({WEIGHT})"
    if any(of_values):  # distinct values count as values of their group, not as rows of it
        terms = [f"SELECT *, TRUE AS {_PRESENT} FROM ({term})" for term in terms]
        terms += [_value_term(kind, relation, delta) for relation, delta in distinct.items()]
        rows += f" FILTER (WHERE {_PRESENT})"
    counters = {
        quote(name): f"coalesce(CAST({rows if name == ROWS else _change(kind, name)}"
        f" AS {of_type}), 0)"
        for name, of_type in sql.counter_types(kind).items()
    }
    extremes = {
        column: f"{extreme}({quote(sql.argument_name(index))}) FILTER (WHERE {WEIGHT} {sign} 0)"
        for extreme, index in kind.extremes
        for column, sign in (
            (extreme_column(extreme, index), ">"),
            (_gone(extreme_column(extreme, index)), "<"),
        )
    }
    groups = [quote(name) for name in sql.group_names(kind)]
    by = f" GROUP BY {', '.join(groups)}" if groups else ""
    changed = [
        *(f"{name} <> 0" for name in counters),
        *(f"{name} IS NOT NULL" for name in extremes),
    ]
    shown = [f"{value} AS {name}" for name, value in (counters | extremes).items()]
    return (
        f"SELECT {', '.join([*groups, *shown])} FROM (\n{sql.union(terms)}\n){by}"
        f" HAVING {' OR '.join(changed)}"
    )


def merge(
    kind: Aggregate,
    delta: str,
    null_groups: frozenset[str],
    extremes: str | None = None,
) -> str:
    """The touched groups: state before, counters after, and what shows before and after.

    ``null_groups``: the group columns that hold a NULL in the delta; the others compare by ``=``,
    which lets DuckDB skip the parts of the state that cannot match. ``extremes`` names the extremes
    of the groups in which the first pass calls them ``STALE``.
    """
    groups = sql.group_names(kind)
    columns = [f"state.rowid AS {MERGED_ROWID}", *(f"delta.{quote(name)}" for name in groups)]
    for name, of_type in sql.counter_types(kind).items():
        column = quote(name)
        after = f"coalesce(state.{column}, 0) + delta.{column}"
        columns += [f"CAST({after} AS {of_type}) AS {column}", f"state.{column} AS {_was(name)}"]
    columns += _merged_extremes(kind, extremes)
    sources = f"{_typed_delta(kind, delta)} AS delta LEFT JOIN {quote_table(kind.state)} AS state"
    sources += f" ON {sql.match('delta', 'state', groups, null_groups)}"
    if extremes:
        renewed = sql.match("delta", "renewed", groups, frozenset(groups))
        found = sql.cast(_columns(kind, [*groups, *_extreme_columns(kind)]), extremes)
        sources += f" LEFT JOIN {found} AS renewed ON {renewed}"
    touched = f"SELECT {', '.join(columns)} FROM {sources}"
    shown, same = [], []
    for output, new, old in zip(kind.outputs, new_names(kind), old_names(kind), strict=True):
        if new != old:
            before = _before(output)
            shown += [f"{output} AS {new}", f"{before} AS {old}"]
            same.append(f"({output}) IS NOT DISTINCT FROM ({before})")
    exists = f"{quote(ROWS)} > 0" if groups else "TRUE"
    existed = f"{MERGED_ROWID} IS NOT NULL"
    shown += [
        f"{_having(exists, kind.having)} AS {SHOWS}",
        f"{_having(existed, kind.having and _before(kind.having))} AS {SHOWED}",
        f"{' AND '.join(same) or 'TRUE'} AS {SAME}",
    ]
    return f"SELECT *, {', '.join(shown)} FROM ({touched})"


def _typed_delta(kind: Aggregate, delta: str) -> str:
    """A registered delta of the counters, its groups and extremes in their stored types."""
    columns = _columns(kind, sql.group_names(kind))
    for each in _columns(kind, _extreme_columns(kind)):
        columns += [each, replace(each, name=_gone(each.name))]
    return sql.cast(columns, delta, *map(quote, sql.counter_types(kind)))


def _columns(kind: Aggregate, names: Iterable[str]) -> list[Column]:
    types = sql.state_types(kind)
    return [Column(name, types[name]) for name in names]


def _extreme_columns(kind: Aggregate) -> list[str]:
    return [extreme_column(*each) for each in kind.extremes]


def _merged_extremes(kind: Aggregate, renewed: str | None) -> list[str]:
    """The extremes after, those before, and whether some can only be known from the rows.

    That is so where the value that was least or greatest goes and none as far out comes.
    """
    columns, stale = [], []
    for extreme, index in kind.extremes:
        column, further, count = (
            extreme_column(extreme, index),
            _FURTHER[extreme],
            count_column(index),
        )
        left = f"coalesce(state.{quote(count)}, 0) + delta.{quote(count)}"
        lost = (
            f"delta.{_gone(column)} {further}= state.{column}"
            f" AND NOT coalesce(delta.{column} {further}= state.{column}, FALSE)"
        )
        merged = f"{_OUTER[extreme]}(state.{column}, delta.{column})"
        of_type = kind.arguments[index].type
        if renewed:
            merged = f"CASE WHEN {lost} THEN renewed.{column} ELSE {merged} END"
        columns += [
            f"CAST(CASE WHEN {left} > 0 THEN {merged} END AS {of_type}) AS {column}",
            f"state.{column} AS {_was(column)}",
        ]
        stale.append(f"{left} > 0 AND {lost}")
    if stale:
        columns.append(f"coalesce({' OR '.join(f'({each})' for each in stale)}, FALSE) AS {STALE}")
    return columns


def renewed_extremes(kind: Aggregate, keys: str, null_groups: frozenset[str]) -> str:
    """The extremes of some groups as the rows have them. ``keys`` is registered and names them."""
    groups = sql.group_names(kind)
    names = sql.row_names(kind)
    touched = sql.cast(_columns(kind, groups), keys, quote(ROWS))
    rows = _restricted(kind.rows, names, touched, groups, null_keys=null_groups)
    extremes = [
        f"{extreme}({quote(sql.argument_name(index))}) AS {extreme_column(extreme, index)}"
        for extreme, index in kind.extremes
    ]
    by = f" GROUP BY {quoted_list(groups)}" if groups else ""
    return f"SELECT {', '.join([*map(quote, groups), *extremes])} FROM ({rows}){by}"


def _gone(column: str) -> str:
    """The column with the extreme of the values that go."""
    return f"{column}_gone"


def _restricted(
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


def new_names(kind: Aggregate) -> list[str]:
    """The columns of a merge that hold the outputs after it; a bare group column is itself."""
    return [sql.bare_group(output) or f"_new{index}" for index, output in enumerate(kind.outputs)]


def old_names(kind: Aggregate) -> list[str]:
    """The columns of a merge that hold the outputs before it."""
    return [sql.bare_group(output) or f"_old{index}" for index, output in enumerate(kind.outputs)]


def _value_term(kind: Aggregate, relation: str, delta: str) -> str:
    """The values of a distinct relation that come or go, as rows of the aggregate it feeds."""
    values = [
        f"{quote(sql.VALUE) if argument.distinct == relation else 'NULL'}"
        f" AS {quote(sql.argument_name(index))}"
        for index, argument in enumerate(kind.arguments)
    ]
    columns = ", ".join([*map(quote, sql.group_names(kind)), *values])
    return f"SELECT {columns}, {WEIGHT}, NULL AS {_PRESENT} FROM {delta}"


def _change(kind: Aggregate, counter: str) -> str:
    """The change of one argument's counter over the weighted rows of a group."""
    index = int(counter[2:])
    value, sum_type = quote(sql.argument_name(index)), kind.arguments[index].sum_type
    if counter == count_column(index):
        return f"sum({WEIGHT}) FILTER (WHERE {value} IS NOT NULL)"
    return f"sum(CAST({value} AS {sum_type}) * {WEIGHT})"


def _was(counter: str) -> str:
    return quote(counter + _WAS)


@cache
def _before(output: str) -> str:
    """An expression over the state as an expression over the state before the merge."""
    tree = sqlglot.parse_one(output, dialect="duckdb")
    for column in list(tree.find_all(exp.Column)):
        if not column.name.startswith("_g"):
            column.this.set("this", column.name + _WAS)
    return tree.sql(dialect="duckdb")


def _having(exists: str, having: str | None) -> str:
    return f"({exists} AND coalesce({having}, FALSE))" if having else f"({exists})"


# ── touched keys recomputed, or everything ───────────────────────────────────────────────────────


def touched_keys(kind: Keyed, deltas: Deltas) -> str:
    """The keys of which some row changed, each once, under the names of ``key_columns``."""
    keys = len(kind.key_columns)
    names = kind.row_names
    changed = consolidated(sql.union(_terms(kind.rows, deltas, names)), names)
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
    rows = _restricted(
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


@dataclass(frozen=True, slots=True)
class _Term:
    """One product: some inputs read as delta, some in their old state, the rest as they stand."""

    as_delta: frozenset[Input]
    as_old: frozenset[Input]
    negative: bool


def _products(changed: Sequence[Input]) -> Iterator[_Term]:
    nothing: frozenset[Input] = frozenset()
    if len(changed) <= MAX_SUBSETS_OF:
        for size in range(1, len(changed) + 1):
            for subset in combinations(changed, size):
                yield _Term(frozenset(subset), nothing, negative=size % 2 == 0)
    else:
        for index, each in enumerate(changed):
            yield _Term(frozenset([each]), frozenset(changed[:index]), negative=False)


def _terms(
    branch: Branch,
    deltas: Deltas,
    names: Sequence[str],
    elsewhere: Sequence[str | None] = (),
    *,
    negative: bool = False,
) -> Iterator[str]:
    """The SELECTs whose sum is the branch's delta, or with ``negative`` its opposite.

    ``elsewhere``: for the last outputs, whether their changes come from another relation (if so,
    its name) and are NULL here.
    """
    offset = len(branch.outputs) - len(elsewhere)
    outputs = [
        "NULL" if index >= offset and elsewhere[index - offset] else output
        for index, output in enumerate(branch.outputs)
    ]
    changed = [each for each in branch.inputs if each in deltas]
    for term in _products(changed):
        sources, weights, conditions = [], [], []
        for each in branch.inputs:
            if each in term.as_delta or each in term.as_old:
                read = sql.typed(each.columns, deltas[each])
                if each in term.as_old:
                    read = _old(each, deltas[each])
                sources.append(f"{read} AS {quote(each.alias)}")
                weights.append(f"{quote(each.alias)}.{WEIGHT}")
            else:
                sources.append(sql.current(each))
                conditions += [each.condition] if each.condition else []
        sign = "-" if term.negative != negative else ""
        yield (
            f"SELECT {sql.named([*outputs, sign + ' * '.join(weights)], [*names, WEIGHT])}"
            f" FROM {', '.join(sources)}{sql.where([*conditions, *branch.conditions])}"
        )


def _old(source: Input, delta: str) -> str:
    """An input's state before the delta, as weighted rows."""
    names = quoted_list(column.name for column in source.columns)
    comma = ", " if names else ""
    condition = sql.where([source.condition] if source.condition else [])
    return (
        f"(SELECT {names}{comma}CAST(1 AS BIGINT) AS {WEIGHT} FROM {sql.current(source)}{condition}"
        f" UNION ALL SELECT {names}{comma}-{WEIGHT} FROM {sql.typed(source.columns, delta)})"
    )
