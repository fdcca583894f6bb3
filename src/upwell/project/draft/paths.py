"""From a table along foreign keys to the tables that describe its rows.

Only keys of tables that can be captured are followed, and only towards the key they hold: such a
join finds at most one row, so it never multiplies what is added up. Where the database declares no
key, a column named after another table's key is taken for one; nothing vouches for such a guess,
and ``is_sure`` says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from upwell.project.draft.names import noun, singular, words
from upwell.project.survey import SeenColumn, SeenTable

_FARTHEST = 3
_WHOLE = frozenset({"BIGINT", "INTEGER", "SMALLINT", "UINTEGER"})
_MOST_PATHS = 60  # of one table; beyond it nobody could choose


@dataclass(frozen=True, slots=True)
class Reference:
    """``columns`` of ``origin`` hold the key ``target_columns`` of ``target``.

    ``may_miss``: a row may have no partner, so that an inner join would lose it.
    """

    origin: str
    columns: tuple[str, ...]
    target: str
    target_columns: tuple[str, ...]
    is_nullable: bool
    is_declared: bool
    is_sure: bool

    @property
    def may_miss(self) -> bool:
        return self.is_nullable or not self.is_sure


@dataclass(frozen=True, slots=True)
class Reached:
    """A table, and the references that lead to it; none for the table one starts from."""

    table: SeenTable
    by: tuple[Reference, ...] = ()

    @property
    def hops(self) -> int:
        return len(self.by)


@dataclass(frozen=True, slots=True)
class Graph:
    """The tables that can be captured, and the references between them."""

    tables: Mapping[str, SeenTable]
    references: Mapping[str, tuple[Reference, ...]]

    def is_referenced(self, table: str) -> bool:
        """Whether another table points to this one."""
        return any(
            reference.target == table and origin != table
            for origin, several in self.references.items()
            for reference in several
        )

    def reachable(self, table: str) -> list[Reached]:
        """The table itself, then what is reached from it, nearest first."""
        found = [Reached(self.tables[table])]
        for reached in found:
            if reached.hops == _FARTHEST or len(found) > _MOST_PATHS:
                break
            passed = {table, *(step.target for step in reached.by)}
            found += [
                Reached(self.tables[step.target], (*reached.by, step))
                for step in self.references[reached.table.name]
                if step.target not in passed
            ]
        return found


def graph_of(tables: Sequence[SeenTable]) -> Graph:
    """The references among ``tables``, declared and guessed."""
    by_name = {table.name: table for table in tables}
    keys = [table for table in tables if len(table.key) == 1]
    references = {}
    for table in tables:
        declared = list(_declared(table, by_name))
        held = {name for each in table.foreign_keys for name in each.columns}
        guessed = [
            guess
            for column in table.columns
            if column.name not in held
            for guess in _guessed(table, column, keys)
        ]
        references[table.name] = (*declared, *guessed)
    return Graph(by_name, references)


def _declared(table: SeenTable, tables: Mapping[str, SeenTable]) -> Iterator[Reference]:
    seen = set()
    for key in table.foreign_keys:
        target = tables.get(key.target)
        if target is None or (key.columns, key.target) in seen:
            continue
        pairs = [
            (table.column(ours), target.column(theirs))
            for ours, theirs in zip(key.columns, key.target_columns, strict=True)
            if _has(table, ours) and _has(target, theirs)
        ]
        if len(pairs) < len(key.columns) or not all(_are_alike(*pair) for pair in pairs):
            continue  # equal there would not be equal here
        seen.add((key.columns, key.target))
        yield Reference(
            origin=table.name,
            columns=key.columns,
            target=key.target,
            target_columns=key.target_columns,
            is_nullable=any(ours.is_nullable for ours, _ in pairs),
            is_declared=True,
            is_sure=key.is_sure,
        )


def _guessed(
    table: SeenTable, column: SeenColumn, keys: Sequence[SeenTable]
) -> Iterator[Reference]:
    """The one table whose key a column seems to hold, if there is just one."""
    if table.key == (column.name,):
        return
    fitting = [
        other
        for other in keys
        if other.name != table.name
        and _are_alike(column, other.column(other.key[0]))
        and _is_named_after(column.name, other)
    ]
    schema = table.name.rpartition(".")[0]
    near = [other for other in fitting if other.name.rpartition(".")[0] == schema]
    chosen = near or fitting
    if len(chosen) == 1:
        yield Reference(
            origin=table.name,
            columns=(column.name,),
            target=chosen[0].name,
            target_columns=chosen[0].key,
            is_nullable=column.is_nullable,
            is_declared=False,
            is_sure=False,
        )


def _is_named_after(column: str, other: SeenTable) -> bool:
    """``user_id`` → ``users.id``, ``customer_id`` → ``customers.customer_id``."""
    spoken, key = words(column), words(other.key[0])
    if spoken[-1:] != ("id",) or len(spoken) == 1:
        return False
    if spoken == key:
        return True
    stem = " ".join(spoken[:-1])
    return key[-1:] == ("id",) and singular(noun(other.relation)) == singular(stem)


def _are_alike(one: SeenColumn, other: SeenColumn) -> bool:
    """Whether values that the database calls equal are equal as they are stored here."""
    if one.declared != other.declared and "character(" in one.declared + other.declared:
        return False  # padded with blanks to different lengths
    return one.stored == other.stored or {one.stored, other.stored} <= _WHOLE


def _has(table: SeenTable, column: str) -> bool:
    return any(each.name == column for each in table.columns)
