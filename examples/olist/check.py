"""Computes the example's totals from the files alone: no database, no SQL, no data frame.

    python examples/olist/check.py FOLDER... [--json]

It shares nothing with the models, so that a mistake in either shows. ``--json`` writes what every
number on the pages should be, for ``examples/compare.py``; otherwise the totals are printed.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

NOT_SOLD = {"canceled", "unavailable"}
RATIOS = {"average_order", "late_share", "average_payment"}


class Item(NamedTuple):
    """One piece of a sold order."""

    order: str
    category: str
    state: str
    month: str
    price: Decimal
    freight: Decimal
    delivered: bool
    late: bool


class Payment(NamedTuple):
    """One payment of a sold order."""

    order: str
    payment_type: str
    state: str
    month: str
    amount: Decimal


def main() -> int:
    """Print the totals."""
    parser = argparse.ArgumentParser(description="Totals of Olist, computed plainly.")
    parser.add_argument("folders", type=Path, nargs="+", help="where the CSV files lie")
    parser.add_argument("--json", action="store_true", help="every number, for compare.py")
    given = parser.parse_args()
    sold = Sold(given.folders)
    if given.json:
        found = [
            *expectations(sales, list(sold.items()), ("category", "state"), {"revenue"}),
            *expectations(deliveries, list(sold.items()), ("category", "state"), {"late_orders"}),
            *expectations(payments, list(sold.payments()), ("payment_type", "state")),
        ]
        json.dump(found, sys.stdout, default=str)
    else:
        totals = sales(sold.items()) | deliveries(sold.items()) | payments(sold.payments())
        for name, value in totals.items():
            print(f"{name:<18} {value or 0:>14,}")
    return 0


class Sold:
    """The files, joined: what was sold and how it was paid, without cancelled orders."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._orders = {
            order["order_id"]: order
            for order in self._rows("olist_orders_dataset")
            if order["order_id"] and order["order_status"] not in NOT_SOLD
        }
        self._states = {
            customer["customer_id"]: customer["customer_state"]
            for customer in self._rows("olist_customers_dataset")
        }
        english = {
            row["product_category_name"]: row["product_category_name_english"]
            for row in self._rows("product_category_name_translation")
        }
        self._categories = {
            product["product_id"]: english.get(
                product["product_category_name"],
                product["product_category_name"] or "uncategorised",
            ).replace("_", " ")
            for product in self._rows("olist_products_dataset")
        }

    def items(self) -> Iterator[Item]:
        """Every piece of every sold order."""
        for item in self._rows("olist_order_items_dataset"):
            order = self._orders.get(item["order_id"])
            if order is not None:
                came, promised = (
                    order[f"order_{day}_date"][:10]
                    for day in ("delivered_customer", "estimated_delivery")
                )
                delivered = order["order_status"] == "delivered" and bool(came)
                yield Item(
                    order["order_id"],
                    self._categories[item["product_id"]],
                    self._states[order["customer_id"]],
                    order["order_purchase_timestamp"][:7],
                    Decimal(item["price"]),
                    Decimal(item["freight_value"]),
                    delivered=delivered,
                    late=delivered and came > promised,
                )

    def payments(self) -> Iterator[Payment]:
        """Every payment of every sold order."""
        for payment in self._rows("olist_order_payments_dataset"):
            order = self._orders.get(payment["order_id"])
            if order is not None:
                yield Payment(
                    order["order_id"],
                    payment["payment_type"].replace("_", " "),
                    self._states[order["customer_id"]],
                    order["order_purchase_timestamp"][:7],
                    Decimal(payment["payment_value"]),
                )

    def _rows(self, name: str) -> Iterator[dict[str, str]]:
        """The rows of a file in the first folder that has it; none where no folder has."""
        paths = (folder / (name + end) for folder in self._folders for end in (".csv", ".csv.gz"))
        path = next((path for path in paths if path.exists()), None)
        if path is not None:
            opened = gzip.open if path.suffix == ".gz" else open
            with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
                yield from csv.DictReader(file)


Metrics = dict[str, Decimal | int | None]
Row = TypeVar("Row", Item, Payment)


def sales(items: Iterable[Item]) -> Metrics:
    """The metrics of the page of that name."""
    revenue, freight, count, orders = Decimal(0), Decimal(0), 0, set[str]()
    for item in items:
        count += 1
        revenue += item.price
        freight += item.freight
        orders.add(item.order)
    return {
        "revenue": revenue,
        "orders": len(orders),
        "items": count,
        "average_order": ratio(revenue, len(orders)),
        "freight": freight,
    }


def deliveries(items: Iterable[Item]) -> Metrics:
    """The metrics of the page of that name."""
    arrived = [item for item in items if item.delivered]
    orders = {item.order for item in arrived}
    late = {item.order for item in arrived if item.late}
    return {
        "delivered_revenue": sum((item.price for item in arrived), Decimal(0)),
        "delivered_orders": len(orders),
        "late_orders": len(late),
        "late_share": ratio(Decimal(len(late)), len(orders)),
    }


def payments(made: Iterable[Payment]) -> Metrics:
    """The metrics of the page of that name."""
    listed = list(made)
    paid = sum((payment.amount for payment in listed), Decimal(0))
    return {
        "paid": paid,
        "payments_made": len(listed),
        "paid_orders": len({payment.order for payment in listed}),
        "average_payment": ratio(paid, len(listed)),
    }


def ratio(part: Decimal, whole: int) -> Decimal | None:
    """A quotient to six decimals; None of nothing."""
    return (part / whole).quantize(Decimal("0.000001")) if whole else None


def expectations(
    page: Callable[[Iterable[Row]], Metrics],
    rows: Sequence[Row],
    dimensions: tuple[str, str],
    crossed: set[str] | None = None,
) -> Iterator[dict[str, Any]]:
    """What a page should show: unfiltered, under each filter, and under each pair of filters.

    Under pairs only the ``crossed`` metrics, where these are named.
    """
    parts: dict[tuple[tuple[str, str], ...], dict[str, list[Row]]] = defaultdict(dict)
    for row in rows:
        each = tuple((name, str(getattr(row, name))) for name in dimensions)
        for where in ((), each[:1], each[1:], each):
            parts[where].setdefault(row.month, []).append(row)
    for where, by_month in parts.items():
        metrics = page([row for month in by_month.values() for row in month])
        months = {month: page(part) for month, part in by_month.items()}
        for metric, value in metrics.items():
            if len(where) < len(dimensions) or crossed is None or metric in crossed:
                is_ratio = metric in RATIOS
                yield {
                    "dashboard": page.__name__,
                    "where": dict(where),
                    "metric": metric,
                    "value": value,
                    "months": None if is_ratio else {m: each[metric] for m, each in months.items()},
                    "is_ratio": is_ratio,
                }


if __name__ == "__main__":
    sys.exit(main())
