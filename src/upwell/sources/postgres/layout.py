"""A table's layout as the stream announces it (Relation messages)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

import pyarrow as pa

from upwell.core.protocols import LayoutChange
from upwell.core.schema import Column, TableSchema
from upwell.sources.postgres.datatypes import Aliases, DataType, data_type
from upwell.sources.postgres.tables import CapturedTable

_MOST_COLUMNS = 1600  # of a PostgreSQL table


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a table's rows in the stream from here on, until announced anew."""

    oid: int
    table: str  # as it is named in the database
    schema: TableSchema
    types: tuple[DataType, ...]
    declared: tuple[tuple[int, int], ...]  # type and modifier as the log has them
    identifying: frozenset[str]  # the columns that tell which row was changed
    key: tuple[int, ...] = ()  # indexes of the key's columns, in the key's order
    has_key: bool = False  # whether rows carry it: they cannot be told apart otherwise


@dataclass(frozen=True, slots=True)
class Announcement:
    """A layout that the log announces, in a transaction that ends at ``lsn``; for rows of a
    ``partition``, by its OID, where it is one of a partitioned table.
    """

    layout: Layout
    lsn: int
    partition: int = 0


@dataclass(frozen=True, slots=True)
class Admission:
    """What to make of a layout that the log announces: ``layout`` itself, as the catalogue has it.

    ``change`` is what has become of the table, if that is news. Rows ``is_stale``: of a layout that
    is no more; so are all of transactions up to ``read_through``, whatever their layout. What is
    stale shows in the table as it is read anew. ``constants``: one row of the columns that rows
    lack, though they have them.
    """

    layout: Layout
    change: LayoutChange | None
    is_stale: bool
    read_through: int = 0
    constants: pa.Table | None = None


def parse_layout(message: bytes, table: CapturedTable, aliases: Aliases) -> Layout:
    """A Relation message of ``table``. A malformed one raises ValueError, IndexError or
    ``struct.error``.
    """
    _, at = _name(message, 5)
    _, at = _name(message, at)
    _, count = struct.unpack_from(">cH", message, at)
    at += 3
    columns: list[Column] = []
    types: list[DataType] = []
    declared: list[tuple[int, int]] = []
    identifying: set[str] = set()
    if count > _MOST_COLUMNS:
        raise ValueError(f"{count} columns")
    for _ in range(count):
        is_identifying = message[at] & 1
        name, at = _name(message, at + 1)
        oid, modifier = struct.unpack_from(">Ii", message, at)
        at += 8
        if is_identifying:
            identifying.add(name)
        declared.append((oid, modifier))
        types.append(data_type(oid, modifier, aliases))
        columns.append(Column(name, types[-1].stored))
    if at != len(message):
        raise ValueError("bytes left over")
    if len({column.name for column in columns}) < count:
        raise ValueError("two columns of one name")
    name = f"{table.namespace}.{table.relation}"
    schema = TableSchema(table.name, tuple(columns), ())
    layout = Layout(table.oid, name, schema, tuple(types), tuple(declared), frozenset(identifying))
    return in_catalog(layout, table)


def in_catalog(layout: Layout, table: CapturedTable) -> Layout:
    """The layout with what only the catalogue knows: key, NULL-ability, and what types made since
    the stream was opened stand for.
    """
    known = {column.name: column for column in table.columns}
    columns: list[Column] = []
    types: list[DataType] = []
    for each, kind, declared in zip(
        layout.schema.columns, layout.types, layout.declared, strict=True
    ):
        now = known.get(each.name)
        types.append(now.type if now is not None and now.declared == declared else kind)
        columns.append(Column(each.name, types[-1].stored, now is None or now.nullable))
    schema = TableSchema(table.name, tuple(columns), table.key)
    has_key = layout.identifying.issuperset(table.key)
    key = schema.positions_of(table.key) if has_key else ()
    return replace(layout, schema=schema, types=tuple(types), key=key, has_key=has_key)


def _name(message: bytes, at: int) -> tuple[str, int]:
    end = message.index(b"\0", at)
    return message[at:end].decode(), end + 1
