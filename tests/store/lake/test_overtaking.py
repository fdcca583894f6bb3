"""Two writers of one lake in a bucket: the later one wins, and every row is there once."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.store.lake.rounds import LOG, PROJECT, Rounds, rows_in
from tests.store.lake.seaweed import Seaweed
from upwell.core import faults
from upwell.core.errors import Unavailable
from upwell.store.lake.lake import open_lake
from upwell.store.lake.mark import LEDGER, Mark
from upwell.store.lake.tables import OvertakenError
from upwell.store.lake.writer import LakeWriter

pytestmark = pytest.mark.xdist_group("seaweed")


@pytest.fixture
def begin(seaweed: Seaweed) -> Callable[[], Rounds]:
    """Begins another writer of the same lake; the one before knows nothing of it."""
    uri = seaweed.address()
    return lambda: Rounds(Path(), uri=uri, access=seaweed.access)


def stored(rounds: Rounds) -> Counter[object]:
    lake = open_lake(rounds.uri, Path(), rounds.access)
    table = lake.table(LOG)
    assert table is not None
    return Counter(rows_in(lake, table))


def same_rows(rounds: Rounds) -> Counter[object]:
    return Counter(rounds.logged())


def test_the_first_writer_is_told_by_which_epoch_and_writes_nothing_more(
    begin: Callable[[], Rounds],
) -> None:
    first = begin()
    first.round([(1, "a")])
    second = begin()
    second.version = first.version
    assert second.writer.epoch == first.writer.epoch + 1
    first.write([(2, "zombie")])
    for _ in range(2):
        with pytest.raises(OvertakenError, match=f"epoch {second.writer.epoch}"):
            first.flush()
    second.round([(2, "b")])
    assert stored(second) == Counter([(1, "a", 1, 1), (2, "b", 2, 1)])


def test_a_round_that_the_first_had_begun_is_taken_out_and_cannot_be_ended(
    begin: Callable[[], Rounds],
) -> None:
    first = begin()
    first.round([(1, "a")])
    first.write([(2, "zombie")])
    first.writer._append(first.connection, first.log, first.version)  # and the ledger not yet
    assert sum(stored(first).values()) == 2
    second = begin()
    assert stored(second) == Counter([(1, "a", 1, 1)])
    with pytest.raises(OvertakenError):
        first.flush()
    assert second.writer.mark.version == 1
    second.version = 1
    second.round([(2, "b")])
    assert stored(second) == Counter([(1, "a", 1, 1), (2, "b", 2, 1)])


def test_whenever_the_first_stops_between_two_steps_rows_are_there_once(
    begin: Callable[[], Rounds], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is stopped at each point of a round in turn, and goes on once it is replaced."""
    points = ["lake.before_commit", "lake.after_commit", "lake.table_flushed", "lake.round_ended"]
    rounds = begin()
    for number, point in enumerate(points):
        rounds.round([(number * 10, "kept")])
        rounds.write([(number * 10 + 1, point)])
        after = rounds

        def replaced(reached: str, at: str = point) -> None:
            nonlocal after
            if reached == at:
                passing()
                after = begin()

        def passing(reach: Callable[[str], None] = faults.reach) -> None:
            monkeypatch.setattr("upwell.store.lake.tables.reach", reach)
            monkeypatch.setattr("upwell.store.lake.writer.reach", reach)

        passing(replaced)
        ended = point == "lake.round_ended"
        try:
            rounds.flush()
        except OvertakenError:
            assert not ended
        after.version = after.writer.mark.version
        kept = [row for row in rounds.logged() if row[2] <= after.version]
        assert stored(after) == Counter(kept)
        assert (after.version == rounds.version) == ended
        for row in kept:
            after.connection.execute(
                f"INSERT INTO {LOG} VALUES (?, ?, ?, '', now(), now(), ?)", list(row)
            )
        rounds = after


def test_of_writers_that_begin_at_once_the_last_one_alone_can_go_on(
    begin: Callable[[], Rounds],
) -> None:
    before = begin()
    before.round([(1, "a")])
    together = threading.Barrier(3)
    writers: list[LakeWriter] = []

    def take_over() -> None:
        lake = open_lake(before.uri, Path(), before.access)
        together.wait()
        while True:
            try:
                writers.append(LakeWriter(lake, PROJECT))
            except (Unavailable, OvertakenError):
                continue  # somebody else was quicker
            return

    threads = [threading.Thread(target=take_over) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({each.epoch for each in writers}) == 3
    alive = []
    for writer in writers:
        try:
            writer.flush(before.connection, [], Mark(version=1))
        except OvertakenError:
            continue
        alive.append(writer.epoch)
    assert alive == [max(each.epoch for each in writers)]


@pytest.mark.parametrize(
    ("point", "rows_there"), [("lake.table_flushed:1", 2), ("lake.object_before_put:4", 1)]
)
def test_a_writer_that_is_killed_in_its_round_leaves_nothing_of_it(
    begin: Callable[[], Rounds], seaweed: Seaweed, point: str, rows_there: int
) -> None:
    rounds = begin()
    rounds.round([(1, "a")])
    program = (
        "import sys; from pathlib import Path; from tests.store.lake.rounds import Rounds;"
        "from upwell.store.lake.catalog import Access;"
        "rounds = Rounds(Path(), uri=sys.argv[1], access=Access(*sys.argv[2:]));"
        "rounds.version = 1; rounds.round([(2, 'killed')])"
    )
    access = seaweed.access
    reached = (access.catalog, access.endpoint, "", access.access_key, access.secret_key)
    done = subprocess.run(
        [sys.executable, "-c", program, rounds.uri, *reached],
        env={"UPWELL_FAULT": f"{point}:kill", "PATH": ""},
        check=False,
    )
    assert done.returncode < 0
    assert sum(stored(rounds).values()) == rows_there
    after = begin()
    assert stored(after) == Counter([(1, "a", 1, 1)])
    ledger = after.table(LEDGER)
    assert [each.record_count for each in ledger.files] == [1]
