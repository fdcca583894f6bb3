"""FROM, JOIN and WHERE of one SELECT as they are written, and the inner join they amount to.

Raises ``Obstacle`` for whatever has no delta of its own: the SELECT around it is then recomputed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlglot import exp

from upwell.core.schema import Column
from upwell.transform.plan.keys import Facts, Reference, Relation
from upwell.transform.plan.nodes import Branch, Condition, Flat, Input, flat_column
from upwell.transform.plan.parse import DIALECT, function_name

#: What may stand in a SELECT that has a delta; ORDER BY has no effect on a stored result.
_SELECT_PARTS = frozenset(
    (
        "with_",
        "distinct",
        "expressions",
        "from_",
        "joins",
        "where",
        "group",
        "having",
        "qualify",
        "order",
    )
)
_FROM = frozenset(("from_", "joins", "with_"))
#: What may stand in an item of FROM.
_ITEM_PARTS = frozenset(("this", "db", "catalog", "alias"))
#: How items of FROM may be joined.
_KINDS = {
    "": "INNER",
    "INNER": "INNER",
    "CROSS": "INNER",
    "LEFT": "LEFT",
    "LEFT OUTER": "LEFT",
    "RIGHT": "RIGHT",
    "RIGHT OUTER": "RIGHT",
    "FULL": "FULL",
    "FULL OUTER": "FULL",
    "SEMI": "SEMI",
    "ANTI": "ANTI",
}


class Obstacle(Exception):  # noqa: N818 - a finding, not a fault: the planner goes another way
    """Why a query has no delta; completes "because it …"."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item of FROM, joined to those before it where all of ``on`` hold."""

    source: exp.Table | exp.Subquery
    kind: str  # INNER, LEFT, RIGHT, FULL, SEMI or ANTI
    on: Sequence[exp.Expr] = ()

    @property
    def alias(self) -> str:
        return self.source.alias_or_name


@dataclass(frozen=True, slots=True)
class Joined:
    """An inner join: its inputs by alias, in order, and the conditions all its rows meet."""

    facts: Facts

    @property
    def aliases(self) -> frozenset[str]:
        return frozenset(self.facts.inputs)

    def cross(
        self, other: Joined, conditions: Sequence[exp.Expr] = (), *, is_lookup: bool = False
    ) -> Joined:
        """This join with another one's inputs. A lookup adds at most one row to each of ours."""
        if shared := sorted(self.aliases & other.aliases):
            raise Obstacle(f"names two inputs {shared[0]}")
        lookups = other.aliases if is_lookup else other.facts.lookups
        return Joined(
            Facts(
                {**self.facts.inputs, **other.facts.inputs},
                [*self.facts.conditions, *other.facts.conditions, *conditions],
                self.facts.lookups | lookups,
            )
        )

    def where(self, *conditions: exp.Expr) -> Joined:
        return Joined(replace(self.facts, conditions=[*self.facts.conditions, *conditions]))

    @property
    def without_conditions(self) -> Joined:
        return Joined(replace(self.facts, conditions=()))

    def branch(self, outputs: Sequence[exp.Expr]) -> Branch:
        """The join with these outputs, each input with what its rows must meet by themselves."""
        own: dict[str, list[exp.Expr]] = {alias: [] for alias in self.facts.inputs}
        shared: list[exp.Expr] = []
        for condition in self.facts.conditions:
            aliases = {alias for alias, _ in references([condition])}
            is_own = len(own) > 1 and len(aliases) == 1 and aliases <= self.aliases
            (own[aliases.pop()] if is_own else shared).append(condition)
        inputs = [
            replace(
                each,
                condition=" AND ".join(f"({text(condition)})" for condition in own[each.alias]),
                tested=_without(self._read(each.alias, own[each.alias]), each.columns),
            )
            for each in self.inputs([*outputs, *shared])
        ]
        return Branch(
            inputs=tuple(inputs),
            outputs=tuple(text(each) for each in outputs),
            conditions=tuple(text(each) for each in shared),
            flat=self._flat(outputs, shared) if len(inputs) > 2 else None,
        )

    def _flat(self, outputs: Sequence[exp.Expr], conditions: Sequence[exp.Expr]) -> Flat:
        """The expressions over one relation with the columns of all inputs."""
        names = {
            (alias, each.name.lower()): flat_column(alias, each.name)
            for alias, relation in self.facts.inputs.items()
            for each in relation.columns
        }
        if len({name.lower() for name in names.values()}) < len(names):
            raise Obstacle("names an input as a column of another is named")
        columns = {place: exp.column(name, quoted=True) for place, name in names.items()}

        def reads(expressions: Sequence[exp.Expr]) -> frozenset[str]:
            return frozenset(names[place] for place in references(expressions))

        return Flat(
            outputs=tuple(text(renamed(each, columns)) for each in outputs),
            shown=reads(outputs),
            conditions=tuple(
                Condition(
                    text=text(renamed(each, columns)),
                    aliases=frozenset(alias for alias, _ in references([each])),
                    reads=reads([each]),
                )
                for each in conditions
            ),
        )

    def inputs(self, expressions: Sequence[exp.Expr]) -> list[Input]:
        """The inputs, each with the columns that the expressions use of it."""
        if strangers := {alias for alias, _ in references(expressions)} - self.aliases:
            raise Obstacle(
                f"reads {', '.join(sorted(strangers)) or 'a column'} from outside its FROM"
            )
        return [
            Input(alias, relation.name, self._read(alias, expressions))
            for alias, relation in self.facts.inputs.items()
        ]

    def _read(self, alias: str, expressions: Sequence[exp.Expr]) -> tuple[Column, ...]:
        used = set(references(expressions))
        columns = self.facts.inputs[alias].columns
        return tuple(each for each in columns if (alias, each.name.lower()) in used)


