"""What can happen to a lake: two engines at once, storage that is away, files that are gone."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tests.acceptance.lakes import (
    engine_alone,
    put_into_bucket,
    put_into_folder,
    sell,
    twin_of,
    write_lake,
)
from tests.acceptance.running import (
    ShopProject,
    answers,
    eventually,
    is_durable,
    is_equal_to_the_shop,
    trouble,
)
from tests.acceptance.verbs import upwell
from tests.store.lake.proxy import Disturbance, Kind, line_to
from tests.store.lake.rounds import LOG, Rounds, rows_in
from tests.store.lake.seaweed import Seaweed
from tests.torture.siege import (
    ORDERS_A_SECOND,
    account,
    besieged,
    biggest,
    lake_of,
)
from tests.torture_report import Report
from upwell.core.errors import EnvironmentFault, Exit, IntegrityError
from upwell.demo.customers import customers, send_home
from upwell.store.lake.catalog import Access
from upwell.store.lake.lake import open_lake
from upwell.store.lake.mark import FORMAT_WITH_FROZEN, LEDGER, PROPERTY, Mark
from upwell.store.lake.objects import path_of
from upwell.store.lake.tables import Change
from upwell.store.lake.writer import LakeWriter
from upwell.store.place import StatePlace

torture = pytest.mark.torture
postgres = pytest.mark.postgres


# ── two at once ──────────────────────────────────────────────────────────────────────────────────

STARTS = 3


@torture
@postgres
@pytest.mark.timeout(600)
@pytest.mark.parametrize("place", ["folder", "bucket"])
def test_of_two_engines_that_start_at_once_one_writes_and_the_other_says_who_it_is(
    place: str, shop: ShopProject, seaweed: Seaweed, tmp_path: Path, report: Report
) -> None:
    if place == "bucket":
        put_into_bucket(shop, seaweed)
    else:
        write_lake(shop, str(tmp_path / "lake"))
    twin = twin_of(shop, tmp_path / "twin")
    for start in range(STARTS):
        with engine_alone(shop) as first, engine_alone(twin) as second:
            engines = [(shop, first), (twin, second)]
            eventually(
                lambda engines=engines: any(each.poll() is not None for _, each in engines),  # type: ignore[misc]
                seconds=90,
            )
            ((_, ended),) = [each for each in engines if each[1].poll() is not None]
            ((project, holder),) = [each for each in engines if each[1].poll() is None]
            assert ended.stdout is not None
            assert ended.returncode == Exit.ENVIRONMENT
            assert f"process {holder.pid} on".encode() in ended.stdout.read()
            eventually(lambda project=project: answers(project), seconds=90)  # type: ignore[misc]
            sell(shop, start * 50 + 1, 50)
            found = account(project)
            assert found.is_right, found
            assert {line.table: line.lake for line in found.lines}["shop.customers"] == (
                (start + 1) * 50
            )
    report.row(fault=f"two engines start at once, lake in a {place}", times=STARTS, **found.figures)


# ── storage that is away ─────────────────────────────────────────────────────────────────────────

OUTAGE_SECONDS = 30.0


@torture
@postgres
@pytest.mark.timeout(300)
def test_while_a_bucket_refuses_everything_the_rest_goes_on_and_nothing_is_lost(
    busy_shop: ShopProject, seaweed: Seaweed, report: Report
) -> None:
    with line_to(seaweed.endpoint) as storage, line_to(seaweed.catalog) as catalog:
        access = seaweed.through(endpoint=storage.address, catalog=catalog.address)
        put_into_bucket(busy_shop, seaweed, access)
        with besieged(busy_shop) as siege:
            with customers(busy_shop.url, ORDERS_A_SECOND) as people:
                siege.until(lambda: is_a_version_durable(busy_shop))
                for line in (storage, catalog):
                    line.disturb(Disturbance(Kind.REFUSED, status=503))
                siege.until(lambda: "keep their logs" in trouble(busy_shop))
                held = status(busy_shop)["durable_version"]
                asked = len(storage.requests) + len(catalog.requests)
                before = status(busy_shop)["version"]
                threading.Event().wait(OUTAGE_SECONDS)
                asked = len(storage.requests) + len(catalog.requests) - asked
                assert status(busy_shop)["durable_version"] == held
                assert status(busy_shop)["version"] > before + 5  # what is served goes on
                siege.kill()  # and one that has to start meanwhile waits
                threading.Event().wait(OUTAGE_SECONDS / 2)
                for line in (storage, catalog):
                    line.calm()
                siege.until_it_answers()
                siege.until(lambda: not trouble(busy_shop))
                changes = send_home(people)["row_changes"]
            found = account(busy_shop)
    report.row(
        fault=f"503 for {1.5 * OUTAGE_SECONDS:g} s, kill -9 meanwhile",
        times=1,
        requests_meanwhile=asked,
        changes=changes,
        **found.figures,
    )
    assert asked < 10 * OUTAGE_SECONDS  # it backs off
    assert found.is_right, found


def status(shop: ShopProject) -> dict[str, int]:
    return dict(shop.engine.ask("status"))


def is_a_version_durable(shop: ShopProject) -> bool:
    return bool(status(shop)["durable_version"])


# ── files that are gone ──────────────────────────────────────────────────────────────────────────


def emptied(path: Path) -> None:
    path.write_bytes(b"")


LOSSES: dict[str, Callable[[Path], None]] = {"missing": Path.unlink, "of no bytes": emptied}


@torture
@postgres
@pytest.mark.timeout(300)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_data_file_that_is_lost_is_named_and_restored_from_what_is_known(
    loss: str, shop: ShopProject, report: Report
) -> None:
    put_into_folder(shop)
    with besieged(shop) as siege:
        sell(shop, 1, 500)
        account(shop)
        file = biggest(shop, "shop.customers*/data/*.parquet")
        LOSSES[loss](file)
        sell(shop, 501, 500)  # what is served goes on, and so do rounds
        assert is_equal_to_the_shop(shop)
        siege.until(lambda: is_durable(shop))
    scrubbed = upwell(shop.folder, "scrub")
    assert scrubbed.exit == Exit.NO
    assert [damage["location"] for damage in scrubbed.data["damages"]] == [f"file://{file}"]
    repaired = upwell(shop.folder, "scrub", "--repair")
    assert (repaired.exit, len(repaired.data["repaired"])) == (Exit.DONE, 1)
    for path in StatePlace(shop.folder).state.glob("hot.duckdb*"):
        path.unlink()
    with besieged(shop):
        found = account(shop)
    report.row(fault=f"a data file {loss}", times=1, **found.figures)
    assert found.is_right, found


@torture
@postgres
@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", ["metadata", "manifest list", "manifest"])
def test_a_lake_with_a_gap_in_its_own_records_is_refused_by_name_and_nothing_is_skipped(
    part: str, shop: ShopProject, report: Report
) -> None:
    put_into_folder(shop)
    with besieged(shop):
        sell(shop, 1, 50)
        account(shop)
    table = lake_of(shop).table("shop.customers__log")
    assert table is not None
    current = table.metadata.current_snapshot()
    assert current is not None
    lost = {
        "metadata": table.metadata_location,
        "manifest list": current.manifest_list,
        "manifest": current.manifests(table._io)[0].manifest_path,
    }[part]
    path = path_of(lost)
    kept = path.read_bytes()
    path.unlink()
    scrubbed = upwell(shop.folder, "scrub")
    assert scrubbed.exit == Exit.NO
    assert [(each["table"], each["how"]) for each in scrubbed.data["damages"]] == [
        ("shop.customers__log", "metadata")
    ]
    store = StatePlace(shop.folder).hot_store
    store.rename(store.with_suffix(".away"))  # only the lake could say what there is
    with engine_alone(shop) as engine:
        output, _ = engine.communicate(timeout=60)
    assert engine.returncode == Exit.ENVIRONMENT
    assert path.name.encode() in output
    path.write_bytes(kept)
    with besieged(shop):
        found = account(shop)
    report.row(fault=f"a {part} file is missing", times=1, **found.figures)
    assert found.is_right, found


# ── the catalog and the format ───────────────────────────────────────────────────────────────────

WRITE_HALF = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")  # so that pages go to the file before the end
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE iceberg_tables SET metadata_location = 'half'")
connection.execute("CREATE TABLE filler (text)")
connection.executemany("INSERT INTO filler VALUES (?)", [("x" * 5000,)] * 500)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_of_a_catalog_that_was_half_written_the_version_before_is_used(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path)
    rounds.round([(1, "a")])
    rounds.lake.close()
    catalog = tmp_path / "lake" / "catalog.db"
    before = catalog.stat().st_size
    subprocess.run([sys.executable, "-c", WRITE_HALF, str(catalog)], check=False)
    assert catalog.stat().st_size > before  # half of it is there
    assert catalog.with_name("catalog.db-journal").exists()
    after = Rounds(tmp_path)
    assert after.writer.mark.version == 1
    assert rows_in(after.lake, after.table()) == rounds.logged()
    with sqlite3.connect(catalog) as connection:
        assert not connection.execute(
            "SELECT 1 FROM sqlite_master WHERE name = 'filler'"
        ).fetchall()
    connection.close()


def test_a_lake_of_a_newer_upwell_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path)
    rounds.round([(1, "a")])
    newer = msgspec.structs.replace(Mark(version=7), format=FORMAT_WITH_FROZEN + 1)
    rounds.writer.ledger.commit(
        Change(properties={PROPERTY: newer.as_property()[PROPERTY]}), epoch=rounds.writer.epoch
    )
    before = rounds.writer.ledger.metadata_location
    lake = open_lake("lake", tmp_path, Access())
    with pytest.raises(IntegrityError, match=f"format {FORMAT_WITH_FROZEN + 1}") as caught:
        LakeWriter(lake, "shop")
    assert caught.value.code == "lake_format"
    assert "newer" in caught.value.next_step
    ledger = lake.table(LEDGER)
    assert ledger is not None
    assert ledger.metadata_location == before


def test_a_table_of_a_newer_iceberg_is_refused(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path)
    rounds.round([(1, "a")])
    path = path_of(rounds.table().metadata_location)
    newer = {"format-version": 3, "next-row-id": 1}
    path.write_text(json.dumps(json.loads(path.read_text()) | newer))
    with pytest.raises(EnvironmentFault, match="format 3") as caught:
        rounds.lake.table(LOG)
    assert caught.value.code == "lake_format"
    assert "newer" in caught.value.next_step
