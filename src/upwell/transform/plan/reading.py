"""FROM and WHERE of one SELECT read into an inner join, whatever joins and subqueries it is of.

Inner joins stay as they are written. An outer or anti join puts one hidden relation in the place of
both its sides; EXISTS, IN and SEMI JOIN become lookups; a scalar subquery over all rows of a table
becomes an input of one row. So every SELECT ends as an inner join, and what its columns are called
in that. Raises ``Obstacle`` where a part has no delta.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlglot import exp

from upwell.transform.plan.aggregates import group_expressions, is_grouped
from upwell.transform.plan.draft import Draft, Target, alone
from upwell.transform.plan.joins import (
    Item,
    Joined,
    Obstacle,
    read_conditions,
    read_items,
    references,
    refuse,
    renamed,
    shown_columns,
)
from upwell.transform.plan.keys import Reference, Relation
from upwell.transform.plan.partners import Side, outer_join, semi_join
from upwell.transform.plan.windows import has_windows

Scope = Mapping[str, Relation]
"""The CTEs in reach, by lower-case name."""

Decompose = Callable[[Draft, exp.Query, Target, Scope], Relation]
"""Takes a query apart into the nodes of a draft, the last of which gives the target."""


def named_target(draft: Draft, query: exp.Query, label: str) -> Target:
    """A hidden target whose columns are called as the query calls them."""
    names = [each.lower() for each in query.named_selects]
    if len(set(names)) < len(names) or "*" in names or "" in names:
        raise Obstacle(f"has two columns of one name in {label}")
    return draft.hidden(label, names)


def is_plain(draft: Draft, select: exp.Select) -> bool:
    """Whether each row of a SELECT comes from one row of its join."""
    return (
        not select.args.get("distinct")
        and not has_windows(select)
        and not is_grouped(select, draft.binder.functions)
    )


def read(draft: Draft, select: exp.Select, scope: Scope, decompose: Decompose) -> Reading:
    """Read the join a SELECT is made on, and the SELECT over it."""
    shown = shown_columns(select)
    items = read_items(select)
    reading = Reading(draft, scope, decompose)
    for place, item in enumerate(items, start=1):
        later = references(on for each in items[place:] for on in each.on)
        reading.needed = list(dict.fromkeys([*shown, *later]))
        reading.join(item)
    for condition in read_conditions(select):
        reading.filter(condition)
    return reading


@dataclass(slots=True)
class Reading:
    """The join so far.

    ``needed``: the columns that are read after what is joined next. ``_names``: what columns are
    called in the join, where that is not as they are written.
    """

    _draft: Draft
    _scope: Scope
    _decompose: Decompose
    needed: Sequence[Reference] = ()
    _joined: Joined | None = None
    _names: dict[Reference, exp.Column] = field(default_factory=dict)

    @property
    def joined(self) -> Joined:
        assert self._joined is not None  # noqa: S101 - every SELECT that is read has a first item
        return self._joined

    def called(self, expressions: Sequence[exp.Expr]) -> list[exp.Expr]:
        """Expressions over the inputs of the join."""
        return [renamed(each, self._names) for each in expressions]

    def select(self, select: exp.Select) -> exp.Select:
        """The SELECT with its own expressions over the inputs of the join."""
        before = self.joined.aliases
        copy = select.copy()
        copy.set("expressions", self.called([self._lift(each) for each in select.expressions]))
        for name in ("group", "having", "qualify"):
            if part := copy.args.get(name):
                copy.set(name, renamed(part, self._names))
        if lifted := sorted(self.joined.aliases - before):
            self._group_by_values(select, copy, lifted)
        return copy

    def _group_by_values(
        self, written: exp.Select, select: exp.Select, lifted: Sequence[str]
    ) -> None:
        """Values that all rows share may be shown by every group: it is grouped by them too."""
        functions = self._draft.binder.functions
        if not is_grouped(select, functions):
            return
        if not group_expressions(written, functions):
            raise Obstacle("shows a subquery beside totals of all rows")
        values = [exp.column("value", each, quoted=True) for each in lifted]
        groups = [*group_expressions(select, functions), *values]
        select.set("group", exp.Group(expressions=groups))

    # ── FROM ─────────────────────────────────────────────────────────────────────────────────────

    def join(self, item: Item) -> None:
        """Join the next item of FROM."""
        if self._joined is not None and item.alias in self._aliases:
            raise Obstacle(f"names two inputs {item.alias}")
        right = alone(item.alias, self._resolve(item))
        if self._joined is None:
            self._joined = right
            return
        on = self.called(item.on)
        match item.kind:
            case "INNER":
                self._joined = self._joined.cross(right, on)
            case "SEMI":
                self._joined = semi_join(self._draft, self._joined, right, on)
            case "RIGHT":
                self._outer("LEFT", (right, self._joined), on)
            case "LEFT" | "FULL" | "ANTI":
                self._outer(item.kind, (self._joined, right), on)

    def _resolve(self, item: Item) -> Relation:
        source = item.source
        if isinstance(source, exp.Subquery):
            label = item.alias.lower() or "subquery"
            target = named_target(self._draft, source.this, label)
            return self._decompose(self._draft, source.this, target, self._scope)
        if not source.db:
            return self._scope[source.name.lower()]
        name = source.name if source.db == "main" else f"{source.db}.{source.name}"
        return self._draft.relations[name.lower()]

    def _outer(self, side: Side, sides: tuple[Joined, Joined], on: Sequence[exp.Expr]) -> None:
        """Put an outer or anti join in the place of what was read so far."""
        now = [self._names[place] for place in self.needed if place in self._names]
        current = [(each.table, each.name.lower()) for each in now]
        joined, names = outer_join(self._draft, side, sides, on, [*self.needed, *current])
        moved = {
            written: names[at]
            for written, column in self._names.items()
            if (at := (column.table, column.name.lower())) in names
        }
        self._joined, self._names = joined, {**names, **moved}

    # ── WHERE ────────────────────────────────────────────────────────────────────────────────────

    def filter(self, condition: exp.Expr) -> None:
        """Add one condition of WHERE; EXISTS and IN become semi and anti joins."""
        is_negated = isinstance(condition, exp.Not)
        bare = condition.this.unnest() if is_negated else condition
        match bare:
            case exp.Exists():
                right, on, _ = self._inside(_existing(self._draft, bare.this))
            case exp.In() if bare.args.get("query") is not None:
                right, on = self._members(bare, is_negated=is_negated)
            case _:
                (condition,) = self.called([self._lift(condition)])
                refuse([condition])
                self._joined = self.joined.where(condition)
                return
        if is_negated:
            self._outer("ANTI", (self.joined, right), on)
        else:
            self._joined = semi_join(self._draft, self.joined, right, on)

    def _members(self, condition: exp.In, *, is_negated: bool) -> tuple[Joined, list[exp.Expr]]:
        """The rows of ``IN (SELECT …)``, and when one is a partner of the outer row."""
        (value,) = self.called([condition.this])
        refuse([value])
        query = condition.args["query"].unnest()
        if not isinstance(query, exp.Query) or len(query.selects) != 1:
            raise Obstacle("uses IN with several columns")
        on: list[exp.Expr] = []
        if isinstance(query, exp.Select) and is_plain(self._draft, query) and not _has_ctes(query):
            right, on, (member,) = self._inside(query)
        else:
            target = self._draft.hidden("members", ["member"])
            relation = self._decompose(self._draft, query, target, self._scope)
            alias = self._free("members")
            right, member = alone(alias, relation), exp.column("member", alias, quoted=True)
        if is_negated and not (
            self.joined.facts.never_null(value) and right.facts.never_null(member)
        ):
            raise Obstacle("uses NOT IN with values that may be NULL; NOT EXISTS has a delta")
        return right, [*on, exp.EQ(this=value, expression=member)]

    def _inside(self, query: exp.Select) -> tuple[Joined, list[exp.Expr], list[exp.Expr]]:
        """A plain subquery: its join, its conditions that name outer columns, its outputs.

        Inputs that are called like outer ones get other names.
        """
        inner = read(self._draft, query, self._scope, self._decompose)
        outputs = inner.called([each.unalias() for each in query.expressions])
        refuse(outputs)
        facts = inner.joined.facts
        fresh = {
            alias: self._free(alias) if alias in self._aliases else alias for alias in facts.inputs
        }
        names = {
            (alias, column.name.lower()): exp.column(column.name, fresh[alias], quoted=True)
            for alias, relation in facts.inputs.items()
            for column in relation.columns
        }
        right = Joined(
            replace(
                facts,
                inputs={fresh[alias]: each for alias, each in facts.inputs.items()},
                conditions=[],
                lookups=frozenset(fresh[alias] for alias in facts.lookups),
            )
        )
        on: list[exp.Expr] = []
        for condition in [renamed(each, names) for each in facts.conditions]:
            if {column.table for column in condition.find_all(exp.Column)} <= right.aliases:
                right = right.where(condition)
            else:
                on += self.called([condition])
        return right, on, [renamed(each, names) for each in outputs]

    # ── scalar subqueries ────────────────────────────────────────────────────────────────────────

    def _lift(self, expression: exp.Expr) -> exp.Expr:
        """The expression with each aggregate over all rows of a subquery as an input's column."""
        copy = expression.copy()
        for subquery in list(copy.find_all(exp.Subquery)):
            query = subquery.this
            if (
                subquery.parent_select is None
                and not isinstance(subquery.parent, exp.In | exp.Exists | exp.Any | exp.All)
                and isinstance(query, exp.Select)
                and _is_one_value(self._draft, query)
            ):
                target = self._draft.hidden("value", ["value"])
                relation = self._decompose(self._draft, query, target, self._scope)
                alias = self._free("value")
                self._joined = self.joined.cross(alone(alias, relation), is_lookup=True)
                column = exp.column("value", alias, quoted=True)
                if subquery is copy:
                    return column
                subquery.replace(column)
        return copy

    # ── names ────────────────────────────────────────────────────────────────────────────────────

    @property
    def _aliases(self) -> set[str]:
        """The names of inputs, as they are and as they are written."""
        return {*self.joined.aliases, *(alias for alias, _ in self._names)}

    def _free(self, alias: str) -> str:
        """An alias that no input has."""
        count = 2
        while f"{alias} {count}" in self._aliases:
            count += 1
        return f"{alias} {count}"


def _existing(draft: Draft, query: exp.Expr) -> exp.Select:
    """The SELECT in ``EXISTS (SELECT …)``, of which no output matters."""
    query = query.unnest()
    if not isinstance(query, exp.Select) or not is_plain(draft, query) or _has_ctes(query):
        raise Obstacle("uses EXISTS with more than a plain SELECT in it")
    query = query.copy()
    query.set("expressions", [exp.Literal.number(1)])
    return query


def _has_ctes(query: exp.Query) -> bool:
    return query.args.get("with_") is not None


def _is_one_value(draft: Draft, query: exp.Select) -> bool:
    """Whether a SELECT gives one row of one column, whatever its tables hold."""
    said = {part for part, value in query.args.items() if value}
    return (
        said <= {"expressions", "from_", "joins", "where"}
        and len(query.expressions) == 1
        and is_grouped(query, draft.binder.functions)
        and not has_windows(query)
    )
