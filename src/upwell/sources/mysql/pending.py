"""What the log has brought so far, transaction by transaction, until it is given.

Rows may be undone while their transaction is not over, all of them or back to a savepoint. Of a
very large one parts are given before its end is known, and what was given cannot be undone here:
``GivenError`` asks for the transaction to be read again and held.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa

from upwell.core.position import Position
from upwell.core.protocols import LayoutChange, Operation, Truncation
from upwell.sources.mysql.packets import Packet
from upwell.sources.mysql.places import NOWHERE, Place
from upwell.sources.mysql.tables import CapturedTable
from upwell.sources.mysql.wires import Wire


class Rows(NamedTuple):
    """A row event: of which table in which layout, and where its rows lie."""

    table: CapturedTable
    constants: pa.Table | None
    wires: tuple[Wire, ...]
    operation: Operation
    place: Packet
    transaction: int


Item = Rows | Truncation | LayoutChange


class GivenError(Exception):
    """Rows are undone that have been given, of the transaction that begins at ``place``."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.place = place


@dataclass(frozen=True, slots=True)
class Taken:
    """Whole transactions, or a part of one that ``goes_on``: their positions and commit times
    (microseconds), and what is in them.
    """

    items: list[Item]
    positions: tuple[Position, ...]
    times: list[int]
    goes_on: bool = False


class Pending:
    """See the module. ``place`` is where the transaction has begun that has not ended."""

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._finished = 0  # items of whole transactions
        self._positions: list[Position] = []
        self._times: list[int] = []
        self._given: tuple[Position, int] | None = None  # parts, under this position and time
        self._savepoints: dict[str, int] = {}
        self._own_bytes = 0
        self.place = NOWHERE

    @property
    def own_bytes(self) -> int:
        """Of rows that do not lie in the stream's buffer: they were compressed, or very long."""
        return self._own_bytes

    @property
    def is_empty(self) -> bool:
        return not self._items

    @property
    def is_begun(self) -> bool:
        """Whether something has come of the one that has not ended, and was not given."""
        return len(self._items) > self._finished

    @property
    def has_transaction(self) -> bool:
        """Whether there is a whole one."""
        return bool(self._positions)

    @property
    def is_within(self) -> bool:
        """Whether parts of a transaction have been given, and the last has not."""
        return self._given is not None

    @property
    def transaction(self) -> int:
        """The number of the one that has not ended, among those to be given."""
        return len(self._positions)

    @property
    def open_items(self) -> list[Item]:
        """What has come of the one that has not ended, and was not given."""
        return self._items[self._finished :]

    @property
    def first_byte(self) -> int | None:
        """Where in the stream the first rows lie that are kept in its buffer; None if none is."""
        places = (item.place for item in self._items if isinstance(item, Rows))
        return min((begin for begin, _, own in places if own is None), default=None)

    def add(self, items: Iterable[Item]) -> None:
        """They are of the transaction that has not ended."""
        for item in items:
            self._items.append(item)
            if isinstance(item, Rows) and item.place[2] is not None:
                self._own_bytes += item.place[1] - item.place[0]

    def note_savepoint(self, name: str) -> None:
        self._savepoints[name] = len(self._items)

    def knows(self, savepoint: str) -> bool:
        """Whether it was set since the open transaction's first rows."""
        return savepoint in self._savepoints

    def undo(self, savepoint: str | None = None) -> None:
        """Rows of the open transaction, or those behind a savepoint that it knows, were rolled
        back; what became of tables stays.
        """
        first = self._finished if savepoint is None else self._savepoints[savepoint]
        if self._given is not None and (savepoint is None or first < 0):
            raise GivenError(self.place)
        kept = [item for item in self._items[first:] if isinstance(item, LayoutChange)]
        self._items[first:] = kept

    def begin(self, place: Place) -> None:
        """A transaction begins there."""
        self.place = place

    def end(self) -> None:
        """What comes next is of another transaction."""
        self._savepoints.clear()

    def commit(self, position: Position, at_us: int) -> None:
        """The transaction holds: it is to be given, if it has something for us."""
        if not self.is_begun and self._given is None:
            return
        self._finished = len(self._items)
        if self._given is not None:
            position, at_us = self._given
            self._given = None
        self._positions.append(position)
        self._times.append(at_us)

    def take(self) -> Taken:
        """The whole transactions; what has come of the next one stays."""
        count = self._finished
        taken = Taken(self._items[:count], tuple(self._positions), self._times)
        self._items = [_of_first(item) for item in self._items[count:]]
        self._positions, self._times = [], []
        self._let_go(count)
        return taken

    def take_part(self, position: Position, at_us: int) -> Taken:
        """All that has come of the only transaction there is. Its parts have the position and time
        of the first.
        """
        self._given = self._given or (position, at_us)
        position, at_us = self._given
        taken = Taken(self._items, (position,), [at_us], goes_on=True)
        self._items = []
        self._let_go(len(taken.items))
        return taken

    def _let_go(self, count: int) -> None:
        self._finished = 0
        self._savepoints = {name: at - count for name, at in self._savepoints.items()}
        own = (item.place for item in self._items if isinstance(item, Rows))
        self._own_bytes = sum(end - begin for begin, end, bytes_ in own if bytes_ is not None)


def _of_first(item: Item) -> Item:
    """An item of the transaction that will be the next batch's first."""
    if isinstance(item, Rows):
        return item._replace(transaction=0)
    return Truncation(item.schema, 0) if isinstance(item, Truncation) else item
