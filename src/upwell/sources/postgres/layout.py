"""A table's layout as the stream announces it (Relation messages)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from upwell.core.errors import GapError
from upwell.core.schema import Column, TableSchema
from upwell.sources.postgres.datatypes import Aliases, DataType, data_type
from upwell.sources.postgres.replication import START_ANEW
from upwell.sources.postgres.tables import CapturedTable


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a table's rows in the stream from here on, until announced anew."""

    oid: int
    schema: TableSchema
    types: tuple[DataType, ...]
    key: tuple[int, ...]  # indexes of the key's columns, in the key's order


def parse_layout(message: bytes, table: CapturedTable, aliases: Aliases) -> Layout:
    """A Relation message of ``table``. A malformed one raises ValueError, IndexError or
    ``struct.error``.

    Key and NULL-ability come from the catalogue. Raises ``GapError`` when the stream no longer
    carries the key: its rows could not be told apart.
    """
    _, at = _name(message, 5)
    _, at = _name(message, at)
    _, count = struct.unpack_from(">cH", message, at)
    at += 3
    nullable = {column.name: column.nullable for column in table.columns}
    columns: list[Column] = []
    types: list[DataType] = []
    identifying: set[str] = set()
    for _ in range(count):
        is_identifying = message[at] & 1
        name, at = _name(message, at + 1)
        oid, modifier = struct.unpack_from(">Ii", message, at)
        at += 8
        if is_identifying:
            identifying.add(name)
        types.append(data_type(oid, modifier, aliases))
        columns.append(Column(name, types[-1].stored, nullable.get(name, True)))
    if at != len(message):
        raise ValueError("bytes left over")
    if not identifying.issuperset(table.key):
        raise _key_lost(table)
    schema = TableSchema(table.name, tuple(columns), table.key)
    return Layout(table.oid, schema, tuple(types), schema.positions_of(table.key))


def _name(message: bytes, at: int) -> tuple[str, int]:
    end = message.index(b"\0", at)
    return message[at:end].decode(), end + 1


def _key_lost(table: CapturedTable) -> GapError:
    return GapError(
        "layout_changed",
        f"the log no longer carries the key of {table.name} ({', '.join(table.key)}): "
        "its primary key or replica identity was changed",
        where=table.quoted,
        next_step=f"restore the primary key and REPLICA IDENTITY DEFAULT; then {START_ANEW}",
    )
