"""Nodes compiled to SQL: the full query and the delta of one and the same plan.

A delta is a relation with the visible columns and ``_weight``. The delta of a join follows by
inclusion and exclusion over the inputs that changed, read against the NEW state of the others:

    Δ(A ⋈ B) = ΔA ⋈ B + A ⋈ ΔB - ΔA ⋈ ΔB

so that no old state is ever kept. That is 2ⁿ-1 terms for n changed inputs; past four it goes
through them one after the other, with ``old = new - Δ`` for those already passed: n terms.

All functions are pure: relation and delta names in, SQL text out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import sqlglot
from sqlglot import exp

from upwell.core.batch import WEIGHT
from upwell.core.schema import Column
from upwell.core.sql import quote, quote_table, quoted_list
from upwell.transform.plan.nodes import (
    ROWS,
    Aggregate,
    Branch,
    Input,
    Kind,
    Linear,
    Node,
    Recompute,
    count_column,
    group_column,
    sum_column,
)

#: With more changed inputs than this, telescoping takes over from inclusion and exclusion.
MAX_SUBSETS_OF = 4

MERGED_ROWID = "_rowid"
SHOWS, SHOWED, SAME = "_shows", "_showed", "_same"

#: The value's column in a hidden relation of distinct values.
VALUE = "_value"

_PRESENT = "_present"
_WAS = "_was"


# ── full queries ─────────────────────────────────────────────────────────────────────────────────


def full(kind: Kind, names: Sequence[str]) -> str:
    """The query that gives a node's whole relation, its columns under ``names``."""
    match kind:
        case Linear(branches=branches):
            return "\nUNION ALL\n".join(full_branch(branch, names) for branch in branches)
        case Aggregate():
            return visible(kind, names, f"({full_state(kind)})")
        case Recompute(query=query):
            return f"SELECT * FROM (\n{query}\n) AS given({quoted_list(names)})"


def full_branch(branch: Branch, names: Sequence[str]) -> str:
    sources = ", ".join(_current(each) for each in branch.inputs)
    outputs = _named(branch.outputs, names) or "1"  # count(*) alone asks for no column
    return f"SELECT {outputs} FROM {sources}{_where(branch.conditions)}"


def full_state(kind: Aggregate) -> str:
    """The query that gives an aggregate's state, clustered by its groups."""
    groups = group_names(kind)
    columns = [*map(quote, groups), f"count(*) AS {quote(ROWS)}"]
    for index, argument in enumerate(kind.arguments):
        value = ("DISTINCT " if argument.distinct else "") + quote(_argument(index))
        columns.append(f"count({value}) AS {quote(count_column(index))}")
        if argument.sum_type:
            total = f"CAST(coalesce(sum({value}), 0) AS {argument.sum_type})"
            columns.append(f"{total} AS {quote(sum_column(index))}")
    rows = full_branch(kind.rows, _row_names(kind))
    query = f"SELECT {', '.join(columns)} FROM ({rows}) AS given"
    return (
        f"{query} GROUP BY {quoted_list(groups)} ORDER BY {quoted_list(groups)}"
        if groups
        else query
    )


def visible(kind: Aggregate, names: Sequence[str], state: str) -> str:
    """What an aggregate shows of its ``state``, a relation given as SQL."""
    having = _where((kind.having,) if kind.having else ())
    return f"SELECT {_named(kind.outputs, names)} FROM {state} AS state{having}"


def group_names(kind: Aggregate) -> list[str]:
    return [group_column(index) for index in range(kind.groups)]


def counter_types(kind: Aggregate) -> dict[str, str]:
    """The counters of an aggregate's state and their types."""
    counters = {ROWS: "BIGINT"}
    for index, argument in enumerate(kind.arguments):
        counters[count_column(index)] = "BIGINT"
        if argument.sum_type:
            counters[sum_column(index)] = argument.sum_type
    return counters


# ── deltas ───────────────────────────────────────────────────────────────────────────────────────

