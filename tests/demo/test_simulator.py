"""The simulator against real servers: what it writes, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, cast
from zoneinfo import ZoneInfo

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from upwell.core.errors import EnvironmentFault, Unavailable
from upwell.demo.actions import Action, Kind, perform
from upwell.demo.pace import StopSignal
from upwell.demo.server import Server
from upwell.demo.shop import TABLES, open_shop
from upwell.demo.simulator import Tally, look_around, simulate

from .conftest import LONDON, NOON

pytestmark = pytest.mark.postgres

#: Columns that hold the moment of writing, and so differ between two runs.
MOMENTS = ("placed_at", "updated_at", "paid_at", "voided_at", "refunded_at", "created_at")


def run(url: str, *, seed: int = 1, orders: int, rate: float = 10_000) -> Tally:
    def tuesday_noon(zone: ZoneInfo) -> datetime:
        return datetime(2026, 6, 9, 12, tzinfo=zone)

    with StopSignal() as stop:
        return simulate(
            url, seed=seed, rate=rate, zone=LONDON, stop=stop, orders=orders, now=tuesday_noon
        )


def contents(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table without the moments of writing."""
    with psycopg.connect(url) as connection:
        rows: dict[str, list[tuple[Any, ...]]] = {}
        for table in TABLES:
            cursor = connection.execute(f"select * from {table} order by id")
            kept = [
                index
                for index, column in enumerate(cursor.description or ())
                if column.name not in MOMENTS
            ]
            rows[table] = [tuple(str(row[index]) for index in kept) for row in cursor]
        return rows


def value(url: str, query: str) -> Any:
    with psycopg.connect(url) as connection:
        row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]


@contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The simulator as its own process; ended whatever happens."""
    command = [sys.executable, "-m", "upwell.demo.simulator", *arguments]
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def until(holds: Callable[[], bool], *, seconds: float = 20) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


# ── what it writes ───────────────────────────────────────────────────────────────────────────────


def test_the_same_seed_writes_the_same_rows_into_the_same_shop(
    small_shop: Callable[[], str],
) -> None:
    first, second, other = small_shop(), small_shop(), small_shop()
    assert contents(first) == contents(second)
    run(first, orders=120)
    run(second, orders=120, rate=400)
    run(other, orders=120, seed=2)
    assert contents(first) == contents(second)
    assert contents(first) != contents(other)


def test_all_kinds_of_changes_are_written_and_counted(small_shop: Callable[[], str]) -> None:
    url = small_shop()
    before = {table: value(url, f"select count(*) from {table}") for table in TABLES}
    written = "select sum(n_tup_ins + n_tup_upd + n_tup_del) from pg_stat_user_tables"
    tally = run(url, orders=250)
    assert set(tally.actions) >= {
        *("place_order", "pay_order", "ship_order", "deliver_order"),
        *("cancel_order", "refund_line", "change_price", "register_customer"),
    }
    assert tally.actions["place_order"] == 250
    assert value(url, "select count(*) from orders") == before["orders"] + 250
    assert (
        value(url, "select count(*) from refunds")
        == before["refunds"] + (tally.actions["refund_line"])
    )
    loaded = sum(before.values())
    until(lambda: value(url, written) - loaded == tally.row_changes)


def test_paid_orders_are_paid_the_sum_of_their_lines(small_shop: Callable[[], str]) -> None:
    url = small_shop()
    run(url, orders=100)
    wrong = """
        select count(*) from orders o
        where status in ('paid', 'shipped', 'delivered') and
            (select sum(quantity * unit_price - discount) from order_items where order_id = o.id)
            is distinct from (select sum(amount) from payments where order_id = o.id)
    """
    assert value(url, wrong) == 0


def test_a_second_run_with_the_same_seed_goes_on(small_shop: Callable[[], str]) -> None:
    url = small_shop()
    run(url, orders=40)
    again = run(url, orders=40)
    assert (again.actions["place_order"], again.refused) == (40, 0)


def test_orders_take_prices_and_goods_from_the_shelf(
    small_shop: Callable[[], str],
) -> None:
    with psycopg.connect(small_shop(), autocommit=True, row_factory=dict_row) as connection:
        connection.execute("update products set price = 12.34, stock = 26 where id = 5")
        values = {"reference": "0b4f2f6e-7d3c-4a57-9d0e-2f8f6a8f0a11", "customer": 1}
        values |= {"channel": "web", "gift_note": None}
        basket = {"products": [5, 9], "quantities": [2, 1], "discount_rates": [0.1, 0.0]}
        outcome = perform(connection, Action("place_order", values | basket))
        line = connection.execute(
            "select quantity, unit_price::text, discount::text from order_items"
            " where order_id = %s and product_id = 5",
            [outcome.id],
        ).fetchone()
        stock = connection.execute("select stock from products where id = 5").fetchone()
    assert line == {"quantity": 2, "unit_price": "12.34", "discount": "2.47"}
    assert stock == {"stock": 24}
    assert (outcome.changes, outcome.running_low) == (5, (5,))


@pytest.mark.parametrize(
    ("kind", "status", "changes", "after"),
    [
        ("pay_order", "placed", 2, "paid"),
        ("pay_order", "cancelled", 0, "cancelled"),
        ("ship_order", "paid", 1, "shipped"),
        ("ship_order", "placed", 0, "placed"),
        ("deliver_order", "shipped", 1, "delivered"),
        ("cancel_order", "paid", 3, "cancelled"),
        ("cancel_order", "placed", 3, "cancelled"),
        ("cancel_order", "delivered", 0, "delivered"),
        ("refund_line", "delivered", 1, "delivered"),
        ("refund_line", "cancelled", 0, "cancelled"),
    ],
)
def test_an_action_happens_only_to_an_order_it_fits(
    shop_connection: psycopg.Connection[Any], kind: str, status: str, changes: int, after: str
) -> None:
    shop_connection.row_factory = dict_row
    row = shop_connection.execute("insert into orders (customer_id) values (1) returning id")
    order = cast("dict[str, int]", row.fetchone())["id"]
    shop_connection.execute(
        "insert into order_items (order_id, product_id, quantity, unit_price) values (%s, 4, 1, 5)",
        [order],
    )
    shop_connection.execute(
        "insert into payments (order_id, method, amount) values (%s, 'card', 5)", [order]
    )
    shop_connection.execute(
        "update orders set status = %s::order_status where id = %s", [status, order]
    )
    values = {"order": order, "method": "card", "product": 4, "share": 0.5, "reason": "faulty"}
    outcome = perform(shop_connection, Action(cast("Kind", kind), values))
    now = shop_connection.execute("select status::text from orders where id = %s", [order])
    assert (outcome.changes, now.fetchone()) == (changes, {"status": after})


# ── how it goes on and ends ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_within_a_second_with_one_json_line(
    small_shop: Callable[[], str], number: signal.Signals
) -> None:
    url = small_shop()
    before = value(url, "select count(*) from orders")
    with process("--url", url, "--rate", "50", "--seed", "4") as simulator:
        until(lambda: value(url, "select count(*) from orders") >= before + 10)
        simulator.send_signal(number)
        begin = time.monotonic()
        output, errors = simulator.communicate(timeout=10)
        took = time.monotonic() - begin
    assert (simulator.returncode, errors) == (0, "")
    assert took < 1
    report = json.loads(output)
    assert output.count("\n") == 1
    assert report["orders_written"] == value(url, "select count(*) from orders") - before


def test_a_row_locked_for_long_neither_stops_the_shop_nor_its_end(
    small_shop: Callable[[], str],
) -> None:
    url = small_shop()
    with (
        psycopg.connect(url) as somebody,
        process("--url", url, "--rate", "50") as simulator,
    ):
        somebody.execute("lock table products in exclusive mode")
        waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
        until(lambda: bool(value(url, waiting)))
        simulator.terminate()
        begin = time.monotonic()
        output, _ = simulator.communicate(timeout=10)
        assert time.monotonic() - begin < 1
    assert json.loads(output)["refused"] >= 1


def test_what_the_database_refuses_is_counted_and_the_shop_goes_on(
    small_shop: Callable[[], str],
) -> None:
    url = small_shop()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("update products set stock = 0")
    tally = run(url, orders=20)
    assert tally.actions["place_order"] == 0
    assert tally.refused == 20
    assert tally.actions["register_customer"] > 0


def test_it_survives_a_restart_of_the_database(open_folder: Path) -> None:
    orders = "select count(*) from orders"
    with Server(open_folder / "restarted") as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            open_shop(connection, seed=3, now=NOON, zone=LONDON, days=1, customers=9)
        loaded = value(server.url, orders)
        with process("--url", server.url, "--rate", "100") as simulator:
            until(lambda: bool(value(server.url, orders) > loaded))
            server.stop()
            server.start()
            came_back_to = value(server.url, orders)
            until(lambda: bool(value(server.url, orders) > came_back_to))
            simulator.terminate()
            output, errors = simulator.communicate(timeout=10)
    assert errors == ""
    assert json.loads(output)["reconnects"] == 1


def test_a_database_that_stays_away_ends_it(
    postgres: Server, small_shop: Callable[[], str]
) -> None:
    url = small_shop()

    def drop_the_database(zone: ZoneInfo) -> datetime:
        name = sql.Identifier(url.rpartition("/")[2])
        with psycopg.connect(postgres.url, autocommit=True) as admin:
            admin.execute(sql.SQL("drop database if exists {} with (force)").format(name))
        return datetime(2026, 6, 9, 12, tzinfo=zone)

    with StopSignal() as stop, pytest.raises(Unavailable, match="cannot reach"):
        simulate(
            url,
            seed=1,
            rate=100,
            zone=LONDON,
            stop=stop,
            absence_seconds=0.2,
            now=drop_the_database,
        )


def test_a_connection_lost_while_looking_around_is_one_clear_error(
    small_shop: Callable[[], str],
) -> None:
    with psycopg.connect(small_shop(), autocommit=True, row_factory=dict_row) as connection:
        pid = {"pid": connection.info.backend_pid}
        with psycopg.connect(connection.info.dsn, autocommit=True) as admin:
            admin.execute("select pg_terminate_backend(%(pid)s, 5000)", pid)
        with pytest.raises(Unavailable, match="lost"):
            look_around(connection)


def test_it_ends_by_itself_after_its_time(small_shop: Callable[[], str]) -> None:
    with process("--url", small_shop(), "--rate", "20", "--for", "0.5") as simulator:
        output, _ = simulator.communicate(timeout=20)
    assert simulator.returncode == 0
    assert json.loads(output)["orders_written"] == 10


def test_no_database_and_no_shop_are_each_one_clear_error(
    postgres: Server, new_database: Callable[[], str]
) -> None:
    with pytest.raises(EnvironmentFault, match="no sample shop"):
        run(new_database(), orders=1)
    with pytest.raises(Unavailable, match="cannot reach"):
        run(postgres.url_of("nowhere"), orders=1)
    with process("--url", postgres.url_of("nowhere")) as simulator:
        output, errors = simulator.communicate(timeout=20)
    assert (simulator.returncode, output) == (3, "")
    assert "next:" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("rate", ["0", "-1", "inf", "nan", "fast"])
def test_a_rate_must_be_a_positive_number(rate: str) -> None:
    environment: Mapping[str, str] = {**os.environ, "COLUMNS": "200"}
    command = [sys.executable, "-m", "upwell.demo.simulator", "--url", "x", f"--rate={rate}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2
    assert "--rate" in done.stderr
