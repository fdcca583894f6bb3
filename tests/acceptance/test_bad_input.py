"""What is wrong is told once, with the next step; nothing is lost and nothing is left running."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.acceptance.running import (
    ShopProject,
    eventually,
    is_equal_to_the_shop,
    number,
    running,
    shop_project,
    small_disk,
)
from tests.acceptance.verbs import edit, refused, upwell
from tests.conftest import FAST, binaries_of
from tests.golden_numbers.shop import fill
from upwell.core.errors import Exit
from upwell.demo.server import Server

# ── the source ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.postgres
def test_a_wrong_address_is_told(shop: ShopProject) -> None:
    edit(shop, "upwell.yaml", lambda text: text.replace(shop.url, "postgresql://x@127.0.0.1:1/x"))
    error = refused(shop, exit_code=Exit.ENVIRONMENT, code="source_unavailable")
    assert "127.0.0.1:1" in error["where"]


@pytest.mark.postgres
def test_a_wrong_database_is_told(shop: ShopProject) -> None:
    edit(shop, "upwell.yaml", lambda text: text.replace(shop.url, shop.url + "_not"))
    refused(shop, exit_code=Exit.ENVIRONMENT, code="database_or_role_unknown")


@pytest.mark.postgres
def test_a_wrong_password_is_told_and_never_shown(open_folder: Path, tmp_path: Path) -> None:
    with Server(
        open_folder / "scram", binaries=binaries_of("embedded-18"), settings=FAST, password="right"
    ) as server:
        project = shop_project(server, tmp_path / "project")
        edit(project, "upwell.yaml", lambda text: text.replace(":right@", ":hidden-word@"))
        error = refused(project, exit_code=Exit.ENVIRONMENT, code="password_wrong")
        assert "hidden-word" not in json.dumps(error)
        logs = "".join(log.read_text() for log in (project.folder / ".upwell/log").iterdir())
        assert "hidden-word" not in logs


@pytest.mark.postgres
def test_a_wal_level_that_cannot_be_followed_is_told(open_folder: Path, tmp_path: Path) -> None:
    with Server(
        open_folder / "replica",
        binaries=binaries_of("embedded-18"),
        settings={**FAST, "wal_level": "replica"},
    ) as server:
        project = shop_project(server, tmp_path / "project")
        error = refused(project, exit_code=Exit.ENVIRONMENT, code="wal_level_not_logical")
        assert "ALTER SYSTEM SET wal_level = logical" in error["next"]


@pytest.mark.postgres
def test_a_role_without_the_right_to_a_slot_is_told(shop: ShopProject) -> None:
    role = f"reader_{uuid4().hex[:8]}"
    with shop.connect() as connection:
        connection.execute(f"create role {role} login")
        connection.execute(f"grant select on all tables in schema public to {role}")
    edit(shop, "upwell.yaml", lambda text: text.replace("postgres@", f"{role}@"))
    error = refused(shop, exit_code=Exit.ENVIRONMENT, code="no_replication_right")
    assert "REPLICATION" in error["next"]


@pytest.mark.postgres
def test_a_table_without_a_key_is_refused_and_the_shop_left_alone(shop: ShopProject) -> None:
    with shop.connect() as connection:
        connection.execute("create table visits (at timestamptz, page text)")
        edit(shop, "upwell.yaml", lambda text: text.replace("refunds]", "refunds, visits]"))
        refused(shop, exit_code=Exit.ENVIRONMENT, code="table_without_key")
        connection.execute("insert into visits values (now(), '/')")
        connection.execute("update visits set page = '/x'")  # fails on a table published wrongly
        slots = connection.execute(
            "select count(*) from pg_replication_slots where database = current_database()"
        ).fetchone()
        assert slots == (0,)


# ── the project ──────────────────────────────────────────────────────────────────────────────────

BROKEN = {
    "a model that does not parse": (
        "models/daily_sales.sql",
        lambda text: text.replace("group by all", "group bye all"),
        "model_does_not_parse",
    ),
    "an unknown table": (
        "models/sale_lines.sql",
        lambda text: text.replace("shop.order_items", "shop.order_itemz"),
        "unknown_table",
    ),
    "an unknown column": (
        "models/sale_lines.sql",
        lambda text: text.replace("unit_price", "unit_prize"),
        "model_does_not_bind",
    ),
    "a circle": (
        "models/sale_lines.sql",
        lambda text: text.replace("shop.refunds", "order_categories"),
        "model_circle",
    ),
    "an unknown metric": (
        "dashboards/sales.yaml",
        lambda text: text.replace("metric: orders", "metric: ordres"),
        "project_name_unknown",
    ),
    "an unknown key": (
        "upwell.yaml",
        lambda text: text + "\nlakes: {uri: ./lake}\n",
        "project_key_unknown",
    ),
}


@pytest.mark.postgres
@pytest.mark.parametrize("fault", BROKEN)
def test_what_does_not_hold_is_told_with_its_place(shop: ShopProject, fault: str) -> None:
    file, change, code = BROKEN[fault]
    edit(shop, file, change)
    for verb in ("validate", "run"):
        outcome = upwell(shop.folder, verb)
        assert (outcome.exit, outcome.error["code"]) == (Exit.USAGE, code), outcome.output
        assert file in outcome.error["where"]
        assert outcome.error["next"]


def test_a_folder_without_a_project_is_told(tmp_path: Path) -> None:
    for verb in ("run", "validate", "status", "prove", "verify"):
        outcome = upwell(tmp_path, verb)
        assert (outcome.exit, outcome.error["code"]) == (Exit.USAGE, "no_project")


# ── the machine ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.postgres
def test_a_taken_port_is_told(shop: ShopProject) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", int(shop.address.rpartition(":")[2])))
        holder.listen()
        error = refused(shop, exit_code=Exit.ENVIRONMENT, code="port_taken")
        assert shop.address.removeprefix("http://") in error["where"]


@pytest.mark.postgres
def test_a_second_run_of_the_same_project_is_refused(shop: ShopProject) -> None:
    command = [sys.executable, "-m", "upwell.cli.main", "run", "--project", str(shop.folder)]
    first = subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE)
    try:
        eventually(lambda: bool(shop.board()))
        error = refused(shop, exit_code=Exit.ENVIRONMENT, code="already_running")
        assert str(first.pid) in error["what"]
        assert shop.board()
    finally:
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=10)
    assert first.returncode == 0


@pytest.mark.postgres
def test_a_foreign_host_header_is_refused(shop: ShopProject) -> None:
    with running(shop):
        request = urllib.request.Request(  # noqa: S310 - loopback
            f"{shop.address}/api/v1/dashboards/sales", headers={"Host": "evil.example"}
        )
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(request, timeout=5)  # noqa: S310 - loopback
        assert refusal.value.code in {400, 421}
        refusal.value.close()


@pytest.mark.postgres
def test_a_full_disk_is_told_and_nothing_is_lost(shop: ShopProject, full_soon: Path) -> None:
    """The store lies on a disk of a few megabytes; the shop sells until that is full."""
    state = shop.folder / ".upwell"
    state.symlink_to(full_soon)
    with shop.connect() as connection:
        fill(connection)
        connection.execute(
            "insert into customers (id, email, full_name, region) "
            "select n, n || '@example.org', md5(n::text), md5((-n)::text) "
            "from generate_series(100, 300000) n"
        )
    refused(shop, exit_code=Exit.ENVIRONMENT, code="disk_full")
    state.unlink()  # as if the disk had been made larger
    with running(shop):
        assert is_equal_to_the_shop(shop)
        assert number(shop.board(), "orders") is not None


@pytest.fixture
def full_soon(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "small", 12) as folder:
        yield folder
