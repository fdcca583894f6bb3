"""A paused table stands still and costs nothing; resumed, it is what its source is again."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tests.capture.live import Live, Workload
from tests.capture.test_copying import NOTES
from tests.sources.postgres.conftest import Database
from upwell.sources.postgres import completeness
from upwell.sources.postgres.wal import lsn_of


@pytest.fixture
def live(tmp_path: Path, database_18: Database, monkeypatch: pytest.MonkeyPatch) -> Live:
    monkeypatch.setattr(completeness, "BURDEN_SECONDS", 0.1)
    database_18.run(NOTES.format(rows=5_000))
    database_18.run(
        "create table others (id int primary key, n int, note text, big text);"
        "insert into others select i, i, 'other', 'x' from generate_series(1, 100) as i"
    )
    models = {
        "by_note": "select note, count(*) as n, sum(n) as total from shop.notes group by 1",
        "other": "select count(*) as n, sum(n) as total from shop.others",
    }
    return Live(tmp_path, database_18.url, database_18.slot, ["notes", "others"], models=models)


def pause(live: Live, table: str) -> None:
    live.engine.upkeep.pause([table])
    live.wait(
        lambda: live.states.is_paused(table) and table not in live.engine.upkeep.waiting, "paused"
    )


def resume(live: Live, table: str) -> None:
    live.engine.upkeep.resync([table])
    live.wait(lambda: not live.states.is_paused(table), "begun")
    live.wait_until_settled()


def run(live: Live, statement: str) -> None:
    with psycopg.connect(live.url, autocommit=True) as connection:
        connection.execute(statement.encode())


def acknowledged(live: Live) -> int:
    """How far the source need not keep its log for us any more."""
    with psycopg.connect(live.url) as connection:
        row = connection.execute(
            "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = %s",
            [live.slot],
        ).fetchone()
    assert row is not None
    return int(lsn_of(row[0]))


def test_a_paused_table_stands_still_and_everything_else_goes_on(live: Live) -> None:
    with live.running(), Workload(live.url, "notes", seed=31):
        live.wait_until_settled()
        pause(live, "shop.notes")
        rows = live.rows("SELECT count(*), sum(n) FROM shop.notes")
        model = live.rows("FROM by_note ORDER BY ALL")
        with psycopg.connect(live.url) as connection:
            now = connection.execute("select pg_current_wal_insert_lsn()::text").fetchone()
        assert now is not None
        run(live, "update others set n = 7")
        live.wait(lambda: live.rows("FROM other") == [(100, 700)], "the other model")
        live.wait(lambda: acknowledged(live) > lsn_of(now[0]), "the log is let go of")
        assert live.rows("SELECT count(*), sum(n) FROM shop.notes") == rows
        assert live.rows("FROM by_note ORDER BY ALL") == model
        assert "shop.notes is paused" in live.built.held["by_note"]
        live.wait(lambda: "shop.notes is paused" in live.hub.trouble, "the reason")


def test_a_paused_table_stays_paused_over_a_restart(live: Live) -> None:
    with live.running():
        live.wait_until_settled()
        pause(live, "shop.notes")
    run(live, "update notes set n = -1 where id = 17")
    with live.running():
        run(live, "update others set n = 3")
        live.wait(lambda: live.rows("FROM other") == [(100, 300)], "the other model")
        assert live.states.is_paused("shop.notes")
        assert live.rows("SELECT n FROM shop.notes WHERE id = 17") == [(17,)]
        resume(live, "shop.notes")
        live.wait_until_equal()
        assert live.rows("SELECT n FROM shop.notes WHERE id = 17") == [(-1,)]
        live.wait(lambda: not live.hub.trouble, "no trouble")


def test_a_resumed_table_is_read_where_it_differs_and_changes_in_one_version(live: Live) -> None:
    with live.running():
        live.wait_until_settled()
        pause(live, "shop.notes")
        run(live, "update notes set n = -1 where id = 17")
        run(live, "delete from notes where id = 4900")
        live.source.parts_read.clear()
        before = live.hub.version
        resume(live, "shop.notes")
        assert len(live.source.parts_read) == 2
        changed = "SELECT count(*), count(DISTINCT _version) FROM shop.notes__log"
        assert live.rows(f"{changed} WHERE _version > {before}") == [(3, 1)]
        run(live, "update notes set n = -2 where id = 18")
        live.wait_until_equal()
        assert live.is_log_whole("shop.notes")
        query = live.models["by_note"]
        live.wait(lambda: not live.rows(f"FROM by_note EXCEPT ALL {query}"), "the model")


@pytest.mark.torture
def test_tables_paused_and_resumed_under_load_are_the_source_s(live: Live) -> None:
    with (
        live.running(),
        Workload(live.url, "notes", seed=32) as workload,
        Workload(live.url, "others", seed=33, keys=200) as other,
    ):
        workload.pause_seconds = other.pause_seconds = 0.005
        live.wait_until_settled()
        for table in ("shop.others", "shop.notes", "shop.others"):
            pause(live, table)
            seen = workload.changes + 50
            live.wait(lambda seen=seen: workload.changes > seen, "changes")  # type: ignore[misc]
            resume(live, table)
        workload.__exit__()
        other.__exit__()
        live.wait_until_equal()
        for table in ("shop.notes", "shop.others"):
            assert live.is_log_whole(table)
        live.wait(lambda: not live.hub.trouble, "no trouble")
