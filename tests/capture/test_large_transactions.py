"""A transaction larger than is held comes in parts, and is seen whole or not at all."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest

from tests.capture.live import Live, Workload
from tests.capture.test_copying import NOTES
from tests.sources.postgres.conftest import Database
from upwell.copying import Budget
from upwell.sources.postgres import stream
from upwell.sources.postgres.wal import lsn_of, position_of
from upwell.transform.refresh import ModelFailedError

ROWS = 2_000
MODELS = {
    "by_note": "select note, count(*) as notes, sum(n) as total from shop.notes group by note",
    "joined": "select n.note, o.n, n.big from shop.notes as n join shop.others as o on o.id = n.id",
}
#: Every kind of change, of rows of before and of its own.
LARGE = (
    "update notes set n = n + 1",
    "update others set n = coalesce(n, 0) + 1",
    "insert into notes select i, i, 'large', repeat('x', 400) from generate_series(10001, 12000) i",
    "update notes set big = big || 'y' where id % 3 = 0",
    "update notes set id = -id where id % 7 = 0",
    "delete from notes where id % 5 = 0",
    "insert into others select i, i from generate_series(3001, 4000) i",
    "update notes set note = 'last' where id % 11 = 0",
)


@pytest.fixture
def live(tmp_path: Path, database_18: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    monkeypatch.setattr(stream, "PART_BYTES", 64 << 10)
    monkeypatch.setattr(stream, "BATCH_BYTES", 32 << 10)
    database_18.run(NOTES.format(rows=ROWS))
    database_18.run("create table others (id int primary key, n int)")
    database_18.run(f"insert into others select i, i from generate_series(1, {ROWS}) i")
    live = Live(
        tmp_path,
        database_18.url,
        database_18.slot,
        ["notes", "others"],
        MODELS,
        Budget(most_part_bytes=1 << 20),
    )
    with live.running():
        live.wait_until_settled()
        yield live


def in_one(live: Live, *statements: str) -> int:
    """One transaction; how many rows it changed."""
    while True:
        try:
            with psycopg.connect(live.url) as connection:
                return sum(connection.execute(each.encode()).rowcount for each in statements)
        except psycopg.errors.DeadlockDetected:
            continue  # with others who write: theirs went on


def check(live: Live) -> None:
    """What is stored is the source's, and the models are theirs."""
    live.wait_until_settled()
    live.wait_until_equal()
    assert live.is_log_whole("shop.notes")
    assert live.is_log_whole("shop.others")
    live.wait(lambda: not live.hub.trouble, "no trouble")
    with psycopg.connect(live.url) as connection:
        for name, query in MODELS.items():
            wanted = Counter(connection.execute(query.replace("shop.", "").encode()).fetchall())
            live.wait(partial(is_followed_as, live, name, wanted), name)


def is_followed_as(live: Live, name: str, wanted: Counter[tuple[object, ...]]) -> bool:
    return Counter(live.followed(name)) == wanted


def parts_of(live: Live) -> list[bool]:
    """Whether each batch that is taken in from now on goes on."""
    seen: list[bool] = []
    take = live.engine._ingest.apply

    def apply(batch: object, version: int) -> object:
        seen.append(batch.goes_on)  # type: ignore[attr-defined]
        return take(batch, version)  # type: ignore[arg-type]

    live.engine._ingest.apply = apply  # type: ignore[method-assign, assignment]
    return seen


@contextlib.contextmanager
def looking(live: Live, models: str) -> Iterator[set[tuple[object, ...]]]:
    """What readers see of the two tables and of ``models``, scalars in SQL, meanwhile."""
    seen: set[tuple[object, ...]] = set()
    is_over = threading.Event()

    def look() -> None:
        while not is_over.is_set():
            with live.store.view() as view:
                found = view.execute(
                    "SELECT (SELECT sum(n) FROM shop.notes), (SELECT sum(n) FROM shop.others), "
                    f"{models}"
                )
                seen.update(found.fetchall())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        is_over.set()
        thread.join()


