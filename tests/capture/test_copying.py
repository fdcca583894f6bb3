"""Tables are read beside their stream: under load, again after a stop, within a budget."""

from __future__ import annotations

import time
from pathlib import Path

import psycopg
import pytest

from tests.capture.live import Live, Workload
from tests.sources.postgres.conftest import Database
from upwell.copying import Budget

NOTES = """
    create table notes (id int primary key, n int, note text, big text);
    alter table notes alter column big set storage external;
    insert into notes select i, i, 'old ' || i, repeat(md5(i::text), 100)
      from generate_series(0, {rows} - 1) as i;
"""


@pytest.fixture
def live(tmp_path: Path, database_18: Database) -> Live:
    database_18.run(NOTES.format(rows=5_000))
    database_18.run("create table others (id int primary key, n int)")
    return Live(
        tmp_path,
        database_18.url,
        database_18.slot,
        ["notes", "others"],
        budget=Budget(most_part_bytes=1 << 20),
    )


def test_a_table_is_read_while_it_changes(live: Live) -> None:
    with Workload(live.url, "notes", seed=1) as workload, live.running(pause_seconds=0.05):
        live.wait(lambda: bool(live.source.parts_read), "a part")
        before = workload.changes
        live.wait_until_settled()
        assert workload.changes > before
        workload.__exit__()
        live.wait_until_equal()
        assert live.is_log_whole("shop.notes")
        assert live.rows("SELECT count(*) FROM upwell.quarantine") == [(0,)]


def test_a_reading_that_was_stopped_goes_on_where_it_was(live: Live) -> None:
    read: list[str] = []
    with Workload(live.url, "notes", seed=2) as workload:
        with live.running(pause_seconds=0.05):
            live.wait(lambda: len(live.source.parts_read) >= 4, "some parts")
        with live.running():
            stored = {name: each.stored for name, each in live.states.copying.items()}
            live.wait_until_settled()
            read += live.source.parts_read
            workload.__exit__()
            live.wait_until_equal()
            assert live.is_log_whole("shop.notes")
    parts = sum(each.startswith("shop.notes") for each in read)
    assert stored["shop.notes"] >= 2
    assert parts + stored["shop.notes"] == _parts(live)


def _parts(live: Live) -> int:
    progress = [facts for event, facts in live.events if event == "snapshot_progress"]
    assert progress
    return len(
        {(facts["table"], facts["rows"]) for facts in progress if facts["table"] == "shop.notes"}
    )


def test_a_budget_is_kept(live: Live) -> None:
    live.budget = Budget(connections=2, bytes_per_second=4_000_000)
    begun = time.monotonic()
    with live.running():
        live.wait_until_settled()
        seconds = time.monotonic() - begun
    with psycopg.connect(live.url) as connection:
        row = connection.execute("select sum(length(big)) from notes").fetchone()
    assert row is not None
    assert 0.8 < seconds / (row[0] / 4_000_000) < 4  # the start of all is in it, and a busy machine
