"""Twelve ALTER TABLEs under five hundred changes a second: no restart, no wrong number."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from tests.acceptance.running import (
    ShopProject,
    eventually,
    is_equal_to_the_shop,
    number,
    running,
    shop_project,
    trouble,
)
from tests.torture_report import Report
from upwell.core.errors import Unavailable
from upwell.demo.customers import customers, send_home
from upwell.demo.server import Server

CHANGES_A_SECOND, CHANGES_AN_ORDER = 500, 9
ALTERS = (
    "alter table customers add nickname text",
    "alter table customers add points int not null default 0",
    "alter table customers add seen_at timestamptz not null default clock_timestamp()",
    "alter table customers rename nickname to handle",
    "alter table customers alter points type bigint",
    "alter table customers drop seen_at",
    "alter table products add weight numeric(8,3)",
    "alter table products alter weight type numeric(10,4)",
    "alter table products add tags text[] not null default '{new}'",
    "alter table orders add voucher text not null default 'none'",
    "alter table orders alter voucher type varchar(20)",
    "alter table orders drop voucher",
)
PAUSE_SECONDS = 1.5
#: A tile over other tables moves at least this often.
MOVING_SECONDS = 5.0
#: What the watched tile is computed from.
TILES_TABLES = ("orders", "order_items", "products")


@dataclass
class Watch:
    """What a page shows meanwhile: the number of orders, and when it last moved."""

    project: ShopProject
    orders: list[int] = field(default_factory=list)
    longest_seconds: float = 0.0
    unproved: list[str] = field(default_factory=list)
    looks: int = 0

    def stood_still(self) -> float:
        """The longest time, in seconds, for which the tile did not move since this was asked."""
        longest, self.longest_seconds = self.longest_seconds, 0.0
        return longest

    @contextmanager
    def watching(self) -> Iterator[None]:
        stop = threading.Event()
        threads = [
            threading.Thread(target=work, args=(stop,)) for work in (self._look, self._prove)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def _look(self, stop: threading.Event) -> None:
        moved = time.monotonic()
        while not stop.wait(0.2):
            now = number(self.project.board("24h"), "orders") or 0
            self.looks += 1
            if not self.orders or now != self.orders[-1]:
                moved = time.monotonic()
                self.orders.append(int(now))
            self.longest_seconds = max(self.longest_seconds, time.monotonic() - moved)

    def _prove(self, stop: threading.Event) -> None:
        """Every model that is kept fresh equals its full recompute, whenever one looks."""
        while not stop.wait(1.0):
            try:
                found = self.project.engine.ask("prove")["models"]
            except Unavailable:
                continue
            self.unproved += [
                each["model"] for each in found if not each["holds"] and not each["reason"]
            ]


@pytest.mark.torture
@pytest.mark.postgres
@pytest.mark.timeout(900)
def test_tables_are_altered_while_the_shop_is_busy(
    postgres: Server, tmp_path_factory: pytest.TempPathFactory, report: Report
) -> None:
    shop = shop_project(postgres, tmp_path_factory.mktemp("alters") / "project", days_of_history=30)
    watch = Watch(shop)
    rate = CHANGES_A_SECOND / CHANGES_AN_ORDER
    with running(shop) as supervisor, customers(shop.url, rate) as busy:
        pids = supervisor.pids()
        eventually(lambda: not trouble(shop))
        with watch.watching(), shop.connect() as connection:
            for statement in ALTERS:
                connection.execute("set lock_timeout = '5s'")
                connection.execute(statement.encode())
                time.sleep(PAUSE_SECONDS)  # the first change behind it is on its way by then
                seconds = PAUSE_SECONDS + eventually(lambda: not trouble(shop), seconds=120)
                table, _, what = statement.removeprefix("alter table ").partition(" ")
                still = watch.stood_still()
                report.row(
                    statement=f"{table}: {what}",
                    seconds_to_settle=f"{seconds:.1f}",
                    seconds_the_tile_stood_still=f"{still:.1f}",
                )
                assert table in TILES_TABLES or still < MOVING_SECONDS
        done = send_home(busy)
        eventually(lambda: is_equal_to_the_shop(shop), seconds=120)
        assert supervisor.pids() == pids
        assert watch.unproved == []
        assert watch.orders == sorted(watch.orders)
        report.row(
            statement=f"all, at {done['row_changes'] / done['seconds']:,.0f} changes/s",
            seconds_to_settle="",
            seconds_the_tile_stood_still="",
        )
    report.write()
