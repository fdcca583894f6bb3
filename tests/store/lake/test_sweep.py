"""Sweeping: only what is ours, only what nothing refers to, only after the whole grace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.store.lake.rounds import LOG, Rounds, rows_in
from tests.store.lake.test_compaction import compact_all
from upwell.core.errors import IntegrityError
from upwell.store.lake.expiry import forgettable
from upwell.store.lake.mark import LEDGER
from upwell.store.lake.objects import Stored, path_of
from upwell.store.lake.scrub import scrub
from upwell.store.lake.sweep import LIST, Sweeper
from upwell.store.lake.tables import Change, OvertakenError

GRACE = 3600.0


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def rounds(tmp_path: Path) -> Rounds:
    """Six rounds of which only the last snapshot is left: their files were merged."""
    rounds = Rounds(tmp_path)
    for number in range(6):
        rounds.round([(number, "")])
    compact_all(rounds)
    table = rounds.table()
    table.commit(Change(forgotten=forgettable(table, kept=1)), epoch=rounds.writer.epoch)
    return rounds


def sweeper(rounds: Rounds, clock: Callable[[], float]) -> Sweeper:
    return Sweeper(rounds.lake, keep_seconds=GRACE, monotonic=clock)


def data_files(rounds: Rounds) -> set[str]:
    return {each.name for each in (rounds.folder / "lake").glob("*orders__log*/data/*")}


def everything(rounds: Rounds) -> set[Path]:
    return {path for path in (rounds.folder / "lake").rglob("*") if path.is_file()}


def test_files_go_after_the_whole_grace_and_not_before(rounds: Rounds) -> None:
    clock = Clock()
    sweeping = sweeper(rounds, clock)
    assert len(data_files(rounds)) == 7
    first = sweeping.sweep(rounds.writer.epoch)
    assert first.deleted == 0
    assert first.waiting > 6
    clock.now += GRACE - 1
    assert sweeping.sweep(rounds.writer.epoch).deleted == 0
    clock.now += 1
    assert sweeping.sweep(rounds.writer.epoch).deleted == first.waiting
    assert len(data_files(rounds)) == 1
    assert rows_in(rounds.lake, rounds.table()) == rounds.logged()
    assert sweeping.sweep(rounds.writer.epoch).waiting == 0


def test_time_in_which_nobody_looked_does_not_count(rounds: Rounds) -> None:
    clock = Clock()
    sweeping = sweeper(rounds, clock)
    sweeping.sweep(rounds.writer.epoch)
    clock.now += GRACE / 2
    sweeping.sweep(rounds.writer.epoch)
    later = Clock()
    later.now = 10 * GRACE  # another process, another machine, another clock
    sweeping = sweeper(rounds, later)
    assert sweeping.sweep(rounds.writer.epoch).deleted == 0
    later.now += GRACE / 2 - 1
    assert sweeping.sweep(rounds.writer.epoch).deleted == 0
    later.now += 1
    assert sweeping.sweep(rounds.writer.epoch).deleted > 6


def test_a_clock_that_goes_back_deletes_nothing_early(rounds: Rounds) -> None:
    clock = Clock()
    sweeping = sweeper(rounds, clock)
    sweeping.sweep(rounds.writer.epoch)
    clock.now -= 100 * GRACE
    assert sweeping.sweep(rounds.writer.epoch).deleted == 0
    clock.now += GRACE - 1
    assert sweeping.sweep(rounds.writer.epoch).deleted == 0


def test_what_is_referred_to_again_leaves_the_list(rounds: Rounds) -> None:
    clock = Clock()
    sweeping = sweeper(rounds, clock)
    aside = f"{LOG}__until_now"
    rounds.lake.forget(LOG)
    metadata = rounds.table().metadata_location
    waiting = sweeping.sweep(rounds.writer.epoch).waiting
    clock.now += GRACE - 1
    rounds.lake._catalog.register_table(("shop", aside.partition(".")[2]), metadata)
    assert sweeping.sweep(rounds.writer.epoch).waiting < waiting
    table = rounds.lake.table(aside)
    assert table is not None
    rounds.lake.forget(aside)
    clock.now += 1
    sweeping.sweep(rounds.writer.epoch)
    assert rows_in(rounds.lake, table) == rounds.logged()


def test_a_forgotten_table_goes_as_a_whole(rounds: Rounds) -> None:
    clock = Clock()
    sweeping = sweeper(rounds, clock)
    rounds.lake.forget(LOG)
    sweeping.sweep(rounds.writer.epoch)
    assert len(data_files(rounds)) == 7
    clock.now += GRACE
    sweeping.sweep(rounds.writer.epoch)
    assert not [path for path in everything(rounds) if "orders__log" in str(path)]


def test_what_a_crash_left_goes_and_what_is_not_ours_stays(rounds: Rounds) -> None:
    root = rounds.folder / "lake"
    folder = path_of(rounds.table().folder)
    left = [
        folder / f"000000000007-000000000007-{'0' * 32}.parquet",
        folder / f".unfinished-000000000007-000000000007-{'0' * 32}.parquet",
        folder.parent / "metadata" / ".unfinished-x.avro",
        folder.parent / "metadata" / "00099-0b0b.metadata.json",
        root / "upwell/data" / f".unfinished-{LIST}",
    ]
    foreign = [
        root / "README.md",
        root / "catalog.db-journal",
        root / "upwell.lock",
        root / "upwell-lease.json",
        root / f"{'0' * 32}.parquet",
        folder / "00000-0-0b0b.parquet",
        folder / f"damaged-000000000001-000000000001-{'0' * 32}",
        root / "upwell/data/lease",
        root.parent / f"outside-{'0' * 32}.parquet",
    ]
    for path in (*left, *foreign):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    clock = Clock()
    sweeping = sweeper(rounds, clock)
    sweeping.sweep(rounds.writer.epoch)
    clock.now += GRACE
    sweeping.sweep(rounds.writer.epoch)
    assert [path for path in left if path.exists()] == []
    assert [path for path in foreign if not path.exists()] == []
    assert (root / "catalog.db").exists()
    assert (root / "upwell/data" / LIST).exists()


def test_a_held_snapshot_can_be_read_until_the_grace_ends(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path)
    for number in range(6):
        rounds.round([(number, "")])
    held = rounds.lake.table(LOG)
    assert held is not None
    expected = rounds.logged()
    clock = Clock()
    sweeping = sweeper(rounds, clock)
    sweeping.sweep(rounds.writer.epoch)
    clock.now += GRACE
    compact_all(rounds)
    table = rounds.table()
    table.commit(Change(forgotten=forgettable(table, kept=1)), epoch=rounds.writer.epoch)
    for _ in range(4):
        sweeping.sweep(rounds.writer.epoch)
        assert rows_in(rounds.lake, held) == expected
        clock.now += GRACE / 4
    sweeping.sweep(rounds.writer.epoch)
    with pytest.raises(IntegrityError, match="not there"):
        rows_in(rounds.lake, held)


def test_what_a_kept_snapshot_names_stays_however_long(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path)
    for number in range(6):
        rounds.round([(number, "")])
    compact_all(rounds)
    before = data_files(rounds)
    assert len(before) == 7
    clock = Clock()
    sweeping = sweeper(rounds, clock)
    for _ in range(3):
        sweeping.sweep(rounds.writer.epoch)
        clock.now += GRACE
    assert data_files(rounds) == before
    assert scrub(rounds.lake).damages == ()


def test_a_list_that_cannot_be_read_only_delays(rounds: Rounds) -> None:
    clock = Clock()
    sweeper(rounds, clock).sweep(rounds.writer.epoch)
    (rounds.folder / "lake/upwell/data" / LIST).write_bytes(b'{"unreferenced": {"a')
    sweeping = sweeper(rounds, clock)
    assert sweeping.sweep(rounds.writer.epoch).deleted == 0
    clock.now += GRACE
    assert sweeping.sweep(rounds.writer.epoch).deleted > 6


def test_an_engine_that_was_replaced_sweeps_nothing(rounds: Rounds) -> None:
    clock = Clock()
    sweeping = sweeper(rounds, clock)
    epoch = rounds.writer.epoch
    sweeping.sweep(epoch)
    clock.now += GRACE
    rounds.take_over()
    before = everything(rounds)
    with pytest.raises(OvertakenError):
        sweeping.sweep(epoch)
    assert everything(rounds) >= before


@pytest.mark.parametrize("suffix", [".avro", ".metadata.json"])
def test_nothing_goes_while_a_table_cannot_be_read(rounds: Rounds, suffix: str) -> None:
    clock = Clock()
    sweeping = sweeper(rounds, clock)
    sweeping.sweep(rounds.writer.epoch)
    clock.now += GRACE
    table = rounds.table()
    current = table.metadata.current_snapshot()
    assert current is not None
    broken = table.metadata_location if suffix == ".metadata.json" else current.manifest_list
    path_of(broken).write_bytes(b"")
    before = everything(rounds)
    for again in (sweeping, sweeper(rounds, clock)):
        with pytest.raises((IntegrityError, ValueError)):
            again.sweep(rounds.writer.epoch)
    assert everything(rounds) == before


@pytest.mark.parametrize("lost", ["made anew", "older"])
def test_nothing_goes_after_the_catalog_went_back_in_time(tmp_path: Path, lost: str) -> None:
    rounds = Rounds(tmp_path)
    catalog = tmp_path / "lake" / "catalog.db"
    for number in range(3):
        rounds.round([(number, "")])
    older = catalog.read_bytes()
    rounds.round([(3, "")])
    clock = Clock()
    sweeper(rounds, clock).sweep(rounds.writer.epoch)
    rounds.lake.close()
    if lost == "older":
        catalog.write_bytes(older)
    else:
        catalog.unlink()
    rounds.take_over()
    before = everything(rounds)
    sweeping = sweeper(rounds, clock)
    for _ in range(3):
        with pytest.raises(IntegrityError, match="not the one that was there before"):
            sweeping.sweep(rounds.writer.epoch)
        clock.now += GRACE
    assert everything(rounds) == before


def test_nothing_goes_while_the_listing_shows_nothing_of_a_table(
    rounds: Rounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = rounds.lake.objects
    everywhere = objects.list

    def renamed(below: str) -> Iterator[Stored]:
        for each in everywhere(below):
            yield Stored(each.location.replace("orders__log", "orders%5F%5Flog"), each.size_bytes)

    monkeypatch.setattr(objects, "list", renamed)
    with pytest.raises(IntegrityError, match="shows no file of"):
        sweeper(rounds, Clock()).sweep(rounds.writer.epoch)


def test_the_ledger_must_be_there(rounds: Rounds) -> None:
    rounds.lake.forget(LEDGER)
    with pytest.raises(IntegrityError, match="not there"):
        sweeper(rounds, Clock()).sweep(rounds.writer.epoch)
