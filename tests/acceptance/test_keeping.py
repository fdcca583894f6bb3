"""Tables paused, resumed and compared as a user does it, at a shop that goes on selling."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import psycopg
import pytest

from tests.acceptance.running import (
    ShopProject,
    eventually,
    is_durable,
    is_equal_to_the_shop,
    release,
    running,
    shop_project,
    trouble,
)
from tests.acceptance.verbs import answered, edit
from upwell.demo.server import Server
from upwell.store.place import StatePlace

pytestmark = pytest.mark.postgres


@pytest.fixture
def selling(postgres: Server, tmp_path: Path) -> Iterator[ShopProject]:
    project = shop_project(postgres, tmp_path / "project", days_of_history=3)
    yield project
    release(project)


def reconcile_often(project: ShopProject) -> None:
    """Every table each 3.6 seconds."""
    edit(
        project,
        "upwell.yaml",
        lambda text: text.replace(
            "    type: postgres\n", "    type: postgres\n    reconcile: {hours: 0.001}\n"
        ),
    )


def test_a_table_is_paused_and_resumed(selling: ShopProject) -> None:
    folder = selling.folder
    with running(selling), selling.connect() as connection:
        assert answered(folder, "pause", "shop.orders").data == {"paused": ["shop.orders"]}
        again = answered(folder, "pause", "shop.orders")
        assert again.exit == 2
        assert again.error["what"] == "Pausing shop.orders: it is paused already."
        assert again.error["next"] == "`upwell resume shop.orders` lets it go on."
        assert "there is no such table" in answered(folder, "pause", "shop.order").error["what"]
        assert answered(folder, "pause", "shop.order").error["next"] == "Did you mean shop.orders?"
        followed = answered(folder, "resume", "shop.customers").error
        assert followed["what"] == "Resuming shop.customers: it is not paused, it is followed."
        assert (
            "`upwell resume shop.orders`" in answered(folder, "resync", "shop.orders").error["next"]
        )

        (table,) = [
            each
            for each in answered(folder, "status").data["tables"]
            if each["name"] == "shop.orders"
        ]
        assert table["is_paused"]
        assert "shop.orders is paused: `upwell resume shop.orders` lets it go on" in trouble(
            selling
        )

        connection.execute("update orders set status = 'cancelled' where id = 7")
        resumed = answered(folder, "resume", "shop.orders")
        assert resumed.exit == 0
        (done,) = resumed.data["tables"]
        assert (done["name"], done["differing"], done["parts_read"]) == ("shop.orders", 1, 1)
        eventually(lambda: trouble(selling) == "")
        assert is_equal_to_the_shop(selling)
        assert answered(folder, "prove").exit == 0


def test_comparisons_are_told(selling: ShopProject) -> None:
    folder = selling.folder
    reconcile_often(selling)
    with running(selling):
        eventually(
            lambda: all(table["compared_at"] for table in answered(folder, "drift").data["tables"]),
            seconds=90,
        )
        found = answered(folder, "drift").data
        assert found["drift"] == []
        assert all(table["next_at"] for table in found["tables"])
        with psycopg.connect(selling.url) as connection:
            held = {
                table["name"]: connection.execute(
                    f"select count(*) from {table['name'].removeprefix('shop.')}".encode()
                ).fetchone()
                for table in found["tables"]
            }
        assert {table["name"]: (table["rows"],) for table in found["tables"]} == held
        counted = answered(
            folder, "query", "select count(distinct source_table) as n from upwell.drift"
        )
        assert counted.rows == [{"n": len(found["tables"])}]
    assert answered(folder, "drift").data["tables"][0]["compared_at"]  # stopped, too


@pytest.mark.torture
def test_rows_that_a_damaged_store_lost_are_mended_and_the_lake_stays_whole(
    selling: ShopProject,
) -> None:
    folder, store = selling.folder, StatePlace(selling.folder).hot_store
    edit(selling, "upwell.yaml", lambda text: text + "lake: {commit_seconds: 1}\n")
    with running(selling, "engine"):
        eventually(lambda: is_durable(selling))
    connection = duckdb.connect(str(store))
    connection.execute("DELETE FROM shop.orders WHERE id = 5")
    connection.execute("UPDATE shop.products SET category = 'Nowhere' WHERE id = 7")
    connection.execute("CHECKPOINT")
    connection.close()
    reconcile_often(selling)
    with running(selling, "engine"):
        eventually(lambda: len(answered(folder, "drift").data["drift"]) == 2)
        found = answered(folder, "drift").data["drift"]
        kinds = {
            each["source_table"]: (each["rows_missing"], each["rows_altered"]) for each in found
        }
        assert kinds == {"shop.orders": (1, 0), "shop.products": (0, 1)}
        status = answered(folder, "status").data
        differed = {each["name"]: each["differed"] for each in status["tables"]}
        assert differed["shop.orders"]["rows"] == 1
        assert status["trouble"] == ""
        assert is_equal_to_the_shop(selling)
        assert answered(folder, "prove").exit == 0
        eventually(lambda: is_durable(selling))
    store.unlink()
    with running(selling, "engine"):
        eventually(lambda: is_equal_to_the_shop(selling))
        assert trouble(selling) == ""