def _without(columns: Sequence[Column], others: Sequence[Column]) -> tuple[Column, ...]:
    return tuple(each for each in columns if each not in others)


def whole(relation: Relation) -> tuple[Joined, list[exp.Expr]]:
    """A relation read as it is, and its columns."""
    columns: list[exp.Expr] = [
        exp.column(each.name, "whole", quoted=True) for each in relation.columns
    ]
    return Joined(Facts({"whole": relation}, ())), columns


# ── reading a SELECT ─────────────────────────────────────────────────────────────────────────────


def read_items(select: exp.Select) -> list[Item]:
    """What a SELECT reads, in order. Raises ``Obstacle`` if the SELECT has a part with no delta."""
    _refuse_parts(select)
    source = select.args.get("from_")
    if source is None:
        raise Obstacle("reads no table")
    items = [Item(_table(source.this), "INNER")]
    is_list = False
    for join in select.args.get("joins") or ():
        kind = " ".join(part for part in (join.method, join.side, join.kind) if part).upper()
        if kind not in _KINDS or join.args.get("using"):
            raise Obstacle(f"uses {_article(kind)} {kind} JOIN" if kind else "joins by USING")
        on = join.args.get("on")
        is_list = is_list or not (kind or on)
        if is_list and _KINDS[kind] in ("RIGHT", "FULL"):
            raise Obstacle(f"uses a {kind} JOIN after a comma, which reads only what is behind it")
        conditions = [] if on is None else conjuncts(on)
        refuse(conditions)
        items.append(Item(_table(join.this), _KINDS[kind], conditions))
    return items


def read_conditions(select: exp.Select) -> list[exp.Expr]:
    """What every row of a SELECT's WHERE meets; subqueries may stand in them."""
    where = select.args.get("where")
    return [] if where is None else conjuncts(where.this)


def conjuncts(condition: exp.Expr) -> list[exp.Expr]:
    """The conditions that AND puts together."""
    condition = condition.unnest()
    if isinstance(condition, exp.And):
        return [each for side in (condition.left, condition.right) for each in conjuncts(side)]
    return [condition]


def refuse(expressions: Iterable[exp.Expr], *, windows: bool = False) -> None:
    """Raise ``Obstacle`` for a part that decides more than its own row's value."""
    for expression in expressions:
        for part in expression.walk():
            match part:
                case exp.Window() if not windows:
                    raise Obstacle("uses a window function")
                case exp.Query():
                    raise Obstacle("has a subquery inside an expression")
                case exp.Placeholder():
                    raise Obstacle("reads the clock, so that its rows change as time passes")
                case exp.Explode() | exp.Unnest() | exp.GenerateSeries() | exp.Star() if (
                    not isinstance(part.parent, exp.Count)
                ):
                    raise Obstacle(f"uses {function_name(part) or '*'} where a value is expected")


def references(expressions: Iterable[exp.Expr]) -> Iterator[Reference]:
    """The columns that expressions use, subqueries included: alias and lower-case name."""
    for expression in expressions:
        for column in expression.find_all(exp.Column):
            yield column.table, column.name.lower()


def shown_columns(select: exp.Select) -> list[Reference]:
    """Every column a SELECT uses after its FROM, each once, in order."""
    parts = [value for name, value in select.args.items() if value and name not in _FROM]
    flat = [each for part in parts for each in (part if isinstance(part, list) else [part])]
    return list(dict.fromkeys(references(each for each in flat if isinstance(each, exp.Expr))))


def text(expression: exp.Expr) -> str:
    return expression.sql(dialect=DIALECT, comments=False)


# ── renaming ─────────────────────────────────────────────────────────────────────────────────────


def renamed(expression: exp.Expr, names: Mapping[Reference, exp.Column]) -> exp.Expr:
    """A copy in which columns have the names of what took their place.

    A column that a subquery finds in its own FROM is another one and stays.
    """
    copy = expression.copy()
    if not names:
        return copy
    for column in list(copy.find_all(exp.Column)):
        wanted = names.get((column.table, column.name.lower()))
        if wanted is not None and not _is_inner(column):
            if column is copy:
                return wanted.copy()
            column.replace(wanted.copy())
    return copy


def _is_inner(column: exp.Column) -> bool:
    """Whether a subquery between the column and the whole names the column's table itself."""
    query = column.find_ancestor(exp.Select)
    while query is not None:
        sources = [query.args.get("from_"), *(query.args.get("joins") or ())]
        if any(each is not None and each.this.alias_or_name == column.table for each in sources):
            return True
        query = query.find_ancestor(exp.Select)
    return False


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────


def _article(word: str) -> str:
    return "an" if word[:1] in "AEIOU" else "a"


def _refuse_parts(select: exp.Select) -> None:
    for part, value in select.args.items():
        if value and part not in _SELECT_PARTS:
            raise Obstacle(f"uses {part.strip('_').upper()}")


def _table(item: exp.Expr) -> exp.Table | exp.Subquery:
    """An item of FROM that is a table or a query, with an alias at most."""
    name = item.alias_or_name
    if not isinstance(item, exp.Table | exp.Subquery) or (
        isinstance(item, exp.Table) and not isinstance(item.this, exp.Identifier)
    ):
        raise Obstacle(
            f"reads {function_name(item) or item.key.upper()} in FROM, which is no table"
        )
    if extra := [part for part, value in item.args.items() if value and part not in _ITEM_PARTS]:
        raise Obstacle(f"reads {name} with {extra[0].strip('_').upper()}")
    alias = item.args.get("alias")
    if alias is not None and alias.args.get("columns"):
        raise Obstacle(f"renames the columns of {name} in FROM")
    return item