def test_all_of_it_is_seen_or_nothing(live: Live) -> None:
    parts = parts_of(live)
    ((before,),) = live.rows("SELECT max(version) FROM upwell.versions")
    with looking(live, "(SELECT sum(total) FROM by_note), (SELECT count(*) FROM joined)") as seen:
        made = in_one(live, *LARGE)
        live.wait_until_equal()
    check(live)
    assert sum(parts) > 10
    assert len(seen) == 2
    counted = "SELECT sum(transactions), sum(changes) FROM upwell.versions "
    assert live.rows(counted + f"WHERE version > {before}") == [(1, made)]
    positions = live.rows(
        "SELECT count(DISTINCT _position), count(DISTINCT _version) FROM shop.notes__log "
        f"WHERE _version > {before}"
    )
    assert positions == [(1, 1)]


def has_come_to(workload: Workload, changes: int) -> bool:
    return workload.changes >= changes


def test_smaller_ones_before_and_behind_it_keep_their_order(live: Live) -> None:
    parts = parts_of(live)
    with Workload(live.url, "notes", seed=11, keys=ROWS) as workload:
        for _ in range(3):
            live.wait(partial(has_come_to, workload, workload.changes + 20), "changes")
            in_one(live, "update notes set n = n + 1", "update others set n = n + 1")
    check(live)
    assert any(parts)


def test_it_may_be_committed_long_after_all_of_it_was_read(live: Live) -> None:
    """The server has said that it read up to where the commit's record will begin."""
    parts = parts_of(live)
    with psycopg.connect(live.url) as connection:
        connection.execute("update notes set n = n + 1")
        ((lsn,),) = connection.execute("select pg_current_wal_insert_lsn()::text").fetchall()
        read = position_of(lsn_of(lsn))
        live.wait(lambda: live.following.position >= read, "read")
    check(live)
    assert any(parts)


def test_a_model_that_fails_on_it_is_held_and_the_rest_goes_on(live: Live) -> None:
    apply = live.built.refresher.apply
    failing = [3]

    def fail_once(deltas: object, logical_time_us: int) -> object:
        failing[0] -= 1
        if failing[0] == 0:
            raise ModelFailedError("joined", "it stumbles")
        return apply(deltas, logical_time_us)  # type: ignore[arg-type]

    live.built.refresher.apply = fail_once  # type: ignore[method-assign, assignment]
    in_one(live, *LARGE)
    live.wait_until_equal()
    assert "joined" in live.built.held
    live.wait(lambda: "joined stays as it was" in live.hub.trouble, "its reason")
    assert live.is_log_whole("shop.notes")


_SELDOM = ("another key", "dropped", "truncated")
LAYOUTS = {
    "grows": "alter table notes add extra int not null default 7",
    "another type": "alter table notes alter column n type bigint",
    "another key": "alter table others add k bigint generated always as identity;"
    "alter table others drop constraint others_pkey; alter table others add primary key (k)",
    "truncated": "truncate others",
    "dropped": "alter table notes drop column big; alter table notes add big text default 'z'",
}


@pytest.mark.parametrize(
    "case",
    [
        *(each for each in LAYOUTS if each not in _SELDOM),
        *(pytest.param(each, marks=pytest.mark.torture) for each in _SELDOM),
    ],
)
def test_a_table_is_altered_within_it(live: Live, case: str) -> None:
    parts = parts_of(live)
    in_one(live, *LARGE[:4], LAYOUTS[case], *LARGE[4:])
    in_one(live, "update notes set n = 0 where id = 1", "delete from others where id = 2")
    check(live)
    assert sum(parts) > 3


def test_a_table_is_read_while_it_comes(live: Live) -> None:
    live.engine.upkeep.resync(["shop.notes"], anew=True)
    in_one(live, *LARGE)
    check(live)
    live.engine.upkeep.resync(["shop.notes"])
    in_one(live, "update notes set n = n + 1, big = big || 'z'")
    check(live)


def test_a_value_that_is_only_read_as_text_comes_in_the_middle(live: Live) -> None:
    parts = parts_of(live)
    in_one(live, "create type place as (x int, y int)", "alter table others add p place")
    in_one(
        live,
        "update notes set n = n + 1",
        "update notes set n = n + 1, big = repeat('q', 300)",
        "update others set p = row(id, n)::place",
    )
    check(live)
    assert sum(parts) > 3


def test_an_engine_that_ends_in_the_middle_takes_it_in_when_it_is_back(live: Live) -> None:
    parts = parts_of(live)
    in_one(live, *LARGE)
    live.wait(lambda: len(parts) > 2, "parts")
    live.stop()
    live.start()
    check(live)
