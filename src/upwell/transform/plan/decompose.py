"""A query taken apart into nodes.

Each SELECT becomes a linear node or an aggregate over a join; CTEs, derived tables, the operands of
a UNION and the values of COUNT(DISTINCT) become hidden nodes of their own. A query that has no
delta raises ``Obstacle`` where that shows; the smallest query around it is then recomputed in full,
and everything above it stays incremental.

Invariant: a node's relation has the very columns and types DuckDB gives the query it stands for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlglot import exp
from sqlglot.optimizer.scope import traverse_scope

from upwell.core.schema import Column
from upwell.transform.plan import sql
from upwell.transform.plan.aggregates import Grouped, is_grouped, read_groups
from upwell.transform.plan.bind import LOGICAL_TIME, Binder, Refused
from upwell.transform.plan.joins import Joined, Obstacle, read_join, text, whole
from upwell.transform.plan.keys import Relation, smallest
from upwell.transform.plan.nodes import (
    HIDDEN,
    ROWS,
    Aggregate,
    Argument,
    Branch,
    Input,
    Kind,
    Linear,
    Node,
    Recompute,
    group_column,
)

Scope = Mapping[str, Relation]
"""The CTEs in reach, by lower-case name."""


@dataclass(frozen=True, slots=True)
class Target:
    """The relation a query is to become. ``declared``: the key the model claims to have."""

    name: str
    columns: tuple[str, ...]
    declared: tuple[str, ...] = ()

    @property
    def hidden(self) -> bool:
        return self.name.startswith(HIDDEN + ".")


@dataclass(slots=True)
class Draft:
    """The nodes of one model as they come about. ``relations``: what else there is to read."""

    model: str
    binder: Binder
    relations: Mapping[str, Relation]
    nodes: list[Node] = field(default_factory=list)

    def hidden(self, label: str, columns: Sequence[str]) -> Target:
        """A new hidden relation: ``_upwell.daily/sums``."""
        taken = {node.name for node in self.nodes}
        name = f"{HIDDEN}.{self.model}/{label}"
        count = 2
        while name in taken:
            name = f"{HIDDEN}.{self.model}/{label} {count}"
            count += 1
        return Target(name, tuple(columns))

    def add(
        self,
        target: Target,
        kind: Kind,
        *,
        reason: str,
        never_null: Sequence[bool] = (),
        unique: tuple[int, ...] = (),
    ) -> Relation:
        """Add the node that gives ``target``. Raises ``Obstacle`` if DuckDB does not bind it."""
        try:
            bound = self.binder.declare(target.name, sql.full(kind, target.columns), target.columns)
        except Refused as refused:
            raise Obstacle(f"could not be taken apart ({refused.what})") from refused
        known = never_null or [False] * len(bound)
        columns = tuple(
            replace(each, nullable=not never) for each, never in zip(bound, known, strict=True)
        )
        names = tuple(columns[index].name for index in unique)
        self.nodes.append(Node(target.name, columns, kind, reason, names))
        return Relation(target.name, columns, names)


def decompose(draft: Draft, query: exp.Query, target: Target, scope: Scope) -> Relation:
    """Add the nodes of ``query`` to the draft; the last one gives ``target``."""
    mark = len(draft.nodes)
    try:
        return _incremental(draft, query, target, scope)
    except Obstacle as obstacle:
        del draft.nodes[mark:]
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
        inner[name] = decompose(draft, cte.this, _named(draft, cte.this, name), inner)
    return inner


def _named(draft: Draft, query: exp.Query, label: str) -> Target:
    """A hidden target whose columns are called as the query calls them."""
    names = [each.lower() for each in query.named_selects]
    if len(set(names)) < len(names) or "*" in names or "" in names:
        raise Obstacle(f"has two columns of one name in {label}")
    return draft.hidden(label, names)


# ── SELECT ───────────────────────────────────────────────────────────────────────────────────────


def _select(draft: Draft, select: exp.Select, target: Target, scope: Scope) -> Relation:
    joined = _read_join(draft, select, scope)
    distinct = select.args.get("distinct")
    if distinct is not None and distinct.args.get("on"):
        raise Obstacle("uses DISTINCT ON")
    if is_grouped(select, draft.binder.functions):
        if distinct is None:
            return _aggregate(draft, select, joined, target)
        inner = draft.hidden("groups", target.columns)
        grouped, columns = whole(_aggregate(draft, select, joined, inner))
        return _distinct(draft, grouped, columns, target)
    outputs = [each.unalias() for each in select.expressions]
    if distinct is not None:
        return _distinct(draft, joined, outputs, target)
    return _linear(draft, [(joined, outputs)], target)


def _read_join(draft: Draft, select: exp.Select, scope: Scope) -> Joined:
    def resolve(item: exp.Table | exp.Subquery) -> Relation:
        if isinstance(item, exp.Subquery):
            label = item.alias_or_name.lower() or "subquery"
            return decompose(draft, item.this, _named(draft, item.this, label), scope)
        if not item.db:
            return scope[item.name.lower()]
        name = item.name if item.db == "main" else f"{item.db}.{item.name}"
        return draft.relations[name.lower()]

    return read_join(select, resolve)


def _linear(
    draft: Draft, parts: Sequence[tuple[Joined, list[exp.Expr]]], target: Target
) -> Relation:
    branches = [joined.branch(outputs) for joined, outputs in parts]
    if len(branches) > 1:
        branches = _of_one_type(draft, branches, target)
    joins = any(len(branch.inputs) > 1 for branch in branches)
    unique: tuple[int, ...] = ()
    if len(parts) == 1:
        unique = _unique(*parts[0], target)
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
        outputs = tuple(
            output if column.type == common.type else f"CAST({output} AS {common.type})"
            for output, column, common in zip(branch.outputs, alone, together, strict=True)
        )
        found.append(replace(branch, outputs=outputs))
    return found


def _unique(joined: Joined, outputs: Sequence[exp.Expr], target: Target) -> tuple[int, ...]:
    """Positions of outputs proven to identify a row of the join: the declared ones if they do."""
    declared = _declared(target)
    if declared and joined.facts.identify([outputs[index] for index in declared]):
        return declared
    everything = tuple(range(len(outputs)))
    if not joined.facts.identify(outputs):
        return ()
    return smallest(everything, outputs, facts=joined.facts)


def _declared(target: Target) -> tuple[int, ...]:
    names = [name.lower() for name in target.columns]
    return tuple(names.index(name.lower()) for name in target.declared)


# ── UNION ────────────────────────────────────────────────────────────────────────────────────────


def _union(draft: Draft, union: exp.Union, target: Target, scope: Scope) -> Relation:
    allowed = ("this", "expression", "distinct", "with_", "order")
    if extra := [part for part, value in union.args.items() if value and part not in allowed]:
        raise Obstacle(f"uses {extra[0].replace('_', ' ').upper()} with UNION")
    if not union.args.get("distinct"):
        return _linear(draft, list(_operands(draft, union, scope)), target)
    both = draft.hidden("union", target.columns)
    joined, columns = whole(_linear(draft, list(_operands(draft, union, scope)), both))
    return _distinct(draft, joined, columns, target)


def _operands(draft: Draft, union: exp.Union, scope: Scope) -> list[tuple[Joined, list[exp.Expr]]]:
    """The operands of a UNION, nested ones of the same kind laid flat."""
    found: list[tuple[Joined, list[exp.Expr]]] = []
    for side in (union.this, union.expression):
        side = _without_parentheses(side)  # noqa: PLW2901 - the same operand, bare
        bare = not any(side.args.get(part) for part in ("with_", "order", "limit", "offset"))
        if isinstance(side, exp.Union) and bare and not side.args.get("distinct"):
            found += _operands(draft, side, scope)
            continue
        if isinstance(side, exp.Select) and bare and _is_plain(draft, side):
            outputs = [each.unalias() for each in side.expressions]
            mark = len(draft.nodes)
            try:
                found.append((_read_join(draft, side, scope), outputs))
                continue
            except Obstacle:
                del draft.nodes[mark:]
        columns = [f"c{index}" for index in range(len(side.selects))]
        found.append(whole(decompose(draft, side, draft.hidden("part", columns), scope)))
    return found


def _is_plain(draft: Draft, select: exp.Select) -> bool:
    return not select.args.get("distinct") and not is_grouped(select, draft.binder.functions)


# ── GROUP BY and DISTINCT ────────────────────────────────────────────────────────────────────────


def _aggregate(draft: Draft, select: exp.Select, joined: Joined, target: Target) -> Relation:
    def sum_types(values: Sequence[exp.Expr]) -> Sequence[str]:
        if not values:
            return []
        sums = joined.branch([exp.Sum(this=value.copy()) for value in values])
        names = [f"sum{index}" for index in range(len(values))]
        try:
            return [each.type for each in draft.binder.describe(sql.full_branch(sums, names))]
        except Refused as refused:
            raise Obstacle(f"could not be taken apart ({refused.what})") from refused

    grouped = read_groups(select, draft.binder.functions, sum_types)
    values = [each.value for each in grouped.counted]
    rows = joined.branch([*grouped.groups, *values])
    distinct: dict[int, str] = {}
    if any(each.distinct for each in grouped.counted):
        rows, distinct = _distinct_values(draft, rows, grouped)
    arguments = tuple(
        Argument(sum_type, distinct.get(index)) for index, sum_type in enumerate(grouped.sum_types)
    )
    kind = Aggregate(
        rows=rows,
        groups=len(grouped.groups),
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


def _state_name(target: Target) -> str:
    name = target.name.removeprefix(HIDDEN + ".")
    return f"{HIDDEN}.{name}#state"


def _distinct_values(draft: Draft, rows: Branch, grouped: Grouped) -> tuple[Branch, dict[int, str]]:
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
            groups=groups + 1,
            arguments=(),
            outputs=tuple(text(exp.column(name, quoted=True)) for name in shown),
            having=None,
            state=_state_name(target),
        )
        reason = "counts how often each value occurs in a group: it matters when one comes or goes"
        distinct[index] = draft.add(target, kind, reason=reason).name
    return joined.branch(outputs), distinct


def _distinct(
    draft: Draft, joined: Joined, outputs: Sequence[exp.Expr], target: Target
) -> Relation:
    """Each different row once: an aggregate that groups by everything and counts rows."""
    shown = [exp.column(group_column(index), quoted=True) for index in range(len(outputs))]
    grouped = Grouped(list(outputs), [], [], list(shown), None)
    kind = Aggregate(
        rows=joined.branch(outputs),
        groups=len(outputs),
        arguments=(),
        outputs=tuple(text(each) for each in shown),
        having=None,
        state=_state_name(target),
    )
    return draft.add(
        target,
        kind,
        reason="counts how often each row occurs: it matters when one comes or goes",
        never_null=[joined.facts.never_null(each) for each in outputs],
        unique=_unique_groups(joined, grouped, target),
    )


def _unique_groups(joined: Joined, grouped: Grouped, target: Target) -> tuple[int, ...]:
    """Positions of outputs that identify a group: the declared ones if they do."""
    shown = {
        index: grouped.groups[int(each.name[2:])]
        for index, each in enumerate(grouped.outputs)
        if isinstance(each, exp.Column) and each.name.startswith("_g")
    }
    if not grouped.groups or not joined.facts.fix(list(shown.values()), grouped.groups):
        return ()
    declared = _declared(target)
    if declared and set(declared) <= set(shown):
        given = [shown[index] for index in declared]
        if joined.facts.fix(given, grouped.groups):
            return declared
    ordered = [shown.get(index, exp.Null()) for index in range(len(grouped.outputs))]
    return smallest(tuple(shown), ordered, facts=joined.facts)


def _state_never_null(shown: exp.Expr, grouped: Grouped, joined: Joined) -> bool:
    """Whether an output over the state always has a value."""
    if not isinstance(shown, exp.Column):
        return False
    if shown.name == ROWS or shown.name.startswith("_n"):
        return True
    return shown.name.startswith("_g") and joined.facts.never_null(
        grouped.groups[int(shown.name[2:])]
    )


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
