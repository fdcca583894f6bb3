"""The captured tables, as values: what the catalogue said of them.

These values are what is kept of a table as its ``state``: rows in the log can be read with them
alone, also when the table has long become another.
"""

from __future__ import annotations

from functools import cached_property

import msgspec

from upwell.core.protocols import SourceTable
from upwell.core.schema import Column, TableSchema
from upwell.core.sql import quote
from upwell.sources.mysql.datatypes import DataType, data_type
from upwell.sources.mysql.places import NOWHERE, Place


class CapturedColumn(msgspec.Struct, frozen=True):
    """A column in the catalogue's words."""

    name: str
    words: str  # its type: ``int(10) unsigned``
    charset: str = ""
    is_nullable: bool = True
    default: str | None = None
    extra: str = ""
    expression: str = ""

    @property
    def type(self) -> DataType:
        """Raises ``ValueError`` for a type that cannot be read: such a table is never captured."""
        found = data_type(self.words, self.charset)
        if found is None:
            raise ValueError(f"no type: {self.words}")
        return found

    @property
    def is_virtual(self) -> bool:
        """Computed when read: in the log it may stand, but nothing tells when it changes."""
        return "VIRTUAL" in self.extra.upper()


class CapturedTable(msgspec.Struct, frozen=True, dict=True):
    """A table: its place in the server, its name in our SQL, columns as in the log, and key."""

    name: str
    database: str
    table: str
    columns: tuple[CapturedColumn, ...]
    key: tuple[str, ...]

    @cached_property
    def types(self) -> tuple[DataType, ...]:
        """Of ``columns``, in their order."""
        return tuple(column.type for column in self.columns)

    @cached_property
    def kept(self) -> tuple[int, ...]:
        """Which columns are stored with us."""
        return tuple(at for at, column in enumerate(self.columns) if not column.is_virtual)

    @cached_property
    def schema(self) -> TableSchema:
        """The table as the rest of Upwell sees it."""
        columns = tuple(
            Column(self.columns[at].name, self.types[at].stored, self.columns[at].is_nullable)
            for at in self.kept
        )
        return TableSchema(self.name, columns, self.key)

    @property
    def quoted(self) -> str:
        """The table's name in SQL for our sessions."""
        return f"{quote(self.database)}.{quote(self.table)}"


class TableState(msgspec.Struct, frozen=True):
    """What is kept of a table: it is read, or has been, after the log had come to ``read_through``.

    Rows that the log has up to there are left out by whoever reads it again.
    """

    table: CapturedTable
    read_through: Place = NOWHERE


def source_table(table: CapturedTable, read_through: Place = NOWHERE) -> SourceTable:
    """The table as the engine keeps it."""
    state = TableState(table, read_through)
    return SourceTable(table.schema, msgspec.json.encode(state).decode())


def state_of(table: SourceTable) -> TableState:
    """What was kept of a table."""
    return msgspec.json.decode(table.state, type=TableState)


def of_state(table: SourceTable) -> CapturedTable:
    """The table that a state was made of."""
    return state_of(table).table


def split_name(table: str, database: str) -> tuple[str, str]:
    """``orders`` → (the URL's database, ``orders``); ``sales.orders`` → (``sales``, ``orders``)."""
    namespace, dot, relation = table.partition(".")
    return (namespace, relation) if dot else (database, table)


def sql_name(source: str, table: str, database: str) -> str:
    """The name in our SQL: ``shop.orders``; of another database ``shop.sales__orders``."""
    namespace, relation = split_name(table, database)
    return f"{source}.{relation}" if namespace == database else f"{source}.{namespace}__{relation}"
