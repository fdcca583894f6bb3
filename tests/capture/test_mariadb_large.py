"""MariaDB: a transaction larger than is held comes in parts, and is seen whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.capture.live import Live
from tests.capture.test_large_transactions import looking, parts_of
from tests.capture.test_mariadb import MODELS, NOTES, following
from tests.mariadb import Server
from tests.sources.mysql.conftest import Database, drop_database, make_database
from upwell.sources.mysql import stream
from upwell.sources.mysql.places import position_of
from upwell.sources.mysql.server import log_end, meet
from upwell.sources.mysql.session import session
from upwell.sources.mysql.url import parse_url

pytestmark = pytest.mark.mariadb

#: Every kind of change, of rows of before and of its own: of 2,000 rows of 3,200 bytes.
LARGE = (
    "update notes set n = n + 1",
    "update others set n = coalesce(n, 0) + 1",
    "insert into notes select seq, seq, 'large', repeat('x', 400) from seq_10001_to_12000",
    "update notes set big = concat(big, 'y') where id % 3 = 0",
    "update notes set id = -id where id % 7 = 0",
    "delete from notes where id % 5 = 0",
    "insert into others select seq, seq from seq_3001_to_4000",
    "update notes set note = 'last' where id % 11 = 0",
)


@pytest.fixture
def shop(mariadb: Server) -> Iterator[Database]:
    made = make_database(mariadb)
    made.run(
        NOTES.format(last=1_999),
        "create table others (id int primary key, n int) as select seq as id, seq as n"
        " from seq_1_to_2000",
        "create table plain (id int primary key auto_increment) engine = MyISAM",
    )
    yield made
    drop_database(made)


@pytest.fixture
def live(tmp_path: Path, shop: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    monkeypatch.setattr(stream, "PART_BYTES", 256 << 10)
    monkeypatch.setattr(stream, "BATCH_BYTES", 128 << 10)
    made = following(shop, tmp_path)
    with made.running():
        made.wait_until_settled()
        yield made


def check(live: Live) -> None:
    live.wait_until_settled()
    live.wait_until_equal()
    assert live.is_log_whole("shop.notes")
    assert live.is_log_whole("shop.others")
    live.wait(lambda: not live.hub.trouble, "no trouble")
    wanted = live.rows(MODELS["by_note"])
    live.wait(lambda: sorted(live.followed("by_note")) == sorted(wanted), "the model")


def test_all_of_it_is_seen_or_nothing(live: Live, shop: Database) -> None:
    parts = parts_of(live)
    ((before,),) = live.rows("SELECT max(version) FROM upwell.versions")
    models = "(SELECT sum(total) FROM by_note), (SELECT others FROM others_count)"
    with looking(live, models) as seen:
        shop.run("begin", *LARGE, "commit")
        live.wait_until_equal()
    check(live)
    assert sum(parts) > 10
    assert len(seen) == 2
    counted = "SELECT sum(transactions) FROM upwell.versions "
    assert live.rows(counted + f"WHERE version > {before}") == [(1,)]
    positions = live.rows(
        "SELECT count(DISTINCT _position), count(DISTINCT _version) FROM shop.notes__log "
        f"WHERE _version > {before}"
    )
    assert positions == [(1, 1)]


#: What is undone of it; a table that cannot be rolled back has the log tell of it.
UNDONE = {
    "back to before what was given": (
        "savepoint a",
        *LARGE[:3],
        "insert into plain values ()",
        "rollback to a",
    ),
    "back to a savepoint in the middle": (
        *LARGE[:3],
        "savepoint a",
        *LARGE[3:],
        "insert into plain values ()",
        "rollback to a",
    ),
}


@pytest.mark.parametrize("statements", UNDONE.values(), ids=UNDONE)
def test_a_part_of_it_is_undone(live: Live, shop: Database, statements: tuple[str, ...]) -> None:
    parts = parts_of(live)
    shop.run("begin", "update others set n = -1 where id = 1", *statements)
    shop.run("insert into others values (-2, -2)", "commit", "insert into others values (-3, -3)")
    live.wait(lambda: _has_come(live), "what follows")
    check(live)
    assert sum(parts) > 3, "parts of it were given"


def _has_come(live: Live) -> bool:
    return live.rows("select n from shop.others where id = -3") == [(-3,)]


def test_it_is_prepared_and_committed_later(live: Live, shop: Database) -> None:
    parts = parts_of(live)
    shop.run("xa start 'large'", *LARGE, "xa end 'large'", "xa prepare 'large'")
    try:
        with session(parse_url(live.url)) as asked:
            end = position_of(log_end(asked, meet(asked)))
        live.wait(lambda: live.following.position >= end, "the log's end")
        assert sum(parts) > 3, "parts of it were given"
        assert live.rows("select count(*) from shop.notes") == [(2_000,)]
    finally:
        shop.run("xa commit 'large'")
    live.wait(lambda: live.rows("select count(*) from shop.notes") != [(2_000,)], "its rows")
    check(live)


def test_an_engine_that_ends_in_the_middle_takes_it_in_when_it_is_back(
    live: Live, shop: Database
) -> None:
    parts = parts_of(live)
    shop.run("begin", *LARGE, "commit")
    live.wait(lambda: len(parts) > 2, "parts")
    live.stop()
    live.start()
    check(live)


def test_smaller_ones_before_and_behind_it_keep_their_order(live: Live, shop: Database) -> None:
    parts = parts_of(live)
    for number in range(3):
        shop.run(f"update notes set n = {number}, big = 'short' where id < 30")
        shop.run("begin", *LARGE[:2], f"update notes set note = 'large {number}'", "commit")
    shop.run("delete from notes where id < 10")
    check(live)
    assert sum(parts) > 10
