"""Merging the small files of a table: nothing is lost, nothing laundered, little is rewritten."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
from pyiceberg.manifest import DataFile

from tests.store.lake.rounds import LOG, Rounds, rows_in
from upwell.core.errors import IntegrityError, Unavailable
from upwell.store.lake.compaction import Compacted, Tiers, choose, compact
from upwell.store.lake.contents import Placed, in_order, whole_versions
from upwell.store.lake.mark import LEDGER
from upwell.store.lake.objects import path_of
from upwell.store.lake.parquet import FILE_BYTES
from upwell.store.lake.tables import OvertakenError
from upwell.store.lake.writer import LakeWriter

SMALL = Tiers(files=4)


def compact_all(rounds: Rounds, name: str = LOG, tiers: Tiers = SMALL) -> list[Compacted]:
    done = []
    table = rounds.table(name)
    while one := compact(
        rounds.lake.objects,
        table,
        through=rounds.writer.mark.version,
        epoch=rounds.writer.epoch,
        tiers=tiers,
    ):
        done.append(one)
    return done


def test_rows_and_their_order_stay(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path)
    for number in range(9):
        rounds.round([(number, f"{number}"), (100 + number, None)], [(number - 1, f"{number - 1}")])
    compacted = compact_all(rounds)
    assert [each.files_after for each in compacted] == [1]
    assert len(rounds.table().files) == 1
    assert rows_in(rounds.lake, rounds.table()) == rounds.logged()
    reopened = rounds.lake.table(LOG)
    assert reopened is not None
    assert rows_in(rounds.lake, reopened) == rounds.logged()


def test_rounds_go_on_after_a_compaction(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path)
    for number in range(30):
        rounds.round([(number, "x" * number)])
        compact_all(rounds)
    assert len(rounds.table().files) < 8
    assert rows_in(rounds.lake, rounds.table()) == rounds.logged()


def test_files_beyond_the_mark_stay(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path)
    for number in range(6):
        rounds.round([(number, "")])
    done = compact(
        rounds.lake.objects, rounds.table(), through=5, epoch=rounds.writer.epoch, tiers=SMALL
    )
    assert done is not None
    assert done.files_before == 5
    assert [(each.first, each.last) for each in in_order(rounds.table())] == [(1, 5), (6, 6)]


def test_the_ledger_is_compacted_too(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path)
    for number in range(5):
        rounds.round([(number, "")])
    assert [each.rows for each in compact_all(rounds, LEDGER)] == [5]
    mark = rounds.writer.mark
    rounds.take_over()
    assert rounds.writer.mark == mark


def test_older_rows_read_null_in_columns_that_came_later(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path)
    rounds.round([(1, "a")])
    table = rounds.table()
    wider = (*rounds.log.columns, type(rounds.log.columns[0])("extra", "DATE"))
    rounds.lake.widen(table, wider)
    for number in range(2, 6):
        rounds.round([(number, "b")])
    compact_all(rounds)
    assert rows_in(rounds.lake, table) == rounds.logged()


@pytest.mark.parametrize("harm", ["flipped", "cut", "gone"])
def test_a_damaged_file_is_never_merged(tmp_path: Path, harm: str) -> None:
    rounds = Rounds(tmp_path)
    for number in range(6):
        rounds.round([(number, "")])
    table = rounds.table()
    path = path_of(in_order(table)[2].location)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(data if harm == "flipped" else data[:-1])
    before = [each.file_path for each in table.files]
    with pytest.raises(IntegrityError, match=r"damaged|not there"):
        compact_all(rounds)
    assert [each.file_path for each in table.files] == before


def test_a_refused_commit_leaves_the_table_as_it_was(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path)
    for number in range(6):
        rounds.round([(number, "")])
    stale = rounds.lake.table(LOG)
    assert stale is not None
    rounds.round([(6, "")])
    with pytest.raises(Unavailable):
        compact(rounds.lake.objects, stale, through=6, epoch=rounds.writer.epoch, tiers=SMALL)
    assert rows_in(rounds.lake, stale) == rounds.logged()
    LakeWriter(rounds.lake, "shop").take_over()
    for _ in range(2):  # what was refused has seen the newer state since, and is refused again
        with pytest.raises(OvertakenError):
            compact_all(rounds)
    assert rows_in(rounds.lake, rounds.table()) == rounds.logged()


def test_output_is_split_at_full_files_which_are_left_alone(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path)
    randomness = random.Random(1)
    tiers = Tiers(files=4, least_bytes=1, full_bytes=100_000)
    for _ in range(12):
        rounds.connection.execute("SELECT setseed(?)", [randomness.random()])
        rounds.write()
        rounds.connection.execute(
            f"INSERT INTO {LOG} SELECT range, md5(random()::VARCHAR), ?, '', now(), now(), 1 "
            f"FROM range(1500)",
            [rounds.version],
        )
        rounds.flush()
        compact_all(rounds, tiers=tiers)
    sizes = [each.size_bytes for each in in_order(rounds.table())]
    full = [size for size in sizes if size >= tiers.full_bytes]
    assert full
    assert len(sizes) - len(full) < 8
    assert rows_in(rounds.lake, rounds.table()) == rounds.logged()


# ── the choice alone ─────────────────────────────────────────────────────────────────────────────


def placed(size: int, first: int, last: int) -> Placed:
    file = DataFile.from_args(file_path=f"{first}-{last}", file_size_in_bytes=size)
    return Placed(file, first, last)


@pytest.mark.parametrize("seed", range(5))
def test_a_row_is_rewritten_and_files_left_logarithmically_often(seed: int) -> None:
    randomness = random.Random(seed)
    tiers = Tiers()
    files: list[Placed] = []
    written = rewritten = 0
    most = 0
    for version in range(1, 3001):
        size = int(30_000 * randomness.lognormvariate(0, seed / 2))
        written += size
        files.append(placed(size, version, version))
        while run := choose(files, version, tiers):
            begin = files.index(run[0])
            merged = sum(each.size_bytes for each in run)
            rewritten += merged
            files[begin : begin + len(run)] = _split(merged, run, tiers.full_bytes)
        most = max(most, sum(each.size_bytes < tiers.full_bytes for each in files))
    levels = math.log(tiers.full_bytes / 30_000, tiers.growth)
    assert rewritten < levels * written
    assert most < 12 * levels


def _split(size: int, run: list[Placed], full: int) -> list[Placed]:
    sizes = [full] * (size // full) + ([size % full] if size % full else [])
    return [placed(each, run[0].first, run[-1].last) for each in sizes]


def test_few_files_are_not_worth_a_merge() -> None:
    files = [placed(1_000_000, number, number) for number in range(1, 9)]
    assert choose(files[:7], 9, Tiers()) == []
    assert choose(files, 9, Tiers()) == files


def test_one_merge_reads_little_more_than_a_full_file() -> None:
    files = [placed(FILE_BYTES // 3, number, number) for number in range(1, 30)]
    assert sum(each.size_bytes for each in choose(files, 30, Tiers())) < 2 * FILE_BYTES


def test_files_of_one_version_are_merged_together_or_not_at_all() -> None:
    files = [placed(10, 1, 1), placed(10, 7, 7), placed(10, 7, 7), placed(10, 7, 9)]
    assert whole_versions(files[:1], files[1:]) == files[:1]
    assert whole_versions(files[1:2], files[2:]) == files[1:3]
    assert whole_versions(files[:2], files[2:]) == files[:2]
