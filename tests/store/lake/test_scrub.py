"""Scrubbing finds every kind of damage, and repair puts back what is known, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyiceberg.manifest import DataFile

from tests.store.lake.rounds import LOG, Rounds, rows_in
from tests.store.lake.test_compaction import compact_all
from tests.store.lake.test_retention import after, fold_before, sum_at
from upwell.store.lake.contents import Placed, in_order
from upwell.store.lake.digests import digest_of
from upwell.store.lake.mark import LEDGER
from upwell.store.lake.objects import path_of
from upwell.store.lake.repair import Known, Outcome, Repaired, repair
from upwell.store.lake.scrub import Damage, How, scrub
from upwell.store.lake.tables import Change


@pytest.fixture
def rounds(tmp_path: Path) -> Rounds:
    """Six rounds: a row begins in each, and the one before it ends."""
    rounds = Rounds(tmp_path)
    for number in range(1, 7):
        rounds.round(
            [(number, f"{number}"), (50 + number, "")],
            [(number - 1, f"{number - 1}")] if number > 1 else [],
        )
    return rounds


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)


HARMS: dict[How, Callable[[Path], None]] = {
    How.MISSING: Path.unlink,
    How.CONTENT: flip,
}


def harm(rounds: Rounds, *places: int, how: How = How.CONTENT, name: str = LOG) -> list[Placed]:
    harmed = [in_order(rounds.table(name))[place] for place in places]
    for each in harmed:
        HARMS[how](path_of(each.location))
    return harmed


def repair_found(rounds: Rounds, known: Known | None) -> list[Repaired]:
    damages = scrub(rounds.lake).damages
    rounds.take_over()
    return repair(
        rounds.lake,
        damages,
        through=rounds.writer.mark.version,
        epoch=rounds.writer.epoch,
        known=known,
    )


def only(damages: tuple[Damage, ...]) -> Damage:
    assert len(damages) == 1
    return damages[0]


# ── finding ──────────────────────────────────────────────────────────────────────────────────────


def test_a_whole_lake_has_no_damage(rounds: Rounds) -> None:
    compact_all(rounds)
    fold_before(rounds, after(2))
    scrubbed = scrub(rounds.lake)
    assert scrubbed.damages == ()
    assert (scrubbed.tables, scrubbed.rows) == (2, 17 - 2 + 6)


@pytest.mark.parametrize("how", [How.MISSING, How.CONTENT])
def test_a_damaged_file_is_named_with_what_it_held(rounds: Rounds, how: How) -> None:
    harmed = harm(rounds, 2, how=how)
    damage = only(scrub(rounds.lake).damages)
    assert (damage.table, damage.location, damage.how) == (LOG, harmed[0].location, how)
    assert (damage.rows, damage.first_version, damage.last_version) == (3, 3, 3)
    assert (damage.first_position, damage.last_position) == ("00000003", "00000003")


def test_one_damage_does_not_hide_the_next(rounds: Rounds) -> None:
    harm(rounds, 1, 4)
    harm(rounds, 0, how=How.MISSING, name=LEDGER)
    assert [each.table for each in scrub(rounds.lake).damages] == [LOG, LOG, LEDGER]


def replaced(rounds: Rounds, **facts: object) -> None:
    """Let the table tell something else of its third file than is in it."""
    file = in_order(rounds.table())[2].file
    told = {
        name: getattr(file, name)
        for name in (
            "content",
            "file_path",
            "file_format",
            "partition",
            "record_count",
            "file_size_in_bytes",
            "lower_bounds",
            "upper_bounds",
        )
    }
    lie = DataFile.from_args(**{**told, "spec_id": 0, **facts})
    rounds.table().commit(Change([lie], [file.file_path]), epoch=rounds.writer.epoch)


def test_another_number_of_rows_is_damage(rounds: Rounds) -> None:
    replaced(rounds, record_count=4)
    assert only(scrub(rounds.lake).damages).how is How.ROWS


def test_a_value_outside_of_the_bounds_is_damage(rounds: Rounds) -> None:
    file = in_order(rounds.table())[2].file
    number = rounds.table().schema.find_field("_position").field_id
    replaced(rounds, upper_bounds={**file.upper_bounds, number: b"00000002"})
    damage = only(scrub(rounds.lake).damages)
    assert damage.how is How.BOUNDS
    assert "_position" in damage.what


def test_bytes_that_are_no_table_are_damage_under_whatever_name(rounds: Rounds) -> None:
    file = in_order(rounds.table())[2].file
    data = b"PAR1 nonsense"
    location = f"{rounds.table().folder}/x-{digest_of(data)}.parquet"
    rounds.lake.objects.write(location, data)
    replaced(rounds, file_path=location, file_size_in_bytes=len(data))
    assert only(scrub(rounds.lake).damages).how is How.CONTENT
    assert file.file_path != location


@pytest.mark.parametrize("part", ["manifest list", "manifest", "metadata"])
@pytest.mark.parametrize("how", [How.MISSING, How.CONTENT])
def test_metadata_that_cannot_be_read_is_damage(rounds: Rounds, part: str, how: How) -> None:
    table = rounds.table()
    current = table.metadata.current_snapshot()
    assert current is not None
    location = {
        "manifest list": current.manifest_list,
        "manifest": current.manifests(table._io)[0].manifest_path,
        "metadata": table.metadata_location,
    }[part]
    path = path_of(location)
    if how is How.MISSING:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-40])
    damage = only(scrub(rounds.lake).damages)
    assert (damage.table, damage.how) == (LOG, How.METADATA)
    outcomes = [
        each.outcome
        for each in repair(rounds.lake, [damage], through=6, epoch=1, known=rounds.known())
    ]
    assert outcomes == [Outcome.UNRECOVERABLE]


# ── repairing ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("how", [How.MISSING, How.CONTENT])
def test_rows_that_are_still_logged_are_written_again(rounds: Rounds, how: How) -> None:
    harmed = harm(rounds, 1, 3, how=how)
    repaired = repair_found(rounds, rounds.known())
    assert [each.outcome for each in repaired] == [Outcome.EXACT, Outcome.EXACT]
    assert sum(each.rows_lost for each in repaired) == 0
    assert rows_in(rounds.lake, rounds.table()) == rounds.logged()
    assert scrub(rounds.lake).damages == ()
    for each, was in zip(repaired, harmed, strict=True):
        assert bool(each.kept_as) == (how is How.CONTENT)
        if each.kept_as:
            assert path_of(each.kept_as).read_bytes() == path_of(was.location).read_bytes()


def test_what_is_no_longer_logged_is_restored_as_a_sum(rounds: Rounds) -> None:
    rounds.write([(7, "7"), (57, "")], [(6, "6")])  # not in the lake yet
    original = rounds.logged()
    harm(rounds, 1, 3)
    rounds.connection.execute(f"DELETE FROM {LOG} WHERE _version <= 6")
    repaired = repair_found(rounds, rounds.known())
    assert [(each.outcome, each.rows_lost) for each in repaired] == [(Outcome.NET, 3)] * 2
    left = rows_in(rounds.lake, rounds.table())
    for version in (4, 5, 6):
        assert sum_at(left, version) == sum_at(original, version)
    assert sum_at(left, 3) != sum_at(original, 3)
    restored = [row for row in left if row[2] == 4]
    assert restored == [(1, "1", 4, -1), (3, "3", 4, -1), *restored[2:]]
    assert {row[0] for row in restored[2:]} == {2, 4, 52, 54}
    assert scrub(rounds.lake).damages == ()
    rounds.flush()
    compact_all(rounds)
    assert sum_at(rows_in(rounds.lake, rounds.table()), 7) == sum_at(original, 7)


def test_a_folded_file_is_not_restored_from_rows_that_were_folded(rounds: Rounds) -> None:
    original = rounds.logged()
    compact_all(rounds)
    fold_before(rounds, after(6))
    harm(rounds, 0)
    repaired = repair_found(rounds, rounds.known())
    assert [each.outcome for each in repaired] == [Outcome.NET]
    left = rows_in(rounds.lake, rounds.table())
    assert sum_at(left, 6) == sum_at(original, 6)


def test_without_anything_known_nothing_is_invented(rounds: Rounds) -> None:
    harmed = harm(rounds, 1)
    repaired = repair_found(rounds, None)
    assert [(each.outcome, each.rows_lost) for each in repaired] == [(Outcome.UNRECOVERABLE, 3)]
    assert harmed[0].location in {each.file_path for each in rounds.table().files}
    assert only(scrub(rounds.lake).damages).location == harmed[0].location


def test_a_file_of_the_ledger_is_given_up_where_it_is_not_known(rounds: Rounds) -> None:
    harm(rounds, 0, name=LEDGER)
    repaired = repair_found(rounds, None)
    assert [each.outcome for each in repaired] == [Outcome.GIVEN_UP]
    assert Path(path_of(repaired[0].kept_as)).exists()
    assert scrub(rounds.lake).damages == ()
    assert rounds.writer.mark.version == 6


def test_what_was_repaired_can_be_read_by_others(rounds: Rounds) -> None:
    harm(rounds, 2)
    repair_found(rounds, rounds.known())
    rows = [pq.read_table(path_of(each.file_path)).num_rows for each in rounds.table().files]
    assert sum(rows) == len(rounds.logged())
