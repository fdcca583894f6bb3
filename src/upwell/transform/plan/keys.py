"""What can be proven about rows: which columns determine a row, which are never NULL.

The proof is the closure of functional dependencies over a join (Maier, "The Theory of Relational
Databases", 1983, chapter 4): a key determines its row, an equality carries a value over. Only what
follows from the keys of the sources is ever relied on; a declared key proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlglot import exp

from upwell.core.schema import Column

Reference = tuple[str, str]  # alias, column

WHOLE_NUMBERS = frozenset(
    ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")
)


@dataclass(frozen=True, slots=True)
class Relation:
    """A table, model or hidden node as others read it; ``unique`` columns identify a row."""

    name: str
    columns: tuple[Column, ...]
    unique: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """What one join says: its inputs by alias and the conditions all its rows meet.

    ``lookups`` are inputs of which a row of the others meets at most one row.
    """

    inputs: dict[str, Relation]
    conditions: Sequence[exp.Expr]
    lookups: frozenset[str] = frozenset()

    def determined(self, known: Iterable[exp.Expr]) -> set[Reference]:
        """All columns whose value follows from the values of ``known`` expressions."""
        found = {
            reference for each in known if isinstance(each, exp.Column) for reference in [_at(each)]
        }
        pairs = [pair for each in self.conditions if (pair := _equal_columns(each))]
        equal = [pair for pair in pairs if is_sharp(*map(self._type, pair))]
        found |= {
            _at(column)
            for each in self.conditions
            if isinstance(each, exp.EQ) and (column := self._constant_column(each))
        }
        while True:
            before = len(found)
            for alias, relation in self.inputs.items():
                key = {(alias, name.lower()) for name in relation.unique}
                if key and key <= found:
                    found |= {(alias, column.name.lower()) for column in relation.columns}
            for left, right in equal:
                if left in found or right in found:
                    found |= {left, right}
            if len(found) == before:
                return found

    def _constant_column(self, condition: exp.EQ) -> exp.Column | None:
        """The column of which only one value equals a constant."""
        for column, value in (
            (condition.left, condition.right),
            (condition.right, condition.left),
        ):
            if isinstance(column, exp.Column) and isinstance(value, exp.Literal):
                of_type = self._type(_at(column))
                is_number = of_type in WHOLE_NUMBERS or of_type.startswith("DECIMAL(")
                return column if is_number or value.is_string else None  # the texts 1 and 01 are 1
        return None

    def _type(self, reference: Reference) -> str:
        alias, name = reference
        relation = self.inputs.get(alias)
        columns = relation.columns if relation is not None else ()
        return next((each.type for each in columns if each.name.lower() == name), "")

    def identify(self, known: Iterable[exp.Expr]) -> bool:
        """Whether the values of ``known`` single out one row of every input."""
        found = self.determined(known)
        return all(
            relation.unique and {(alias, name.lower()) for name in relation.unique} <= found
            for alias, relation in self.inputs.items()
            if alias not in self.lookups
        )

    def unique(
        self, outputs: Sequence[exp.Expr], declared: tuple[int, ...] = ()
    ) -> tuple[int, ...]:
        """Positions of outputs that identify a row: the declared ones if they do, else few."""
        if declared and self.identify([outputs[index] for index in declared]):
            return declared
        if not self.identify(outputs):
            return ()
        return smallest(tuple(range(len(outputs))), outputs, facts=self)

    def unique_groups(
        self,
        groups: Sequence[exp.Expr],
        shown: Mapping[int, exp.Expr],
        outputs: int,
        declared: tuple[int, ...],
    ) -> tuple[int, ...]:
        """Positions of outputs that identify a group; ``shown``: which output shows which group."""
        if not groups or not self.fix(list(shown.values()), groups):
            return ()
        if declared and set(declared) <= set(shown):
            given = [shown[index] for index in declared]
            if self.fix(given, groups):
                return declared
        ordered = [shown.get(index, exp.Null()) for index in range(outputs)]
        return smallest(tuple(shown), ordered, facts=self)

    def fix(self, known: Sequence[exp.Expr], wanted: Iterable[exp.Expr]) -> bool:
        """Whether the values of ``known`` decide the value of every ``wanted`` expression."""
        found = self.determined(known)
        return all(
            each in known or {_at(column) for column in each.find_all(exp.Column)} <= found
            for each in wanted
        )

    def never_null(self, expression: exp.Expr) -> bool:
        """Whether the expression has a value in every row of the join."""
        match expression:
            case exp.Column():
                return self._column_never_null(expression)
            case exp.Literal() | exp.Boolean() | exp.Count():
                return True
            case exp.TryCast():
                return False
            case exp.Cast():
                return self.never_null(expression.this) and not self._is_of_json(expression.this)
            case exp.Paren() | exp.Neg() | exp.TimestampTrunc() | exp.DateTrunc():
                return self.never_null(expression.this)
            case exp.Coalesce():
                return any(map(self.never_null, [expression.this, *expression.expressions]))
            case exp.Add() | exp.Sub() | exp.Mul():
                return self.never_null(expression.left) and self.never_null(expression.right)
            case _:
                return False

    def _is_of_json(self, expression: exp.Expr) -> bool:
        """Whether JSON's ``null``, which is a value, may become NULL where this is cast."""
        return any(each.to.is_type("json") for each in expression.find_all(exp.Cast)) or any(
            self._type(_at(each)) == "JSON" for each in expression.find_all(exp.Column)
        )

    def _column_never_null(self, column: exp.Column) -> bool:
        alias, name = _at(column)
        relation = self.inputs.get(alias)
        stored = relation is not None and any(
            each.name.lower() == name and not each.nullable for each in relation.columns
        )
        return stored or any(_demands(condition, column) for condition in self.conditions)


def is_sharp(one: str, other: str) -> bool:
    """Whether a value of one type equals at most one value of the other.

    The texts ``1`` and ``01`` are two, yet both equal the number 1; values of one type, and whole
    numbers, are one and the same wherever they are equal.
    """
    return one == other or {one, other} <= WHOLE_NUMBERS


def smallest(
    columns: Sequence[int], suffices: Sequence[exp.Expr], *, facts: Facts
) -> tuple[int, ...]:
    """Drop from a unique set of outputs, last first, each column that the others decide."""
    kept = list(columns)
    for index in reversed(columns):
        rest = [each for each in kept if each != index]
        if rest and facts.fix([suffices[each] for each in rest], [suffices[index]]):
            kept = rest
    return tuple(kept)


def _at(column: exp.Column) -> Reference:
    return column.table, column.name.lower()


def _equal_columns(condition: exp.Expr) -> tuple[Reference, Reference] | None:
    if isinstance(condition, exp.EQ):
        left, right = condition.left, condition.right
        if isinstance(left, exp.Column) and isinstance(right, exp.Column):
            return _at(left), _at(right)
    return None


def _demands(condition: exp.Expr, column: exp.Column) -> bool:
    """Whether a row can only meet the condition with a value in ``column``."""
    match condition:
        case exp.EQ() | exp.NEQ() | exp.LT() | exp.LTE() | exp.GT() | exp.GTE():
            return column in (condition.left, condition.right)
        case exp.Not(this=exp.Is(this=this, expression=exp.Null())):
            return bool(this == column)
        case _:
            return False
