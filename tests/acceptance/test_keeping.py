"""Tables paused, resumed and compared as a user does it, at a shop that goes on selling."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.running import (
    ShopProject,
    eventually,
    is_equal_to_the_shop,
    release,
    running,
    shop_project,
    trouble,
)
from tests.acceptance.verbs import answered, edit
from upwell.demo.server import Server

pytestmark = pytest.mark.postgres


@pytest.fixture
def selling(postgres: Server, tmp_path: Path) -> Iterator[ShopProject]:
    project = shop_project(postgres, tmp_path / "project", days_of_history=3)
    yield project
    release(project)


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
    edit(
        selling,
        "upwell.yaml",
        lambda text: text.replace(
            "    type: postgres\n", "    type: postgres\n    reconcile: {hours: 0.001}\n"
        ),
    )
    with running(selling):
        eventually(
            lambda: all(table["compared_at"] for table in answered(folder, "drift").data["tables"])
        )
        found = answered(folder, "drift").data
        assert found["drift"] == []
        assert all(table["next_at"] and table["rows"] for table in found["tables"])
        counted = answered(
            folder, "query", "select count(distinct source_table) as n from upwell.drift"
        )
        assert counted.rows == [{"n": len(found["tables"])}]
    assert answered(folder, "drift").data["tables"][0]["compared_at"]  # stopped, too
