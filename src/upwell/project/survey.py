"""A database as somebody saw it who looked before deciding: tables, keys, what columns hold.

Values only; ``sources`` reads them from a server, ``draft`` decides by them. What is an estimate
says so. Nothing here depends on a figure being right: a draft made from wrong statistics is a less
fitting draft, never one that does not hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

#: What a column's values are to somebody who adds up and groups.
Family = Literal["number", "text", "truth", "time", "other"]


@dataclass(frozen=True, slots=True)
class SeenColumn:
    """One column. ``declared`` is the type as the database spells it, ``stored`` as DuckDB does.

    ``distinct`` and ``null_share`` are estimates over the table, None where nothing is known;
    ``common`` holds the most frequent values, the first the most. ``earliest`` and ``latest`` are
    known of times alone.
    """

    name: str
    declared: str
    stored: str
    family: Family
    is_nullable: bool
    distinct: int | None = None
    null_share: float | None = None
    common: tuple[str, ...] = ()
    earliest: datetime | None = None
    latest: datetime | None = None

    @property
    def is_exact(self) -> bool:
        """Whether sums of it are exact as it is stored: whole numbers and decimals are."""
        return self.family == "number" and self.stored.startswith(_EXACT)


_EXACT = ("DECIMAL", "BIGINT", "INTEGER", "SMALLINT", "UINTEGER")


@dataclass(frozen=True, slots=True)
class SeenForeignKey:
    """``columns`` hold a key of the table ``target``; ``is_sure``: the database sees to it."""

    columns: tuple[str, ...]
    target: str
    target_columns: tuple[str, ...]
    is_sure: bool = True


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a table cannot be captured, and what to run."""

    code: str
    what: str
    next_step: str


@dataclass(frozen=True, slots=True)
class SeenTable:
    """One relation, named as projects name it: ``orders``, ``sales.orders``.

    ``kind`` is for people: "a table", "a view". ``rows`` is None where nothing is known of it.
    """

    name: str
    kind: str
    rows: int | None
    rows_are_exact: bool
    size_bytes: int
    columns: tuple[SeenColumn, ...]
    key: tuple[str, ...] = ()
    foreign_keys: tuple[SeenForeignKey, ...] = ()
    obstacles: tuple[Obstacle, ...] = ()

    @property
    def is_fit(self) -> bool:
        return not self.obstacles

    @property
    def relation(self) -> str:
        """The name in SQL beneath the source: ``orders``, ``sales__orders``."""
        schema, dot, table = self.name.partition(".")
        return f"{schema}__{table}" if dot and schema != "public" else (table or schema)

    def column(self, name: str) -> SeenColumn:
        """The column called ``name``. Raises KeyError if there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class Survey:
    """A database, looked at ``seen_at``. ``zone`` is the server's own; ``notes`` say what could
    not be looked at.
    """

    database: str
    version: str
    zone: str
    seen_at: datetime
    tables: tuple[SeenTable, ...]
    notes: tuple[str, ...] = ()

    def table(self, name: str) -> SeenTable:
        """The table called ``name``. Raises KeyError if there is none."""
        for table in self.tables:
            if table.name == name:
                return table
        raise KeyError(name)
