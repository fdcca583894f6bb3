"""The source becomes another server: promoted, restored, restarted. Nothing is lost unseen."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest

from tests.capture import pair as pairs
from tests.capture.live import Live, Workload, opened_postgres
from tests.capture.pair import Pair, RelentlessTill, eventually, pair
from tests.capture.test_copying import NOTES
from tests.conftest import FAST, binaries_of
from tests.torture_report import Report
from upwell.copying import Budget
from upwell.core.position import Position
from upwell.core.protocols import Source, Succession
from upwell.demo.server import Server
from upwell.sources.postgres import PostgresSource, completeness, standby
from upwell.sources.postgres.channel import open_channel
from upwell.sources.postgres.checkup import check_up
from upwell.store.hot import HotStore
from upwell.table_states import TableStates

#: Every change of ``notes`` leaves one row in ``audit``: what was lost or doubled can be counted.
_AUDITED = """
    create table audit (id bigserial primary key, what text, note int);
    create table words (word text primary key, n int);
    insert into words select 'word ' || i, i from generate_series(1, 700) as i;
    create function audited() returns trigger language plpgsql as $$ begin
      insert into audit (what, note) values (tg_op, coalesce(new.id, old.id)); return null; end $$;
    create trigger audited after insert or update or delete on notes
      for each row execute function audited();
"""
_TABLES = ["notes", "audit", "words"]
_SLOT = "upwell_failover"


def prepare(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(NOTES.format(rows=2_000).encode())
        connection.execute(_AUDITED.encode())


def run(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for each in statements:
            connection.execute(each.encode())


def value(url: str, query: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
    return None if row is None else row[0]


def followed(path: Path, url: str) -> Live:
    return Live(path, url, _SLOT, _TABLES, budget=Budget(most_part_bytes=1 << 20))


def account(live: Live) -> tuple[int, int]:
    """How many rows of ``audit`` the change log lacks, and how many it has more than once."""
    with psycopg.connect(live.url, autocommit=True) as connection:
        theirs = {row[0] for row in connection.execute("select id from audit")}
    logged = live.rows("SELECT id, sum(_weight) FROM shop.audit__log GROUP BY id")
    ours = {row[0]: int(str(row[1])) for row in logged}
    lost = sum(ours.get(each, 0) < 1 for each in theirs)
    doubled = sum(number > 1 or (key not in theirs and number > 0) for key, number in ours.items())
    return lost, doubled


def is_stopped(live: Live) -> bool:
    return live.following.lost is not None


def require_level(live: Live) -> tuple[int, int]:
    """Wait until every table is the source's, its log whole; what ``account`` says then."""
    live.wait_until_settled()
    live.wait_until_equal()
    for table in _TABLES:
        assert live.is_log_whole(f"shop.{table}")
    lost, doubled = account(live)
    assert (lost, doubled) == (0, 0)
    return lost, doubled


def require_slot_within_the_log(url: str) -> None:
    """What we said is safe with us lies in the log that the server has."""
    asked = (
        "select confirmed_flush_lsn <= pg_current_wal_lsn() from pg_replication_slots "
        f"where slot_name = '{_SLOT}'"
    )
    assert value(url, asked) is True


@pytest.fixture
def synced(open_folder: Path, tmp_path: Path) -> Iterator[Pair]:
    """A primary of PostgreSQL 18 and a standby that keeps copies of failover slots."""
    folder = open_folder / f"pair-{tmp_path.name}"
    folder.mkdir()
    with pair(folder, binaries_of("embedded-18"), syncs_slots=True) as made:
        prepare(made.primary.url)
        yield made


@pytest.fixture(params=["embedded-18", pytest.param("debian-15", marks=pytest.mark.torture)])
def unsynced(request: pytest.FixtureRequest, open_folder: Path, tmp_path: Path) -> Iterator[Pair]:
    """A primary, and a standby that knows nothing of slots."""
    folder = open_folder / f"pair-{tmp_path.name}"
    folder.mkdir()
    with pair(folder, binaries_of(request.param)) as made:
        prepare(made.primary.url)
        yield made


def load(made: Pair, seed: int) -> Workload:
    url = made.url_of("postgres")
    workload = Workload(url, "notes", seed=seed, keys=2_000, till=RelentlessTill)
    workload.pause_seconds = 0.005
    return workload


