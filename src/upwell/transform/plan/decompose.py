"""A query taken apart into nodes.

Each SELECT becomes a node over a join: linear, or counters, or recomputed by key; CTEs, derived
tables, outer joins, the operands of a UNION and the values of COUNT(DISTINCT) become hidden nodes
of their own. A query that has no delta raises ``Obstacle`` where that shows; the smallest query
around it is then recomputed in full, and everything above it stays incremental.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlglot import exp
from sqlglot.optimizer.scope import traverse_scope

from upwell.core.schema import Column
from upwell.transform.plan import sql
from upwell.transform.plan.aggregates import is_grouped
from upwell.transform.plan.bind import LOGICAL_TIME
from upwell.transform.plan.draft import Draft, Target
from upwell.transform.plan.grouped import aggregate, distinct_rows
from upwell.transform.plan.joins import Joined, Obstacle, refuse, text, whole
from upwell.transform.plan.keys import Relation
from upwell.transform.plan.nodes import Branch, Input, Linear, Recompute
from upwell.transform.plan.reading import Scope, is_plain, named_target, read
from upwell.transform.plan.windows import distinct_on, has_windows, over_groups, windowed


def decompose(draft: Draft, query: exp.Query, target: Target, scope: Scope) -> Relation:
    """Add the nodes of ``query`` to the draft; the last one gives ``target``."""
    mark = len(draft.nodes)
    try:
        return _incremental(draft, query, target, scope)
    except Obstacle as obstacle:
        draft.forget(mark)
        if not target.hidden:
            raise
        return _recompute(draft, query, target, scope, str(obstacle))


def _incremental(draft: Draft, query: exp.Query, target: Target, scope: Scope) -> Relation:
    query = _without_parentheses(query)
    scope = _with_ctes(draft, query, scope)
    match query:
        case exp.Select():
            return _select(draft, query, target, scope)
        case exp.Union():
            return _union(draft, query, target, scope)
        case _:
            raise Obstacle(f"uses {query.key.upper()}")


def _without_parentheses(query: exp.Query) -> exp.Query:
    while isinstance(query, exp.Subquery):
        if any(value for part, value in query.args.items() if part not in ("this", "alias")):
            raise Obstacle("uses LIMIT or ORDER BY around a subquery")
        query = query.this
    return query


def _with_ctes(draft: Draft, query: exp.Query, scope: Scope) -> Scope:
    """The scope with the query's own CTEs, each now a hidden relation."""
    clause = query.args.get("with_")
    if clause is None:
        return scope
    if clause.args.get("recursive"):
        raise Obstacle("is recursive")
    inner = dict(scope)
    for cte in clause.expressions:
        name = cte.alias.lower()
        inner[name] = decompose(draft, cte.this, named_target(draft, cte.this, name), inner)
    return inner


# ── SELECT ───────────────────────────────────────────────────────────────────────────────────────


def _select(draft: Draft, select: exp.Select, target: Target, scope: Scope) -> Relation:
    distinct = select.args.get("distinct")
    if distinct is not None and distinct.args.get("on"):
        return _select(draft, distinct_on(select), target, scope)
    is_of_groups = is_grouped(select, draft.binder.functions)
    if is_of_groups and has_windows(select):
        return _select(draft, over_groups(select, draft.binder.functions), target, scope)
    is_simple = not is_of_groups and not has_windows(select)
    reading = read(draft, select, scope, decompose)
    select = reading.select(select)
    joined = reading.joined
    if distinct is not None and not is_simple:
        inner = draft.hidden("rows", target.columns)
        joined, columns = whole(_rows(draft, select, joined, inner))
        return distinct_rows(draft, joined, columns, target)
    if distinct is not None:
        refuse(select.expressions)
        outputs = [each.unalias() for each in select.expressions]
        return distinct_rows(draft, joined, outputs, target)
    return _rows(draft, select, joined, target)


def _rows(draft: Draft, select: exp.Select, joined: Joined, target: Target) -> Relation:
    """What a SELECT gives over its join, before DISTINCT."""
    if has_windows(select):
        return windowed(draft, select, joined, target)
    refuse(select.expressions)
    refuse(part for name in ("group", "having") if (part := select.args.get(name)))
    if is_grouped(select, draft.binder.functions):
        return aggregate(draft, select, joined, target)
    outputs = [each.unalias() for each in select.expressions]
    return _linear(draft, [(joined, outputs)], target)


def _linear(
    draft: Draft, parts: Sequence[tuple[Joined, list[exp.Expr]]], target: Target
) -> Relation:
    branches = [joined.branch(outputs) for joined, outputs in parts]
    if len(branches) > 1:
        branches = _of_one_type(draft, branches, target)
    joins = any(len(branch.inputs) > 1 for branch in branches)
    unique: tuple[int, ...] = ()
    if len(parts) == 1:
        joined, outputs = parts[0]
        unique = joined.facts.unique(outputs, target.declared_positions)
    never_null = [
        all(joined.facts.never_null(outputs[index]) for joined, outputs in parts)
        for index in range(len(target.columns))
    ]
    reason = (
        "each changed row is joined with the current rows of the other inputs"
        if joins
        else "each changed row gives its own changed rows"
    )
    kind = Linear(tuple(branches), stored=not target.hidden)
    return draft.add(target, kind, reason=reason, never_null=never_null, unique=unique)


