"""Killed at any moment, under load, Upwell goes on as if nothing had happened.

The short form is part of every test run; the long one (thirty kills at 500 changes a second, for
the engine and for web) belongs to ``make torture``, and its results to ``docs/torture.md``.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.lakes import put_into_folder
from tests.acceptance.running import (
    ShopProject,
    answers,
    eventually,
    is_durable,
    is_equal_to_the_shop,
    number,
    release,
    running,
    shop_project,
    surplus_rows,
)
from tests.torture_report import Report
from upwell.demo.customers import customers, send_home
from upwell.demo.server import Server
from upwell.store.place import StatePlace


@dataclass(frozen=True)
class Ordeal:
    """How often which process is killed, and how many orders a second come in meanwhile."""

    process: str
    kills: int
    orders_a_second: float
    longest_pause_seconds: float


def go_through(ordeal: Ordeal, server: Server, folder: Path, report: Report) -> None:
    """Kill, again and again, while orders come in; then everything must be there exactly once."""
    chance = random.Random(ordeal.kills)
    project = shop_project(server, folder, days_of_history=70)
    with running(project) as supervisor, customers(project.url, ordeal.orders_a_second) as shop:
        for _ in range(ordeal.kills):
            threading.Event().wait(chance.uniform(0, ordeal.longest_pause_seconds))
            eventually(lambda: ordeal.process in supervisor.pids())
            os.kill(supervisor.pids()[ordeal.process], signal.SIGKILL)
        facts = send_home(shop)
        recovered_seconds = eventually(lambda: is_equal_to_the_shop(project))
        proof = project.engine.ask("prove")
        assert [model["model"] for model in proof["models"] if not model["holds"]] == []
        eventually(lambda: _page_counts_the_shops_orders(project))
        surplus = surplus_rows(project)
        report.row(
            fault=f"kill -9 of {ordeal.process}",
            times=ordeal.kills,
            changes=facts["row_changes"],
            changes_per_second=round(facts["row_changes_per_second"]),
            versions=project.engine.ask("status")["version"],
            seconds=round(recovered_seconds, 1),
            lost=sum(max(0, -more) for more in surplus),
            doubled=sum(max(0, more) for more in surplus),
        )
    release(project)


def lose_the_hot_store(times: int, server: Server, folder: Path, report: Report) -> None:
    """Delete the hot store under load, again and again: the board shows the same numbers after."""
    project = shop_project(server, folder, days_of_history=70)
    put_into_folder(project)
    place = StatePlace(folder)
    changes, slowest = 0, 0.0
    with running(project) as supervisor:
        eventually(lambda: is_durable(project))
        for _ in range(times):
            with customers(project.url, 20) as shop:
                threading.Event().wait(1.0)
                place.hot_store.unlink()
                os.kill(supervisor.pids()["engine"], signal.SIGKILL)
                begun = time.monotonic()
                eventually(lambda: answers(project))
                slowest = max(slowest, time.monotonic() - begun)
                changes += send_home(shop)["row_changes"]
            eventually(lambda: is_equal_to_the_shop(project))
            eventually(lambda: _page_counts_the_shops_orders(project))
        proof = project.engine.ask("prove")
        assert [model["model"] for model in proof["models"] if not model["holds"]] == []
        surplus = surplus_rows(project)
        report.row(
            fault="rm of the hot store",
            times=times,
            changes=changes,
            seconds=round(slowest, 1),
            lost=sum(max(0, -more) for more in surplus),
            doubled=sum(max(0, more) for more in surplus),
        )
    release(project)


def _page_counts_the_shops_orders(project: ShopProject) -> bool:
    board = project.board()
    with project.connect() as connection:
        row = connection.execute(
            "select count(*) from orders where status <> 'cancelled' "
            "and placed_at >= to_timestamp(%s) and exists "
            "(select from order_items where order_id = orders.id)",
            [board["window"]["starts_ms"] / 1000],
        ).fetchone()
    assert row is not None
    return bool(number(board, "orders") == row[0])


@pytest.mark.postgres
@pytest.mark.parametrize("process", ["engine", "web"])
def test_nothing_is_lost_or_doubled_when_killed(
    process: str, postgres: Server, tmp_path: Path, report: Report
) -> None:
    go_through(Ordeal(process, 3, 10, 2.0), postgres, tmp_path / "project", report)


@pytest.mark.postgres
@pytest.mark.torture
@pytest.mark.parametrize("process", ["engine", "web"])
def test_nothing_is_lost_or_doubled_when_killed_thirty_times(
    process: str, postgres: Server, tmp_path: Path, report: Report
) -> None:
    go_through(Ordeal(process, 30, 55, 6.0), postgres, tmp_path / "project", report)


@pytest.mark.postgres
def test_a_hot_store_that_is_gone_comes_back_by_itself(
    postgres: Server, tmp_path: Path, report: Report
) -> None:
    lose_the_hot_store(2, postgres, tmp_path / "project", report)


@pytest.mark.postgres
@pytest.mark.torture
def test_a_hot_store_that_is_gone_twenty_times_comes_back_each_time(
    postgres: Server, tmp_path: Path, report: Report
) -> None:
    lose_the_hot_store(20, postgres, tmp_path / "project", report)
