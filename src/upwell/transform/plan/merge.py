"""Aggregates compiled to SQL: how counters change, and what of a group shows then.

The delta of an aggregate is made of three things: how much each counter of each touched group
changes, the group's counters as they are stored, and what its outputs say of them before and after.
Where nothing has to be known of the first before the second is read, one statement does it all.

All functions are pure: relation and delta names in, SQL text out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import compress

import sqlglot
from sqlglot import exp

from upwell.core.batch import WEIGHT
from upwell.core.schema import Column
from upwell.core.sql import quote, quote_table, quoted_list
from upwell.transform.plan import sql
from upwell.transform.plan.chain import Ground
from upwell.transform.plan.delta import Deltas, consolidated, restricted, terms
from upwell.transform.plan.nodes import (
    ROWS,
    Aggregate,
    Branch,
    Extreme,
    count_column,
    extreme_column,
    group_column,
    sum_column,
)

MERGED_ROWID = "_rowid"
SHOWS, SHOWED, SAME = "_shows", "_showed", "_same"
STALE = "_stale"

_WAS = "_was"

#: How a value compares that is further out than another, and the function that takes it.
_FURTHER: dict[Extreme, str] = {"min": "<", "max": ">"}
_OUTER: dict[Extreme, str] = {"min": "least", "max": "greatest"}


# ── how much counters change ─────────────────────────────────────────────────────────────────────


def grouped_delta(
    kind: Aggregate, deltas: Deltas, distinct: Mapping[str, str], ground: Ground
) -> str | None:
    """How much each counter of each touched group changes.

    ``distinct``: the hidden relations of distinct values that changed, each with its delta as SQL.
    Of an argument whose extremes are kept it also gives those of the values that come, and of those
    that go.
    """
    rows, names = _own_values(kind)
    found = terms(rows, deltas, names, ground)
    if kind.extremes and found:  # a value that goes and comes again is no change of the extremes
        found = [consolidated(sql.union(found), names)]
    if len(names) < len(sql.row_names(kind)):  # a distinct value counts by a weight of its own
        found = [f"SELECT *, {_values(kind)} FROM ({term})" for term in found]
        found += [_value_term(kind, names, *each) for each in distinct.items()]
    if not found:
        return None
    groups = [quote(name) for name in sql.group_names(kind)]
    changes = [
        f"{_change(kind, name, of_type)} AS {quote(name)}"
        for name, of_type in sql.counter_types(kind).items()
    ]
    changes += [
        f"{extreme}({quote(sql.argument_name(index))}) FILTER (WHERE {WEIGHT} {sign} 0) AS {column}"
        for extreme, index in kind.extremes
        for column, sign in (
            (extreme_column(extreme, index), ">"),
            (_gone(extreme_column(extreme, index)), "<"),
        )
    ]
    by = f" GROUP BY {', '.join(groups)}" if groups else ""
    return f"SELECT {', '.join([*groups, *changes])} FROM (\n{sql.union(found)}\n){by}"


def _own_values(kind: Aggregate) -> tuple[Branch, list[str]]:
    """The rows with the values that are not counted apart, and the names of their columns."""
    apart = [argument.distinct is not None for argument in kind.arguments]
    if not any(apart):
        return kind.rows, sql.row_names(kind)
    kept = [True] * kind.groups + [not each for each in apart]
    outputs = tuple(compress(kind.rows.outputs, kept))
    return replace(kind.rows, outputs=outputs), list(compress(sql.row_names(kind), kept))


def _values(kind: Aggregate, relation: str | None = None) -> str:
    """The columns of distinct values and their weights, none but those of ``relation``."""
    columns = []
    for index, argument in enumerate(kind.arguments):
        is_here = argument.distinct == relation
        if argument.distinct and argument.sum_type:
            value = quote(sql.VALUE) if is_here else "NULL"
            columns.append(f"{value} AS {quote(sql.argument_name(index))}")
        if argument.distinct:
            columns.append(f"{WEIGHT if is_here else 0} AS {_value_weight(index)}")
    return ", ".join(columns)


def _value_term(kind: Aggregate, names: Sequence[str], relation: str, delta: str) -> str:
    """The values of a distinct relation that come or go, as rows that count as no row."""
    groups = quoted_list(names[: kind.groups])
    nothing = [f"NULL AS {quote(name)}" for name in names[kind.groups :]]
    columns = ", ".join([*([groups] if groups else []), *nothing, f"0 AS {WEIGHT}"])
    return f"SELECT {columns}, {_values(kind, relation)} FROM {delta}"


def _value_weight(index: int) -> str:
    return f"_d{index}"


def _change(kind: Aggregate, counter: str, of_type: str) -> str:
    """The change of a counter over the weighted rows of a group."""
    if counter == ROWS:
        return _cast(f"sum({WEIGHT})", of_type, or_zero=not kind.groups)
    index = int(counter[2:])
    argument, value = kind.arguments[index], quote(sql.argument_name(index))
    weight = _value_weight(index) if argument.distinct else WEIGHT
    if counter == sum_column(index):
        has_others = any(each.distinct for each in kind.arguments)
        or_zero = has_others or not argument.always or not kind.groups
        return _cast(f"sum(CAST({value} AS {argument.sum_type}) * {weight})", of_type, or_zero)
    if argument.distinct:
        return _cast(f"sum({weight})", of_type, or_zero=not kind.groups)
    return _cast(f"sum({weight}) FILTER (WHERE {value} IS NOT NULL)", of_type, or_zero=True)


def _cast(change: str, of_type: str, or_zero: bool) -> str:
    cast = f"CAST({change} AS {of_type})"
    return f"coalesce({cast}, 0)" if or_zero else cast


# ── what is stored, and what shows ───────────────────────────────────────────────────────────────


def merges_at_once(kind: Aggregate) -> bool:
    """Whether a group's state can be read by the statement that says how it changes.

    Else that is looked at first: DuckDB does not know how little comes of a join; the state is in
    the order of its first group, and by that compared with ``=`` only where it is not NULL; and of
    extremes that go some have to be found anew.
    """
    is_ordered = not kind.groups or group_column(0) not in kind.null_groups
    return len(kind.rows.inputs) == 1 and is_ordered and not kind.extremes


def merge(
    kind: Aggregate,
    delta: str,
    null_groups: frozenset[str],
    extremes: str | None = None,
) -> str:
    """The touched groups: state before, counters after, and what shows before and after.

    ``delta``: how the counters change, as an item of FROM. ``null_groups``: the group columns that
    may be NULL in it; the others compare by ``=``, which lets DuckDB skip the parts of the state
    that cannot match. ``extremes`` names the extremes of the groups in which the first pass calls
    them ``STALE``.
    """
    shown, same = [], []
    for output, new, old in zip(kind.outputs, new_names(kind), old_names(kind), strict=True):
        if new != old:
            before = _before(output)
            same.append(f"({output}) IS NOT DISTINCT FROM ({before})")
            shown.append(old if before == quote(old) else f"{before} AS {old}")
            if output != quote(new):
                shown.append(f"{output} AS {new}")
    exists = f"{quote(ROWS)} > 0" if kind.groups else "TRUE"
    existed = f"{MERGED_ROWID} IS NOT NULL"
    columns = [
        MERGED_ROWID,
        *map(quote, sql.state_types(kind)),
        *dict.fromkeys(shown),
        *([STALE] if kind.extremes else []),
        f"{_having(exists, kind.having)} AS {SHOWS}",
        f"{_having(existed, kind.having and _before(kind.having))} AS {SHOWED}",
        f"{' AND '.join(same) or 'TRUE'} AS {SAME}",
    ]
    return f"SELECT {', '.join(columns)} FROM ({_touched(kind, delta, null_groups, extremes)})"


def _touched(kind: Aggregate, delta: str, null_groups: frozenset[str], extremes: str | None) -> str:
    """The touched groups: their state before, and after."""
    groups = sql.group_names(kind)
    columns = [f"state.rowid AS {MERGED_ROWID}", *(f"delta.{quote(name)}" for name in groups)]
    for name, of_type in sql.counter_types(kind).items():
        column = quote(name)
        after = f"coalesce(state.{column}, 0) + delta.{column}"
        columns += [f"CAST({after} AS {of_type}) AS {column}", f"state.{column} AS {_was(name)}"]
    columns += _merged_extremes(kind, extremes)
    sources = f"{delta} AS delta LEFT JOIN {quote_table(kind.state)} AS state"
    sources += f" ON {sql.match('delta', 'state', groups, null_groups)}"
    if extremes:
        renewed = sql.match("delta", "renewed", groups, frozenset(groups))
        found = sql.cast(_columns(kind, [*groups, *_extreme_columns(kind)]), extremes)
        sources += f" LEFT JOIN {found} AS renewed ON {renewed}"
    return f"SELECT {', '.join(columns)} FROM {sources}"


def read_grouped(kind: Aggregate, delta: str) -> str:
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


def new_names(kind: Aggregate) -> list[str]:
    """The columns of a merge that hold the outputs after it."""
    return [sql.bare_column(output) or f"_new{index}" for index, output in enumerate(kind.outputs)]


def old_names(kind: Aggregate) -> list[str]:
    """The columns of a merge that hold the outputs before it; a group column stays as it is."""
    return [
        f"_old{index}" if (column := sql.bare_column(output)) is None else _before_it(column)
        for index, output in enumerate(kind.outputs)
    ]


def _before_it(column: str) -> str:
    """The column of a merge that holds a state's column before it."""
    return column if column.startswith("_g") else column + _WAS


