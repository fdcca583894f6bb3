"""Followed tables are compared with their source by themselves, and what differs is mended."""

from __future__ import annotations

import time
from pathlib import Path

import psycopg
import pytest

from tests.capture.live import PATIENCE_SECONDS, Live, Workload
from tests.capture.test_copying import NOTES
from tests.sources.postgres.conftest import Database
from upwell import reconciling
from upwell.copying import Budget
from upwell.following import LogPolicy
from upwell.sources.postgres import completeness
from upwell.store import drift

#: Of these nobody changes anything: a workload has keys below 10,000.
QUIET = """
    insert into notes select i, i, 'quiet', repeat(md5(i::text), 10)
      from generate_series(20000, 21999) as i;
"""
OFTEN = 0.5


@pytest.fixture
def live(tmp_path: Path, database_18: Database) -> Live:
    database_18.run(NOTES.format(rows=5_000) + QUIET)
    database_18.run(
        "create table words (word text primary key, n int);"
        "insert into words select 'Word ' || i, i from generate_series(1, 700) as i"
    )
    models = {"by_note": "select note, count(*) as n, sum(n) as total from shop.notes group by 1"}
    return Live(tmp_path, database_18.url, database_18.slot, ["notes", "words"], models=models)


def compared(live: Live, table: str) -> int:
    """How often a table was compared, as far as is known."""
    rows = live.rows(f"SELECT count(*) FROM {drift.TABLE} WHERE source_table = '{table}'")
    return int(str(rows[0][0]))


def found(live: Live) -> list[tuple[object, ...]]:
    return live.rows(
        "SELECT source_table, ranges_differing, rows_missing, rows_unexpected, rows_altered "
        f"FROM {drift.TABLE} WHERE rows_missing + rows_unexpected + rows_altered > 0 ORDER BY ALL"
    )


def is_model_right(live: Live) -> bool:
    query = live.models["by_note"]
    return not live.rows(
        f"(FROM by_note EXCEPT ALL {query}) UNION ALL ({query} EXCEPT ALL FROM by_note)"
    )


def test_rows_that_drifted_are_found_counted_and_mended_under_load(live: Live) -> None:
    with live.running(), Workload(live.url, "notes", seed=21) as workload:
        workload.pause_seconds = 0.005
        live.wait_until_settled()
        live.damage(
            "DELETE FROM shop.notes WHERE id = 20001",
            "UPDATE shop.notes SET n = -1 WHERE id IN (20002, 21900)",
            "INSERT INTO shop.notes VALUES (30000, 1, 'nobody wrote it', 'x')",
            "UPDATE shop.words SET n = -1 WHERE n = 5",
        )
        live.following.reconcile_seconds = OFTEN
        live.wait(lambda: len(found(live)) == 2, "the drift")
        again = compared(live, "shop.notes") + 2
        live.wait(lambda: compared(live, "shop.notes") >= again, "compared again")
        live.following.reconcile_seconds = 0
        workload.__exit__()
        live.wait_until_settled()
        live.wait_until_equal()
        assert found(live) == [("shop.notes", 2, 1, 1, 2), ("shop.words", 1, 0, 0, 1)]
        assert live.engine.reconciling.differed == {"shop.notes": 4, "shop.words": 1}
        assert live.is_log_whole("shop.notes")
        assert live.is_log_whole("shop.words")
        live.wait(lambda: is_model_right(live), "the model")
        assert live.hub.trouble == ""
        told = [facts for event, facts in live.events if event == "drift_mended"]
        assert [facts["differing"] for facts in told if facts["table"] == "shop.notes"] == [4]


@pytest.mark.torture
def test_nothing_is_reported_where_rows_only_change(live: Live) -> None:
    live.reconcile_seconds = OFTEN
    with live.running(), Workload(live.url, "notes", seed=22) as workload:
        workload.pause_seconds = 0.005
        live.wait_until_settled()
        live.wait(lambda: compared(live, "shop.notes") >= 3, "three rounds")
        assert workload.changes > 500
        workload.__exit__()
        live.following.reconcile_seconds = 0
        live.wait_until_settled()
        live.wait_until_equal()
        assert found(live) == []
        assert live.is_log_whole("shop.notes")
        read = live.rows(f"SELECT sum(ranges_read) FROM {drift.TABLE}")
        assert read != [(0,)]  # lag was met, and told from drift


def test_an_equal_table_costs_no_version_and_no_follower_anything(live: Live) -> None:
    with live.running():
        live.wait_until_settled()
        version = live.hub.version
        live.source.parts_read.clear()
        live.following.reconcile_seconds = OFTEN
        live.wait(lambda: compared(live, "shop.words") >= 2, "compared")
        live.wait(lambda: compared(live, "shop.notes") >= 2, "compared")
        assert live.source.parts_read == []
        assert live.rows("SELECT count(*) FROM upwell.versions WHERE changes > 0") == [(0,)]
        assert live.hub.version <= version + 3  # keeping the position of an idle source


