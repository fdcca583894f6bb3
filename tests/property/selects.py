"""What one SELECT makes of the rows in reach: projections, groups, windows.

Each form writes a whole SELECT over a scope, given what follows its outputs. What depends on an
order is ordered so that the data decides it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tests.property.expressions import (
    CALCULATED,
    WINDOWS,
    Field,
    Pen,
    Window,
    aggregate,
    calculation,
    fill_in,
    having,
)

#: What a query shows that is known to be refreshed in full.
NOT_TAKEN_APART = "not taken apart"

OUTER_JOINS = ("left join", "right join", "full join")


@dataclass(frozen=True, slots=True)
class Scope:
    """A FROM clause with the fields in reach and what tells its rows apart."""

    text: str
    fields: tuple[Field, ...]
    key: tuple[str, ...] | None

    @property
    def ordering(self) -> Sequence[str] | None:
        """What to order by so that only equal rows tie; None if nothing is sure to do it."""
        if self.key is not None:
            return self.key
        return [each.text for each in self.fields] if all(f.exact for f in self.fields) else None


@dataclass(frozen=True, slots=True)
class Query:
    """A query's text and its columns, each field's text being its bare name."""

    text: str
    fields: tuple[Field, ...]
    key: tuple[str, ...] | None = None


def write_select(pen: Pen, scope: Scope, where: str) -> Query:
    """A SELECT of some form over the rows of a scope."""
    origin = f" from {scope.text}{where}"
    if not any(each.exact for each in scope.fields):
        return _plain(pen, scope, origin)
    form = pen.dice.choices(
        (_plain, _distinct, _grouped, _windowed, _top, _ranked_groups), (28, 7, 36, 16, 7, 6)
    )[0]
    return form(pen, scope, origin)


def _plain(pen: Pen, scope: Scope, origin: str) -> Query:
    outputs = plain_outputs(pen, scope)
    return Query(f"select {listed(outputs)}{origin}", bare(outputs), _key_of(outputs, scope))


def _distinct(pen: Pen, scope: Scope, origin: str) -> Query:
    outputs = [each for each in plain_outputs(pen, scope) if each.exact]
    if not outputs:
        return _grouped(pen, scope, origin)
    pen.shows.add("distinct")
    fields = bare(outputs)
    return Query(
        f"select distinct {listed(outputs)}{origin}", fields, tuple(each.name for each in fields)
    )


def _grouped(pen: Pen, scope: Scope, origin: str) -> Query:
    if any(f" {outer} " in scope.text for outer in OUTER_JOINS):
        pen.shows.add("aggregate over an outer join")
    groups = _groups(pen, scope)
    shown = groups
    if groups and pen.chance(0.2):
        pen.shows.add("hidden group")
        shown = groups[1:]
    outputs = distinctly_named([*shown, *_aggregates(pen, scope, grouped=bool(groups))])
    text = f"select {listed(outputs)}{origin}{_group_by(pen, groups, shown)}"
    if not groups:
        pen.shows.add("global aggregate")
    if groups and pen.chance(0.25):
        text += f" having {having(pen, scope.fields)}"
    key = tuple(each.name for each in groups) if groups and len(shown) == len(groups) else None
    return Query(text, bare(outputs), key)


def _windowed(pen: Pen, scope: Scope, origin: str) -> Query:
    outputs = plain_outputs(pen, scope)
    partition = _partition(pen, scope)
    exact = [each.text for each in scope.fields if each.exact]
    windows: list[Window] = []
    narrowed: set[int] = set()
    for _ in range(pen.dice.choices((1, 2, 3), (60, 30, 10))[0]):
        allowed = _allowed(scope, windows)
        construct = pen.dice.choice(sorted({each.construct for each in allowed}))
        window = pen.dice.choice([each for each in allowed if each.construct == construct])
        if windows:
            pen.shows.add("several windows")
        call = fill_in(pen, scope.fields, window.text, depth=1)
        by = partition
        if pen.chance(0.35):
            by = [*partition, pen.dice.choice(exact)]
            narrowed.add(len(windows))
        over = _over(pen, by, scope, window.order, window.frame)
        name = f"w{len(windows)}"
        outputs.append(Field(f"{call} {over}", name, window.gives, window.exact))
        pen.shows.add(construct)
        windows.append(window)
    if 0 < len(narrowed) < len(windows):
        pen.shows.add("windows that share a part of their partitions")
    outputs = distinctly_named(outputs)
    return Query(f"select {listed(outputs)}{origin}", bare(outputs), _key_of(outputs, scope))


def _top(pen: Pen, scope: Scope, origin: str) -> Query:
    outputs = plain_outputs(pen, scope)
    by = _over(pen, _partition(pen, scope), scope, "total")
    if scope.ordering is not None and pen.chance(0.6):
        pen.shows.add("top-n per group")
        condition = f"row_number() {by} <= {pen.dice.randrange(1, 3)}"
    else:
        condition = f"{pen.dice.choice(('rank', 'dense_rank'))}() {by} = 1"
    pen.shows.add("qualify")
    text = f"select {listed(outputs)}{origin} qualify {condition}"
    return Query(text, bare(outputs), _key_of(outputs, scope))


def _ranked_groups(pen: Pen, scope: Scope, origin: str) -> Query:
    """Window functions over the groups of a GROUP BY."""
    groups = _groups(pen, scope)
    if len(groups) < 2:
        return _grouped(pen, scope, origin)
    pen.shows.add("window over aggregates")
    measure = fill_in(pen, scope.fields, pen.dice.choice(("sum({int})", "count(*)")), depth=1)
    by = ", ".join([f"{measure} desc", *(each.text for each in groups)])
    over = f"over (partition by {groups[0].text} order by {by})"
    call = pen.dice.choice(("rank()", "row_number()", f"lag({measure})", f"sum({measure})"))
    placed = [Field(measure, "measure", "int"), Field(f"{call} {over}", "place", "int")]
    outputs = distinctly_named([*groups, *placed])
    key = tuple(each.name for each in groups)
    text = f"select {listed(outputs)}{origin}{_group_by(pen, groups, groups)}"
    return Query(text, bare(outputs), key)


# ── outputs ──────────────────────────────────────────────────────────────────────────────────────


def plain_outputs(pen: Pen, scope: Scope) -> list[Field]:
    outputs: list[Field] = []
    if scope.key and pen.chance(0.35):  # a key, or one that looks like it
        keyed = [each for each in scope.fields if each.text in scope.key]
        alias = pen.dice.choice(("", keyed[0].text.partition(".")[0] + "."))
        outputs += [each for each in keyed if each.text.startswith(alias)]
    for _ in range(pen.dice.randrange(1, 4)):
        found = pen.dice.choice(scope.fields)
        if pen.chance(0.25) and found.exact and found.kind in CALCULATED:
            text = calculation(pen, scope.fields, found.kind)
            found = Field(text, f"{found.kind}_{len(outputs)}", found.kind)
        outputs.append(found)
    return distinctly_named(outputs)


def _groups(pen: Pen, scope: Scope) -> list[Field]:
    found: list[Field] = []
    exact = [each for each in scope.fields if each.exact]
    for _ in range(pen.dice.choices((0, 1, 2, 3), (8, 45, 35, 12))[0]):
        group = pen.dice.choice(exact)
        if group.kind == "time" and pen.chance(0.6):
            pen.shows.add("group by a span of time")
            unit = pen.dice.choice(("hour", "day", "month"))
            group = replace(
                group, text=f"date_trunc('{unit}', {group.text})", name=f"g{len(found)}"
            )
        elif group.kind in CALCULATED and pen.chance(0.15):
            pen.shows.add("group by expression")
            group = replace(
                group, text=calculation(pen, scope.fields, group.kind), name=f"g{len(found)}"
            )
        found.append(group)
    return distinctly_named(found)


def _group_by(pen: Pen, groups: Sequence[Field], shown: Sequence[Field]) -> str:
    if not groups:
        return ""
    if len(shown) < len(groups):
        return " group by " + ", ".join(each.text for each in groups)
    roll = pen.dice.randrange(3)
    if roll == 0:
        return " group by all"
    if roll == 1:
        return " group by " + ", ".join(str(index + 1) for index in range(len(groups)))
    return " group by " + ", ".join(each.text for each in groups)


def _aggregates(pen: Pen, scope: Scope, *, grouped: bool) -> list[Field]:
    merges = pen.chance(0.6 if grouped else 0.9)
    if not merges and not grouped:
        pen.shows.add(NOT_TAKEN_APART)
    count = pen.dice.choices((1, 2, 3), (50, 30, 20))[0]
    return [aggregate(pen, scope.fields, f"a{index}", merges=merges) for index in range(count)]


def distinctly_named(outputs: Sequence[Field]) -> list[Field]:
    """Each expression once, and each under a name of its own."""
    found: dict[str, Field] = {}
    names: set[str] = set()
    for each in outputs:
        if each.text in found:
            continue
        name, number = each.name, 1
        while name in names:
            number += 1
            name = f"{each.name}_{number}"
        found[each.text] = replace(each, name=name)
        names.add(name)
    return list(found.values())


def listed(outputs: Sequence[Field]) -> str:
    return ", ".join(f"{each.text} as {each.name}" for each in outputs)


def bare(outputs: Sequence[Field]) -> tuple[Field, ...]:
    return tuple(replace(each, text=each.name) for each in outputs)


def _key_of(outputs: Sequence[Field], scope: Scope) -> tuple[str, ...] | None:
    """The names of the scope's key among the outputs, if all of it is shown."""
    named = {each.text: each.name for each in outputs}
    if scope.key is None or not set(scope.key) <= set(named):
        return None
    return tuple(named[text] for text in scope.key)


# ── windows ──────────────────────────────────────────────────────────────────────────────────────


def _allowed(scope: Scope, chosen: Sequence[Window]) -> list[Window]:
    """Window functions that the data decides: where equal rows may be, at most one by position."""
    if scope.ordering is None:
        return [each for each in WINDOWS if each.order in ("none", "any")]
    if scope.key is None and any(each.order == "position" for each in chosen):
        return [each for each in WINDOWS if each.order != "position"]
    return list(WINDOWS)


def _partition(pen: Pen, scope: Scope) -> list[str]:
    exact = [each.text for each in scope.fields if each.exact]
    return pen.dice.sample(exact, min(len(exact), pen.dice.choice((1, 1, 1, 2))))


def _over(pen: Pen, partition: Sequence[str], scope: Scope, order: str, frame: str = "") -> str:
    by = f"partition by {', '.join(partition)}"
    if order == "none":
        return f"over ({by})"
    exact = [each.text for each in scope.fields if each.exact]
    first = pen.dice.choice(exact) + pen.dice.choice(("", " desc", " nulls first"))
    rest = [] if order == "any" else list(scope.ordering or ())
    return f"over ({by} order by {', '.join([first, *rest])}{frame})"
