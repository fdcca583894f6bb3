"""A newcomer's database, one command, and a live page whose numbers are the database's own.

The totals are computed a second time by the database itself, from SQL that was written by hand.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.acceptance.databases import (
    Load,
    load_chinook,
    load_jaffle_shop,
    load_northwind,
    load_superstore,
)
from tests.acceptance.running import bars as bars_of
from tests.acceptance.running import eventually, free_port, get_json, number
from upwell.app import commands
from upwell.cli import main as command_line
from upwell.demo.server import Server
from upwell.feed.channel import EngineClient
from upwell.store.place import StatePlace
from upwell.supervise import Supervisor

pytestmark = pytest.mark.postgres


@dataclass(frozen=True)
class Sample:
    """A database, what its page must say, and a change that moves it."""

    load: Load
    board: str
    #: Metric → SQL of its total.
    totals: dict[str, str]
    #: Dimension and SQL of (value, main metric).
    split: tuple[str, str]
    change: str


_NORTHWIND_LINE = "round(quantity * unit_price::numeric(18,4) * (1 - discount::numeric(18,4)), 4)"
SAMPLES = {
    "northwind": Sample(
        load_northwind,
        "sales",
        {
            "net_sales": f"select sum({_NORTHWIND_LINE}) from order_details",
            "orders": "select count(distinct order_id) from order_details",
            "units": "select sum(quantity) from order_details",
            "average_order": (
                f"select sum({_NORTHWIND_LINE}) / count(distinct order_id) from order_details"
            ),
        },
        (
            "category",
            (
                f"select category_name, sum({_NORTHWIND_LINE})"
                " from order_details join (select product_id, category_id from products) p"
                " using (product_id)"
                " left join categories using (category_id) group by 1"
            ),
        ),
        "update order_details set quantity = quantity + 7 where order_id = 10248",
    ),
    "chinook": Sample(
        load_chinook,
        "sales",
        {
            "sales": "select sum(unit_price * quantity) from invoice_line",
            "invoices": "select count(*) from invoice",
            "units": "select sum(quantity) from invoice_line",
        },
        (
            "media_type",
            (
                "select m.name, sum(l.unit_price * l.quantity) from invoice_line l"
                " join track t using (track_id) join media_type m using (media_type_id) group by 1"
            ),
        ),
        "update invoice_line set quantity = 3 where invoice_line_id = 1",
    ),
    "jaffle_shop": Sample(
        load_jaffle_shop,
        "payments",
        {
            "payments": "select sum(amount) from raw_payments",
            "orders": "select count(distinct order_id) from raw_payments",
        },
        (
            "payment_method",
            "select payment_method, sum(amount) from raw_payments group by 1",
        ),
        "update raw_payments set amount = amount + 100 where id = 1",
    ),
    "superstore": Sample(
        load_superstore,
        "sales",
        {
            "sales": 'select sum("Sales") from "Superstore"',
            "orders": 'select count(distinct "Order ID") from "Superstore"',
            "profit": 'select sum("Profit") from "Superstore"',
        },
        ("region", 'select "Region", sum("Sales") from "Superstore" group by 1'),
        'update "Superstore" set "Sales" = "Sales" * 2 where id = 1',
    ),
}


@dataclass(frozen=True)
class Drafted:
    """A project that ``init`` wrote, following its database."""

    folder: Path
    url: str
    address: str
    said: dict[str, Any]

    def board(self, name: str) -> dict[str, Any]:
        return get_json(f"{self.address}/api/v1/dashboards/{name}?period=all")

    def ask(self, question: str) -> Any:
        return EngineClient(StatePlace(self.folder).find_socket()).ask(question)


Follow = Callable[[str, Load], AbstractContextManager[Drafted]]


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """What a verb answers with ``--json``; it must succeed."""
    with pytest.raises(SystemExit) as ended:
        command_line.main([*arguments, "--json"])
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert answer["ok"], answer
    assert ended.value.code in {0, None}
    return dict(answer["data"])


def new_database(server: Server, name: str, load: Load) -> str:
    """The URL of a database of this test's own."""
    database = f"{name}_{uuid4().hex[:8]}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f'create database "{database}"'.encode())
    url = server.url_of(database)
    with psycopg.connect(url, autocommit=True) as connection:
        load(connection)
    return url


@contextmanager
def followed(folder: Path, url: str, address: str, told: dict[str, Any]) -> Iterator[Drafted]:
    """The project's processes, ready; what they left in the database is released after."""
    supervisor = Supervisor(commands(folder), StatePlace(folder).logs, lambda _: None)
    stop = threading.Event()
    with supervisor.running():
        supervisor.watch(stop, until=supervisor.all_ready)
        watcher = threading.Thread(target=supervisor.watch, args=(stop,))
        watcher.start()
        try:
            yield Drafted(folder, url, address, told)
        finally:
            stop.set()
            watcher.join()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots "
            "where database = current_database() and not active"
        )


