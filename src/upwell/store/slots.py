"""Arrow tables that SQL reads under names of their own: registered once, exchanged at will.

Registering costs as much as a small statement; a slot is registered the first time it is used and
gives whatever table lies in it each time it is read. Registering is part of a transaction, so a
rollback takes it back: ``begin`` finds out which slots were lost that way.

Invariant: DuckDB reads a slot by the schema it was registered with, so for a table of another
schema a new slot, of another name, takes its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import duckdb
import pyarrow as pa

#: Tells apart the names of all slots of a process, since several ``Slots`` may share a connection.
_numbers = count(1)
#: Tables of so few rows stay where they are until others take their place.
_ROWS_KEPT = 1_000


@dataclass(slots=True)
class _Slot:
    """What DuckDB holds: it asks for the rows anew at each execution."""

    name: str
    table: pa.Table

    def __arrow_c_schema__(self) -> object:
        return self.table.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)


class Slots:
    """Slots over one connection, by the role of what lies in them."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._slots: dict[str, _Slot] = {}
        self._is_unsure = False  # whether a transaction that registered slots may go on
        self._looked_in: int | None = None  # the transaction in which it was looked since

    def begin(self) -> None:
        """Forget what a rollback has taken away. To be called before slots are used."""
        if not self._is_unsure:
            return
        transaction = self._transaction()
        if transaction == self._looked_in:
            return
        found = self._connection.execute(
            "SELECT view_name FROM duckdb_views() WHERE temporary AND NOT internal"
        ).fetchall()
        there = {name for (name,) in found}
        self._slots = {role: each for role, each in self._slots.items() if each.name in there}
        self._is_unsure = self._looked_in is None
        self._looked_in = transaction if self._is_unsure else None

    def put(self, role: str, table: pa.Table) -> str:
        """Lay ``table`` into the slot of ``role``; the name under which SQL reads it."""
        slot = self._slots.get(role)
        if slot is not None:
            if slot.table.schema.equals(table.schema):
                slot.table = table
                return slot.name
            self._connection.unregister(slot.name)
        slot = self._slots[role] = _Slot(f"_upwell_{next(_numbers)}_{role}", table)
        self._connection.register(slot.name, slot)
        self._is_unsure, self._looked_in = True, None
        return slot.name

    def _transaction(self) -> int:
        """Tells apart the transactions of the connection."""
        row = self._connection.execute("SELECT txid_current()").fetchone()
        assert row is not None  # noqa: S101 - of that query
        return int(row[0])

    def empty(self) -> None:
        """Let go of what takes room."""
        for slot in self._slots.values():
            if slot.table.num_rows > _ROWS_KEPT:
                slot.table = slot.table.schema.empty_table()
