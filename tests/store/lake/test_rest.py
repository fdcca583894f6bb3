"""A catalog over a bad line: every commit is made exactly once, and nobody waits for ever."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.store.lake.proxy import Disturbance, Kind, Line, line_to
from tests.store.lake.rounds import LOG, Rounds, rows_in
from tests.store.lake.seaweed import SECRET, Seaweed
from upwell.core.errors import EnvironmentFault, Unavailable, UpwellError
from upwell.core.schema import Column
from upwell.store.lake.catalog import Patience
from upwell.store.lake.lake import Lake, open_lake
from upwell.store.lake.mark import LEDGER
from upwell.store.lake.tables import Change, LakeTable
from upwell.store.lake.writer import read_mark

pytestmark = pytest.mark.xdist_group("seaweed")

IMPATIENT = Patience(connect_seconds=1, request_seconds=0.8, retry_seconds=0.2)
COMMIT = "POST /v1/"  # of a table, unless it says otherwise
ORDERS = "shop.orders__log"


@pytest.fixture
def line(seaweed: Seaweed) -> Iterator[Line]:
    with line_to(seaweed.catalog) as line:
        yield line


@pytest.fixture
def lake(seaweed: Seaweed, line: Line) -> Iterator[Lake]:
    """A lake whose catalog is at the end of the line, and whose bucket is not."""
    access = replace(seaweed.through(catalog=line.address), patience=IMPATIENT)
    lake = open_lake(seaweed.address(), Path(), access)
    yield lake
    lake.close()


@pytest.fixture
def table(lake: Lake) -> LakeTable:
    return lake.create(ORDERS, (Column("id", "BIGINT"),), {})


def commits(line: Line) -> int:
    """How often a commit was sent."""
    return sum(each.startswith(f"{COMMIT}") and "/tables/" in each for each in line.requests)


# ── opening ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"secret_key": "wrong"}, "lake_denied"),
        ({"warehouse": "never-made"}, "lake_warehouse_missing"),
        ({"catalog": "http://127.0.0.1:9"}, "lake_unavailable"),
        ({"endpoint": "http://127.0.0.1:9"}, "lake_unavailable"),
    ],
)
def test_a_lake_that_cannot_be_opened_says_why_and_no_secret(
    seaweed: Seaweed, wrong: dict[str, str], code: str
) -> None:
    access = replace(seaweed.access, patience=IMPATIENT, **wrong)
    with pytest.raises(UpwellError) as caught:
        open_lake(seaweed.address(), Path(), access)
    assert caught.value.code == code
    assert caught.value.where
    assert caught.value.next_step
    assert SECRET not in f"{caught.value}{caught.value.__cause__!r}"


def test_a_server_that_is_no_catalog_is_not_taken_for_one(seaweed: Seaweed) -> None:
    access = replace(seaweed.access, catalog=seaweed.endpoint)
    with pytest.raises(UpwellError) as caught:
        open_lake(seaweed.address(), Path(), access)
    assert caught.value.where == seaweed.endpoint


@pytest.mark.parametrize("kind", [Kind.BLACKHOLE, Kind.SLOW], ids=lambda kind: str(kind.name))
def test_a_catalog_that_stalls_holds_nobody_up(lake: Lake, line: Line, kind: Kind) -> None:
    line.disturb(Disturbance(kind, rate=100))
    with pytest.raises(Unavailable):
        lake.names()
    line.calm()
    assert lake.names() == []


def test_what_a_catalog_answers_unclearly_is_asked_again_later(
    lake: Lake, table: LakeTable, line: Line
) -> None:
    line.disturb(Disturbance(Kind.FLIPPED, matching="GET ", after=0, times=1))
    with pytest.raises(Unavailable) as caught:
        lake.table(ORDERS)
    assert caught.value.code == "lake_catalog_unclear"
    assert lake.table(ORDERS)
    assert table.files == []


# ── committing ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "trouble",
    [
        Disturbance(Kind.LOST, COMMIT, times=1),
        Disturbance(Kind.RESET, COMMIT, times=1, after=20),
        Disturbance(Kind.TRUNCATED, COMMIT, times=1, after=100),
        Disturbance(Kind.FLIPPED, COMMIT, times=1, after=0),
        Disturbance(Kind.SLOW, COMMIT, times=1, rate=100),
    ],
    ids=lambda trouble: str(trouble.kind.name),
)
def test_a_commit_whose_answer_suffered_is_found_to_be_done(
    lake: Lake, table: LakeTable, line: Line, trouble: Disturbance
) -> None:
    line.disturb(trouble)
    table.commit(Change(properties={"through": "1"}), epoch=1)
    assert (line.hits, commits(line)) == (1, 1)
    found = lake.table(ORDERS)
    assert found is not None
    assert (found.properties["through"], len(found.snapshots)) == ("1", 1)
    table.commit(Change(properties={"through": "2"}), epoch=1)
    assert len(table.snapshots) == 2


@pytest.mark.parametrize("status", [500, 503, 504, 429])
def test_a_commit_that_was_refused_is_not_sent_again_by_itself(
    table: LakeTable, line: Line, status: int
) -> None:
    line.disturb(Disturbance(Kind.REFUSED, COMMIT, times=1, status=status))
    with pytest.raises(Unavailable):
        table.commit(Change(), epoch=1)
    assert commits(line) == 1
    table.commit(Change(), epoch=1)
    assert len(table.snapshots) == 1


def test_a_login_that_has_run_out_is_renewed_and_the_commit_made_once(
    lake: Lake, table: LakeTable, line: Line
) -> None:
    line.disturb(Disturbance(Kind.REFUSED, "/tables/", times=1, status=401))
    table.commit(Change(), epoch=1)
    assert (line.hits, commits(line)) == (1, 2)
    found = lake.table(ORDERS)
    assert found is not None
    assert len(found.snapshots) == 1


def test_a_commit_that_may_not_be_made_is_an_error_for_people(table: LakeTable, line: Line) -> None:
    line.disturb(Disturbance(Kind.REFUSED, COMMIT, times=1, status=403))
    with pytest.raises(EnvironmentFault) as caught:
        table.commit(Change(), epoch=1)
    assert caught.value.code == "lake_denied"


# ── rounds ───────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def rounds(seaweed: Seaweed, line: Line) -> Iterator[Rounds]:
    """A writer over the line, one round after its beginning."""
    access = replace(seaweed.through(catalog=line.address), patience=IMPATIENT)
    rounds = Rounds(Path(), uri=seaweed.address(), access=access)
    rounds.round([(1, "a"), (2, None)])
    yield rounds
    rounds.lake.close()


def is_whole(seaweed: Seaweed, rounds: Rounds) -> bool:
    """Whether another process finds every row of the hot store's log once, and nothing else."""
    lake = open_lake(rounds.uri, Path(), seaweed.access)
    log, ledger = lake.table(LOG), lake.table(LEDGER)
    assert log is not None
    assert ledger is not None
    assert read_mark(lake).version == rounds.version
    assert sum(each.record_count for each in ledger.files) == rounds.version
    return Counter(rows_in(lake, log)) == Counter(rounds.logged())


