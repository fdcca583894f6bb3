"""Whatever happens to a lake, and wherever it crashes: it holds what was logged, row for row.

Random sequences of rounds, compactions, sweeps, folds of old history, takeovers by other engines
and crashes in between, against a plain list of rows. A crash abandons everything that was open, at
one of the points at which a process can be made to fail, and a new writer takes over. Readers hold
a snapshot and read it later, within the grace.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.store.lake.rounds import LOG, START_US, Rounds, Row, rows_in
from upwell.store.lake import compaction, objects, parquet, retention, sweep, tables, writer
from upwell.store.lake.compaction import Tiers, compact
from upwell.store.lake.contents import in_order
from upwell.store.lake.expiry import forgettable
from upwell.store.lake.mark import LEDGER
from upwell.store.lake.objects import path_of
from upwell.store.lake.retention import FOLDED, fold
from upwell.store.lake.scrub import scrub
from upwell.store.lake.sweep import Sweeper
from upwell.store.lake.tables import Change, LakeTable, OvertakenError

GRACE = 100.0
TIERS = Tiers(files=3, growth=2.0)
#: Modules whose points a crash may strike at.
_CRASHING = (compaction, objects, parquet, retention, sweep, tables, writer)


class Crash(BaseException):
    """The process is gone: nothing of ours may catch this."""


@contextmanager
def crashing_at(point: int) -> Iterator[None]:
    """Within the block the n-th point that is reached ends the process, so to say."""
    reached = 0

    def strike(_name: str) -> None:
        nonlocal reached
        reached += 1
        if reached == point:
            raise Crash

    with pytest.MonkeyPatch.context() as patched:
        for module in _CRASHING:
            patched.setattr(module, "reach", strike)
        yield


@dataclass(frozen=True)
class Held:
    """A snapshot that somebody reads, what it must say, and until when it must be there."""

    table: LakeTable
    rows: Sequence[Row]
    until: float


def sums(rows: Sequence[Row], version: int) -> Counter[tuple[int, str | None]]:
    counted: Counter[tuple[int, str | None]] = Counter()
    for id_, note, of_version, weight in rows:
        if of_version <= version:
            counted[id_, note] += weight
    assert all(weight >= 0 for weight in counted.values())
    return +counted


class LakeLife(RuleBasedStateMachine):
    """The lake of one captured table, the model of which is ``rounds.logged()``."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="upwell-lake-life-")
        self.rounds = Rounds(Path(self.folder.name))
        self.now = 0.0
        self.sweeper = self.new_sweeper()
        self.standing: dict[int, str | None] = {}
        self.held: list[Held] = []
        self.old_writer = self.rounds.writer
        self.old_table: LakeTable | None = None

    def teardown(self) -> None:
        try:
            self.readers_read()
            self.look()
        finally:
            self.close()

    def close(self) -> None:
        self.rounds.lake.close()
        self.rounds.connection.close()
        self.folder.cleanup()

    def new_sweeper(self) -> Sweeper:
        return Sweeper(self.rounds.lake, keep_seconds=GRACE, monotonic=lambda: self.now)

    # ── what happens ─────────────────────────────────────────────────────────────────────────────

    @rule(
        changes=st.dictionaries(
            st.integers(0, 4), st.sampled_from([None, "", "a", "b"]), min_size=1, max_size=3
        ),
        gone=st.sets(st.integers(0, 4), max_size=2),
    )
    def version(self, changes: dict[int, str | None], gone: set[int]) -> None:
        """A version in which some rows come, change or go."""
        changed = {*changes, *gone} & self.standing.keys()
        ended = [(key, self.standing.pop(key)) for key in sorted(changed)]
        begun = [(key, note) for key, note in changes.items() if key not in gone]
        self.standing.update(begun)
        self.rounds.write(begun, ended)

    @rule(crash=st.none() | st.integers(1, 30))
    def round(self, crash: int | None) -> None:
        self.crashing(crash, self.flush)

    @rule(count=st.integers(2, 4))
    def several_rounds(self, count: int) -> None:
        for number in range(count):
            self.version({number: f"{self.rounds.version}"}, set())
            self.flush()

    @rule(crash=st.none() | st.integers(1, 14), name=st.sampled_from([LOG, LOG, LEDGER]))
    def compaction(self, crash: int | None, name: str) -> None:
        self.crashing(crash, lambda: self.compact(name))

    @rule(back=st.integers(0, 6), crash=st.none() | st.integers(1, 14))
    def retention(self, back: int, crash: int | None) -> None:
        self.crashing(crash, lambda: self.fold(back))

    @rule(kept=st.integers(1, 3))
    def expiry(self, kept: int) -> None:
        table = self.table()
        if table is not None:
            change = Change(forgotten=forgettable(table, kept))
            table.commit(change, epoch=self.rounds.writer.epoch)

    @rule(
        seconds=st.sampled_from([0.0, 1.0, GRACE / 2, GRACE]), crash=st.none() | st.integers(1, 4)
    )
    def sweep(self, seconds: float, crash: int | None) -> None:
        self.now += seconds
        self.crashing(crash, lambda: self.sweeper.sweep(self.rounds.writer.epoch))

    @rule()
    def restart(self) -> None:
        """Another engine takes over, whatever state this one is in; its clock is another one."""
        self.old_writer, self.old_table = self.rounds.writer, self.table()
        self.rounds.take_over()
        self.held = [Held(each.table, each.rows, each.until - self.now + 5.0) for each in self.held]
        self.now = 5.0
        self.sweeper = self.new_sweeper()

    @precondition(lambda self: self.old_writer is not self.rounds.writer)
    @rule()
    def the_old_engine_wakes(self) -> None:
        """One that has been replaced can change nothing."""
        with pytest.raises(OvertakenError):
            self.old_writer.ledger.commit(Change(), epoch=self.old_writer.epoch)
        if self.old_table is not None:
            with pytest.raises(OvertakenError):
                self.old_table.commit(Change(), epoch=self.old_writer.epoch)
        with pytest.raises(OvertakenError):
            Sweeper(self.rounds.lake).sweep(self.old_writer.epoch)

    @rule()
    def a_reader_holds_a_snapshot(self) -> None:
        table = self.rounds.lake.table(LOG)
        if table is not None:
            self.held.append(Held(table, rows_in(self.rounds.lake, table), self.now + GRACE))

    @rule()
    def readers_read(self) -> None:
        for each in self.held:
            if self.now < each.until:
                assert rows_in(self.rounds.lake, each.table) == each.rows

    # ── how ──────────────────────────────────────────────────────────────────────────────────────

    def crashing(self, point: int | None, work: object) -> None:
        assert callable(work)
        if point is None:
            work()
            return
        try:
            with crashing_at(point):
                work()
        except Crash:
            self.restart()
            self.the_lake_holds_what_was_logged()

    def table(self) -> LakeTable | None:
        return self.rounds.writer.table(LOG) or self.rounds.lake.table(LOG)

    def flush(self) -> None:
        self.rounds.flush()

    def compact(self, name: str) -> None:
        table = self.rounds.writer.ledger if name == LEDGER else self.table()
        if table is not None:
            mark, epoch = self.rounds.writer.mark.version, self.rounds.writer.epoch
            compact(self.rounds.lake.objects, table, through=mark, epoch=epoch, tiers=TIERS)

    def fold(self, back: int) -> None:
        table = self.table()
        if table is None:
            return
        mark = self.rounds.writer.mark.version
        before = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(
            microseconds=START_US + (mark - back) * 1_000_000
        )
        fold(
            self.rounds.lake.objects,
            table,
            before=before,
            through=mark,
            epoch=self.rounds.writer.epoch,
        )

    # ── what holds ───────────────────────────────────────────────────────────────────────────────

    @rule()
    def look(self) -> None:
        self.the_lake_holds_what_was_logged()
        self.all_that_is_named_is_whole()

    def the_lake_holds_what_was_logged(self) -> None:
        table = self.rounds.lake.table(LOG)
        through = self.rounds.writer.mark.version
        logged = [row for row in self.rounds.logged() if row[2] <= through]
        if table is None:
            assert not logged
            return
        rows = [row for row in rows_in(self.rounds.lake, table) if row[2] <= through]
        folded = int(table.properties.get(FOLDED, "0"))
        assert [row for row in rows if row[2] > folded] == [
            row for row in logged if row[2] > folded
        ]
        for version in range(folded, through + 1):
            assert sums(rows, version) == sums(logged, version)
        old = [row for row in rows if row[2] <= folded]
        assert all(weight == 1 for *_, weight in old)
        assert not Counter(old) - Counter(logged)
        assert [row[2] for row in rows] == sorted(row[2] for row in rows)

    def all_that_is_named_is_whole(self) -> None:
        assert scrub(self.rounds.lake).damages == ()


def life(examples: int, steps: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def test_a_lake_holds_what_was_logged_whatever_happens_to_it() -> None:
    run_state_machine_as_test(LakeLife, settings=life(5, 15))


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_a_lake_lives_long() -> None:
    run_state_machine_as_test(LakeLife, settings=life(100, 60))


@pytest.mark.parametrize("point", [2, 3, 6, 11, 14])
def test_what_a_crash_leaves_is_swept_in_the_end(point: int) -> None:
    life = LakeLife()
    life.several_rounds(3)
    life.round(point)
    life.compaction(point, LOG)
    life.retention(1, point)
    life.several_rounds(2)
    life.expiry(1)
    life.sweep(0.0, None)
    life.sweep(GRACE, None)
    table = life.rounds.table()
    named = {path_of(each.location) for each in in_order(table)}
    assert set(path_of(table.folder).iterdir()) == named
    life.teardown()
