"""Folding old history: the sum of a log stays what it was at every version after the cut-off."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.store.lake.rounds import LOG, START_US, Rounds, Row, rows_in
from tests.store.lake.test_compaction import compact_all
from upwell.core.errors import IntegrityError
from upwell.core.position import Position
from upwell.store.lake.contents import in_order
from upwell.store.lake.mark import LEDGER, Mark, MarkedSource
from upwell.store.lake.objects import path_of
from upwell.store.lake.retention import Folded, cut_off, fold


def after(version: int) -> datetime:
    """The time after version n and before all that comes later."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=START_US + version * 1_000_000)


def fold_before(rounds: Rounds, before: datetime, through: int | None = None) -> Folded | None:
    return fold(
        rounds.lake.objects,
        rounds.table(),
        before=before,
        through=rounds.writer.mark.version if through is None else through,
        epoch=rounds.writer.epoch,
    )


def sum_at(rows: list[Row], version: int) -> Counter[tuple[int, str | None]]:
    counted: Counter[tuple[int, str | None]] = Counter()
    for id_, note, of_version, weight in rows:
        if of_version <= version:
            counted[id_, note] += weight
    return +counted


def test_what_began_and_ended_before_vanishes_and_the_rest_stays(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path)
    rounds.round([(1, "a"), (2, None), (3, "c")])
    rounds.round([(1, "b")], [(1, "a")])
    rounds.round([], [(2, None)])
    rounds.round([], [(3, "c")])
    folded = fold_before(rounds, after(3))
    assert folded is not None
    assert (folded.through, folded.rows_gone) == (3, 4)
    assert rows_in(rounds.lake, rounds.table()) == [(3, "c", 1, 1), (1, "b", 2, 1), (3, "c", 4, -1)]


def test_an_image_that_ended_and_came_back_keeps_its_last_beginning(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path)
    for come, gone in (("a", None), (None, "a"), ("a", None), (None, "a"), ("a", None)):
        rounds.round([(1, come)] if come else [], [(1, gone)] if gone else [])
    fold_before(rounds, after(5))
    assert rows_in(rounds.lake, rounds.table()) == [(1, "a", 5, 1)]


def test_rows_are_paired_by_all_their_values(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path)
    rounds.round([(1, "a")])
    rounds.round([], [(1, "a")])
    rounds.round([(1, "a")])
    rounds.round([(2, "a"), (1, None)])
    rounds.round([], [(2, "a"), (1, None)])
    fold_before(rounds, after(5))
    assert rows_in(rounds.lake, rounds.table()) == [(1, "a", 3, 1)]


def test_sums_after_the_cut_off_are_what_they_were(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path)
    for version in range(1, 25):
        before = str(version - 3) if version > 3 else None
        rounds.round(
            [(version % 3, str(version)), (90 + version, "")],
            [(version % 3, before)] if before else [],
        )
        if version == 12:
            compact_all(rounds)
    original = rounds.logged()
    for cut in (5, 11, 20):
        assert fold_before(rounds, after(cut)) is not None
        left = rows_in(rounds.lake, rounds.table())
        for version in range(cut, 25):
            assert sum_at(left, version) == sum_at(original, version)
        assert [row[2] for row in left] == sorted(row[2] for row in left)
        compact_all(rounds)
        assert rows_in(rounds.lake, rounds.table()) == left


def test_folding_twice_is_folding_once(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path)
    rounds.round([(1, "a")])
    rounds.round([], [(1, "a")])
    assert fold_before(rounds, after(2)) is not None
    files = rounds.table().files
    assert fold_before(rounds, after(2)) is None
    assert fold_before(rounds, after(1)) is None
    assert rounds.table().files == files == []


def test_a_version_that_is_partly_newer_is_not_folded(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path)
    rounds.round([(1, "a")])
    rounds.round([(1, "b")], [(1, "a")])
    rounds.round([], [(1, "b")])
    compact_all(rounds)
    just_before = after(2) - timedelta(microseconds=1)
    folded = fold_before(rounds, just_before)
    assert folded is not None
    assert folded.through == 1
    assert rows_in(rounds.lake, rounds.table()) == rounds.logged()


def test_files_beyond_the_mark_are_not_folded(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path)
    rounds.round([(1, "a")])
    rounds.round([], [(1, "a")])
    fold_before(rounds, after(9), through=1)
    assert rows_in(rounds.lake, rounds.table()) == rounds.logged()


def test_an_end_without_a_beginning_stays(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path)
    rounds.round([(1, "a"), (2, "b")])
    rounds.round([], [(1, "a"), (1, "a"), (2, "x")])
    fold_before(rounds, after(2))
    assert rows_in(rounds.lake, rounds.table()) == [
        (2, "b", 1, 1),
        (1, "a", 2, -1),
        (2, "x", 2, -1),
    ]


def test_only_files_that_lose_rows_are_written_anew(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path)
    rounds.round([(1, "a")])
    rounds.round([(2, "b")])
    rounds.round([], [(1, "a")])
    rounds.round([(4, "d"), (3, "c")])
    rounds.round([], [(4, "d")])
    folded = fold_before(rounds, after(5))
    assert folded is not None
    assert (folded.files_before, folded.files_after) == (4, 1)
    assert rows_in(rounds.lake, rounds.table()) == [(2, "b", 2, 1), (3, "c", 4, 1)]


def test_a_damaged_file_is_never_folded(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path)
    rounds.round([(1, "a")])
    rounds.round([], [(1, "a")])
    path = path_of(in_order(rounds.table())[0].location)
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(IntegrityError, match="damaged"):
        fold_before(rounds, after(2))
    assert len(rounds.table().files) == 2


def test_the_ledger_has_nothing_to_fold(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path)
    rounds.round([(1, "a")])
    ledger = rounds.table(LEDGER)
    assert fold(rounds.lake.objects, ledger, before=after(9), through=1, epoch=1) is None


def test_the_cut_off_is_in_the_time_of_the_source() -> None:
    mark = Mark(sources={"shop": MarkedSource(Position("1"), START_US)})
    assert cut_off(mark, "shop", timedelta(seconds=7)) == after(-7)
    assert cut_off(mark, "warehouse", timedelta(days=1)) is None
    assert LOG.startswith("shop.")
