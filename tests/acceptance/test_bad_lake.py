"""A lake that cannot be used, met by a whole run: told by name with the remedy, and what is served
goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from tests.acceptance.lakes import (
    engine_alone,
    put_into_bucket,
    put_into_folder,
    sell,
    write_lake,
)
from tests.acceptance.running import (
    ShopProject,
    answers,
    eventually,
    is_durable,
    is_equal_to_the_shop,
    running,
    trouble,
)
from tests.acceptance.verbs import refused, upwell
from tests.store.lake.proxy import Disturbance, Kind, line_to
from tests.store.lake.seaweed import SECRET, Seaweed
from upwell.core.errors import Exit
from upwell.store.lake.catalog import Access
from upwell.store.lake.holder import LOCK_FILE
from upwell.store.lake.lake import open_lake
from upwell.store.lake.mark import FORMAT_WITH_FROZEN, LEDGER, PROPERTY, Mark
from upwell.store.lake.tables import Change
from upwell.store.lake.writer import LakeWriter

pytestmark = pytest.mark.postgres


def await_trouble(shop: ShopProject, *words: str) -> None:
    """Until the engine says what it is that does not go on, with these words in it."""
    eventually(lambda: bool(trouble(shop)), seconds=60)
    said = trouble(shop)
    assert all(word in said for word in words), said


# ── before anything is served ────────────────────────────────────────────────────────────────────

#: What is wrong with the access → the code it is refused with.
BARRED: dict[str, Callable[[Access], Access]] = {
    "lake_denied": lambda access: replace(access, secret_key="not-" + SECRET),
    "lake_unavailable": lambda access: replace(
        access, catalog="http://127.0.0.1:9", endpoint="http://127.0.0.1:9"
    ),
}


@pytest.mark.parametrize("code", BARRED)
def test_a_bucket_that_cannot_be_used_is_refused(
    code: str, shop: ShopProject, seaweed: Seaweed
) -> None:
    address = seaweed.address()
    write_lake(shop, address, BARRED[code](seaweed.access))
    error = refused(shop, exit_code=Exit.ENVIRONMENT, code=code)
    assert error["where"]
    assert SECRET not in str(error)


def test_a_bucket_that_is_not_there_is_refused(shop: ShopProject, seaweed: Seaweed) -> None:
    write_lake(shop, "s3://never-made/lake", seaweed.access)
    error = refused(shop, exit_code=Exit.ENVIRONMENT, code="lake_bucket_missing")
    assert "never-made" in error["what"] + error["where"]


def test_the_folder_of_another_project_is_refused_and_left_as_it_was(
    shop: ShopProject, tmp_path: Path
) -> None:
    lake = open_lake(str(tmp_path / "lake"), tmp_path, Access())
    LakeWriter(lake, "another")
    lake.close()
    before = listing(tmp_path / "lake")
    write_lake(shop, str(tmp_path / "lake"))
    error = refused(shop, exit_code=Exit.ENVIRONMENT, code="lake_of_another_project")
    assert "another" in error["what"]
    assert listing(tmp_path / "lake") == before


def test_a_lake_of_a_newer_format_is_refused_and_left_as_it_was(shop: ShopProject) -> None:
    with_a_lake(shop)
    lake = open_lake("lake", shop.folder, Access())
    ledger = lake.table(LEDGER)
    assert ledger is not None
    newer = msgspec.structs.replace(Mark(version=7), format=FORMAT_WITH_FROZEN + 1)
    properties = {PROPERTY: newer.as_property()[PROPERTY]}
    ledger.commit(Change(properties=properties), epoch=ledger.epoch)
    lake.close()
    before = listing(shop.folder / "lake")
    error = refused(shop, exit_code=Exit.ENVIRONMENT, code="lake_format")
    assert str(FORMAT_WITH_FROZEN + 1) in error["what"]
    assert listing(shop.folder / "lake") == before


def with_a_lake(shop: ShopProject) -> None:
    """Run the project until its lake holds all of it."""
    put_into_folder(shop)
    with running(shop, "engine"):
        sell(shop, 1, 50)
        assert is_equal_to_the_shop(shop)
        eventually(lambda: is_durable(shop))


def listing(folder: Path) -> dict[str, int]:
    """The files below a folder and their sizes, but for the one that says who is at it."""
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and path.name != LOCK_FILE
    }


# ── under a run ──────────────────────────────────────────────────────────────────────────────────


def test_while_a_bucket_is_read_only_what_is_served_goes_on(
    shop: ShopProject, seaweed: Seaweed
) -> None:
    with line_to(seaweed.endpoint) as storage:
        # What is published is tried again after a minute only; this is about rounds.
        access = seaweed.through(endpoint=storage.address)
        write_lake(shop, seaweed.address(), access, more=", publish: []")
        with engine_alone(shop) as engine:
            eventually(lambda: answers(shop), seconds=60)
            sell(shop, 1, 50)
            eventually(lambda: is_durable(shop), seconds=60)
            storage.disturb(Disturbance(Kind.REFUSED, matching="PUT ", status=403))
            sell(shop, 51, 50)
            await_trouble(shop, "denied", "s3://", "keep their logs")
            assert_served(shop, 100)
            storage.calm()
            eventually(lambda: not trouble(shop), seconds=90)
            eventually(lambda: is_durable(shop), seconds=60)
            assert engine.poll() is None


def test_when_a_bucket_vanishes_under_a_run_it_is_said_and_nothing_is_forgotten(
    shop: ShopProject, seaweed: Seaweed
) -> None:
    address = put_into_bucket(shop, seaweed)
    with engine_alone(shop) as engine:
        eventually(lambda: answers(shop), seconds=60)
        sell(shop, 1, 50)
        eventually(lambda: is_durable(shop), seconds=60)
        seaweed.remove(address.split("/")[2])
        sell(shop, 51, 50)
        await_trouble(shop, address.split("/")[2], "keep their logs")
        assert_served(shop, 100)
        assert engine.poll() is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        pytest.param(b"{not json", marks=pytest.mark.torture),
        pytest.param(b"{}", marks=pytest.mark.torture),
    ],
    ids=["nothing", "garbage", "empty"],
)
def test_metadata_that_is_damaged_is_named_and_rounds_go_on_when_it_is_back(
    content: bytes, shop: ShopProject
) -> None:
    with_a_lake(shop)
    newest = max((shop.folder / "lake").glob("shop.customers*/metadata/*.metadata.json"))
    kept = newest.read_bytes()
    newest.write_bytes(content)
    with engine_alone(shop) as engine:
        eventually(lambda: answers(shop), seconds=60)
        await_trouble(shop, newest.name, "keep their logs")
        sell(shop, 51, 50)
        assert_served(shop, 100)
        newest.write_bytes(kept)  # as from a backup
        eventually(lambda: not trouble(shop), seconds=90)
        eventually(lambda: is_durable(shop), seconds=60)
        assert engine.poll() is None


def assert_served(shop: ShopProject, customers: int) -> None:
    """What is asked is answered, rightly, and the source's log is kept for what is not durable."""
    assert is_equal_to_the_shop(shop)
    outcome = upwell(shop.folder, "query", "select count(*) as n from shop.customers")
    assert outcome.exit == Exit.DONE, outcome.output
    assert outcome.data["rows"] == [{"n": customers}]
    status = shop.engine.ask("status")
    assert status["durable_version"] < status["version"]
