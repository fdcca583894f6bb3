"""The log that a source keeps for us: how much it is, and what happens when it is too much."""

from __future__ import annotations

import time
from pathlib import Path

import psycopg
import pytest

from tests.capture.live import Live
from tests.capture.test_copying import NOTES
from tests.sources.postgres.conftest import Database
from upwell import following
from upwell.copying import Budget
from upwell.demo.server import Server
from upwell.following import LogPolicy
from upwell.sources.postgres import completeness


@pytest.fixture
def live(tmp_path: Path, database_18: Database, monkeypatch: pytest.MonkeyPatch) -> Live:
    monkeypatch.setattr(completeness, "BURDEN_SECONDS", 0.1)
    database_18.run("create table notes (id int primary key, n int)")
    database_18.run("create table foreign_notes (id int, note text)")
    return Live(tmp_path, database_18.url, database_18.slot, ["notes"])


def write_elsewhere(live: Live, megabytes: int) -> None:
    """Fill the log with what is not ours."""
    with psycopg.connect(live.url, autocommit=True) as connection:
        for _ in range(megabytes):
            connection.execute(
                "insert into foreign_notes "
                "select i, repeat('x', 1000) from generate_series(1, 900) as i"
            )


def slot_exists(live: Live) -> bool:
    with psycopg.connect(live.url) as connection:
        found = connection.execute(
            "select from pg_replication_slots where slot_name = %s", [live.slot]
        )
        return found.fetchone() is not None


def test_what_following_costs_the_source_is_known(live: Live) -> None:
    with live.running():
        live.wait_until_settled()
        live.wait(lambda: live.following.burden is not None, "a burden")
        burden = live.following.burden
        assert burden is not None
        assert burden.connections >= 2
        assert burden.limit_bytes is None


def test_an_idle_source_beside_a_busy_neighbour_keeps_little(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LOG_WORTH_BYTES", 4 << 20)
    most = 0
    with live.running():
        live.wait_until_settled()
        for _ in range(8):
            write_elsewhere(live, 8)
            with psycopg.connect(live.url, autocommit=True) as connection:
                connection.execute("checkpoint")
            time.sleep(0.5)
            burden = live.following.burden
            assert burden is not None
            most = max(most, burden.retained_bytes)
    assert most < 40 << 20


def test_more_than_allowed_is_told(live: Live) -> None:
    live.log_policy = LogPolicy(cap_bytes=1.0)
    with live.running():
        live.wait_until_settled()
        write_elsewhere(live, 2)
        live.wait(lambda: "of its log for Upwell" in live.hub.trouble, "the reason")
        assert slot_exists(live)


def test_a_log_that_is_too_long_is_given_up_and_what_differs_is_read(live: Live) -> None:
    live.log_policy = LogPolicy(cap_bytes=1.0, beyond="drop")
    with live.running():
        live.wait(lambda: live.following.lost is not None, "given up")
        assert not slot_exists(live)
        live.wait(lambda: "was given up" in live.hub.trouble, "the reason")
    with psycopg.connect(live.url, autocommit=True) as connection:
        connection.execute("insert into notes values (1, 1)")
    live.log_policy = LogPolicy(lost="resync")
    with live.running():
        live.wait_until_settled()
        live.wait_until_equal()
        assert slot_exists(live)


def test_a_log_that_was_lost_is_begun_anew_where_that_was_decided(live: Live) -> None:
    live.log_policy = LogPolicy(lost="resync")
    with live.running():
        live.wait_until_settled()
    with psycopg.connect(live.url, autocommit=True) as connection:
        connection.execute("select pg_drop_replication_slot(%s)", [live.slot])
        connection.execute("insert into notes values (1, 1)")
    with live.running():
        live.wait(lambda: live.rows("SELECT n FROM shop.notes") == [(1,)], "the missed row")
        live.wait_until_settled()
        live.wait(lambda: not live.hub.trouble, "no trouble")


CAP_MB = 32
CAPPED = {
    "max_slot_wal_keep_size": f"{CAP_MB}MB",
    "min_wal_size": "32MB",
    "max_wal_size": f"{CAP_MB}MB",
    "wal_keep_size": "0",
}


def test_while_we_are_down_the_source_keeps_no_more_than_its_cap_and_nothing_is_missing(
    tmp_path: Path, open_folder: Path
) -> None:
    """The source writes twice the cap meanwhile; only what differs is read when we are back."""
    with Server(open_folder / "capped", settings=CAPPED) as server:
        live = Live(
            tmp_path,
            server.url,
            "upwell_capped",
            ["notes", "idle"],
            budget=Budget(most_part_bytes=1 << 20),
            log_policy=LogPolicy(lost="resync"),
        )
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(NOTES.format(rows=5_000).encode())
            connection.execute("create table idle as select i as id from generate_series(1, 9) i")
            connection.execute("alter table idle add primary key (id)")
            connection.execute("create table foreign_notes (id int, note text)")
            with live.running():
                live.wait_until_settled()
            most = 0
            for _ in range(8):
                write_elsewhere(live, CAP_MB // 4)
                connection.execute("checkpoint")
                row = connection.execute("select sum(size) from pg_ls_waldir()").fetchone()
                most = max(most, int(row[0]) if row else 0)
            connection.execute("update notes set n = -n where id between 100 and 120")
            connection.execute("delete from notes where id = 4321")
            kept = "select wal_status from pg_replication_slots where slot_name = 'upwell_capped'"
            assert connection.execute(kept.encode()).fetchone() == ("lost",)
        # What is kept, one segment that is being written, and one being made.
        assert most <= (2 * CAP_MB + 2 * 16) << 20
        with live.running():
            live.wait(lambda: "snapshot_started" in dict(live.events), "read")
            live.wait_until_settled()
            live.wait_until_equal()
            live.wait(lambda: not live.hub.trouble, "no trouble")
            assert live.is_log_whole("shop.notes")
            reading = live.engine.upkeep.readings["shop.notes"]
            assert reading.differing == 21 + 1
            assert 0 < reading.parts_read <= 2 < reading.parts
            assert live.engine.upkeep.readings["shop.idle"].parts_read == 0
