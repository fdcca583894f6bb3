"""What happens to an engine on its machine: it is killed, stopped, its disk and clock are wrong."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import duckdb
import psycopg
import pytest

from tests.acceptance.lakes import put_into_folder, sell
from tests.acceptance.running import (
    ShopProject,
    answers,
    eventually,
    is_durable,
    is_equal_to_the_shop,
    number,
    running,
)
from tests.golden_numbers.shop import fill
from tests.torture import altered
from tests.torture.folding import ROWS
from tests.torture.siege import (
    ORDERS_A_SECOND,
    account,
    besieged,
    busy_for_a_while,
    lake_of,
)
from tests.torture_report import Report
from upwell.core.errors import Unavailable
from upwell.core.faults import VARIABLE, Fault
from upwell.demo.customers import customers, send_home
from upwell.drill.run import _armed
from upwell.drill.trials import Phase, Trial
from upwell.sources.postgres.wal import lsn_of, position_of
from upwell.store import ledger
from upwell.store.hot import HotStore, open_read_only
from upwell.store.lake.holder import Holder, held
from upwell.store.lake.objects import FSYNC_FAILED
from upwell.store.lake.scrub import scrub
from upwell.store.lake.writer import read_mark
from upwell.store.place import StatePlace

pytestmark = [pytest.mark.torture, pytest.mark.postgres]


# ── killed ───────────────────────────────────────────────────────────────────────────────────────

FOLDS = 40


def kill_while_folding(folder: Path, chance: random.Random, took: float) -> tuple[int, float]:
    """Kill a process somewhere in its second fold; its version, and how long the first took."""
    command = [sys.executable, "-m", "tests.torture.folding", str(folder)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as process:
        assert process.stdout is not None
        process.stdout.readline()
        begun = time.monotonic()
        process.stdout.readline()
        seconds = time.monotonic() - begun
        version = int(process.stdout.readline().split()[1])
        threading.Event().wait(chance.uniform(0, took or seconds))
        process.kill()
    return version, seconds


@pytest.mark.timeout(600)
def test_a_store_whose_process_is_killed_while_folding_opens_with_its_last_version(
    tmp_path: Path, report: Report
) -> None:
    chance = random.Random(8)
    took = slowest = 0.0
    for _ in range(FOLDS):
        version, took = kill_while_folding(tmp_path, chance, took)
        begun = time.monotonic()
        store = HotStore(StatePlace(tmp_path).hot_store, zone="UTC")
        found = store.writer.execute(
            "SELECT count(*), count(DISTINCT id), min(version), max(version) FROM filled"
        ).fetchone()
        slowest = max(slowest, time.monotonic() - begun)
        assert found is not None
        assert found[2] == found[3] == ledger.latest_version(store.writer) >= version
        assert found[:2] == (ROWS, ROWS)
        store.close()
    report.row(
        fault="kill -9 in a checkpoint", times=FOLDS, lost=0, doubled=0, seconds=round(slowest, 1)
    )


@pytest.mark.timeout(300)
def test_a_board_shows_the_last_whole_version_while_the_next_one_is_made_and_lost(
    shop: ShopProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shop.connect() as connection:
        fill(connection)
    fault = Fault("engine.models_refreshed", 1, "stop", 1, str(tmp_path / "frozen"))
    monkeypatch.setenv(VARIABLE, str(fault))
    with running(shop) as supervisor:
        before = number(shop.board(), "orders")
        with shop.connect() as connection:
            buy_again(connection)
        eventually(lambda: fault.happened == 1)
        assert {number(shop.board(), "orders") for _ in range(20)} == {before}
        os.kill(supervisor.pids()["engine"], signal.SIGKILL)
        eventually(lambda: number(shop.board(), "orders") == before + 1)
        assert is_equal_to_the_shop(shop)


def buy_again(connection: psycopg.Connection) -> None:
    """The last customer who bought something buys it again now."""
    connection.execute(
        "with bought as (insert into orders (id, customer_id, placed_at, status) "
        "select id + 1, customer_id, now(), 'placed' from orders order by id desc limit 1 "
        "returning id) "
        "insert into order_items (id, order_id, product_id, quantity, unit_price, discount) "
        "select i.id + 1, bought.id, i.product_id, 1, i.unit_price, 0 from bought, "
        "(select * from order_items order by id desc limit 1) i"
    )


MILLION = 1_000_000
#: Where the version of one transaction is killed, once each.
IN_ONE_VERSION = (
    "engine.batch_read",
    "engine.batch_ingested",
    "engine.models_refreshed",
    "lake.file_half_written",
    "lake.table_flushed",
)


@pytest.mark.timeout(900)
def test_of_a_transaction_of_a_million_rows_all_are_visible_or_none(
    shop: ShopProject, report: Report
) -> None:
    put_into_folder(shop)
    seen: set[int] = set()
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.2):
            try:
                tables = shop.engine.ask("checksums")["tables"]
            except Unavailable:
                continue
            seen.add(int(tables["shop.customers"][0]))

    trials = [Trial(point, Phase.LOAD, "") for point in IN_ONE_VERSION]
    with besieged(shop) as siege, _armed(shop.folder, trials) as armed:
        siege.kill()
        siege.until_it_answers()
        looking = threading.Thread(target=look)
        selling = threading.Thread(target=sell, args=(shop, 1, MILLION))
        looking.start()
        selling.start()
        threading.Event().wait(1.0)
        siege.kill()  # the transaction is still under way in the source
        selling.join()
        siege.kill()  # and now it is on its way here
        siege.until(lambda: all(fault.happened for fault in armed.values()), seconds=400)
        siege.until_it_answers()
        found = account(shop, seconds=400)
        ended.set()
        looking.join()
        report.row(
            fault="kill -9 in a transaction of 1 M rows",
            times=siege.kills - 1 + len(trials),
            changes=MILLION,
            **found.figures,
        )
    assert seen <= {0, MILLION}
    assert found.is_right, found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("written_by", ["an older one", "a newer one"])
def test_a_store_of_another_format_is_made_anew_however_often_that_is_killed(
    written_by: str, busy_shop: ShopProject, report: Report
) -> None:
    put_into_folder(busy_shop)
    with besieged(busy_shop):
        changes = busy_for_a_while(busy_shop)
        account(busy_shop)
    store = duckdb.connect(str(StatePlace(busy_shop.folder).hot_store))
    ledger.write_fact(store, "format", "1" if written_by == "an older one" else "99")
    store.close()
    trials = [
        Trial("rebuild.table_restored", Phase.REBUILD, "", at=2, times=2),
        Trial("rebuild.ledger_written", Phase.REBUILD, ""),
    ]
    with _armed(busy_shop.folder, trials) as armed, besieged(busy_shop):
        changes += busy_for_a_while(busy_shop)
        found = account(busy_shop)
        times = sum(fault.happened for fault in armed.values())
    report.row(
        fault=f"kill -9 while a store of {written_by} is made anew",
        times=times,
        changes=changes,
        **found.figures,
    )
    assert times == 3
    assert found.is_right, found


# ── stopped ──────────────────────────────────────────────────────────────────────────────────────

PATIENCE_OF_A_CLOUD_SECONDS = 115


@pytest.mark.timeout(300)
def test_told_to_end_under_load_it_ends_in_time_with_everything_durable_and_acknowledged(
    busy_shop: ShopProject, report: Report
) -> None:
    put_into_folder(busy_shop)
    command = [sys.executable, "-m", "upwell.cli.main", "run", "--project", str(busy_shop.folder)]
    with customers(busy_shop.url, ORDERS_A_SECOND) as people:
        with subprocess.Popen([*command, "--json"], stdout=subprocess.DEVNULL) as process:
            eventually(lambda: answers(busy_shop) and bool(status_of(busy_shop)["durable_version"]))
            before = status_of(busy_shop)["version"]
            eventually(lambda: status_of(busy_shop)["version"] > before + 5)
            process.send_signal(signal.SIGTERM)
            begun = time.monotonic()
            process.wait(PATIENCE_OF_A_CLOUD_SECONDS)
            seconds = time.monotonic() - begun
        lake = lake_of(busy_shop)
        mark = read_mark(lake)
        connection = open_read_only(StatePlace(busy_shop.folder).hot_store, zone="UTC")
        assert ledger.latest_version(connection) == mark.version > before
        connection.close()
        assert confirmed(busy_shop) >= mark.sources["shop"].position  # nothing of it comes again
        with held(lake.objects, Holder.of_this_process(busy_shop.folder)):
            pass
        changes = send_home(people)["row_changes"]
    assert process.returncode == 0
    with besieged(busy_shop):
        found = account(busy_shop)
    figures = found.figures | {"seconds": round(seconds, 1)}
    report.row(fault="SIGTERM under load", times=1, changes=changes, **figures)
    assert found.is_right, found


def status_of(shop: ShopProject) -> dict[str, int]:
    return dict(shop.engine.ask("status"))


def confirmed(shop: ShopProject) -> str:
    """Through which position the source may forget."""
    with shop.connect() as connection:
        row = connection.execute(
            "select confirmed_flush_lsn::text from pg_replication_slots "
            "where database = current_database()"
        ).fetchone()
    assert row is not None
    return position_of(lsn_of(row[0]))


# ── its disk and its clock ───────────────────────────────────────────────────────────────────────

REFUSALS = 4


@pytest.mark.timeout(300)
def test_an_engine_whose_disk_refuses_to_sync_ends_at_once_and_reads_again(
    busy_shop: ShopProject, report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_into_folder(busy_shop)
    refusal = tmp_path / "eio"
    monkeypatch.setenv(altered.EIO, str(refusal))
    codes: list[int] = []
    with besieged(busy_shop, altered.engine(busy_shop.folder)) as siege:
        siege.supervisor._on_event = lambda event: codes.append(event.get("code", 0))
        with customers(busy_shop.url, ORDERS_A_SECOND) as people:
            for _ in range(REFUSALS):
                siege.until(lambda: is_a_version_durable(busy_shop))
                pid = siege.supervisor.pids()["engine"]
                refusal.touch()
                siege.until(lambda pid=pid: siege.supervisor.pids().get("engine", pid) != pid)  # type: ignore[misc]
            siege.until_it_answers()
            changes = send_home(people)["row_changes"]
        found = account(busy_shop)
    times = codes.count(FSYNC_FAILED)
    report.row(fault="fsync fails with EIO", times=times, changes=changes, **found.figures)
    assert times == REFUSALS
    assert found.is_right, found


def is_a_version_durable(shop: ShopProject) -> bool:
    return bool(status_of(shop)["durable_version"])


#: By how many seconds the clock is wrong, one after another: an hour each way, and beyond 2038.
JUMPS = (3600, -3600, 0, 1, 0, 12 * 366 * 86_400, 0)


@pytest.mark.timeout(600)
def test_whatever_the_clock_on_the_wall_says_order_stays_and_nothing_is_deleted_early(
    busy_shop: ShopProject, report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_into_folder(busy_shop)
    clock = tmp_path / "clock"
    monkeypatch.setenv(altered.CLOCK, str(clock))
    monkeypatch.setenv(altered.HASTE, "1")
    with besieged(busy_shop, altered.engine(busy_shop.folder)) as siege:
        with customers(busy_shop.url, ORDERS_A_SECOND) as people:
            for jump in JUMPS:
                clock.write_text(str(jump))
                before = status_of(busy_shop)["version"]
                siege.until(partial(_is_durable_beyond, busy_shop, before + 5))
            changes = send_home(people)["row_changes"]
        found = account(busy_shop)
        damages = scrub(lake_of(busy_shop)).damages
    report.row(fault="the wall clock jumps", times=len(JUMPS), changes=changes, **found.figures)
    assert damages == ()
    assert found.is_right, found


def random_bytes(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    start = chance.randrange(0, len(data) - 4096)
    data[start : start + 4096] = chance.randbytes(4096)
    path.write_bytes(data)


def half(path: Path, chance: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: chance.randrange(0, len(data))])


DAMAGES: dict[str, Callable[[Path, random.Random], None]] = {
    "random bytes": random_bytes,
    "a part": half,
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_store_that_is_damaged_under_load_is_made_anew(
    damage: str, busy_shop: ShopProject, report: Report
) -> None:
    put_into_folder(busy_shop)
    chance = random.Random(66)
    with besieged(busy_shop) as siege:
        with customers(busy_shop.url, ORDERS_A_SECOND) as people:
            for _ in range(5):
                siege.until(lambda: is_a_version_durable(busy_shop))
                siege.kill(lambda: DAMAGES[damage](siege.place.hot_store, chance))
                siege.until_it_answers()
            changes = send_home(people)["row_changes"]
        siege.until(lambda: is_durable(busy_shop))
        found = account(busy_shop)
    report.row(fault=f"of the hot store's file {damage}", times=5, changes=changes, **found.figures)
    assert found.is_right, found


def _is_durable_beyond(shop: ShopProject, version: int) -> bool:
    return bool(status_of(shop)["durable_version"] > version)
