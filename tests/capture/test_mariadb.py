"""The engine on MariaDB: tables read under load, altered in mid-stream, compared by ranges."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pymysql
import pytest

from tests.capture.live import PATIENCE_SECONDS, Live, Workload
from tests.mariadb import Server
from tests.sources.mysql.conftest import Database, drop_database, make_database, seldom
from upwell.copying import Budget
from upwell.core.protocols import Source
from upwell.sources.mysql import MySQLSource
from upwell.sources.mysql.checksum import row_checksums
from upwell.sources.mysql.session import Session
from upwell.sources.mysql.url import parse_url

pytestmark = pytest.mark.mariadb

NOTES = """
    create table notes (id int primary key, n int, note text, big longtext) as
      select seq as id, seq as n, concat('old ', seq) as note, repeat(md5(seq), 100) as big
        from seq_0_to_{last}
"""
MODELS = {
    "by_note": "select note, count(*) as notes, sum(n) as total from shop.notes group by note",
    "others_count": "select count(*) as others from shop.others",
}


class MariadbTill:
    statements: Mapping[str, str] = MappingProxyType(
        {
            "touch": "update {table} set n = {number} where id = {key}",
            "text": "update {table} set big = '{big}' where id = {key}",
            "insert": "insert ignore into {table} (id, n, note, big)"
            " values ({key}, {number}, 'new', '{big}')",
            "delete": "delete from {table} where id = {key}",
            "move": "update ignore {table} set id = {other} where id = {key}",
        }
    )

    def __init__(self, url: str) -> None:
        self._connection = Session(parse_url(url)).raw

    def change(self, statements: Sequence[str]) -> int:
        try:
            with self._connection.cursor() as cursor:
                cursor.execute("begin")
                changed: int = sum(cursor.execute(each) for each in statements)
                cursor.execute("commit")
                return changed
        except pymysql.err.MySQLError:
            self._connection.rollback()
            return 0  # a table that is being altered: somebody else's business

    def close(self) -> None:
        self._connection.close()


def opened(live: Live, identity: str | None) -> Source:
    return MySQLSource("shop", live.url, live.tables, expected_identity=identity)


@pytest.fixture
def shop(mariadb: Server) -> Iterator[Database]:
    made = make_database(mariadb)
    made.run(NOTES.format(last=2_999), "create table others (id int primary key, n int)")
    yield made
    drop_database(made)


@pytest.fixture
def live(tmp_path: Path, shop: Database) -> Live:
    return following(shop, tmp_path)


def following(shop: Database, folder: Path) -> Live:
    """An engine over the two tables of a shop."""
    return Live(
        folder,
        shop.url,
        "",
        ["notes", "others"],
        MODELS,
        Budget(most_part_bytes=1 << 20),
        opened=opened,
        theirs=row_checksums,
    )


def workload(live: Live, seed: int, keys: int = 3_000) -> Workload:
    return Workload(live.url, "notes", seed=seed, keys=keys, till=MariadbTill)


def await_changes(work: Workload, count: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while work.changes < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_table_is_read_while_it_changes(live: Live) -> None:
    with workload(live, 1) as work, live.running(pause_seconds=0.05):
        live.wait(lambda: bool(live.source.parts_read), "a part")
        before = work.changes
        live.wait_until_settled()
        assert work.changes > before
        work.__exit__()
        live.wait_until_equal()
        assert live.is_log_whole("shop.notes")
        assert live.rows("SELECT count(*) FROM upwell.quarantine") == [(0,)]


def test_a_reading_that_was_stopped_goes_on_where_it_was(live: Live) -> None:
    with workload(live, 2) as work:
        with live.running(pause_seconds=0.05):
            live.wait(lambda: len(live.source.parts_read) >= 4, "some parts")
        with live.running():
            stored = {name: each.stored for name, each in live.states.copying.items()}
            live.wait_until_settled()
            work.__exit__()
            live.wait_until_equal()
            assert live.is_log_whole("shop.notes")
    assert stored["shop.notes"] >= 2


ALTERS = {
    "nothing in it": ("alter table notes add extra text", "id n note big extra"),
    "a constant": ("alter table notes add extra int not null default 7", "id n note big extra"),
    "in front": ("alter table notes add extra int first", "extra id n note big"),
    "computed": ("alter table notes add extra double default (rand())", "id n note big extra"),
    "dropped": ("alter table notes drop column big", "id n note"),
    "another type": ("alter table notes modify n bigint", "id n note big"),
    "swapped": (
        "alter table notes rename column note to big, rename column big to note",
        "id n big note",
    ),
}


@pytest.mark.parametrize("case", seldom(ALTERS, "a constant", "dropped", "swapped"))
def test_a_table_is_altered_under_load(live: Live, shop: Database, case: str) -> None:
    statement, columns = ALTERS[case]
    with live.running():
        live.wait_until_settled()
        with workload(live, 3, keys=1_000) as work:
            live.wait(lambda: work.changes > 20, "changes before")
            shop.run(statement)
            seen = work.changes
            if case != "dropped":  # whose writers name the column
                live.wait(lambda: work.changes > seen + 20, "changes behind")
        live.wait(
            lambda: " ".join(live.states.layouts["shop.notes"].column_names) == columns, "columns"
        )
        live.wait_until_settled()
        live.wait_until_equal()
        assert live.is_log_whole("shop.notes")
        live.wait(lambda: not live.hub.trouble, "no trouble")
        shop.run("insert into others values (1, 1)")
        live.wait(lambda: live.followed("others_count") == [(1,)], "the other model")
        found = {row[0]: row[1:] for row in live.followed("by_note")}
    wanted = shop.rows("select note, count(*), sum(n) from notes group by note")
    assert found == {note: (count, total) for note, count, total in wanted}


def test_a_table_that_was_altered_while_nobody_followed_goes_on(live: Live, shop: Database) -> None:
    with live.running():
        live.wait_until_settled()
    with workload(live, 4, keys=500) as work:
        await_changes(work, 50)
        shop.run("alter table notes add extra int not null default 7")
        await_changes(work, 100)
        shop.run("alter table notes add kind varchar(40) default (uuid())")
        await_changes(work, 150)
        shop.run("alter table notes rename column note to big, rename column big to note")
        await_changes(work, 200)
    with live.running(pause_seconds=0.02):
        live.wait(lambda: bool(live.source.parts_read), "a part")
    with live.running():
        live.wait_until_settled()
        live.wait_until_equal()
        assert live.is_log_whole("shop.notes")


def test_a_table_is_emptied_dropped_and_made_anew(live: Live, shop: Database) -> None:
    with live.running():
        live.wait_until_settled()
        shop.run("truncate table notes", "insert into notes values (1, 2, 'one', 'x')")
        live.wait(lambda: live.followed("by_note") == [("one", 1, 2)], "the row behind")
        shop.run("drop table notes", "create table notes (id int primary key, n int, note text)")
        shop.run("insert into notes values (1, 3, 'new')")
        live.wait(lambda: live.followed("by_note") == [("new", 1, 3)], "the new rows")
        live.wait_until_settled()
        live.wait_until_equal()


# ── resync ───────────────────────────────────────────────────────────────────────────────────────

KEYS = {
    "int": ("int", "seq"),
    "unsigned": ("bigint unsigned", "seq + 18446744073709541615"),
    "decimal": ("decimal(12,2)", "seq / 4 - 100"),
    "date": ("date", "date '1999-12-25' + interval seq day"),
    "time": ("datetime(6)", "timestamp '1969-12-31 23:30:00' + interval seq * 1500000 microsecond"),
    "moment": ("timestamp(3)", "timestamp '2024-03-31 00:30:00' + interval seq second"),
    "bytes": ("varbinary(16)", "unhex(md5(seq))"),
}


def resync(live: Live, *names: str) -> None:
    live.engine.upkeep.resync(names)
    live.wait(lambda: names[0] in live.states.copying, "begun")
    live.wait_until_settled()


def test_only_ranges_that_differ_are_read(live: Live, shop: Database) -> None:
    for name, (kind, value) in KEYS.items():
        shop.run(
            f"create table k_{name} (a {kind}, b int, n int, primary key (a, b))",
            f"insert into k_{name} select {value}, seq % 7, seq from seq_1_to_1500",
        )
    live.tables = [f"k_{name}" for name in KEYS]
    live.models = {}
    tables = [f"shop.k_{name}" for name in KEYS]
    with live.running():
        live.wait_until_settled()
        live.source.parts_read.clear()
        resync(live, *tables)
        live.wait_until_equal()
        assert live.source.parts_read == []
        live.damage(
            *(f"UPDATE {table} SET n = -1 WHERE n = 700" for table in tables),
            *(f"DELETE FROM {table} WHERE n = 1400" for table in tables),
        )
        resync(live, *tables)
        live.wait_until_equal()
        for table in tables:
            read = sum(each.startswith(table) for each in live.source.parts_read)
            assert read in {1, 2}  # random bytes may lie in one range


def test_a_table_is_followed_while_it_is_compared(live: Live) -> None:
    with live.running(), workload(live, 5) as work:
        live.wait_until_settled()
        for _ in range(3):
            live.damage("UPDATE shop.notes SET n = -1 WHERE id % 1000 = 17")
            resync(live, "shop.notes")
        work.__exit__()
        live.wait_until_equal()


def test_after_the_log_was_lost_only_what_differs_is_read(
    tmp_path: Path, own_database: Database
) -> None:
    own_database.run(NOTES.format(last=2_999))
    live = Live(tmp_path, own_database.url, "", ["notes"], opened=opened, theirs=row_checksums)
    with live.running():
        live.wait_until_settled()
    own_database.run("update notes set n = -5 where id = 1234", "reset master")
    with live.running():
        live.wait(lambda: live.following.lost is not None, "lost")
        live.source.parts_read.clear()
        live.engine.upkeep.resync(["shop.notes"])
        live.wait(lambda: live.following.lost is None, "begun")
        live.wait_until_settled()
        live.wait_until_equal()
        assert len(live.source.parts_read) == 1
        own_database.run("update notes set n = -6 where id = 1234")
        live.wait_until_equal()
