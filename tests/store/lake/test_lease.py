"""Who holds a lake in a bucket: by steps on a clock of the test's, and on a real server."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.store.lake.proxy import Disturbance, Kind, line_to
from tests.store.lake.seaweed import Seaweed
from upwell.core.errors import EnvironmentFault, Unavailable, UpwellError
from upwell.store.lake.bucket import Bucket
from upwell.store.lake.holder import Holder, held
from upwell.store.lake.lease import Lease, Terms, bucket_held
from upwell.store.lake.objects import Folder, own_file

TERMS = Terms(lease_seconds=10, renew_seconds=3, look_seconds=1)
ADA, BEN = Holder("host-a", 1, "/shop"), Holder("host-b", 2, "/shop")


@dataclass
class Table:
    """A bucket of one file, with the faults of a line to it."""

    content: tuple[bytes, str] | None = None
    writes: int = 0
    is_away: bool = False
    loses_answer: bool = False

    def look(self, location: str) -> tuple[bytes, str] | None:
        self._reach(location)
        return self.content

    def swap(self, location: str, data: bytes, seen: str | None) -> str | None:
        self._reach(location)
        if (self.content[1] if self.content else None) != seen:
            return None
        self.writes += 1
        self.content = (data, f"tag-{self.writes}")
        if self.loses_answer:
            self.loses_answer = False
            raise Unavailable("lake_unavailable", "the answer was lost")
        return self.content[1]

    def _reach(self, location: str) -> None:
        if self.is_away:
            raise Unavailable("lake_unavailable", "away", where=location)


@dataclass
class Hands:
    """A clock that only waiting moves; ``meanwhile`` happens whenever somebody waits."""

    at: float = 0.0
    meanwhile: Callable[[], None] = field(default=lambda: None)

    def now(self) -> float:
        return self.at

    def wait(self, seconds: float) -> bool:
        self.at += seconds
        self.meanwhile()
        return False


def lease(table: Table, holder: Holder, clock: Hands | None = None) -> Lease:
    return Lease(table, "s3://bucket/lake/lease", holder, TERMS, clock or Hands())


def test_a_free_lake_is_taken_at_once_and_so_is_one_given_back() -> None:
    table, clock = Table(), Hands()
    first = lease(table, ADA, clock)
    first.acquire()
    first.give_back()
    lease(table, BEN, clock).acquire()
    assert clock.at == 0


def test_whoever_finds_the_holder_alive_is_told_who_it_is() -> None:
    table = Table()
    first = lease(table, ADA)
    first.acquire()
    clock = Hands()

    def renewed() -> None:
        if clock.at >= TERMS.renew_seconds:
            first.renew()

    clock.meanwhile = renewed
    with pytest.raises(EnvironmentFault, match="process 1 on host-a") as caught:
        lease(table, BEN, clock).acquire()
    assert caught.value.code == "lake_held"
    assert clock.at <= TERMS.lease_seconds


def test_a_lease_that_nobody_renews_is_taken_after_its_time_on_ones_own_clock() -> None:
    table = Table()
    first = lease(table, ADA, Hands(at=-600))  # its clock is ten minutes behind
    first.acquire()
    clock = Hands()
    lease(table, BEN, clock).acquire()
    assert TERMS.lease_seconds <= clock.at <= TERMS.lease_seconds + TERMS.look_seconds


def test_a_holder_that_was_frozen_learns_at_its_next_renewal_who_holds_the_lake() -> None:
    table = Table()
    first = lease(table, ADA)
    first.acquire()
    assert first.renew() is None
    second = lease(table, BEN)
    second.acquire()
    lost = first.renew()
    assert lost is not None
    assert lost.code == "lake_lost"
    assert "process 2 on host-b" in lost.what
    first.give_back()  # of what is not its own any more
    assert second.renew() is None


def test_a_holder_that_was_frozen_goes_on_if_nobody_came() -> None:
    clock = Hands()
    first = lease(Table(), ADA, clock)
    first.acquire()
    clock.at += 3600
    assert first.renew() is None


def test_of_two_that_find_it_expired_one_takes_it() -> None:
    table = Table()
    lease(table, Holder("host-c", 3, "/shop")).acquire()
    clock = Hands()
    second = lease(table, BEN, clock)

    def quicker() -> None:
        if clock.at == TERMS.lease_seconds - 1:
            table.swap("", table.content[0] if table.content else b"", "tag-1")
            first.acquire()

    first = lease(table, ADA)
    clock.meanwhile = quicker
    with pytest.raises(EnvironmentFault, match="host-"):
        second.acquire()
    assert first.renew() is None


@pytest.mark.parametrize("step", ["acquire", "renew"])
def test_a_write_whose_answer_was_lost_is_known_as_ones_own(step: str) -> None:
    table = Table()
    first = lease(table, ADA)
    if step == "renew":
        first.acquire()
    table.loses_answer = True
    with pytest.raises(Unavailable):
        first.acquire() if step == "acquire" else first.renew()
    assert first.renew() is None


def test_a_bucket_that_is_away_loses_no_lease() -> None:
    table = Table()
    first = lease(table, ADA)
    first.acquire()
    table.is_away = True
    for _ in range(9):
        with pytest.raises(Unavailable):
            first.renew()
    table.is_away = False
    assert first.renew() is None


def test_a_file_that_says_nothing_is_nobodys() -> None:
    table = Table(content=(b"?", "tag-0"))
    lease(table, ADA).acquire()
    assert table.writes == 1


# ── on a server ──────────────────────────────────────────────────────────────────────────────────

QUICK = Terms(lease_seconds=1.5, renew_seconds=0.3, look_seconds=0.1)
on_server = pytest.mark.xdist_group("seaweed")


@on_server
def test_a_bucket_has_one_holder_and_the_next_begins_at_once_after_a_clean_end(
    seaweed: Seaweed,
) -> None:
    bucket = Bucket(seaweed.address(), seaweed.access)
    with bucket_held(bucket, ADA, QUICK):
        expected = pytest.raises(EnvironmentFault, match="process 1 on host-a")
        with expected, bucket_held(bucket, BEN, QUICK):
            pass
    with held(bucket, BEN):  # which would wait for ten seconds
        pass


@on_server
def test_a_holder_is_told_when_another_has_taken_the_lease(seaweed: Seaweed) -> None:
    bucket = Bucket(seaweed.address(), seaweed.access)
    told = threading.Event()
    errors: list[UpwellError] = []

    def tell(error: UpwellError) -> None:
        errors.append(error)
        told.set()

    with line_to(seaweed.endpoint) as line:
        away = Bucket(bucket.root, seaweed.through(endpoint=line.address))
        with bucket_held(away, ADA, QUICK) as hold:
            hold.listen(tell)
            line.disturb(Disturbance(Kind.BLACKHOLE))
            with bucket_held(bucket, BEN, QUICK):
                assert not told.is_set()  # it cannot know, and may go on trying
                line.calm()
                assert told.wait(20)
                assert "process 2 on host-b" in errors[0].what
                assert len(errors) == 1


@on_server
def test_a_bucket_in_trouble_costs_no_lease(seaweed: Seaweed) -> None:
    bucket = Bucket(seaweed.address(), seaweed.access)
    location = own_file(bucket.root, "lease")
    with line_to(seaweed.endpoint) as line:
        troubled = Bucket(bucket.root, seaweed.through(endpoint=line.address))
        with bucket_held(troubled, ADA, QUICK) as hold:
            lost: list[UpwellError] = []
            hold.listen(lost.append)
            for kind in (Kind.REFUSED, Kind.LOST, Kind.RESET):
                line.disturb(Disturbance(kind, matching="PUT ", times=2))
                wait_until(lambda: line.hits == 2)
            seen = bucket.look(location)
            wait_until(lambda: bucket.look(location) != seen)
            assert lost == []


@on_server
@pytest.mark.parametrize("seen", ["nothing", "the same"])
def test_of_many_that_swap_at_once_one_succeeds(seaweed: Seaweed, seen: str) -> None:
    root = seaweed.address()
    location = own_file(root, "lease")
    tag = None
    if seen == "the same":
        tag = Bucket(root, seaweed.access).swap(location, b"before", None)
    start = threading.Barrier(3)
    tags: list[str | None] = []

    def swap(number: int) -> None:
        bucket = Bucket(root, seaweed.access)
        start.wait()
        tags.append(bucket.swap(location, f"{number}".encode(), tag))

    threads = [threading.Thread(target=swap, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [each for each in tags if each is not None]
    found = Bucket(root, seaweed.access).look(location)
    assert found is not None
    assert winners == [found[1]]


def test_a_lake_in_a_folder_is_held_in_the_same_way(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "lake")
    expected = pytest.raises(EnvironmentFault, match="process 1 on host-a")
    with held(folder, ADA), expected, held(folder, BEN):
        pass
    with held(folder, BEN):
        pass


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait on a condition, for no longer than anything may take."""
    tries = threading.Event()
    for _ in range(400):
        if holds():
            return
        tries.wait(0.05)
    pytest.fail("it did not come to pass")