def test_a_promoted_standby_that_has_the_slot_is_gone_on_with(
    synced: Pair, tmp_path: Path, report: Report
) -> None:
    live = followed(tmp_path, synced.url_of("postgres"))
    with live.running(), load(synced, 1) as workload:
        live.wait_until_settled()

        def is_synced() -> bool:
            run(synced.primary.url, "select pg_log_standby_snapshot()")  # else every 15 seconds
            return synced.is_synced(_SLOT)

        eventually(is_synced, "the slot synchronised")
        before = workload.changes
        eventually(lambda: workload.changes > before + 200, "load")
        begun = time.monotonic()
        synced.crash(synced.primary)
        synced.promote()
        before, version = workload.changes, live.hub.version
        eventually(lambda: workload.changes > before + 200, "load on the new primary")
        live.wait(lambda: live.hub.version > version + 2, "versions go on")
        seconds = time.monotonic() - begun
        live.wait(lambda: not live.hub.trouble, "no trouble")
        workload.__exit__()
        lost, doubled = require_level(live)
        assert live.engine.upkeep.readings.keys() == {f"shop.{each}" for each in _TABLES}
        report.row(
            fault="promoted, slot synchronised",
            times=1,
            changes=workload.changes,
            lost=lost,
            doubled=doubled,
            seconds=round(seconds, 1),
        )
    assert f"{_SLOT}" in str(value(live.url, "select slot_name from pg_replication_slots"))
    with live.running():  # and it remembers whom it follows
        run(live.url, "update notes set n = -7 where id = 7")
        require_level(live)


def test_a_promoted_standby_without_the_slot_stops_the_source_until_resync(
    unsynced: Pair, tmp_path: Path, report: Report
) -> None:
    live = followed(tmp_path, unsynced.url_of("postgres"))
    with live.running():
        with load(unsynced, 2) as workload:
            live.wait_until_settled()
            eventually(lambda: workload.changes > 200, "load")
        live.wait_until_equal()
        unsynced.wait_until_level()
        unsynced.crash(unsynced.primary)
        unsynced.promote()
        run(live.url, "update notes set n = -5 where id in (select id from notes limit 3)")
        live.wait(partial(is_stopped, live), "stopped")
        live.wait(lambda: "slot upwell_failover is gone" in live.hub.trouble, "the reason")
        live.wait(lambda: "upwell resync" in live.hub.trouble, "the reason")
        served = live.rows("SELECT count(*) FROM shop.notes WHERE n = -5")
        assert served == [(0,)]  # what was true stays, marked as old
        live.source.parts_read.clear()
        begun = time.monotonic()
        live.engine.upkeep.resync([f"shop.{each}" for each in _TABLES])
        live.wait(lambda: live.following.lost is None, "begun anew")
        lost, doubled = require_level(live)
        report.row(
            fault="promoted, slot missing",
            times=1,
            lost=lost,
            doubled=doubled,
            seconds=round(time.monotonic() - begun, 1),
        )
        read = [each for each in live.source.parts_read if "words" not in each]
        reading = live.engine.upkeep.readings["shop.notes"]
        assert reading.differing == 3
        assert 0 < len([each for each in read if "notes" in each]) <= 3
        run(live.url, "update notes set n = -6 where id < 9")
        require_level(live)


