"""The captured tables, as values: what the catalogue said of them."""

from __future__ import annotations

from dataclasses import dataclass

from upwell.core.schema import Column, TableSchema
from upwell.core.sql import quote
from upwell.sources.postgres.datatypes import DataType


@dataclass(frozen=True, slots=True)
class CapturedColumn:
    """A column of the database that the log carries (generated columns are not)."""

    name: str
    type: DataType
    nullable: bool
    number: int  # its place in the catalogue, never used again for another
    declared: tuple[int, int]  # type and modifier as the catalogue has them
    written_in: int  # the transaction that last changed what the catalogue says of it
    type_name: str  # the type in SQL for PostgreSQL
    filled_with: str | None  # what stands in rows of before it was added, as the server prints it
    has_default: bool


@dataclass(frozen=True, slots=True)
class Partition:
    """A relation below a partitioned table; what ``is_leaf`` has rows of its own."""

    oid: int
    namespace: str
    relation: str
    file: int  # another one after every rewrite, and after TRUNCATE
    attached_in: int  # the transaction that did it
    is_leaf: bool
    is_leaving: bool = False  # being detached: its rows are none of the table's any more
    has_rows: bool = False  # looked at only where it is news

    @property
    def quoted(self) -> str:
        """Its name in SQL for PostgreSQL."""
        return f"{quote(self.namespace)}.{quote(self.relation)}"


@dataclass(frozen=True, slots=True)
class CapturedTable:
    """A table: its place in the database, its name in our SQL, columns and primary key.

    The rows of one that ``is_partitioned`` lie in the leaves of its ``partitions``.
    """

    oid: int
    namespace: str
    relation: str
    name: str
    columns: tuple[CapturedColumn, ...]
    key: tuple[str, ...]
    file: int  # another one after every rewrite of the table
    logs_whole_rows: bool = False  # else values that did not change may be left out (TOAST)
    is_partitioned: bool = False
    partitions: tuple[Partition, ...] = ()

    @property
    def schema(self) -> TableSchema:
        """The table as the rest of Upwell sees it."""
        columns = tuple(Column(c.name, c.type.stored, c.nullable) for c in self.columns)
        return TableSchema(self.name, columns, self.key)

    @property
    def quoted(self) -> str:
        """The table's name in SQL for PostgreSQL."""
        return f"{quote(self.namespace)}.{quote(self.relation)}"

    @property
    def own(self) -> str:
        """See ``own_rows``."""
        return own_rows(self.quoted, is_partitioned=self.is_partitioned)

    @property
    def leaves(self) -> list[Partition]:
        """Where the rows of a partitioned table lie."""
        return [each for each in self.partitions if each.is_leaf and not each.is_leaving]

    @property
    def oids(self) -> list[int]:
        """Of everything that is locked by writing to it."""
        return [self.oid, *(each.oid for each in self.partitions)]


def own_rows(quoted: str, *, is_partitioned: bool) -> str:
    """What a query of a table's own rows names: those of tables that inherit from it are not, but
    those of its partitions are.
    """
    return quoted if is_partitioned else f"ONLY {quoted}"


def split_name(table: str) -> tuple[str, str]:
    """``orders`` → (``public``, ``orders``); ``sales.orders`` → (``sales``, ``orders``)."""
    namespace, dot, relation = table.partition(".")
    return (namespace, relation) if dot else ("public", table)


def sql_name(source: str, table: str) -> str:
    """The name in our SQL: ``shop.orders``; of another schema ``shop.sales__orders``."""
    namespace, relation = split_name(table)
    return f"{source}.{relation}" if namespace == "public" else f"{source}.{namespace}__{relation}"
