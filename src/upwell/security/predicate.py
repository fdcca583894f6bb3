"""Which rows of a table are stored: a condition over its own columns.

    country <> 'DE' AND (kind IN ('a', 'b') OR NOT is_test) AND placed_at >= DATE '2024-01-01'

Comparisons, AND, OR, NOT, IN, BETWEEN, LIKE, IS NULL, and of functions lower, upper and coalesce.
As in WHERE, a condition that is NULL does not hold. The same values always give the same answer;
whatever might not, or might fail on a value (casts, arithmetic, other functions, subqueries, the
clock) is refused. DuckDB evaluates it, with times in UTC.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp, parse
from sqlglot.errors import SqlglotError

_ALLOWED = (
    *(exp.And, exp.Or, exp.Not, exp.Paren),
    *(exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.NullSafeEQ, exp.NullSafeNEQ),
    *(exp.In, exp.Between, exp.Like, exp.ILike, exp.Is),
    *(exp.Lower, exp.Upper, exp.Coalesce),
    *(exp.Column, exp.Identifier, exp.Literal, exp.Neg, exp.Boolean, exp.Null),
)
#: ``DATE '2024-01-01'`` reads as a cast, of a text that is there to be looked at.
_LITERAL_TYPES = (
    exp.DataType.Type.DATE,
    exp.DataType.Type.TIMESTAMP,
    exp.DataType.Type.TIMESTAMPTZ,
)


class PredicateError(ValueError):
    """The text is no condition that rows may be chosen by; says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Predicate:
    """A condition and the columns it names, spelled as in the condition."""

    text: str
    columns: tuple[str, ...]

    def sql(self, spelled: dict[str, str]) -> str:
        """The condition in DuckDB's SQL, its columns spelled as the table does."""
        tree = _tree(self.text)
        for column in tree.find_all(exp.Column):
            column.this.replace(exp.to_identifier(spelled[column.name], quoted=True))
        return tree.sql(dialect="duckdb")


def parse_predicate(text: str) -> Predicate:
    """Raises ``PredicateError``."""
    tree = _tree(text)
    for node in tree.walk():
        _require_allowed(node)
    columns = tuple(dict.fromkeys(column.name for column in tree.find_all(exp.Column)))
    if not columns:
        raise PredicateError("it names no column")
    return Predicate(text, columns)


def _tree(text: str) -> exp.Expr:
    try:
        trees = parse(text, dialect="duckdb")
    except SqlglotError:  # whose message repeats the text, in colours
        raise PredicateError("it is not SQL") from None
    if len(trees) != 1 or trees[0] is None:
        raise PredicateError("it is not one condition")
    return trees[0]


def _require_allowed(node: exp.Expr) -> None:
    if isinstance(node, exp.Column) and node.table:
        raise PredicateError(f"`{node.sql()}` names a table: write the column alone")
    if isinstance(node, exp.DataType):
        node = node.parent or node
    if isinstance(node, exp.Cast) and type(node) is exp.Cast:
        if isinstance(node.this, exp.Literal) and node.to.this in _LITERAL_TYPES:
            return
    elif isinstance(node, _ALLOWED) and not isinstance(node, exp.Subquery):
        return
    raise PredicateError(f"`{node.sql(dialect='duckdb')}` is not allowed in it")
