"""A table is compared with its source by ranges of keys, and only what differs is read."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import psycopg
import pytest

from tests.capture.live import Live, Workload
from tests.capture.test_copying import NOTES
from tests.sources.postgres.conftest import Database


@pytest.fixture
def live(tmp_path: Path, database_18: Database) -> Live:
    database_18.run(NOTES.format(rows=5_000))
    database_18.run(
        "create table lines (a uuid, b timestamptz, n int, primary key (b, a));"
        "insert into lines select gen_random_uuid(), timestamptz '2026-01-01' + i % 90 * interval "
        "  '1 day', i "
        "  from generate_series(1, 3000) as i;"
        "create table words (word text primary key, n int);"
        "insert into words select 'word ' || i, i from generate_series(1, 700) as i"
    )
    return Live(tmp_path, database_18.url, database_18.slot, ["notes", "lines", "words"])


def is_at(live: Live, version: int) -> bool:
    return live.hub.version >= version


def versions(live: Live) -> int:
    return live.hub.version


def test_an_equal_table_is_left_as_it_is_and_nothing_is_read(live: Live) -> None:
    with live.running():
        live.wait_until_settled()
        live.source.parts_read.clear()
        rows = live.rows("SELECT count(*) FROM shop.lines__log")
        live.engine.upkeep.resync(["shop.lines", "shop.notes"])
        live.wait(lambda: bool(live.states.copying), "begun")
        live.wait_until_settled()
        assert live.source.parts_read == []
        assert live.rows("SELECT count(*) FROM shop.lines__log") == rows
        live.wait_until_equal()


def test_only_ranges_that_differ_are_read(live: Live) -> None:
    with live.running():
        live.wait_until_settled()
        live.source.parts_read.clear()
        live.damage("UPDATE shop.notes SET n = -1 WHERE id = 17")
        live.damage("DELETE FROM shop.notes WHERE id = 4900")
        live.damage("UPDATE shop.lines SET n = -1 WHERE n = 5")
        live.engine.upkeep.resync(["shop.notes", "shop.lines", "shop.words"])
        live.wait(lambda: len(live.states.copying) == 3, "begun")
        live.wait_until_settled()
        live.wait_until_equal()
        read = [each for each in live.source.parts_read if "words" not in each]
        assert sum("shop.notes" in each for each in read) == 2
        assert sum("shop.lines" in each for each in read) == 1
        assert live.rows("SELECT n FROM shop.notes WHERE id = 17") == [(17,)]
        reading = live.engine.upkeep.readings["shop.notes"]
        assert (reading.parts_read, reading.rows, reading.differing) == (2, 5_000, 2)


def test_a_table_is_followed_while_it_is_compared(live: Live) -> None:
    with live.running(), Workload(live.url, "notes", seed=5) as workload:
        live.wait_until_settled()
        for _ in range(3):
            live.engine.upkeep.resync(["shop.notes"])
            live.wait(lambda: "shop.notes" in live.states.copying, "begun")
            wanted = versions(live) + 2
            live.wait(partial(is_at, live, wanted), "versions go on")
            live.wait_until_settled()
        workload.__exit__()
        live.wait_until_equal()
        assert live.is_log_whole("shop.notes")


def test_after_the_log_was_lost_only_what_differs_is_read(live: Live) -> None:
    with live.running():
        live.wait_until_settled()
    with psycopg.connect(live.url, autocommit=True) as connection:
        connection.execute("select pg_drop_replication_slot(%s)", [live.slot])
        connection.execute("update notes set n = -5 where id = 1234")
        connection.execute("delete from lines where n = 77")
    with live.running():
        live.wait(lambda: live.following.lost is not None, "lost")
        live.wait(lambda: "is gone" in live.hub.trouble, "the reason")
        live.engine.upkeep.resync(["shop.notes", "shop.lines", "shop.words"])
        live.wait(lambda: live.following.lost is None, "begun")
        live.wait_until_settled()
        live.wait_until_equal()
        read = [each for each in live.source.parts_read if "words" not in each]
        assert len(read) == 2
        assert live.is_log_whole("shop.notes")
        with psycopg.connect(live.url, autocommit=True) as connection:
            connection.execute("update notes set n = -6 where id = 1234")
        live.wait_until_equal()
