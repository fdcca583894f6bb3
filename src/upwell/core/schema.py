"""What a table looks like: columns with stored (DuckDB) types, and its key."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """One column; ``type`` is the stored type as DuckDB spells it, e.g. ``DECIMAL(12,2)``."""

    name: str
    type: str
    nullable: bool = True


@dataclass(frozen=True, slots=True)
class TableSchema:
    """Columns in order and the key's column names; an empty key means rows may repeat.

    ``name`` is the name used in SQL, with its schema where it has one: ``shop.orders``.
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        """The column called ``name``. Raises KeyError if there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def positions_of(self, names: Iterable[str]) -> tuple[int, ...]:
        """Indexes of ``names`` among the columns."""
        order = {name: index for index, name in enumerate(self.column_names)}
        return tuple(order[name] for name in names)


def source_of(table: str) -> str:
    """The source of a captured table, by its name in SQL: ``shop.orders`` is one of ``shop``."""
    return table.partition(".")[0]