def test_a_promoted_standby_that_is_behind_stops_the_source_and_the_range_is_named(
    unsynced: Pair, tmp_path: Path, report: Report
) -> None:
    live = followed(tmp_path, unsynced.url_of("postgres"))
    with live.running():
        with load(unsynced, 3) as workload:
            live.wait_until_settled()
            eventually(lambda: workload.changes > 200, "load")
        live.wait_until_equal()
        unsynced.wait_until_level()
        unsynced.cut_off()
        run(
            unsynced.primary.url,
            "alter table notes disable trigger audited",
            "insert into notes select i, i, 'only here' from generate_series(90001, 90007) as i",
            "update notes set n = -5 where id in (select id from notes where id < 90000 limit 3)",
            "delete from notes where id in (select id from notes where n <> -5 limit 2)",
        )
        live.wait_until_equal()
        ahead = live.following.committed_position
        unsynced.crash(unsynced.primary)
        unsynced.promote()
        parted = str(value(live.url, _SWITCH))
        live.wait(partial(is_stopped, live), "stopped")
        live.wait(lambda: "exists only here" in live.hub.trouble, "the reason")
        told = live.hub.trouble
        assert ahead in told
        assert "timeline 2" in told
        assert "upwell resync" in told
        only_here = live.rows(
            f"SELECT count(*) FROM shop.notes__log WHERE _position > '{_told_from(told)}'"
        )
        assert only_here == [(7 + 2 * 3 + 2,)], parted
        # The new primary goes on, past where we were; and nothing of it is followed meanwhile.
        run(live.url, "insert into words select 'new ' || i, i from generate_series(1, 50) as i")
    with live.running():
        assert is_stopped(live)
        assert _told_from(live.following.trouble) == _told_from(told)
        live.engine.upkeep.resync([f"shop.{each}" for each in _TABLES])
        live.wait(lambda: live.following.lost is None, "begun anew")
        lost, doubled = require_level(live)
        assert live.engine.upkeep.readings["shop.notes"].differing == 7 + 3 + 2
        assert live.rows("SELECT count(*) FROM shop.notes WHERE note = 'only here'") == [(0,)]
        report.row(fault="promoted, behind us", times=1, lost=lost, doubled=doubled)
        require_slot_within_the_log(live.url)
    with live.running():
        assert not is_stopped(live)
        run(live.url, "update notes set n = -6 where id < 9")
        require_level(live)
        require_slot_within_the_log(live.url)


_SWITCH = "select pg_walfile_name(pg_current_wal_lsn())"


def _told_from(trouble: str) -> str:
    """Where the range begins that a reason names."""
    return trouble.partition("_position > '")[2].partition("'")[0]


@pytest.mark.parametrize(
    "how", ["files put back", pytest.param("backup recovered", marks=pytest.mark.torture)]
)
def test_a_restored_backup_stops_the_source_and_is_never_taken_for_the_same(
    how: str, open_folder: Path, tmp_path: Path, report: Report
) -> None:
    binaries = binaries_of("embedded-18")
    folder = open_folder / f"restored-{how.split(maxsplit=1)[0]}-{tmp_path.name}"
    folder.mkdir()
    server = Server(folder / "server", binaries=binaries, settings=FAST)
    live = followed(tmp_path, "")
    with server:
        live.url = server.url
        prepare(server.url)
        with live.running():
            live.wait_until_settled()
            live.wait_until_equal()
        if how == "files put back":
            server.stop()
            pairs.copied_away(server, folder / "snapshot")
            server.start()
        else:
            backup = Server(folder / "backup", binaries=binaries, settings=FAST)
            pairs.backed_up(server, backup)
        with live.running():
            run(server.url, "insert into notes values (90001, 1, 'only here')")
            live.wait_until_equal()
        server.stop()
        if how == "files put back":
            pairs.put_back(server, folder / "snapshot")
        else:
            pairs.put_back(server, backup.data)
            (server.data / "recovery.signal").touch()
            with (server.data / "postgresql.auto.conf").open("a") as conf:
                conf.write("restore_command = 'false'\n")
        server.start()
        with live.running():
            live.wait(partial(is_stopped, live), "stopped")
            told = live.following.trouble
            assert "exists only here" in told
        # Past our position: nothing in the log's numbers tells it any more.
        run(server.url, "update notes set n = n + 1", "update notes set n = n + 1")
        with live.running():
            assert is_stopped(live)
            assert live.following.trouble == told
            live.engine.upkeep.resync([f"shop.{each}" for each in _TABLES])
            live.wait(lambda: live.following.lost is None, "begun anew")
            lost, doubled = require_level(live)
            assert live.rows("SELECT count(*) FROM shop.notes WHERE id = 90001") == [(0,)]
            report.row(fault=f"restored, {how}", times=1, lost=lost, doubled=doubled)
            run(server.url, "update notes set n = -6 where id < 9")
            require_level(live)
            require_slot_within_the_log(server.url)
        with live.running():
            run(server.url, "update notes set n = -8 where id < 9")
            require_level(live)