def _of_one_type(draft: Draft, branches: Sequence[Branch], target: Target) -> list[Branch]:
    """The branches of a UNION, each output cast where DuckDB finds a common type for it."""
    together = draft.binder.describe(
        sql.full(Linear(tuple(branches), stored=False), target.columns)
    )
    found = []
    for branch in branches:
        alone = draft.binder.describe(sql.full_branch(branch, target.columns))
        types = [
            "" if column.type == common.type else common.type
            for column, common in zip(alone, together, strict=True)
        ]
        flat = branch.flat and replace(branch.flat, outputs=_cast(branch.flat.outputs, types))
        found.append(replace(branch, outputs=_cast(branch.outputs, types), flat=flat))
    return found


def _cast(outputs: Sequence[str], types: Sequence[str]) -> tuple[str, ...]:
    """The outputs, those cast to whose place a type is given."""
    return tuple(
        f"CAST({output} AS {of_type})" if of_type else output
        for output, of_type in zip(outputs, types, strict=True)
    )


# ── UNION ────────────────────────────────────────────────────────────────────────────────────────

#: What keeps an operand of a UNION from being laid flat among the others.
_NOT_BARE = ("with_", "order", "limit", "offset", "by_name")


def _union(draft: Draft, union: exp.Union, target: Target, scope: Scope) -> Relation:
    allowed = ("this", "expression", "distinct", "with_", "order")
    if extra := [part for part, value in union.args.items() if value and part not in allowed]:
        raise Obstacle(f"uses {extra[0].replace('_', ' ').upper()} with UNION")
    if not union.args.get("distinct"):
        return _linear(draft, list(_operands(draft, union, scope)), target)
    both = draft.hidden("union", target.columns)
    joined, columns = whole(_linear(draft, list(_operands(draft, union, scope)), both))
    return distinct_rows(draft, joined, columns, target)


def _operands(draft: Draft, union: exp.Union, scope: Scope) -> list[tuple[Joined, list[exp.Expr]]]:
    """The operands of a UNION, nested ones of the same kind laid flat."""
    found: list[tuple[Joined, list[exp.Expr]]] = []
    for side in (union.this, union.expression):
        side = _without_parentheses(side)  # noqa: PLW2901 - the same operand, bare
        bare = not any(side.args.get(part) for part in _NOT_BARE)
        if isinstance(side, exp.Union) and bare and not side.args.get("distinct"):
            found += _operands(draft, side, scope)
            continue
        if isinstance(side, exp.Select) and bare and is_plain(draft, side):
            mark = len(draft.nodes)
            try:
                reading = read(draft, side, scope, decompose)
                outputs = [each.unalias() for each in reading.select(side).expressions]
                refuse(outputs)
                found.append((reading.joined, outputs))
                continue
            except Obstacle:
                draft.forget(mark)
        columns = [f"c{index}" for index in range(len(side.selects))]
        found.append(whole(decompose(draft, side, draft.hidden("part", columns), scope)))
    return found


# ── full refresh ─────────────────────────────────────────────────────────────────────────────────


def _recompute(
    draft: Draft, query: exp.Query, target: Target, scope: Scope, because: str
) -> Relation:
    """A hidden node that runs ``query`` in full; CTEs in reach are read by their hidden names."""
    query = query.copy()
    reads = reads_of(query, scope, draft.relations)
    local = {cte.alias.lower() for cte in query.find_all(exp.CTE)}
    for table in query.find_all(exp.Table):
        name = table.name.lower()
        if not table.db and name in scope and name not in local:
            schema, _, hidden = scope[name].name.partition(".")
            table.set("this", exp.to_identifier(hidden, quoted=True))
            table.set("db", exp.to_identifier(schema, quoted=True))
    kind = Recompute(text(query), reads, reads_clock=f"${LOGICAL_TIME}" in text(query))
    return draft.add(target, kind, reason=because)


def reads_of(
    query: exp.Query, scope: Scope, relations: Mapping[str, Relation]
) -> tuple[Input, ...]:
    """The relations a qualified query reads, each with the columns it uses."""
    used: dict[str, set[str]] = {}
    found: dict[str, Relation] = {}
    for part in traverse_scope(query):
        for alias, source in part.sources.items():
            if not isinstance(source, exp.Table) or not isinstance(source.this, exp.Identifier):
                continue
            name = source.name if source.db in ("", "main") else f"{source.db}.{source.name}"
            known = scope if not source.db else relations
            relation = known[name.lower()]
            found[relation.name] = relation
            columns = [each for each in part.columns if each.table == alias]
            used.setdefault(relation.name, set()).update(each.name.lower() for each in columns)
    return tuple(
        Input(name, name, _columns_of(relation, used[name])) for name, relation in found.items()
    )


def _columns_of(relation: Relation, used: set[str]) -> tuple[Column, ...]:
    return tuple(each for each in relation.columns if each.name.lower() in used)
