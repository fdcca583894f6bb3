"""Nodes compiled to SQL: the full query of each kind, and the pieces deltas are made of too.

All functions are pure: relation names in, SQL text out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from upwell.core.batch import WEIGHT
from upwell.core.schema import Column
from upwell.core.sql import quote, quote_table, quoted_list, screened
from upwell.transform.plan.nodes import (
    ROWS,
    Aggregate,
    Branch,
    Input,
    Keyed,
    Kind,
    Linear,
    Outer,
    Recompute,
    count_column,
    extreme_column,
    group_column,
    sum_column,
)

#: Types that Arrow carries as they are.
_CARRIED = frozenset(
    (
        "BOOLEAN",
        "TINYINT",
        "SMALLINT",
        "INTEGER",
        "BIGINT",
        "FLOAT",
        "DOUBLE",
        "VARCHAR",
        "BLOB",
    )
)

#: The value's column in a hidden relation of distinct values.
VALUE = "_value"


# ── full queries ─────────────────────────────────────────────────────────────────────────────────


def full(kind: Kind, names: Sequence[str]) -> str:
    """The query that gives a node's whole relation, its columns under ``names``."""
    match kind:
        case Linear(branches=branches):
            return "\nUNION ALL\n".join(full_branch(branch, names) for branch in branches)
        case Outer(left=left, right=right):
            return full_outer(kind, names, current(left), current(right))
        case Aggregate():
            return visible(kind, names, f"({full_state(kind)})")
        case Keyed(rows=rows):
            return over_rows(kind, names, full_branch(rows, kind.row_names))
        case Recompute(query=query):
            return f"SELECT * FROM (\n{query}\n) AS given({quoted_list(names)})"


def full_branch(branch: Branch, names: Sequence[str]) -> str:
    sources = ", ".join(current(each) for each in branch.inputs)
    outputs = named(branch.outputs, names) or "1"  # count(*) alone asks for no column
    return f"SELECT {outputs} FROM {sources}{where(branch.all_conditions)}"


def full_outer(kind: Outer, names: Sequence[str], left: str, right: str, *more: str) -> str:
    """The join of two items of FROM as it is said in SQL; ``more`` is put out besides."""
    columns = [f"{quote(alias)}.{quote(column.name)}" for alias, column in kind.outputs]
    outputs = ", ".join([named(columns, names), *more])
    on = " AND ".join(f"({each})" for each in kind.on) or "TRUE"
    if kind.side == "ANTI":
        return f"SELECT {outputs} FROM {left} WHERE NOT EXISTS (SELECT 1 FROM {right} WHERE {on})"
    return f"SELECT {outputs} FROM {left} {kind.side} JOIN {right} ON {on}"


def full_state(kind: Aggregate) -> str:
    """The query that gives an aggregate's state, clustered by its groups."""
    groups = group_names(kind)
    columns = [*map(quote, groups), f"count(*) AS {quote(ROWS)}"]
    for index, argument in enumerate(kind.arguments):
        value = ("DISTINCT " if argument.distinct else "") + quote(argument_name(index))
        if argument.is_counted:
            columns.append(f"count({value}) AS {quote(count_column(index))}")
        if argument.sum_type:
            total = f"CAST(coalesce(sum({value}), 0) AS {argument.sum_type})"
            columns.append(f"{total} AS {quote(sum_column(index))}")
        columns += [
            f"{extreme}({value}) AS {quote(extreme_column(extreme, index))}"
            for extreme in argument.extremes
        ]
    rows = full_branch(kind.rows, row_names(kind))
    query = f"SELECT {', '.join(columns)} FROM ({rows}) AS given"
    return (
        f"{query} GROUP BY {quoted_list(groups)} ORDER BY {quoted_list(groups)}"
        if groups
        else query
    )


def visible(kind: Aggregate, names: Sequence[str], state: str) -> str:
    """What an aggregate shows of its ``state``, a relation given as SQL."""
    having = where((kind.having,) if kind.having else ())
    return f"SELECT {named(kind.outputs, names)} FROM {state} AS state{having}"


def over_rows(kind: Keyed, names: Sequence[str], rows: str) -> str:
    """What a keyed query makes of its ``rows``, a query given as SQL."""
    return f"SELECT {named(kind.outputs, names)} FROM ({rows}) AS given {kind.clauses}".rstrip()


# ── pieces ───────────────────────────────────────────────────────────────────────────────────────


def group_names(kind: Aggregate) -> list[str]:
    return [group_column(index) for index in range(kind.groups)]


def argument_name(index: int) -> str:
    return f"_a{index}"


def row_names(kind: Aggregate) -> list[str]:
    """The columns of an aggregate's rows: its groups, then its arguments."""
    return [*group_names(kind), *(argument_name(index) for index in range(len(kind.arguments)))]


def counter_types(kind: Aggregate) -> dict[str, str]:
    """What an aggregate's state counts and adds up, and the types."""
    counters = {ROWS: "BIGINT"}
    for index, argument in enumerate(kind.arguments):
        if argument.is_counted:
            counters[count_column(index)] = "BIGINT"
        if argument.sum_type:
            counters[sum_column(index)] = argument.sum_type
    return counters


def state_types(kind: Aggregate) -> dict[str, str]:
    """The columns of an aggregate's state, and their types."""
    extremes = {
        extreme_column(extreme, index): kind.arguments[index].type
        for extreme, index in kind.extremes
    }
    return {
        **dict(zip(group_names(kind), kind.group_types, strict=True)),
        **counter_types(kind),
        **extremes,
    }


def current(source: Input) -> str:
    """An input as it stands, as an item of FROM."""
    return f"{quote_table(source.relation)} AS {quote(source.alias)}"


def typed(columns: Sequence[Column], delta: str) -> str:
    """A registered delta read with the stored types, which Arrow does not always carry."""
    return cast(columns, delta, WEIGHT)


def cast(columns: Sequence[Column], registered: str, *more: str) -> str:
    """Columns of a registered Arrow table, and ``more`` as they are, in their stored types."""
    read = ", ".join([*(carried(each, each.name) for each in columns), *more])
    return f"(SELECT {read} FROM {quote(registered)})"


def carried(column: Column, name: str) -> str:
    """A column of a registered Arrow table in its stored type, under ``name``."""
    value = quote(column.name)
    is_carried = column.type in _CARRIED or column.type.startswith("DECIMAL(")
    return screened(name, value if is_carried else f"CAST({value} AS {column.type})")


def match(left: str, right: str, names: Sequence[str], nullable: frozenset[str]) -> str:
    """A join condition over same-named columns; NULL equals NULL in the ``nullable`` ones."""
    if not names:
        return "TRUE"
    return " AND ".join(
        f"{left}.{quote(name)} {'IS NOT DISTINCT FROM' if name in nullable else '='}"
        f" {right}.{quote(name)}"
        for name in names
    )


def named(expressions: Sequence[str], names: Sequence[str]) -> str:
    return ", ".join(
        f"{expression} AS {quote(name)}"
        for expression, name in zip(expressions, names, strict=True)
    )


def where(conditions: Sequence[str]) -> str:
    return " WHERE " + " AND ".join(f"({each})" for each in conditions) if conditions else ""


def union(terms: Iterable[str]) -> str:
    return "\nUNION ALL\n".join(terms)


def bare_column(output: str) -> str | None:
    """The state's column if an output over an aggregate's state shows that and no more."""
    found = re.fullmatch(r'"(_[a-z]+\d*)"', output)
    return found and found.group(1)