def test_models_are_right_also_where_a_crash_follows_the_mending(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CrashError(Exception):
        pass

    def crash(point: str) -> None:
        assert point == "reconcile.mended"
        raise CrashError

    def is_over() -> bool:
        return isinstance(live.failure, CrashError)

    with live.running():
        live.wait_until_settled()
        live.damage(
            "UPDATE shop.notes SET n = -1 WHERE id = 20002",
            "DELETE FROM _upwell.facts WHERE name = 'models built'",
        )
    with live.running():  # the model is built of the wrong rows
        live.wait_until_settled()
        live.wait(lambda: is_model_right(live), "the model of the wrong rows")
        monkeypatch.setattr(reconciling, "reach", crash)
        live.following.reconcile_seconds = OFTEN
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_over():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    monkeypatch.undo()
    with live.running():
        live.wait_until_settled()
        live.wait(lambda: is_model_right(live), "the model")
        assert found(live) == [("shop.notes", 1, 0, 0, 1)]


def test_a_restart_keeps_the_clock(live: Live) -> None:
    live.reconcile_seconds = 3600
    with live.running():
        live.wait_until_settled()
        due = live.engine.reconciling.due_us
        live.wait(lambda: due("shop.notes") is not None and due("shop.words") is not None, "due")
        first = {name: due(name) for name in ("shop.notes", "shop.words")}
        assert first["shop.notes"] != first["shop.words"]
    with live.running():
        live.wait_until_settled()
        due = live.engine.reconciling.due_us
        assert {name: due(name) for name in first} == first
        live.engine.upkeep.resync(["shop.notes"])
        live.wait(lambda: compared(live, "shop.notes") == 1, "compared")
        live.wait(lambda: due("shop.notes") != first["shop.notes"], "due later")
        later = due("shop.notes")
    with live.running():
        live.wait_until_settled()
        due = live.engine.reconciling.due_us
        assert (due("shop.notes"), due("shop.words")) == (later, first["shop.words"])
        assert live.engine.reconciling.latest["shop.notes"].rows == 7_000


def test_a_comparison_that_was_stopped_goes_on_where_it_was(live: Live) -> None:
    live.budget = Budget(connections=1, bytes_per_second=8_000_000)
    with live.running():
        live.wait_until_settled()
        live.following.reconcile_seconds = OFTEN
        live.wait(lambda: _compared_so_far(live) >= 4, "some ranges")
    live.reconcile_seconds = 3600
    with live.running():
        assert _compared_so_far(live) >= 4
        live.wait(lambda: "shop.notes" in live.engine.reconciling.latest, "compared")
        assert found(live) == []


def _compared_so_far(live: Live) -> int:
    copying = live.states.copying.get("shop.notes")
    return copying.same if copying is not None else 0


def test_the_budget_is_kept(live: Live) -> None:
    with live.running():
        live.wait_until_settled()
    size = live_bytes(live)
    live.budget = Budget(connections=2, bytes_per_second=size / 4)
    with live.running():
        live.wait_until_settled()
        live.following.reconcile_seconds = OFTEN
        live.wait(lambda: "shop.notes" in live.states.copying, "begun")
        begun = time.monotonic()
        live.wait(lambda: compared(live, "shop.notes") == 1, "compared")
        seconds = time.monotonic() - begun
    assert seconds / 4 > 0.9  # a busy machine may make it longer, nothing shorter


def live_bytes(live: Live) -> float:
    with psycopg.connect(live.url) as connection:
        row = connection.execute("select sum(length(note) + length(big) + 8) from notes").fetchone()
    assert row is not None
    return float(row[0])


@pytest.mark.torture
def test_nothing_is_compared_while_the_log_is_near_its_cap(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completeness, "BURDEN_SECONDS", 0.1)
    monkeypatch.setattr(reconciling, "NEAR_CAP", 0.0)
    live.log_policy = LogPolicy(cap_bytes=1e12)
    live.reconcile_seconds = OFTEN
    with live.running(), Workload(live.url, "notes", seed=23):
        live.wait_until_settled()
        live.wait(lambda: live.following.burden is not None, "a burden")
        beats = live.hub.version + 20
        live.wait(lambda: live.hub.version >= beats, "some time")
        before = compared(live, "shop.notes")
        beats = live.hub.version + 20
        live.wait(lambda: live.hub.version >= beats, "some time")
        assert compared(live, "shop.notes") == before
        monkeypatch.setattr(reconciling, "NEAR_CAP", 0.5)
        live.wait(lambda: compared(live, "shop.notes") > before, "compared")
