"""The captured tables of all sources: which are followed, being read, or standing still.

A table is *followed* when every change of it goes into the store. While it is *being read* its
changes go to where its rows are gathered; what was stored of it before stands still meanwhile. A
table *stands still* for a reason that is told: it is being read anew, or somebody has to decide.
Every step is written down in the store before it counts, so that a start finds it as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import structlog

from upwell.core.errors import UpwellError
from upwell.core.policy import OnChange
from upwell.core.position import Position
from upwell.core.protocols import (
    CopyPlan,
    KeyRange,
    LayoutChange,
    SourceTable,
    Succession,
    TableChanges,
    Truncation,
)
from upwell.core.schema import TableSchema, source_of
from upwell.core.sql import count_rows
from upwell.ingest import copies, tables
from upwell.ingest.copies import Copying
from upwell.ingest.ranges import as_part, key_ranges
from upwell.ingest.tables import Captured, merged_layout
from upwell.models import Ground
from upwell.store import ledger
from upwell.store.hot import HotStore

log = structlog.get_logger(__name__)


class TableStates:
    """See the module. Changed by the engine's thread alone; any thread may read.

    ``layouts`` are those of the stored tables; ``still`` says which of them stand still, and why.
    Reading those that are ``late`` does not begin yet: there is a hole in what their stream still
    has to bring.
    """

    def __init__(self, store: HotStore, policies: Mapping[str, OnChange] | None = None) -> None:
        self._store = store
        self._policies = policies or {}
        self._captured: dict[str, Captured] = {}
        self.copying: dict[str, Copying] = {}
        self.late: set[str] = set()
        self.layouts: dict[str, TableSchema] = {}
        self.still: Mapping[str, str] = {}
        self.read_again()

    def read_again(self) -> None:
        """See what the store says."""
        self._captured = tables.captured(self._store.writer)
        self.still = {name: each.frozen for name, each in self._captured.items() if each.frozen}
        self.copying = copies.copies(self._store.writer)
        layouts = {name: each.schema for name, each in self._captured.items()}
        self.layouts |= layouts  # the same dictionary always: others hold it
        for name in self.layouts.keys() - layouts.keys():
            del self.layouts[name]

    @property
    def ground(self) -> Ground:
        """What the models stand on."""
        awaited = {
            name: f"{name} is being read for the first time"
            for name in self.copying
            if name not in self._captured
        }
        return Ground(self.layouts, self.still, awaited)

    @property
    def absent(self) -> set[str]:
        """Tables whose changes do not go into the store: being read, with nothing that is kept up
        to date meanwhile.
        """
        return {name for name in self.copying if name not in self._captured or name in self.still}

    def is_compared(self, name: str) -> bool:
        """Whether a table is being compared with its source, and followed meanwhile."""
        return name in self.copying and name not in self.absent

    def is_reading(self, source: str) -> bool:
        """Whether a table of a source is being read."""
        return any(source_of(name) == source for name in self.copying)

    def names(self, source: str) -> set[str]:
        """The tables known of a source."""
        known = self._captured.keys() | self.copying.keys()
        return {name for name in known if source_of(name) == source}

    def followed(self, source: str) -> list[SourceTable]:
        """The tables of a source whose changes are taken in, in the states last known."""
        tables = [
            self.copying[name].table if name in self.copying else self._captured[name].table
            for name in sorted(self.names(source))
            if name in self.copying or name not in self.still
        ]
        return [replace(each, is_kept=self.policy(each.name) == "quarantine") for each in tables]

    def waiting(self, source: str) -> set[str]:
        """The tables of a source that stand still until they can be read again."""
        mine = self.names(source) & self.still.keys() - self.copying.keys()
        return {name for name in mine if self.policy(name) == "evolve" and not self.is_paused(name)}

    def is_paused(self, name: str) -> bool:
        """Whether a table stands still because somebody asked for it, until it is resumed."""
        return self.still.get(name) == paused(name)

    def state_of(self, name: str) -> SourceTable | None:
        """The state in which a table's rows were, or are being, read."""
        if name in self.copying:
            return self.copying[name].table
        return self._captured[name].table if name in self._captured else None

    def note_part(self, name: str, position: Position, *, is_same: bool = False) -> Copying:
        """The same after a part was stored, as of ``position``."""
        before = self.copying[name]
        self.copying[name] = replace(
            before,
            stored=before.stored + 1,
            reach=max(before.reach, position),
            same=before.same + is_same,
        )
        return self.copying[name]

    # ── changes of tables ────────────────────────────────────────────────────────────────────────

    def policy(self, name: str) -> OnChange:
        """What is done where a table's layout changes; one that is being read follows it."""
        return "evolve" if name in self.copying else self._policies.get(name, "evolve")

    def is_of_other_terms(self, change: LayoutChange) -> bool:
        """Whether what may be stored of a table is other than what was: nobody may keep that."""
        known = self.state_of(change.table)
        return known is not None and known.terms != change.now.terms

    def still_of_other_terms(self, terms: Mapping[str, str]) -> set[str]:
        """Of these tables, each with what may be stored of it now, those that stand still with
        something else: no change would tell that.
        """
        return {
            name
            for name in terms.keys() & self.still.keys() - self.copying.keys()
            if self._captured[name].table.terms != terms[name]
        }

    def breaks(self, change: TableChanges | Truncation | LayoutChange) -> bool:
        """Whether what is stored, or gathered, of a table does not go on behind a change."""
        name = change.table
        if isinstance(change, Truncation):
            return name in self.copying
        if not isinstance(change, LayoutChange):
            return False
        if self.is_of_other_terms(change) or change.unlogged:
            return True
        match self.policy(name):
            case "evolve":
                return bool(change.why)
            case "freeze":
                return bool(change.why) or change.now.schema != self.layouts[name]
            case "quarantine":
                is_same_key = change.now.schema.key == self.layouts[name].key
                return change.unfit is not None or not is_same_key

    def part_with(self, change: Truncation | LayoutChange, *, is_comparable: bool = False) -> None:
        """Read a table anew whose rows do not stand any more, or let it stand still. Where some may
        stand it is compared, if it ``is_comparable``: by ranges of its keys.
        """
        name = change.table
        if isinstance(change, Truncation):
            self.read_anew(self.copying[name].table, "it was truncated")
        elif change.unfit is not None:
            self.freeze(name, change.unfit.in_a_line)
        elif self._is_as_stored(change) and is_comparable:
            self.compare(change.now, change.unlogged)
        elif self.policy(name) == "evolve" or self.is_of_other_terms(change):
            self.read_anew(change.now, change.why or change.unlogged)
        else:
            why = change.why or change.unlogged or "its layout changed"
            self.freeze(
                name,
                f"{name} stands still, as upwell.yaml asks for: {why}. `upwell resync {name}` "
                f"reads it as it is now.",
            )

    def _is_as_stored(self, change: LayoutChange) -> bool:
        """Whether only the rows of a stored table may be others."""
        is_same = change.now.schema == self.layouts.get(change.table)
        is_of_rows = bool(change.unlogged) and not change.why
        return is_of_rows and is_same and not self.is_of_other_terms(change)

    def read_anew(self, table: SourceTable, why: str) -> None:
        """Begin to read a table; what is stored of it stands still until that has ended."""
        tables.refuse_our_names(table.schema)
        with self._store.relayout() as connection:
            copies.begin(connection, table)
            if table.name in self._captured:
                tables.freeze(connection, table.name, f"{table.name} is being read anew: {why}")
        self.read_again()
        log.info("table_read_anew", table=table.name, why=why)

    def compare(self, table: SourceTable, why: str = "", *, as_a_whole: bool = False) -> None:
        """Begin to compare a stored table with its source, and to read what differs.

        With ``why`` it stands still until then; else it is followed meanwhile. ``as_a_whole``: in
        one range, since both sides put its keys in different orders.
        """
        with self._store.relayout() as connection:
            copies.begin(connection, table)
            whole = [KeyRange(None, None)]
            found = whole if as_a_whole else key_ranges(connection, table.schema)
            ranges = [as_part(each) for each in found]
            plan = CopyPlan(ranges, count_rows(connection, table.name))
            copies.set_plan(connection, table.name, plan)
            if why:
                tables.freeze(connection, table.name, f"{table.name} is being compared: {why}")
        self.read_again()
        log.info("table_compared", table=table.name, ranges=len(ranges), why=why)

    def end_comparison(self, name: str) -> None:
        """Forget that a table is being compared; it is followed as it was."""
        with self._store.relayout() as connection:
            copies.end(connection, name)
        self.read_again()

    def pause(self, name: str) -> None:
        """Take in nothing more of a stored table until ``upwell resume``."""
        with self._store.relayout() as connection:
            copies.end(connection, name)
            tables.freeze(connection, name, paused(name))
        self.read_again()
        log.info("table_paused", table=name)

    def freeze(self, name: str, why: str) -> None:
        """Take in nothing more of a table, until somebody decides."""
        with self._store.relayout() as connection:
            copies.end(connection, name)
            tables.freeze(connection, name, why)
        self.read_again()
        log.error("table_frozen", table=name, why=why)

    def succeed(self, source: str, succession: Succession) -> None:
        """Go on with a source as what it is now. What is gathered of a table, and may never have
        been there, is gathered anew.
        """
        with self._store.transaction() as connection:
            ledger.write_identity(connection, source, succession.identity)
        for name, copying in [*self.copying.items()]:
            if source_of(name) != source or copying.reach <= succession.shared_through:
                continue
            if self.is_compared(name):
                self.compare(copying.table)
            else:
                self.read_anew(copying.table, "another server took over meanwhile")

    def note_parted(self, source: str, why: UpwellError) -> None:
        """Write down why a source is not to be gone on with, until it is begun anew."""
        with self._store.transaction() as connection:
            ledger.note_parted(connection, source, why.as_dict())

    def stop(self, names: Iterable[str], why: str) -> None:
        """Let tables stand still, and what was being read of them be begun anew."""
        with self._store.relayout() as connection:
            for name in names:
                if name in self._captured:
                    copies.end(connection, name)
                    tables.freeze(connection, name, f"{name} stands still: {why}")
                elif name in self.copying:
                    copies.begin(connection, self.copying[name].table)
        self.read_again()

    def forget(self, names: Iterable[str]) -> None:
        """Drop tables that are not captured any more."""
        with self._store.relayout() as connection:
            for name in names:
                copies.end(connection, name)
                tables.drop(connection, name)
                ledger.note_filled(connection, [name])
        self.read_again()

    def grow(self, change: LayoutChange) -> bool:
        """Follow a layout under which stored rows stand; whether they are to be filled in."""
        name = change.table
        if self.policy(name) == "quarantine":
            with self._store.transaction() as connection:
                tables.note_state(connection, change.now)
            self.read_again()
            return False
        if name in self.copying:
            if change.fills is not None:
                self.read_anew(change.now, "a column was added with a value in every row")
            else:
                self._widen_copy(change.now)
            return False
        stored = self.layouts[name]
        wanted = merged_layout(stored, change.now.schema)
        if wanted != stored:
            unfilled = [name] if change.fills is not None else []
            with self._store.relayout(unfilled=unfilled) as connection:
                tables.widen(connection, stored, wanted)
            log.info("layout_grew", table=name, columns=wanted.column_names)
        if change.fills is None:
            with self._store.transaction() as connection:
                tables.note_state(connection, change.now)
        self.read_again()
        return change.fills is not None

    def _widen_copy(self, now: SourceTable) -> None:
        before = self.copying[now.name].table.schema
        wanted = merged_layout(before, now.schema)
        with self._store.relayout() as connection:
            copies.widen(connection, before, replace(now, schema=wanted))
        self.read_again()


def paused(name: str) -> str:
    """The reason for which a paused table stands still. It tells that, and is kept in the lake."""
    return f"{name} is paused: `upwell resume {name}` lets it go on"
