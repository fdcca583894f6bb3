"""Typed SQL expressions, aggregates and window functions, drawn at random from tables of text.

A production is text with holes: ``{int}`` takes any expression of that kind, ``{again}`` repeats
the last one. Every expression can be computed for every row (nothing overflows or fails to cast)
and has the same value however rows are ordered. Floats that were added up are not *exact*: they are
shown but never compared, grouped by or calculated with, since the data does not decide their last
digits.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["int", "decimal", "double", "text", "time", "bool", "uuid", "list"]


@dataclass(frozen=True, slots=True)
class Field:
    """A value in reach: ``text`` is how SQL writes it, ``name`` what it is called."""

    text: str
    name: str
    kind: Kind
    exact: bool = True
    never_null: bool = False


@dataclass(slots=True)
class Pen:
    """What one query is written with: the dice, the constructs it shows, how often it reads."""

    dice: random.Random
    shows: set[str] = field(default_factory=set)
    aliases: int = 0

    def chance(self, share: float) -> bool:
        return self.dice.random() < share

    def alias(self) -> str:
        self.aliases += 1
        return f"t{self.aliases}"


# ── values ───────────────────────────────────────────────────────────────────────────────────────

_HOLE = re.compile(r"\{(\w+)\}")

_LITERALS: dict[str, tuple[str, ...]] = {
    "int": ("0", "1", "2", "3"),
    "decimal": ("0.5", "1.0", "2.25"),
    "double": ("0.25e0", "1e0"),
    "text": ("'x'", "'paid'", "'A'", "''"),
    "time": ("timestamptz '2026-05-28 22:00:00+00'", "timestamptz '2026-05-29 01:00:00+00'"),
    "bool": ("true", "false"),
}

#: The kinds that there are expressions of; the others are only passed on.
CALCULATED = frozenset(_LITERALS)

_PRODUCTIONS: dict[str, tuple[str, ...]] = {
    "int": (
        "({int} + {int})",
        "({int} - 1)",
        "({int} * 2)",
        "({int} % 3)",
        "(-{int})",
        "abs({int} - 2)",
        "coalesce({int}, 2)",
        "nullif({int}, 1)",
        "length({text})",
        "greatest({int}, {int})",
        "cast({bool} as integer)",
        "cast({decimal} as bigint)",
        "try_cast({text} as integer)",
        "hour({time})",
        "case when {bool} then {int} else {int} end",
        "case {int} when 1 then 5 when 2 then {int} end",
    ),
    "decimal": (
        "({decimal} + {decimal})",
        "({decimal} * 2)",
        "(-{decimal})",
        "abs({decimal})",
        "coalesce({decimal}, 0.5)",
        "round({decimal}, 1)",
        "cast({int} as decimal(12, 2))",
        "case when {bool} then {decimal} end",
    ),
    "double": (
        "({double} * 2)",
        "({int} / 4)",
        "({double} + {double})",
        "cast({decimal} as double)",
        "sqrt(abs({double}))",
        "coalesce({double}, 0.25e0)",
        "case when {bool} then {double} else {double} end",
    ),
    "text": (
        "upper({text})",
        "({text} || '-' || {text})",
        "left({text}, 2)",
        "coalesce({text}, 'none')",
        "cast({int} as varchar)",
        "replace({text}, 'p', 'q')",
        "case when {bool} then {text} else {text} end",
    ),
    "time": (
        "date_trunc('day', {time})",
        "({time} + interval 1 hour)",
        "coalesce({time}, timestamptz '2026-05-29 00:00:00+00')",
        "least({time}, {time})",
    ),
    "bool": (
        "({int} > {int})",
        "({int} = 2)",
        "({int} <> {int})",
        "({int} in (1, 2, 4))",
        "({int} between 1 and 3)",
        "({int} is distinct from {int})",
        "({decimal} >= 1)",
        "({double} < 0.5)",
        "({text} is null)",
        "({text} is not null)",
        "({text} like '%a%')",
        "({text} in ('x', 'A', 'paid', 'p'))",
        "({time} < {time})",
        "(not {bool})",
        "({bool} and {bool})",
        "({bool} or {bool})",
        "coalesce({bool}, false)",
    ),
}


def expression(pen: Pen, fields: Sequence[Field], kind: str, depth: int = 2) -> str:
    """An exact expression of one kind over the fields; a bare field about every second time."""
    found = [each.text for each in fields if each.kind == kind and each.exact]
    if found and (depth == 0 or pen.chance(0.55)):
        return pen.dice.choice(found)
    if depth == 0:
        return pen.dice.choice(_LITERALS[kind])
    return calculation(pen, fields, kind, depth)


def calculation(pen: Pen, fields: Sequence[Field], kind: str, depth: int = 2) -> str:
    """As ``expression``, but always calculated."""
    kinds = {each.kind for each in fields if each.exact}
    found = _PRODUCTIONS[kind]
    fitting = [each for each in found if kinds.issuperset(_HOLE.findall(each))]
    production = pen.dice.choice(fitting or found)  # a constant says little
    if production.startswith("case"):
        pen.shows.add("case")
    elif "cast(" in production:
        pen.shows.add("cast")
    else:
        pen.shows.add("scalar function")
    return fill_in(pen, fields, production, depth - 1)


def fill_in(pen: Pen, fields: Sequence[Field], production: str, depth: int) -> str:
    """The production with its holes filled."""
    last = ""

    def fill(hole: re.Match[str]) -> str:
        nonlocal last
        if hole[1] != "again":
            one, other = (expression(pen, fields, hole[1], depth) for _ in range(2))
            last = other if one == last else one  # ``a < a`` says little
        return last

    return _HOLE.sub(fill, production)


# ── aggregates ───────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Call:
    """An aggregate: what it shows, its text, and the kind it gives. ``merges``: by counters."""

    construct: str
    text: str
    gives: Kind
    exact: bool = True
    merges: bool = False


AGGREGATES = (
    Call("sum", "sum({int})", "int", merges=True),
    Call("sum", "sum({decimal})", "decimal", merges=True),
    Call("sum", "sum({bool})", "int", merges=True),
    Call("count", "count(*)", "int", merges=True),
    Call("count", "count({text})", "int", merges=True),
    Call("count", "count({int})", "int", merges=True),
    Call("avg", "avg({int})", "double", exact=False, merges=True),
    Call("avg", "avg({decimal})", "double", exact=False, merges=True),
    Call("count distinct", "count(distinct {int})", "int", merges=True),
    Call("count distinct", "count(distinct {text})", "int", merges=True),
    Call("sum distinct", "sum(distinct {int})", "int", merges=True),
    Call("min", "min({int})", "int", merges=True),
    Call("min", "min({text})", "text", merges=True),
    Call("min", "min({time})", "time", merges=True),
    Call("max", "max({decimal})", "decimal", merges=True),
    Call("max", "max({double})", "double", merges=True),
    Call("max", "max({int})", "int", merges=True),
    Call("median", "median({int})", "double"),
    Call("median", "median({decimal})", "decimal"),
    Call("quantile", "quantile_cont({decimal}, 0.25)", "decimal"),
    Call("quantile", "quantile_disc({int}, 0.5)", "int"),
    Call("arg_min", "arg_min(coalesce({text}, '?'), {again})", "text"),
    Call("arg_max", "arg_max(({int} + 1), {again})", "int"),
    Call("float sum", "sum({double})", "double", exact=False),
    Call("float avg", "avg({double})", "double", exact=False),
    Call("stddev", "stddev_samp({int})", "double", exact=False),
    Call("stddev", "var_pop({double})", "double", exact=False),
    Call("string_agg", "string_agg({text}, ',' order by {again})", "text"),
    Call("string_agg", "string_agg(distinct {text}, '/' order by {again} desc)", "text"),
    Call("array_agg", "array_agg({int} order by {again} desc)", "list"),
    Call("array_agg", "list({decimal} order by {again})", "list"),
    Call("bool_and", "bool_and({bool})", "bool"),
    Call("bool_or", "bool_or({bool})", "bool"),
)

_CONDITIONS = (
    ("having", "count(*) > 1"),
    ("having", "count(*) < 4"),
    ("having", "sum({int}) > 2"),
    ("having", "count(distinct {int}) > 1"),
    ("having", "coalesce(sum({decimal}), 0) <= 3"),
    ("having", "sum({int}) is null"),
    ("having over min or max", "min({int}) < 2"),
    ("having over min or max", "max({decimal}) >= 2"),
    ("having over min or max", "bool_or({bool})"),
)


def aggregate(pen: Pen, fields: Sequence[Field], name: str, *, merges: bool) -> Field:
    """An aggregate call, sometimes with FILTER; with ``merges`` one that counters suffice for."""
    allowed = [each for each in AGGREGATES if each.merges or not merges]
    construct = pen.dice.choice(sorted({each.construct for each in allowed}))
    call = pen.dice.choice([each for each in allowed if each.construct == construct])
    pen.shows.add(construct)
    text = fill_in(pen, fields, call.text, depth=1)
    if pen.chance(0.15):
        pen.shows.add("filter clause")
        text += f" filter (where {calculation(pen, fields, 'bool')})"
    return Field(text, name, call.gives, call.exact)


def having(pen: Pen, fields: Sequence[Field]) -> str:
    """A condition on groups that small changes make true and false again."""
    construct, text = pen.dice.choice(_CONDITIONS)
    pen.shows.add(construct)
    return fill_in(pen, fields, text, depth=1)


# ── window functions ─────────────────────────────────────────────────────────────────────────────

Order = Literal["none", "any", "total", "position"]
"""What a window function asks of its ORDER BY: nothing; any, as peers get one value; that only
equal rows tie; the same, though its value may differ even between equal rows."""


@dataclass(frozen=True, slots=True)
class Window:
    """A window function, and the frame it is taken over."""

    construct: str
    text: str
    gives: Kind
    order: Order
    frame: str = ""
    exact: bool = True


_ONE_BEFORE = " rows between 1 preceding and current row"
_TO_THE_END = " rows between current row and unbounded following"

WINDOWS = (
    Window("rank", "rank()", "int", "any"),
    Window("rank", "percent_rank()", "double", "any"),
    Window("dense_rank", "dense_rank()", "int", "any"),
    Window("row_number", "row_number()", "int", "position"),
    Window("ntile", "ntile(2)", "int", "position"),
    Window("lag", "lag({int})", "int", "position"),
    Window("lag", "lag({text}, 1, 'none')", "text", "position"),
    Window("lead", "lead({int}, 2)", "int", "position"),
    Window("running sum", "sum({int})", "int", "any"),
    Window("running sum", "sum({decimal})", "decimal", "position", " rows unbounded preceding"),
    Window("moving sum", "sum({int})", "int", "position", _ONE_BEFORE),
    Window("moving sum", "max({decimal})", "decimal", "position", _TO_THE_END),
    Window("total of partition", "count(*)", "int", "none"),
    Window("total of partition", "sum({int})", "int", "none"),
    Window("total of partition", "max({text})", "text", "none"),
    Window("total of partition", "sum({double})", "double", "none", exact=False),
    Window("first_value", "first_value({text})", "text", "total"),
    Window("last_value", "last_value({int})", "int", "total"),
)