@pytest.mark.torture
def test_a_source_that_is_restarted_at_once_under_load_loses_and_doubles_nothing(
    open_folder: Path, tmp_path: Path, report: Report
) -> None:
    folder = open_folder / f"restarted-{tmp_path.name}"
    times = 5
    with Server(folder, binaries=binaries_of("embedded-18"), settings=FAST) as server:
        prepare(server.url)
        live = followed(tmp_path, server.url)
        longest = 0.0
        workload = Workload(server.url, "notes", seed=4, keys=2_000, till=RelentlessTill)
        with live.running(), workload:
            live.wait_until_settled()
            for _ in range(times):
                before = workload.changes
                eventually(lambda known=before: workload.changes > known + 200, "load")  # type: ignore[misc]
                pairs.crash(server)
                server.start()
                begun, version = time.monotonic(), live.hub.version
                live.wait(lambda known=version: live.hub.version > known + 1, "goes on")  # type: ignore[misc]
                longest = max(longest, time.monotonic() - begun)
            workload.__exit__()
            lost, doubled = require_level(live)
            live.wait(lambda: not live.hub.trouble, "no trouble")
            report.row(
                fault="restart -m immediate",
                times=times,
                changes=workload.changes,
                lost=lost,
                doubled=doubled,
                seconds=round(longest, 1),
            )


@pytest.mark.torture
def test_a_slot_that_the_server_gave_up_stops_the_source_until_resync(
    open_folder: Path, tmp_path: Path
) -> None:
    folder = open_folder / f"given-up-{tmp_path.name}"
    settings = {**FAST, "max_slot_wal_keep_size": "2MB", "max_wal_size": "32MB"}
    with Server(folder, binaries=binaries_of("embedded-18"), settings=settings) as server:
        prepare(server.url)
        live = followed(tmp_path, server.url)
        with live.running():
            live.wait_until_settled()
        run(server.url, "update notes set n = -5 where id < 3")
        for _ in range(4):
            run(
                server.url,
                "select pg_logical_emit_message(false, 'elsewhere', repeat('x', 1 << 20))",
                "select pg_switch_wal()",
                "checkpoint",
            )
        asked = "select wal_status from pg_replication_slots"
        eventually(lambda: value(server.url, asked) == "lost", "the slot lost")
        with live.running():
            live.wait(partial(is_stopped, live), "stopped")
            assert "fell too far behind" in live.following.trouble
            live.engine.upkeep.resync([f"shop.{each}" for each in _TABLES])
            live.wait(lambda: live.following.lost is None, "begun anew")
            require_level(live)
            assert live.engine.upkeep.readings["shop.notes"].differing == 3


def test_doctor_says_what_a_failover_would_cost(synced: Pair, tmp_path: Path) -> None:
    url, other = synced.primary.url, synced.standby.url
    live = followed(tmp_path, url)
    with live.running():
        live.wait_until_settled()
    found = _doctored(url, "")
    assert found["standby_may_be_behind"] == "ok"
    assert found["slot_not_synchronised"] == "warning"  # nobody to ask
    assert _doctored(url, other)["slot_not_synchronised"] == "warning"  # it has not moved yet
    assert _doctored(url, url)["slot_not_synchronised"] == "warning"  # no standby
    with live.running():
        run(url, "update notes set n = -5 where id < 3", "select pg_log_standby_snapshot()")
        live.wait_until_equal()
        run(url, "update notes set n = -6 where id < 3", "select pg_log_standby_snapshot()")
        eventually(lambda: synced.is_synced(_SLOT), "the slot synchronised")
    assert _doctored(url, other)["slot_not_synchronised"] == "ok"


def _doctored(url: str, other: str) -> dict[str, str]:
    checks = check_up(url, _TABLES, slot=_SLOT, standby=other).checks
    return {check.code: check.verdict for check in checks}


