"""Customers for the sample shop, as a process of its own that talks to PostgreSQL only.

``python -m upwell.demo.simulator --url URL --rate 2`` writes real transactions, each shop action
one, at a steady number of orders a second. Order ``k`` is due ``k / rate`` seconds after the start,
whatever the ones before took, so the rate does not drift; only when the database was away, or is
too slow by a whole second, is the time lost given up.

SIGTERM and SIGINT stop it between two actions, within a second. It ends with one JSON line on
standard output. A restart of the database is waited out, for a minute at most; what the database
refuses (sold out, a row locked by somebody for long) is counted and not tried again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec
import psycopg
from psycopg.rows import DictRow, dict_row

from upwell.core.errors import EnvironmentFault, Unavailable, UpwellError
from upwell.demo import assortment, tide
from upwell.demo.actions import Action, Outcome, perform
from upwell.demo.pace import Pace, StopSignal
from upwell.demo.shoppers import OpenOrder, Shoppers, ShopState

Connection = psycopg.Connection[DictRow]

_PATIENCE_MS = 500  # for a lock; a statement gets a little more: both below the second for a stop
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0
_LONGEST_ABSENCE_SECONDS = 60.0


@dataclass
class Tally:
    """What was done so far."""

    actions: Counter[str] = field(default_factory=Counter)
    row_changes: int = 0
    refused: int = 0
    reconnects: int = 0

    def note(self, action: Action, outcome: Outcome) -> None:
        if outcome.changes:
            self.actions[action.kind] += 1
        self.row_changes += outcome.changes

    def report(self, seconds: float) -> dict[str, object]:
        """The closing line: counts, and what they come to a second."""
        return {
            "orders_written": self.actions["place_order"],
            "transactions": self.actions.total(),
            "row_changes": self.row_changes,
            "actions": dict(sorted(self.actions.items())),
            "refused": self.refused,
            "reconnects": self.reconnects,
            "seconds": round(seconds, 3),
            "row_changes_per_second": round(self.row_changes / seconds, 1) if seconds else 0.0,
        }


def simulate(
    url: str,
    *,
    seed: int,
    rate: float,
    zone: ZoneInfo,
    stop: StopSignal,
    duration_seconds: float | None = None,
    orders: int | None = None,
    absence_seconds: float = _LONGEST_ABSENCE_SECONDS,
    now: Callable[[ZoneInfo], datetime] = datetime.now,
    clock: Callable[[], float] = time.monotonic,
) -> Tally:
    """Run the shop until stopped, until the duration is over, or until ``orders`` were tried.

    Raises ``Unavailable`` when the database cannot be reached at the start or is away for longer
    than ``absence_seconds``, ``EnvironmentFault`` when there is no shop in it.
    """
    tally = Tally()
    connection = _connect(url)
    try:
        shoppers = Shoppers(seed, look_around(connection))
        _lose_patience(connection)
        pace = Pace(rate, seed=seed, clock=clock)
        end = float("inf") if duration_seconds is None else clock() + duration_seconds
        tried = 0
        while tried != orders:
            due = pace.next_order()
            if stop.wait(min(due, end) - clock()) or due >= end:
                break
            for action in shoppers.next_actions(tide.hour_of_week(now(zone))):
                shoppers.learn(action, _attempt(connection, action, tally))
                if stop.is_set or connection.closed:
                    break
            tried += 1
            if connection.closed:
                connection = _reconnect(url, connection, stop, tally, absence_seconds)
    finally:
        connection.close()
    return tally


def _attempt(connection: Connection, action: Action, tally: Tally) -> Outcome:
    """Do it, or count that the database would not. A lost connection shows as closed."""
    try:
        outcome = perform(connection, action)
    except psycopg.Error:
        tally.refused += 1
        return Outcome()
    tally.note(action, outcome)
    return outcome


# ── the database ─────────────────────────────────────────────────────────────────────────────────


def _connect(url: str) -> Connection:
    try:
        return psycopg.connect(
            url, autocommit=True, row_factory=dict_row, connect_timeout=2, application_name="shop"
        )
    except psycopg.Error as error:
        raise Unavailable(
            "shop_unreachable",
            f"cannot reach the shop's database: {error}",
            next_step="check that the server runs and that --url names it",
        ) from error


def _lose_patience(connection: Connection) -> None:
    """From here on no statement waits long: a customer would not, and a stop must not."""
    connection.execute(f"set lock_timeout = {_PATIENCE_MS}")
    connection.execute(f"set statement_timeout = {_PATIENCE_MS + 200}")


def _reconnect(
    url: str, lost: Connection, stop: StopSignal, tally: Tally, absence_seconds: float
) -> Connection:
    """A new connection, with growing pauses between attempts; the lost one when stopped before."""
    pause, waited = _FIRST_PAUSE_SECONDS, 0.0
    while not stop.wait(pause):
        waited += pause
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        try:
            connection = _connect(url)
            _lose_patience(connection)
        except (Unavailable, psycopg.OperationalError):
            if waited >= absence_seconds:  # gone for good, and who started us perhaps with it
                raise
            continue
        tally.reconnects += 1
        return connection
    return lost


def look_around(connection: Connection) -> ShopState:
    """The shop as it stands: customers, products by category, the latest orders.

    Raises ``EnvironmentFault`` where there is no shop, ``Unavailable`` when the connection is lost.
    """
    try:
        customers = connection.execute("select id from customers order by created_at, id")
        products = connection.execute(
            "select id, left(sku, 3) as code from products order by id"
        ).fetchall()
        recent = connection.execute(
            """
            select o.id, o.status::text as status,
                (select min(product_id) from order_items i where i.order_id = o.id) as product
            from orders o where o.status <> 'cancelled'
            order by o.placed_at desc, o.id desc limit 120
            """
        ).fetchall()
        last = connection.execute("select coalesce(max(id), 0) as id from orders").fetchone()
    except psycopg.errors.UndefinedTable as error:
        raise EnvironmentFault(
            "no_shop",
            "there is no sample shop in this database",
            where=f"database {connection.info.dbname}",
            next_step="run `upwell demo`, which opens one",
        ) from error
    except psycopg.OperationalError as error:
        raise Unavailable(
            "shop_unreachable",
            f"the connection to the shop's database was lost: {error}",
            next_step="check that the server runs, then try again",
        ) from error
    return ShopState(
        customers=[row["id"] for row in customers],
        products=_by_category([(row["id"], row["code"]) for row in products]),
        recent_orders=[
            OpenOrder(row["id"], row["product"], row["status"])
            for row in recent
            if row["product"] is not None
        ],
        last_order=last["id"] if last else 0,
    )


def _by_category(products: list[tuple[int, str]]) -> list[list[int]]:
    """Ids in the order of the assortment. Article codes tell, since names may be edited."""
    codes = [category.code for category in assortment.CATEGORIES]
    shelves: list[list[int]] = [[] for _ in codes]
    for product, code in products:
        shelves[codes.index(code) if code in codes else 0].append(product)
    return shelves


# ── the command ──────────────────────────────────────────────────────────────────────────────────


def main(arguments: list[str] | None = None) -> int:
    """The process: returns its exit code."""
    options = _parser().parse_args(arguments)
    begin = time.monotonic()
    with StopSignal() as stop:
        try:
            tally = simulate(
                options.url,
                seed=options.seed,
                rate=options.rate,
                zone=options.zone,
                stop=stop,
                duration_seconds=options.duration_seconds,
                orders=options.orders,
            )
        except UpwellError as error:
            sys.stderr.write(f"{error}\n")
            return int(error.exit)
    report = tally.report(time.monotonic() - begin)
    sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m upwell.demo.simulator", description=__doc__)
    parser.add_argument("--url", required=True, help="the shop's database")
    parser.add_argument("--seed", type=int, default=7, help="same seed, same customers")
    parser.add_argument("--rate", type=_positive, default=2.0, help="orders a second")
    parser.add_argument("--zone", type=ZoneInfo, default="Europe/London", help="the shop's clock")
    parser.add_argument("--for", dest="duration_seconds", type=_positive, help="seconds to run")
    parser.add_argument("--orders", type=int, help="orders to try")
    return parser


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0: {text}")
    return number


if __name__ == "__main__":
    sys.exit(main())