@pytest.fixture
def follow(
    postgres: Server,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Follow:
    """Makes a database, drafts a project from it with one command, checks it and runs it."""
    monkeypatch.setattr("signal.signal", lambda *_: None)  # a test's process keeps its own

    def start(name: str, load: Load) -> AbstractContextManager[Drafted]:
        url = new_database(postgres, name, load)
        folder = tmp_path / url.rpartition("/")[2]
        told = said(capsys, "init", str(folder), "--from", url, "--yes")
        http = f"127.0.0.1:{free_port()}"
        settings = folder / "upwell.yaml"
        settings.write_text(settings.read_text().replace("127.0.0.1:8321", http))
        assert said(capsys, "validate", "--project", str(folder))["tables_from"] == "source"
        assert said(capsys, "doctor", "--project", str(folder))["fit"]
        return followed(folder, url, f"http://{http}", told)

    return start


def truth(drafted: Drafted, sample: Sample) -> tuple[dict[str, float], dict[str, float]]:
    """The totals and the split as the database itself computes them."""
    with psycopg.connect(drafted.url) as connection:
        totals = {
            metric: float(connection.execute(query.encode()).fetchall()[0][0])
            for metric, query in sample.totals.items()
        }
        rows = connection.execute(sample.split[1].encode()).fetchall()
    return totals, {label: float(value) for label, value in rows if value}


def shown(drafted: Drafted, sample: Sample) -> tuple[dict[str, float], dict[str, float]]:
    """The same as the page shows it: a ranking, or the sums of a timeline's layers."""
    board = drafted.board(sample.board)
    totals = {metric: float(number(board, metric)) for metric in sample.totals}
    dimension = sample.split[0]
    ranked = {label: float(value) for label, value in bars_of(board, dimension).items()}
    return totals, ranked


@pytest.mark.parametrize("name", SAMPLES)
def test_one_command_gives_a_live_page_with_the_databases_own_numbers(
    follow: Follow, name: str
) -> None:
    sample = SAMPLES[name]
    with follow(name, sample.load) as drafted:

        def is_true() -> bool:
            totals, split = truth(drafted, sample)
            on_page, ranked = shown(drafted, sample)
            return on_page == pytest.approx(totals, abs=1e-6) and ranked == pytest.approx(split)

        eventually(is_true)
        before = drafted.board(sample.board)["tiles"]
        with psycopg.connect(drafted.url, autocommit=True) as connection:
            assert connection.execute(sample.change.encode()).rowcount
        eventually(lambda: drafted.board(sample.board)["tiles"] != before and is_true())
        assert all(model["holds"] for model in drafted.ask("prove")["models"])


def load_nasty_names(connection: psycopg.Connection) -> None:
    """Reserved words, capitals, blanks, quotes, other alphabets; one name in two schemas."""
    connection.execute(
        """
        create schema "Sales Dept";
        create table "order" ("select" int primary key, "Order Date" timestamp not null,
                              "from" text not null);
        create table "Sales Dept"."order" (id int primary key);
        create table "quo""te Lines" ("Line ID" int primary key,
            "order" int not null references "order", "Qty" int not null,
            "unit price" numeric not null, "заказ" text, "user" text, "a""b" date);
        insert into "order"
            select n, now() - n * interval '1 hour', (array['x', 'y', 'z'])[n % 3 + 1]
            from generate_series(1, 40) n;
        insert into "quo""te Lines" select n, n, 2, 1.5, 'да', 'u', null
            from generate_series(1, 40) n;
        """
    )


def test_hostile_names_come_through_to_the_page(follow: Follow) -> None:
    with follow("Nasty-Names", load_nasty_names) as drafted:
        assert {each["name"] for each in drafted.said["tables"]} == {
            "order",
            "Sales Dept.order",
            'quo"te Lines',
        }
        assert drafted.said["fact"] == 'quo"te Lines'
        eventually(lambda: number(drafted.board("sales"), "sales") == 120)
        with psycopg.connect(drafted.url, autocommit=True) as connection:
            connection.execute('update "quo""te Lines" set "Qty" = 3 where "Line ID" = 1')
        eventually(lambda: number(drafted.board("sales"), "sales") == 121.5)


def load_timeless(connection: psycopg.Connection) -> None:
    connection.execute(
        "create table cities (id int primary key, country text, people int);"
        "insert into cities values (1, 'France', 5), (2, 'Peru', 7)"
    )


def test_a_database_without_any_time_gives_a_project_that_runs(follow: Follow) -> None:
    with follow("timeless", load_timeless) as drafted:
        assert drafted.said["fact"] is None
        proofs = drafted.ask("prove")["models"]
        assert [(model["model"], model["rows"], model["holds"]) for model in proofs] == [
            ("cities", 2, True)
        ]