def test_a_slot_that_another_follows_is_waited_for_and_says_who_it_is(
    open_folder: Path, tmp_path: Path
) -> None:
    folder = open_folder / f"held-{tmp_path.name}"
    with Server(folder, binaries=binaries_of("embedded-18"), settings=FAST) as server:
        prepare(server.url)
        live = followed(tmp_path, server.url)
        with live.running():
            live.wait_until_settled()
        other = open_channel(server.url, replication=True, application="somebody else")
        other.start_copy(
            f"START_REPLICATION SLOT {_SLOT} LOGICAL 0/0 "
            f"(proto_version '1', publication_names '{_SLOT}')"
        )
        pid = value(server.url, "select active_pid from pg_replication_slots")
        with live.running():
            live.wait(lambda: "somebody else" in live.hub.trouble, "who it is")
            live.wait(lambda: f"server process {pid}" in live.hub.trouble, "the reason")
            live.wait(lambda: "from 127.0.0.1" in live.hub.trouble, "the reason")
            other.close()
            live.wait(lambda: not live.hub.trouble, "followed")
            run(server.url, "update notes set n = -6 where id < 9")
            require_level(live)


def test_what_is_known_of_the_standby_is_told_and_nothing_else(
    synced: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completeness, "BURDEN_SECONDS", 0.1)
    monkeypatch.setattr(standby, "ASKING_SECONDS", 0.1)

    def opened(live: Live, identity: str | None) -> Source:
        return PostgresSource(
            "shop", live.url, _TABLES, slot=_SLOT, known=identity, standby=synced.standby.url
        )

    live = followed(tmp_path, synced.primary.url)
    with live.running():
        live.wait(lambda: live.following.failover is not None, "what is known")
        known = live.following.failover
        assert known is not None
        assert (known.is_offered, known.waits_for) == (True, (pairs.STANDBY_SLOT,))
        assert known.is_synced is None  # nobody was asked
    live.opened = opened
    with live.running():
        # Nothing happens in this database: only the heartbeat moves the slot.
        live.wait(lambda: _is_synced(live) is not None, "the standby asked")
        before = value(synced.primary.url, "select pg_current_wal_lsn()")
        live.wait(
            lambda: value(synced.primary.url, f"select pg_current_wal_lsn() > '{before}'") is True,
            "a heartbeat",
        )
        run(synced.primary.url, "select pg_log_standby_snapshot()")
        live.wait(lambda: _is_synced(live) is True, "synchronised")
        assert synced.is_synced(_SLOT)
        synced.standby.stop()
        live.wait(lambda: _is_synced(live) is None, "not known any more")
        live.wait(lambda: _missing(live) == (pairs.STANDBY_SLOT,), "the standby away")
    live.opened = opened_postgres


def _is_synced(live: Live) -> bool | None:
    known = live.following.failover
    return None if known is None else known.is_synced


def _missing(live: Live) -> tuple[str, ...]:
    known = live.following.failover
    return () if known is None else tuple(known.missing)


def test_a_slot_from_before_is_offered_to_standbys(synced: Pair, tmp_path: Path) -> None:
    asked = f"select failover from pg_replication_slots where slot_name = '{_SLOT}'"
    live = followed(tmp_path, synced.primary.url)
    live.opened = lambda live, identity: PostgresSource(
        "shop", live.url, _TABLES, slot=_SLOT, known=identity, is_offered=False
    )
    with live.running():
        live.wait_until_settled()
        assert value(live.url, asked) is False
    live.opened = opened_postgres
    with live.running():
        live.wait(lambda: value(live.url, asked) is True, "offered")
        run(live.url, "update notes set n = -6 where id < 9")
        require_level(live)


def test_what_was_read_of_a_table_and_never_was_there_is_read_again(
    open_folder: Path, tmp_path: Path
) -> None:
    folder = open_folder / f"copied-{tmp_path.name}"
    with Server(folder, binaries=binaries_of("embedded-18"), settings=FAST) as server:
        prepare(server.url)
        live = followed(tmp_path, server.url)
        live.budget = Budget(connections=1, most_part_bytes=1 << 18)
        with live.running(pause_seconds=0.2):
            live.wait(lambda: bool(live.source.parts_read), "a part")
            live.wait(lambda: live.states.copying["shop.notes"].stored > 0, "stored")
    with contextlib.closing(HotStore(tmp_path / "hot.duckdb", zone="UTC")) as store:
        states = TableStates(store)
        before = states.copying["shop.notes"]
        assert before.stored
        states.succeed("shop", Succession("1 2", before.reach, "as far as that"))
        assert states.copying["shop.notes"].identity == before.identity
        states.succeed("shop", Succession("1 2", Position("00000000/00000001"), "less"))
        assert states.copying["shop.notes"].identity != before.identity
        assert not states.copying["shop.notes"].stored
