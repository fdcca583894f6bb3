"""The followed tables as the log goes on: what statements in it do to them, and which rows count.

What a statement made of a table, the catalogue is asked (``look``), and that is further than the
log: through the log's end at that moment, rows of a table that is read anew are left out, and rows
that lack the columns added behind them are filled. Two changes of a table in that stretch that do
more than add cannot be told from one another, so such a table is read anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from upwell.core.errors import UpwellError
from upwell.core.protocols import LayoutChange, Truncation
from upwell.sources.mysql.drift import compare, constants, gone, is_fill_known
from upwell.sources.mysql.places import NOWHERE, Place
from upwell.sources.mysql.statements import Effect, Statement, read_statement
from upwell.sources.mysql.tables import CapturedTable, source_table
from upwell.sources.mysql.wires import Wire, fits

_BY_STATEMENT = "rows were changed by a statement: the session's binlog_format was not ROW"


@dataclass(frozen=True, slots=True)
class Looked:
    """A table as the catalogue has it, or why it cannot be followed; and where the log ended."""

    table: CapturedTable | None
    unfit: UpwellError | None
    through: Place


@dataclass(slots=True)
class Followed:
    """A table in the layout last told, None where it can be followed no more.

    Through ``blind`` its rows are left out; through ``ahead`` the layout is the catalogue's, and
    rows may lack columns of it, which then have the values of ``constants``.
    """

    name: str
    table: CapturedTable | None
    blind: Place = NOWHERE
    ahead: Place = NOWHERE
    constants: pa.Table | None = None
    fitting: tuple[CapturedTable, tuple[Wire, ...]] | None = None  # last found to belong together

    def fits(self, table: CapturedTable, wires: tuple[Wire, ...], now: Place) -> bool:
        """Whether rows at ``now`` that lie so are of ``table``; they may lack its last columns
        while the catalogue is ahead of the log.
        """
        lacking = table.columns[len(wires) :]
        if lacking and now > self.ahead:
            return False
        known = self.fitting
        if known is not None and known[0] is table and known[1] is wires:
            return True
        does_fit = fits(wires, table.types) and all(map(is_fill_known, lacking))
        self.fitting = (table, wires) if does_fit else None
        return does_fit


class FollowedTables:
    """The tables by database and name. ``look`` asks the catalogue; what it raises leaves here."""

    def __init__(
        self,
        tables: Mapping[tuple[str, str], Followed],
        look: Callable[[str], Looked],
        *,
        folds_case: bool,
    ) -> None:
        self._tables = tables
        self._look = look
        self._folds_case = folds_case
        self._mentions = {name.lower() for pair in tables for name in pair}

    def __iter__(self) -> Iterator[Followed]:
        return iter(self._tables.values())

    def find(self, database: str, table: str) -> Followed | None:
        """The followed table of a name in the server, if it is one."""
        return self._tables.get((database, table))

    def apply(
        self, database: str, text: str, now: Place, transaction: int
    ) -> list[Truncation | LayoutChange]:
        """What a statement does to the tables, run in a session whose database is ``database``."""
        lowered = text.lower()
        if not any(name in lowered for name in self._mentions):
            return []
        statement = read_statement(text, database)
        changes: list[Truncation | LayoutChange] = []
        if statement.effect is Effect.NOTHING:
            return changes
        for pair, followed in self._tables.items():
            if self._concerns(statement, pair):
                changes += self._change(followed, statement.effect, now, transaction)
        return changes

    def _concerns(self, statement: Statement, pair: tuple[str, str]) -> bool:
        fold = str.lower if self._folds_case else str
        if statement.database and fold(statement.database) == fold(pair[0]):
            return True
        wanted = (fold(pair[0]), fold(pair[1]))
        return any((fold(each.database), fold(each.name)) == wanted for each in statement.tables)

    def _change(
        self, followed: Followed, effect: Effect, now: Place, transaction: int
    ) -> Sequence[Truncation | LayoutChange]:
        table = followed.table
        if table is None or now <= followed.blind:
            return ()  # what is read anew has it
        if effect is Effect.TRUNCATES:
            return (Truncation(table.schema, transaction),)
        if effect is Effect.WRITES:
            return self.read_anew(followed, _BY_STATEMENT, now)
        if effect is Effect.REPLACES:
            return self.read_anew(followed, "it was made anew", now)
        if now > followed.ahead:
            return self._compare(followed, table)
        if effect is Effect.ONLY_ADDS:
            return ()
        return self.read_anew(followed, "it was altered more than once", now)

    def _compare(self, followed: Followed, table: CapturedTable) -> Sequence[LayoutChange]:
        """The catalogue knows what a statement made of a table, and maybe of later ones."""
        looked = self._look(followed.name)
        if looked.table is None:
            return (_lost(followed, table, looked),)
        change = compare(source_table(table, followed.blind), looked.table, looked.through)
        followed.table, followed.ahead = looked.table, looked.through
        followed.constants = constants(looked.table)
        if change is None:
            return ()
        if change.why:
            followed.blind = looked.through
        return (change,)

    def read_anew(self, followed: Followed, why: str, now: Place) -> Sequence[LayoutChange]:
        """Have a table read anew, for what is in the log up to ``now``."""
        table = followed.table
        if table is None or now <= followed.blind:
            return ()
        looked = self._look(followed.name)
        if looked.table is None:
            return (_lost(followed, table, looked),)
        followed.table, followed.constants = looked.table, None
        followed.blind = followed.ahead = looked.through
        return (LayoutChange(source_table(looked.table, looked.through), why=why),)


def _lost(followed: Followed, table: CapturedTable, looked: Looked) -> LayoutChange:
    unfit = looked.unfit or gone(followed.name)
    followed.table = None
    before = source_table(table, followed.blind)
    return LayoutChange(before, why=unfit.what, unfit=unfit)
