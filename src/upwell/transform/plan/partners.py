"""Outer, semi and anti joins: joins that ask whether a row has a partner.

With D holding each value that a partner can be found by once, and no row of L meeting two rows of
D, all of them follow from inner joins, UNION ALL and a minus sign:

    semi       L ⋉ R  =  L ⋈ D
    anti       L ▷ R  =  L - L ⋈ D
    left       L ⟕ R  =  L ⋈ R  +  (L ▷ R) padded with NULLs

so that their deltas follow like those of any join, and a partner that comes or goes touches the
rows it is a partner of and no other. D is R itself where the join goes by R's key; the different
values of R where it compares for equality; otherwise the keys of the rows of L that have a partner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sqlglot import exp

from upwell.transform.plan.draft import Draft, alone
from upwell.transform.plan.grouped import distinct_rows
from upwell.transform.plan.joins import Joined, Obstacle, references, renamed, text
from upwell.transform.plan.keys import Reference, Relation, is_sharp
from upwell.transform.plan.nodes import Input, Match, Outer

#: Names of the inputs of an outer join.
_LEFT, _RIGHT, _PARTNER = "l", "r", "partner"

Names = Mapping[Reference, exp.Column]
Side = Literal["LEFT", "FULL", "ANTI"]


@dataclass(frozen=True, slots=True)
class _Partners:
    """A relation of which no row of the left side meets two, and how they meet."""

    relation: Relation
    alias: str
    conditions: Sequence[exp.Expr]

    @property
    def joined(self) -> Joined:
        return alone(self.alias, self.relation)


def semi_join(draft: Draft, left: Joined, right: Joined, on: Sequence[exp.Expr]) -> Joined:
    """The rows of ``left`` that have a partner in ``right``, as an inner join."""
    alias = _fresh(f"{_PARTNER} in {_label(right)}", left)
    found = _partners(_Search(draft, left, right, on, _label(left), _label(right)), alias)
    return left.cross(found.joined, found.conditions, is_lookup=True)


def outer_join(
    draft: Draft,
    side: Side,
    sides: tuple[Joined, Joined],
    on: Sequence[exp.Expr],
    needed: Sequence[Reference],
) -> tuple[Joined, Names]:
    """The join of the left and the right of ``sides`` as one hidden relation.

    Also gives what the ``needed`` columns of both are called in it.
    """
    left, right = sides
    if side != "FULL" and len(right.aliases) == 1:  # what the right side meets may be asked later
        on, right = [*on, *right.facts.conditions], right.without_conditions
    wanted = list(dict.fromkeys([*needed, *references(on)]))
    label = f"{_label(left)} {side.lower()} join {_label(right)}"
    left_relation, left_names = draft.relation(left, wanted, _label(left))
    right_relation, right_names = draft.relation(right, wanted, _label(right))
    names = _places(_LEFT, left_names) | _places(_RIGHT, right_names)
    on = [renamed(each, names) for each in on]
    ours, theirs = alone(_LEFT, left_relation), alone(_RIGHT, right_relation)
    search = _Search(draft, ours, theirs, on, _label(left), _label(right))
    found = [_partners(search, _PARTNER)]
    if side == "FULL":
        found.append(_partners(search.turned, f"{_PARTNER} of {_RIGHT}"))
    shown = [place for place in needed if place in left_names]
    if side != "ANTI":
        shown += [place for place in needed if place in right_names]
    outputs = [names[place] for place in shown]
    kind = _outer(side, ours.cross(theirs, on), outputs, found)
    target = draft.hidden(label, [f"{alias}.{name}" for alias, name in shown])
    pads = {"LEFT": {_RIGHT}, "FULL": {_LEFT, _RIGHT}, "ANTI": set[str]()}[side]
    relation = draft.add(
        target,
        kind,
        reason="a row is touched when it changes, or when its first partner comes or last one goes",
        never_null=[
            each.table not in pads and ours.cross(theirs).facts.never_null(each) for each in outputs
        ],
        unique=_unique(side, ours, theirs, outputs, found[0]),
    )
    alias = f"{_label(left)} {_label(right)}"
    here = {
        place: exp.column(name, alias, quoted=True)
        for place, name in zip(shown, target.columns, strict=True)
    }
    return alone(alias, relation), here


def _outer(
    side: Side, both: Joined, outputs: Sequence[exp.Column], found: Sequence[_Partners]
) -> Outer:
    asked = [
        exp.column(name, alias, quoted=True)
        for alias, name in references(condition for each in found for condition in each.conditions)
        if alias in both.aliases
    ]
    left, right = both.inputs([*outputs, *asked, *both.facts.conditions])
    columns = {
        (each.alias, column.name.lower()): column
        for each in (left, right)
        for column in each.columns
    }
    return Outer(
        side=side,
        left=left,
        right=right,
        on=tuple(text(each) for each in both.facts.conditions),
        outputs=tuple((each.table, columns[each.table, each.name.lower()]) for each in outputs),
        matches=tuple(
            Match(_read(each), tuple(text(condition) for condition in each.conditions))
            for each in found
        ),
    )


def _read(partners: _Partners) -> Input:
    used = set(references(partners.conditions))
    columns = [
        each for each in partners.relation.columns if (partners.alias, each.name.lower()) in used
    ]
    return Input(partners.alias, partners.relation.name, tuple(columns))


def _unique(
    side: str, left: Joined, right: Joined, outputs: Sequence[exp.Column], found: _Partners
) -> tuple[int, ...]:
    """Positions of outputs that identify a row; padded rows differ by the side that is there."""
    if side == "ANTI":
        return left.facts.unique(outputs)
    if side == "LEFT" and found.relation is right.facts.inputs[_RIGHT]:  # no row meets two
        ours = [index for index, each in enumerate(outputs) if each.table == _LEFT]
        return tuple(ours[at] for at in left.facts.unique([outputs[index] for index in ours]))
    return left.cross(right).facts.unique(outputs)


# ── partners ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Search:
    """Where the rows of ``left`` are to find whether they have a partner in ``right``."""

    draft: Draft
    left: Joined
    right: Joined
    on: Sequence[exp.Expr]
    left_label: str
    right_label: str

    @property
    def turned(self) -> _Search:
        return _Search(
            self.draft, self.right, self.left, self.on, self.right_label, self.left_label
        )

    def side(self, expression: exp.Expr) -> str:
        """What an expression reads: ``left``, ``right`` or ``both``; ``left`` if nothing."""
        used = {alias for alias, _ in references([expression])}
        if strangers := used - self.left.aliases - self.right.aliases:
            raise Obstacle(f"reads {', '.join(sorted(strangers))} from outside its FROM")
        if used and not used & self.left.aliases:
            return "right"
        return "both" if used & self.right.aliases else "left"

    def compared(self) -> list[_Comparison]:
        """The conditions that say that a value of the left equals one of the right."""
        found: list[tuple[exp.Binary, exp.Expr, exp.Expr]] = []
        for each in self.on:
            if not isinstance(each, exp.EQ | exp.NullSafeEQ):
                continue
            match self.side(each.left), self.side(each.right):
                case "left", "right":
                    found.append((each, each.left, each.right))
                case "right", "left":
                    found.append((each, each.right, each.left))
        ours = self.draft.types(self.left, [left for _, left, _ in found])
        theirs = self.draft.types(self.right, [right for _, _, right in found])
        return [
            _Comparison(condition, left, right, is_sharp(a, b))
            for (condition, left, right), a, b in zip(found, ours, theirs, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class _Comparison:
    """``left = right``. ``is_sharp``: whether a value of ``left`` equals one of ``right`` only."""

    condition: exp.Binary
    left: exp.Expr
    right: exp.Expr
    is_sharp: bool


def _partners(search: _Search, alias: str) -> _Partners:
    """The relation of partners, under ``alias``. Raises ``Obstacle``."""
    compared = [each for each in search.compared() if each.is_sharp]
    keys = [each.right for each in compared if isinstance(each.right, exp.Column)]
    if len(search.right.aliases) == 1 and search.right.facts.identify(keys):
        return _by_key(search, alias)
    told = [each.condition for each in compared]
    mixed = [each for each in search.on if search.side(each) == "both"]
    if all(each in told for each in mixed):
        return _by_value(search, compared, alias)
    return _by_row(search, alias)


def _by_key(search: _Search, alias: str) -> _Partners:
    """The right side itself: no row of the left meets two of it."""
    facts = search.right.facts
    ((named, relation),) = facts.inputs.items()
    names = {
        (named, each.name.lower()): exp.column(each.name, alias, quoted=True)
        for each in relation.columns
    }
    conditions = [*facts.conditions, *search.on]
    return _Partners(relation, alias, [renamed(each, names) for each in conditions])


def _by_value(search: _Search, compared: Sequence[_Comparison], alias: str) -> _Partners:
    """The different values of the right side that rows of the left are compared with."""
    conditions = [each for each in search.on if search.side(each) == "left"]
    conditions += [
        type(each.condition)(
            this=each.left.copy(), expression=exp.column(f"k{index}", alias, quoted=True)
        )
        for index, each in enumerate(compared)
    ]
    # Without a comparison, all that counts is whether there is a row.
    values = [each.right for each in compared] or [exp.Literal.number(1)]
    inside = [each for each in search.on if search.side(each) == "right"]
    relation = distinct_rows(
        search.draft,
        search.right.where(*inside),
        values,
        search.draft.hidden(
            f"values of {search.right_label}", [f"k{index}" for index in range(len(values))]
        ),
        reason="holds each value that partners are found by once: it matters when one comes or"
        " goes",
    )
    return _Partners(relation, alias, conditions)


def _by_row(search: _Search, alias: str) -> _Partners:
    """The keys of those rows of the left that have a partner, however the two are compared."""
    keys: list[exp.Expr] = []
    for named, relation in search.left.facts.inputs.items():
        if named in search.left.facts.lookups:
            continue
        if not relation.unique:
            raise Obstacle(
                "asks for partners by more than equality, of rows that no key identifies"
            )
        keys += [exp.column(name, named, quoted=True) for name in relation.unique]
    names = [f"k{index}" for index in range(len(keys))]
    relation = distinct_rows(
        search.draft,
        search.left.cross(search.right, search.on),
        keys,
        search.draft.hidden(f"{search.left_label} with {search.right_label}", names),
        reason="holds the key of each row that has a partner once: it matters when the first"
        " comes or the last goes",
    )
    conditions = [
        exp.NullSafeEQ(this=key, expression=exp.column(name, alias, quoted=True))
        for key, name in zip(keys, names, strict=True)
    ]
    return _Partners(relation, alias, conditions)


def _places(alias: str, names: Mapping[Reference, str]) -> dict[Reference, exp.Column]:
    return {place: exp.column(name, alias, quoted=True) for place, name in names.items()}


def _label(joined: Joined) -> str:
    """The inputs of a join, for people."""
    return " ".join(alias for alias in joined.facts.inputs if alias not in joined.facts.lookups)


def _fresh(alias: str, joined: Joined) -> str:
    """An alias no input has."""
    return alias if alias not in joined.aliases else _fresh(f"{alias}'", joined)
