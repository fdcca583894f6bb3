"""Which tables are being read, and how far: so that reading goes on after a crash.

A part counts as stored in the transaction that stores its rows. ``reach`` is the position that the
stream must have reached before what was read can take its place.

A table is read in parts of the source's own choice, or, to be compared, in ranges of keys: one of
these counts as stored too if the source's rows were found to be the stored ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

import duckdb
import msgspec

from upwell.core.position import BEGINNING, Position
from upwell.core.protocols import CopyPlan, KeyRange, SourceTable
from upwell.core.schema import TableSchema
from upwell.ingest import copied
from upwell.ingest.ranges import PART_OF_KEYS, of_part


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a table, by its place among all of them."""

    table: str
    place: int
    where: str


@dataclass(frozen=True, slots=True)
class Copying:
    """A table being read, in the state and under the layout it will have; ``identity`` tells this
    reading of it from others.
    """

    table: SourceTable
    identity: str
    reach: Position
    estimated_rows: int
    parts: int
    stored: int
    same: int = 0  # of those: ranges of keys that need not be read
    is_by_keys: bool = False

    @property
    def is_read(self) -> bool:
        """Whether all parts are stored."""
        return self.parts == self.stored > 0

    def is_reached(self, position: Position) -> bool:
        """Whether all was read, and a stream at ``position`` has come to the last reading."""
        return self.is_read and position >= self.reach


def copies(connection: duckdb.DuckDBPyConnection) -> dict[str, Copying]:
    """The tables being read, by SQL name."""
    rows = connection.execute(
        "SELECT c.layout, c.state, c.terms, c.identity, c.reach, c.estimated_rows, count(p.place), "
        "count(p.place) FILTER (p.is_stored), count(s.place), "
        "coalesce(bool_or(starts_with(p.part, ?)), false) FROM _upwell.copies c "
        "LEFT JOIN _upwell.copied_parts p ON p.name = c.name "
        "LEFT JOIN _upwell.same_parts s ON s.name = p.name AND s.place = p.place GROUP BY ALL",
        [PART_OF_KEYS],
    ).fetchall()
    found = (
        Copying(
            SourceTable(msgspec.json.decode(layout, type=TableSchema), state, terms),
            identity,
            Position(reach),
            *numbers,
        )
        for layout, state, terms, identity, reach, *numbers in rows
    )
    return {each.table.name: each for each in found}


def begin(connection: duckdb.DuckDBPyConnection, table: SourceTable) -> None:
    """Begin to read a table, from nothing. Makes tables (``HotStore.relayout``)."""
    end(connection, table.name)
    copied.create(connection, table.schema)
    layout = msgspec.json.encode(table.schema).decode()
    connection.execute(
        "INSERT INTO _upwell.copies VALUES (?, ?, ?, ?, ?, ?, 0)",
        [table.name, layout, table.state, table.terms, uuid4().hex, BEGINNING],
    )


def end(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Forget that a table is being read, and what was gathered of it."""
    connection.execute("DELETE FROM _upwell.copies WHERE name = ?", [name])
    connection.execute("DELETE FROM _upwell.copied_parts WHERE name = ?", [name])
    connection.execute("DELETE FROM _upwell.same_parts WHERE name = ?", [name])
    copied.drop(connection, name)


def finish(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """A table is not being read any more; what was gathered of it is still to be cleared."""
    connection.execute("DELETE FROM _upwell.copies WHERE name = ?", [name])


def widen(connection: duckdb.DuckDBPyConnection, before: TableSchema, now: SourceTable) -> None:
    """Follow a layout that grew while a table is being read."""
    copied.widen(connection, now.name, now.schema.columns[len(before.columns) :])
    layout = msgspec.json.encode(now.schema).decode()
    connection.execute(
        "UPDATE _upwell.copies SET layout = ?, state = ? WHERE name = ?",
        [layout, now.state, now.name],
    )


def set_plan(connection: duckdb.DuckDBPyConnection, name: str, plan: CopyPlan) -> None:
    """Write down the parts of a table."""
    connection.execute(
        "INSERT INTO _upwell.copied_parts "
        "SELECT ?, place - 1, part, false FROM (SELECT unnest(?::VARCHAR[]) AS part, "
        "generate_subscripts(?::VARCHAR[], 1) AS place)",
        [name, list(plan.parts), list(plan.parts)],
    )
    connection.execute(
        "UPDATE _upwell.copies SET estimated_rows = ? WHERE name = ?", [plan.estimated_rows, name]
    )


def set_stored(connection: duckdb.DuckDBPyConnection, part: Part) -> None:
    """The rows of a part are in."""
    connection.execute(
        "UPDATE _upwell.copied_parts SET is_stored = true WHERE name = ? AND place = ?",
        [part.table, part.place],
    )


def set_same(connection: duckdb.DuckDBPyConnection, part: Part) -> None:
    """The stored rows of a range of keys are those of the source."""
    set_stored(connection, part)
    connection.execute("INSERT INTO _upwell.same_parts VALUES (?, ?)", [part.table, part.place])


def ranges_read(connection: duckdb.DuckDBPyConnection, name: str) -> list[KeyRange]:
    """Of the ranges of a table that is compared those that were read: stored rows may differ."""
    rows = connection.execute(
        "SELECT part FROM _upwell.copied_parts ANTI JOIN _upwell.same_parts USING (name, place) "
        "WHERE name = ? AND is_stored ORDER BY place",
        [name],
    ).fetchall()
    return [keys for (part,) in rows if (keys := of_part(part)) is not None]


def reach_for(connection: duckdb.DuckDBPyConnection, name: str, position: Position) -> None:
    """Rows as of this position were read."""
    connection.execute(
        "UPDATE _upwell.copies SET reach = greatest(reach, ?) WHERE name = ?", [position, name]
    )


def open_parts(connection: duckdb.DuckDBPyConnection, name: str) -> Sequence[Part]:
    """The parts of a table that are not stored yet, in order."""
    rows = connection.execute(
        "SELECT place, part FROM _upwell.copied_parts WHERE name = ? AND NOT is_stored "
        "ORDER BY place",
        [name],
    ).fetchall()
    return [Part(name, place, part) for place, part in rows]
