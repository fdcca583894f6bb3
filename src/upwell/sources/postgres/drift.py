"""Whether a captured table still has the layout that our stored rows were given in.

Rows in the log carry their new layout, rows that were there before do not come again: whatever a
change of the table did to those, our copies do not have. Only a column added empty changes nothing
that is stored; it is let through. Everything else is refused before a row of the new layout is
given: a column dropped or renamed, another type, another key, a column added already filled.

The log is behind the catalogue, never before it. So a column that the log does not know yet is no
drift, and one that the catalogue does not know any more is.
"""

from __future__ import annotations

from collections.abc import Iterator

from upwell.core.errors import EnvironmentFault, GapError, UsageError
from upwell.sources.postgres.catalog import Catalog, read_catalog
from upwell.sources.postgres.layout import Layout
from upwell.sources.postgres.session import session
from upwell.sources.postgres.tables import CapturedColumn, CapturedTable

#: A source whose tables have another layout than the stored ones is read anew when a run starts.
READ_ANEW = "start `upwell run` again: it reads the tables anew"


class KnownLayouts:
    """The captured tables as last admitted; one for all streams of a source."""

    def __init__(self, source: str, url: str, catalog: Catalog) -> None:
        self._source = source
        self._url = url
        self._tables = {table.oid: table for table in catalog.tables}

    def admit(self, layout: Layout) -> None:
        """Ask the catalogue about a layout that the log announces. Raises ``GapError``."""
        known = self._tables[layout.oid]
        now = self._read(known)
        self._admit_table(known, now)
        for gone in _gone_since(layout, now):
            raise _changed(known, gone)

    def admit_catalog(self, catalog: Catalog) -> None:
        """As ``admit``, for all tables: what changed while nothing was followed counts too."""
        for table in catalog.tables:
            if table.oid in self._tables:
                self._admit_table(self._tables[table.oid], table)

    def _admit_table(self, known: CapturedTable, now: CapturedTable) -> None:
        for drift in _drifts(known, now):
            raise _changed(known, drift)
        self._tables[known.oid] = now

    def _read(self, known: CapturedTable) -> CapturedTable:
        try:
            with session(self._url) as connection:
                name = f"{known.namespace}.{known.relation}"
                return read_catalog(connection, self._source, [name]).tables[0]
        except (EnvironmentFault, UsageError) as error:
            next_step = f"{error.next_step}; then {READ_ANEW}"
            raise _changed(
                known, f"it can no longer be followed: {error.what}", next_step
            ) from error


def _drifts(known: CapturedTable, now: CapturedTable) -> Iterator[str]:
    """What happened to a table that our rows of it did not see."""
    if now.oid != known.oid:
        yield "another table took its name"
        return
    if now.key != known.key:
        yield f"its key was ({', '.join(known.key)}) and is ({', '.join(now.key)})"
    is_rewritten = now.file != known.file
    columns = {column.name: column for column in now.columns}
    for before in known.columns:
        after = columns.pop(before.name, None)
        if after is None or after.number != before.number:
            yield f"column {before.name} was dropped or renamed"
        elif _is_retyped(before, after, is_rewritten=is_rewritten):
            yield f"column {before.name} has another type"
    for added in columns.values():
        if added.is_filled or (added.has_default and is_rewritten):
            yield f"column {added.name} was added with a value in every row"


def _is_retyped(before: CapturedColumn, after: CapturedColumn, *, is_rewritten: bool) -> bool:
    """A type that is stored alike may still have changed values, but then the table was rewritten:
    widening a varchar does not, cutting one does.
    """
    return after.type != before.type or (after.declared != before.declared and is_rewritten)


def _gone_since(layout: Layout, now: CapturedTable) -> Iterator[str]:
    """Columns of the log that the catalogue has no more, or not so."""
    stored = {column.name: column.type.stored for column in now.columns}
    for column in layout.schema.columns:
        if column.name not in stored:
            yield f"column {column.name} was dropped or renamed"
        elif column.type != stored[column.name]:
            yield f"column {column.name} has another type"


def _changed(table: CapturedTable, how: str, next_step: str = READ_ANEW) -> GapError:
    what = f"table {table.name} was changed in the source: {how}"
    return GapError("layout_changed", what, where=table.quoted, next_step=next_step)
