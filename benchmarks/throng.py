"""A throng of customers: ``python -m benchmarks.throng --url URL --rate N --seconds S``.

Writes to the sample shop at a steady number of row changes a second, far more than single customers
can: fifty transactions a second, in each of them orders with two lines and a payment, and the
orders of the transaction before set to paid. Five changes an order, one of them an update.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path

import psycopg

_TRANSACTIONS_A_SECOND = 50
_CHANGES_AN_ORDER = 5
_PLACE = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8").encode()
_PAY = "update orders set status = 'paid', updated_at = now() where id = any(%s)"


class Throng:
    """One connection to the shop, and who and what is in it."""

    def __init__(self, connection: psycopg.Connection, seed: int) -> None:
        self._connection = connection
        self._random = random.Random(seed)
        self._customers = [row[0] for row in connection.execute("select id from customers")]
        self._products = connection.execute("select id, price from products").fetchall()
        self._unpaid: list[int] = []
        self.changes = 0

    def act(self, orders: int) -> None:
        """One transaction: some orders are placed, those of the last one paid."""
        lines = [line for _ in range(orders) for line in self._random.sample(self._products, 2)]
        given = {
            "customers": self._random.choices(self._customers, k=orders),
            "orders": [1 + number // 2 for number in range(2 * orders)],
            "products": [product for product, _ in lines],
            "prices": [price for _, price in lines],
        }
        with self._connection.transaction():
            placed = [row[0] for row in self._connection.execute(_PLACE, given)]
            paid = self._connection.execute(_PAY, [self._unpaid]).rowcount
        self._unpaid = placed
        self.changes += 4 * len(placed) + paid


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throng", description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--rate", required=True, type=float, help="row changes a second")
    parser.add_argument("--seconds", required=True, type=float)
    parser.add_argument("--seed", default=7, type=int)
    given = parser.parse_args()
    orders = max(1, round(given.rate / _CHANGES_AN_ORDER / _TRANSACTIONS_A_SECOND))
    pause = orders * _CHANGES_AN_ORDER / given.rate
    with psycopg.connect(given.url, autocommit=True) as connection:
        throng = Throng(connection, given.seed)
        begun = due = time.monotonic()
        while due < begun + given.seconds and time.monotonic() < begun + given.seconds:
            time.sleep(max(0.0, due - time.monotonic()))
            throng.act(orders)
            due += pause
        told = {"changes": throng.changes, "seconds": time.monotonic() - begun}
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