@pytest.mark.parametrize(
    ("name", "lands"),
    [
        ("orders__log", "before it is made again"),
        ("versions", "before it is made again"),
        ("versions", "after it was made again"),
    ],
)
def test_a_commit_that_lands_after_its_writer_gave_up_counts_once(
    seaweed: Seaweed, rounds: Rounds, line: Line, name: str, lands: str
) -> None:
    rounds.write([(3, "late")], gone=[(1, "a")])
    line.disturb(Disturbance(Kind.HELD, f"/tables/{name}", times=2))  # reading back stalls as well
    with pytest.raises(Unavailable):
        rounds.flush()
    assert line.hits == 2
    line.calm()
    if lands == "before it is made again":
        line.release()
        await_commit(seaweed, rounds, name)
    for _ in range(3):
        try:
            rounds.flush()
            break
        except Unavailable:
            continue
    else:
        pytest.fail("the round was never made")
    line.release()
    rounds.round([(4, "next")])
    assert is_whole(seaweed, rounds)


def await_commit(seaweed: Seaweed, rounds: Rounds, name: str) -> None:
    """Until what was held has reached the catalog."""
    sql_name = LOG if name == "orders__log" else LEDGER
    before = rounds.table(sql_name).snapshot_id
    for _ in range(200):
        found = open_lake(rounds.uri, Path(), seaweed.access).table(sql_name)
        if found is not None and found.snapshot_id != before:
            return
        threading.Event().wait(0.02)
    pytest.fail("it did not land")


def test_a_round_over_a_line_that_keeps_breaking_is_made_once(
    seaweed: Seaweed, rounds: Rounds, line: Line
) -> None:
    for number, kind in enumerate((Kind.LOST, Kind.RESET, Kind.TRUNCATED, Kind.REFUSED), 10):
        rounds.write([(number, kind.name)])
        line.disturb(Disturbance(kind, times=3, after=5))
        for _ in range(9):
            try:
                rounds.flush()
                break
            except Unavailable:
                continue
        else:
            pytest.fail("the round was never made")
    assert is_whole(seaweed, rounds)