Deltas = Mapping[Input, str]
"""The inputs that changed, each with the name under which its delta can be read."""


def linear_delta(node: Node, kind: Linear, deltas: Deltas) -> str:
    """The consolidated delta of a linear node."""
    terms = _union(
        term for branch in kind.branches for term in _terms(branch, deltas, node.column_names)
    )
    weight = f"CAST(sum({WEIGHT}) AS BIGINT)"
    return (
        f"SELECT {quoted_list(node.column_names)}, {weight} AS {WEIGHT} FROM (\n{terms}\n)"
        f" GROUP BY {quoted_list(node.column_names)} HAVING sum({WEIGHT}) <> 0"
    )


def grouped_delta(kind: Aggregate, deltas: Deltas, distinct: Mapping[str, str]) -> str:
    """How much each counter of each group changes; groups without change are left out.

    ``distinct``: the hidden relations of distinct values that changed, each with its delta as SQL.
    """
    of_values = [argument.distinct for argument in kind.arguments]
    terms = list(_terms(kind.rows, deltas, _row_names(kind), of_values))
    rows = f"sum({WEIGHT})"
    if any(of_values):  # distinct values count as values of their group, not as rows of it
        terms = [f"SELECT *, TRUE AS {_PRESENT} FROM ({term})" for term in terms]
        terms += [_value_term(kind, relation, delta) for relation, delta in distinct.items()]
        rows += f" FILTER (WHERE {_PRESENT})"
    counters = [
        f"coalesce(CAST({rows if name == ROWS else _change(kind, name)} AS {of_type}), 0)"
        f" AS {quote(name)}"
        for name, of_type in counter_types(kind).items()
    ]
    groups = [quote(name) for name in group_names(kind)]
    by = f" GROUP BY {', '.join(groups)}" if groups else ""
    changed = " OR ".join(f"{quote(name)} <> 0" for name in counter_types(kind))
    columns = ", ".join([*groups, *counters])
    return f"SELECT {columns} FROM (\n{_union(terms)}\n){by} HAVING {changed}"


def merge(kind: Aggregate, delta: str, null_groups: frozenset[str]) -> str:
    """The touched groups: state before, counters after, and what shows before and after.

    ``null_groups``: the group columns that hold a NULL in the delta; the others compare by ``=``,
    which lets DuckDB skip the parts of the state that cannot match.
    """
    groups = group_names(kind)
    columns = [f"state.rowid AS {MERGED_ROWID}", *(f"delta.{quote(name)}" for name in groups)]
    for name, of_type in counter_types(kind).items():
        column = quote(name)
        after = f"coalesce(state.{column}, 0) + delta.{column}"
        columns += [f"CAST({after} AS {of_type}) AS {column}", f"state.{column} AS {_was(name)}"]
    touched = (
        f"SELECT {', '.join(columns)} FROM {quote(delta)} AS delta"
        f" LEFT JOIN {quote_table(kind.state)} AS state"
        f" ON {match('delta', 'state', groups, null_groups)}"
    )
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


def new_names(kind: Aggregate) -> list[str]:
    """The columns of a merge that hold the outputs after it; a bare group column is itself."""
    return [_bare_group(output) or f"_new{index}" for index, output in enumerate(kind.outputs)]


def old_names(kind: Aggregate) -> list[str]:
    """The columns of a merge that hold the outputs before it."""
    return [_bare_group(output) or f"_old{index}" for index, output in enumerate(kind.outputs)]


def _bare_group(output: str) -> str | None:
    name = output.strip('"')
    return name if re.fullmatch(r"_g\d+", name) else None


def difference(node: Node) -> str:
    """The delta that takes a stored result to what its full query gives now."""
    names = quoted_list(node.column_names)
    return (
        f"SELECT {names}, CAST(sum({WEIGHT}) AS BIGINT) AS {WEIGHT} FROM ("
        f"SELECT {names}, 1 AS {WEIGHT} FROM ({full(node.kind, node.column_names)})"
        f" UNION ALL SELECT {names}, -1 FROM {quote_table(node.name)}"
        f") GROUP BY {names} HAVING sum({WEIGHT}) <> 0"
    )