def _was(column: str) -> str:
    return quote(_before_it(column))


@cache
def _before(output: str) -> str:
    """An expression over the state as an expression over the state before the merge."""
    tree = sqlglot.parse_one(output, dialect="duckdb")
    for column in list(tree.find_all(exp.Column)):
        column.this.set("this", _before_it(column.name))
    return tree.sql(dialect="duckdb")


def _having(exists: str, having: str | None) -> str:
    return f"({exists} AND coalesce({having}, FALSE))" if having else f"({exists})"


# ── extremes ─────────────────────────────────────────────────────────────────────────────────────


def _merged_extremes(kind: Aggregate, renewed: str | None) -> list[str]:
    """The extremes after, those before, and whether some can only be known from the rows.

    That is so where the value that was least or greatest goes and none as far out comes.
    """
    columns, stale = [], []
    for extreme, index in kind.extremes:
        column, further = extreme_column(extreme, index), _FURTHER[extreme]
        count = quote(count_column(index) if kind.arguments[index].is_counted else ROWS)
        left = f"coalesce(state.{count}, 0) + delta.{count}"
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
    rows = restricted(kind.rows, names, touched, groups, null_keys=null_groups)
    extremes = [
        f"{extreme}({quote(sql.argument_name(index))}) AS {extreme_column(extreme, index)}"
        for extreme, index in kind.extremes
    ]
    by = f" GROUP BY {quoted_list(groups)}" if groups else ""
    return f"SELECT {', '.join([*map(quote, groups), *extremes])} FROM ({rows}){by}"


def _gone(column: str) -> str:
    """The column with the extreme of the values that go."""
    return f"{column}_gone"
