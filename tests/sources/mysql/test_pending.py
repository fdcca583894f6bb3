"""Rows of transactions that are undone, given whole, or given in parts."""

from __future__ import annotations

import pytest

from upwell.core.position import Position
from upwell.core.protocols import Operation
from upwell.sources.mysql.pending import GivenError, Pending, Rows
from upwell.sources.mysql.places import Place
from upwell.sources.mysql.tables import CapturedTable

AT = Position("0000000001:00000000000000000004")
THEN = Position("0000000001:00000000000000000099")
TABLE = CapturedTable("shop.t", "shop", "t", (), ("id",))


def rows(number: int, transaction: int = 0) -> Rows:
    return Rows(TABLE, None, (), Operation.INSERT, (number, number + 1, None), transaction)


def numbers(pending: Pending) -> list[int]:
    return [item.place[0] for item in pending.open_items if isinstance(item, Rows)]


def begun(*items: int) -> Pending:
    pending = Pending()
    pending.begin(Place(1, 4))
    pending.add(rows(number) for number in items)
    return pending


def test_rows_behind_a_savepoint_are_undone_alone() -> None:
    pending = begun(1)
    pending.note_savepoint("a")
    pending.add([rows(2)])
    pending.note_savepoint("b")
    pending.add([rows(3)])
    pending.undo("b")
    assert numbers(pending) == [1, 2]
    pending.undo("a")
    assert numbers(pending) == [1]
    assert not pending.knows("of another transaction")
    pending.undo()
    assert numbers(pending) == []


def test_a_savepoint_stands_where_it_was_after_others_were_given() -> None:
    pending = begun(1)
    pending.commit(AT, 5)
    pending.begin(Place(1, 50))
    pending.add([rows(2, 1)])
    pending.note_savepoint("a")
    pending.add([rows(3, 1)])
    assert pending.take().positions == (AT,)
    pending.undo("a")
    assert numbers(pending) == [2]
    assert pending.open_items == [rows(2)], "it is the first of what is to be given"


def test_what_was_given_in_parts_cannot_be_undone() -> None:
    pending = begun(1)
    pending.note_savepoint("a")
    pending.add([rows(2)])
    pending.note_savepoint("b")
    part = pending.take_part(AT, 7)
    assert (len(part.items), part.positions, part.times, part.goes_on) == (2, (AT,), [7], True)
    pending.add([rows(3)])
    pending.undo("b")
    assert numbers(pending) == [], "nothing behind it was given"
    for savepoint in ("a", None):
        with pytest.raises(GivenError) as refused:
            pending.undo(savepoint)
        assert refused.value.place == Place(1, 4)


def test_the_last_part_is_under_the_position_and_time_of_the_first() -> None:
    pending = begun(1)
    pending.take_part(AT, 7)
    pending.add([rows(2)])
    pending.take_part(THEN, 8)
    assert pending.is_within
    pending.commit(THEN, 9)
    last = pending.take()
    assert (last.items, last.positions, last.times, last.goes_on) == ([], (AT,), [7], False)
    assert not pending.is_within
    pending.begin(Place(1, 200))
    pending.commit(THEN, 9)
    assert not pending.has_transaction, "one that has nothing for us"


def test_bytes_that_lie_elsewhere_are_counted_while_they_are_held() -> None:
    pending = begun(1)
    pending.add([rows(2)._replace(place=(0, 5, b"12345"))])
    assert (pending.own_bytes, pending.first_byte) == (5, 1)
    pending.take_part(AT, 1)
    assert (pending.own_bytes, pending.first_byte, pending.is_empty) == (0, None, True)