def match(left: str, right: str, names: Sequence[str], nullable: frozenset[str]) -> str:
    """A join condition over same-named columns; NULL equals NULL in the ``nullable`` ones."""
    if not names:
        return "TRUE"
    return " AND ".join(
        f"{left}.{quote(name)} {'IS NOT DISTINCT FROM' if name in nullable else '='}"
        f" {right}.{quote(name)}"
        for name in names
    )


def typed(columns: Sequence[Column], delta: str) -> str:
    """A registered delta read with the stored types, which Arrow does not always carry."""
    casts = [f"CAST({quote(each.name)} AS {each.type}) AS {quote(each.name)}" for each in columns]
    return f"(SELECT {', '.join([*casts, WEIGHT])} FROM {quote(delta)})"


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
) -> Iterator[str]:
    """The SELECTs whose sum is the branch's delta.

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
        sources, weights = [], []
        for each in branch.inputs:
            if each in term.as_delta or each in term.as_old:
                read = typed(each.columns, deltas[each])
                if each in term.as_old:
                    read = _old(each, deltas[each])
                sources.append(f"{read} AS {quote(each.alias)}")
                weights.append(f"{quote(each.alias)}.{WEIGHT}")
            else:
                sources.append(_current(each))
        sign = "-" if term.negative else ""
        yield (
            f"SELECT {_named([*outputs, sign + ' * '.join(weights)], [*names, WEIGHT])}"
            f" FROM {', '.join(sources)}{_where(branch.conditions)}"
        )


def _old(source: Input, delta: str) -> str:
    """An input's state before the delta, as weighted rows."""
    names = quoted_list(column.name for column in source.columns)
    comma = ", " if names else ""
    return (
        f"(SELECT {names}{comma}CAST(1 AS BIGINT) AS {WEIGHT} FROM {quote_table(source.relation)}"
        f" UNION ALL SELECT {names}{comma}-{WEIGHT} FROM {typed(source.columns, delta)})"
    )


# ── pieces ───────────────────────────────────────────────────────────────────────────────────────


def _current(source: Input) -> str:
    return f"{quote_table(source.relation)} AS {quote(source.alias)}"


def _named(expressions: Sequence[str], names: Sequence[str]) -> str:
    return ", ".join(
        f"{expression} AS {quote(name)}"
        for expression, name in zip(expressions, names, strict=True)
    )


def _where(conditions: Sequence[str]) -> str:
    return " WHERE " + " AND ".join(f"({each})" for each in conditions) if conditions else ""


def _union(terms: Iterator[str] | Sequence[str]) -> str:
    return "\nUNION ALL\n".join(terms)


def _having(exists: str, having: str | None) -> str:
    return f"({exists} AND coalesce({having}, FALSE))" if having else f"({exists})"


def _argument(index: int) -> str:
    return f"_a{index}"


def _row_names(kind: Aggregate) -> list[str]:
    return [*group_names(kind), *(_argument(index) for index in range(len(kind.arguments)))]


def _value_term(kind: Aggregate, relation: str, delta: str) -> str:
    """The values of a distinct relation that come or go, as rows of the aggregate it feeds."""
    values = [
        f"{quote(VALUE) if argument.distinct == relation else 'NULL'} AS {quote(_argument(index))}"
        for index, argument in enumerate(kind.arguments)
    ]
    columns = ", ".join([*map(quote, group_names(kind)), *values])
    return f"SELECT {columns}, {WEIGHT}, NULL AS {_PRESENT} FROM {delta}"


def _change(kind: Aggregate, counter: str) -> str:
    """The change of one argument's counter over the weighted rows of a group."""
    index = int(counter[2:])
    value, sum_type = quote(_argument(index)), kind.arguments[index].sum_type
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
