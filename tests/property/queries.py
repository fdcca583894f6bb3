"""Models written at random: what is supported as a grammar, a seed as the text it gives.

Every query is deterministic as a bag of rows: what depends on an order is ordered by everything
that tells two rows apart. A query names the constructs it shows, so that a test can tell which of
them it has seen, those that are known to be refreshed in full among them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from tests.property.expressions import CALCULATED, Field, Kind, Pen, calculation, expression
from tests.property.selects import (
    NOT_TAKEN_APART,
    OUTER_JOINS,
    Query,
    Scope,
    bare,
    distinctly_named,
    listed,
    plain_outputs,
    write_select,
)
from tests.property.world import TABLES, ZONE, create_tables
from upwell.core.schema import TableSchema
from upwell.core.sql import connect, quote
from upwell.project.values import Model

NULLS_IN_NOT_IN = "not in where NULLs may be"

_IN_FULL = {NOT_TAKEN_APART, NULLS_IN_NOT_IN}

#: What must be seen refreshed otherwise than in full; each name is one that queries show.
CONSTRUCTS = (
    *("filter", "case", "cast", "scalar function", "distinct", "union", "union all"),
    *("inner join", "cross join", "self join", "null-safe join", "join on more than equality"),
    "join of three",
    *("left join", "right join", "full join"),
    *("left join with a one-sided condition", "left join with a mixed condition"),
    *("chain of outer joins", "aggregate over an outer join"),
    *("exists", "not exists", "in", "not in", "subquery with a residual condition"),
    *("sum", "count", "avg", "count distinct", "sum distinct", "min", "max", "median"),
    *("quantile", "arg_min", "arg_max", "float sum", "float avg", "stddev", "string_agg"),
    *("array_agg", "bool_and", "bool_or", "filter clause", "having", "having over min or max"),
    *("group by expression", "group by a span of time", "hidden group", "global aggregate"),
    *("rank", "dense_rank", "row_number", "lag", "lead", "running sum", "moving sum"),
    *("first_value", "last_value", "total of partition", "ntile", "several windows"),
    "windows that share a part of their partitions",
    *("qualify", "top-n per group", "window over aggregates"),
    *("common table expression", "derived table", "nested twice", "model over model"),
)

_KINDS: dict[str, Kind] = {
    "BIGINT": "int",
    "INTEGER": "int",
    "DECIMAL(10,2)": "decimal",
    "DOUBLE": "double",
    "VARCHAR": "text",
    "TIMESTAMP WITH TIME ZONE": "time",
    "UUID": "uuid",
}
_MOST_READ = 6
_LONGEST = 1500


@dataclass(frozen=True, slots=True)
class Relation:
    """What FROM can read. ``key``: columns that differ between any two rows; None if unknown."""

    text: str
    fields: tuple[Field, ...]
    key: tuple[str, ...] | None
    is_model: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """Models, each over the tables and those before it; ``discarded`` ones did not bind."""

    models: tuple[Model, ...]
    shows: dict[str, frozenset[str]]
    discarded: int


def _base(schema: TableSchema) -> Relation:
    fields = [
        Field(
            each.name,
            each.name,
            _KINDS[each.type],
            never_null=each.name in schema.key,
        )
        for each in schema.columns
    ]
    return Relation(schema.name, tuple(fields), schema.key or None)


BASES = tuple(map(_base, TABLES))


def write_models(seed: int, count: int) -> Written:
    """Models of one seed. All but the first are to show the construct whose turn it is."""
    dice = random.Random(f"queries {seed}")
    connection = connect(zone=ZONE, threads=1)
    create_tables(connection)
    pool, discarded = list(BASES), 0
    models: list[Model] = []
    shows: dict[str, frozenset[str]] = {}
    while len(models) < count:
        number = len(models)
        turn = (seed * (count - 1) + number - 1) % len(CONSTRUCTS)
        pen, query = _showing(dice, pool, CONSTRUCTS[turn] if number else None)
        name = f"m{number}"
        try:
            connection.execute(f"CREATE TABLE {quote(name)} AS FROM ({query.text}) LIMIT 0")
        except (duckdb.BinderException, duckdb.NotImplementedException):
            discarded += 1
            continue
        key = query.key if query.key and pen.chance(0.5) else ()
        models.append(Model(name=name, sql=query.text, path=Path(f"models/{name}.sql"), key=key))
        shows[name] = frozenset(pen.shows)
        pool.append(Relation(name, query.fields, query.key, is_model=True))
    connection.close()
    return Written(tuple(models), shows, discarded)


def _showing(
    dice: random.Random, pool: Sequence[Relation], wanted: str | None
) -> tuple[Pen, Query]:
    """A query of moderate size; one that is to show something is shorter, to show it clearly."""
    most_read, longest = (_MOST_READ, _LONGEST) if wanted is None else (4, 500)
    while True:
        pen = Pen(dice)
        query = _query(pen, pool, depth=2)
        if pen.aliases > most_read or len(query.text) > longest:
            continue
        if wanted is None or (wanted in pen.shows and not pen.shows & _IN_FULL):
            return pen, query


# ── queries ──────────────────────────────────────────────────────────────────────────────────────


def _query(pen: Pen, pool: Sequence[Relation], depth: int) -> Query:
    roll = pen.dice.random()
    if roll < 0.1 and depth:
        return _with_cte(pen, pool, depth - 1)
    if roll < 0.22:
        return _union(pen, pool, depth)
    if roll < 0.25:
        return _otherwise(pen, pool)
    return _over(pen, _scope(pen, pool, depth), pool)


def _over(pen: Pen, scope: Scope, pool: Sequence[Relation]) -> Query:
    return write_select(pen, scope, _where(pen, scope, pool))


def _with_cte(pen: Pen, pool: Sequence[Relation], depth: int) -> Query:
    inner = _query(pen, pool, depth)
    pen.shows.add("common table expression")
    name = pen.alias()
    named = Relation(name, inner.fields, inner.key)
    outer = _over(pen, _scope(pen, [*pool, named], depth=0, first=named), pool)
    return replace(outer, text=f"with {name} as ({inner.text}) {outer.text}")


def _union(pen: Pen, pool: Sequence[Relation], depth: int) -> Query:
    first = _scope(pen, pool, depth)
    exact = [each.kind for each in first.fields if each.exact and each.kind in CALCULATED]
    if not exact:
        return _over(pen, first, pool)
    kinds: list[Kind] = pen.dice.sample(exact, min(len(exact), pen.dice.randrange(1, 4)))
    distinct = pen.chance(0.5)
    pen.shows.add("union" if distinct else "union all")
    fields = tuple(Field(f"c{index}", f"c{index}", kind) for index, kind in enumerate(kinds))
    parts = []
    for scope in [first, *(_scope(pen, pool, 0) for _ in range(pen.dice.randrange(1, 3)))]:
        outputs = [expression(pen, scope.fields, kind, depth=1) for kind in kinds]
        shown = ", ".join(
            f"{text} as {each.name}" for text, each in zip(outputs, fields, strict=True)
        )
        parts.append(f"select {shown} from {scope.text}{_where(pen, scope, pool)}")
    text = (" union " if distinct else " union all ").join(parts)
    return Query(text, fields, tuple(each.name for each in fields) if distinct else None)


def _otherwise(pen: Pen, pool: Sequence[Relation]) -> Query:
    """Shapes that have no delta and no affected keys."""
    pen.shows.add(NOT_TAKEN_APART)
    scope = _scope(pen, [each for each in pool if _is_exact(each)], depth=0)
    outputs = plain_outputs(pen, scope)
    shown, by = listed(outputs), ", ".join(each.text for each in scope.fields)
    origin = f" from {scope.text}"
    some = f"{origin} where {calculation(pen, scope.fields, 'bool')}"
    place = Field(f"rank() over (order by {outputs[0].text})", "place", "int")
    placed = distinctly_named([place, *outputs])
    texts = (
        f"select {shown}{some} order by {by} limit 4",
        f"select {shown}{origin} except select {shown}{some}",
        f"select {shown}{origin} intersect select {shown}{some}",
        f"select distinct on ({outputs[0].text}) {shown}{some} order by {outputs[0].text}, {by}",
        f"select {listed(placed)}{some}",
        f"select {shown}{some} and (select count(*) from shop.orders) > 3",
    )
    text = pen.dice.choice(texts)
    return Query(text, bare(placed if " as place" in text else outputs))


def _is_exact(relation: Relation) -> bool:
    return all(each.exact for each in relation.fields)


# ── FROM ─────────────────────────────────────────────────────────────────────────────────────────


def _scope(pen: Pen, pool: Sequence[Relation], depth: int, first: Relation | None = None) -> Scope:
    relation = first or _source(pen, pool, depth)
    scope = _read(relation, pen.alias())
    read = [relation.text]
    for _ in range(pen.dice.choices((0, 1, 2, 3), (38, 40, 17, 5))[0]):
        other = _source(pen, pool, depth) if pen.chance(0.85) else relation
        if other.text in read:
            pen.shows.add("self join")
        read.append(other.text)
        scope = _join(pen, scope, _read(other, pen.alias()))
    if len(read) > 2 and not any(f" {outer} " in scope.text for outer in OUTER_JOINS):
        pen.shows.add("join of three")
    return scope


def _source(pen: Pen, pool: Sequence[Relation], depth: int) -> Relation:
    if depth and pen.chance(0.22):
        query = _query(pen, pool, depth - 1)
        pen.shows.add("derived table" if depth > 1 else "nested twice")
        return Relation(f"({query.text})", query.fields, query.key)
    found = pen.dice.choice(pool)
    if found.is_model:
        pen.shows.add("model over model")
    return found


def _read(relation: Relation, alias: str) -> Scope:
    fields = [replace(each, text=f"{alias}.{each.name}") for each in relation.fields]
    key = None if relation.key is None else tuple(f"{alias}.{name}" for name in relation.key)
    return Scope(f"{relation.text} as {alias}", tuple(fields), key)


_JOINS = {"join": 40, "left join": 26, "right join": 9, "full join": 9, ",": 6, "cross join": 4}


def _join(pen: Pen, left: Scope, right: Scope) -> Scope:
    how = pen.dice.choices(list(_JOINS), list(_JOINS.values()))[0]
    pairs = _pairs(left.fields, right.fields)
    if not pairs:
        how = "cross join"
    joined = f"{left.text}{how if how == ',' else ' ' + how} {right.text}"
    if how in (",", "cross join"):
        pen.shows.add("cross join")
    else:
        joined += f" on {_on(pen, how, left, right, pairs)}"
        if how != "join" and any(f" {outer} " in left.text for outer in OUTER_JOINS):
            pen.shows.add("chain of outer joins")
        pen.shows.add("inner join" if how == "join" else how)
    # Two rows without a partner may both have NULL keys, where a key can be NULL at all.
    key = None
    if left.key is not None and right.key is not None and how != "full join":
        key = (*left.key, *right.key)
    fields = (
        *_padded(left.fields, how in ("right join", "full join")),
        *_padded(right.fields, how in ("left join", "full join")),
    )
    return Scope(joined, fields, key)


def _padded(fields: Sequence[Field], may_be_absent: bool) -> list[Field]:
    return [replace(each, never_null=each.never_null and not may_be_absent) for each in fields]


def _on(pen: Pen, how: str, left: Scope, right: Scope, pairs: Sequence[tuple[Field, Field]]) -> str:
    one, other = pen.dice.choice(pairs)
    equal = "="
    if pen.chance(0.07):
        equal = "is not distinct from"
        pen.shows.add("null-safe join")
    text = f"{one.text} {equal} {other.text}"
    if pen.chance(0.12):
        also, too = pen.dice.choice(pairs)
        text += f" and {also.text} = {too.text}"
    if pen.chance(0.25 if how == "join" else 0.5):
        sides = pen.dice.choice(("left", "right", "mixed"))
        if sides == "mixed":
            also, too = pen.dice.choice(pairs)
            text += f" and {also.text} {pen.dice.choice(('<', '>=', '<>'))} {too.text}"
        else:
            fields = left.fields if sides == "left" else right.fields
            text += f" and {calculation(pen, fields, 'bool', depth=1)}"
        pen.shows.add("join on more than equality")
        if how == "left join":
            kind = "mixed" if sides == "mixed" else "one-sided"
            pen.shows.add(f"left join with a {kind} condition")
    return text


def _pairs(left: Sequence[Field], right: Sequence[Field]) -> list[tuple[Field, Field]]:
    """Fields to join on; those whose names say that they belong together count three times."""
    found = []
    for one in left:
        for other in right:
            if one.kind == other.kind and one.exact and other.exact and one.kind != "double":
                related = one.name == other.name or {one.name, other.name} in _RELATED
                found += [(one, other)] * (3 if related else 1)
    return found


_RELATED = ({"id", "customer_id"}, {"id", "order_id"}, {"id", "product_id"})


# ── WHERE ────────────────────────────────────────────────────────────────────────────────────────


def _where(pen: Pen, scope: Scope, pool: Sequence[Relation]) -> str:
    conditions = []
    if pen.chance(0.35):
        pen.shows.add("filter")
        conditions.append(calculation(pen, scope.fields, "bool"))
    if pen.chance(0.25) and (condition := _subquery(pen, scope, pool)):
        conditions.append(condition)
        if pen.chance(0.2) and (condition := _subquery(pen, scope, pool)):
            conditions.append(condition)
    return " where " + " and ".join(conditions) if conditions else ""


def _subquery(pen: Pen, scope: Scope, pool: Sequence[Relation]) -> str | None:
    """EXISTS, IN or their negation over one relation, correlated by equality or not at all."""
    inner = _read(_source(pen, pool, depth=0), pen.alias())
    pairs = _pairs(scope.fields, inner.fields)
    if not pairs:
        return None
    outer, own = pen.dice.choice(pairs)
    conditions = []
    construct = pen.dice.choice(("exists", "not exists", "in", "not in"))
    if construct == "not in" and pen.chance(0.7):  # the others may meet a NULL
        known = [pair for pair in pairs if pair[0].never_null]
        outer, own = pen.dice.choice(known or pairs)
        conditions += [] if own.never_null else [f"{own.text} is not null"]
    elif construct == "not in" and not (outer.never_null and own.never_null):
        pen.shows.add(NULLS_IN_NOT_IN)
    if construct.endswith("exists"):
        conditions.append(f"{own.text} = {outer.text}")
    if pen.chance(0.3):
        conditions.append(calculation(pen, inner.fields, "bool", depth=1))
    if pen.chance(0.35):
        also, too = pen.dice.choice(pairs)
        compares = pen.dice.choice(("=", "<", "<>", ">="))
        conditions.append(f"{too.text} {compares} {also.text}")
        if compares != "=":
            pen.shows.add("subquery with a residual condition")
    pen.shows.add(construct)
    where = " where " + " and ".join(conditions) if conditions else ""
    if construct.endswith("exists"):
        return f"{construct} (select 1 from {inner.text}{where})"
    return f"{outer.text} {construct} (select {own.text} from {inner.text}{where})"
