"""Computes the example's totals from the daily files alone: no database, no SQL, no data frame.

    python examples/online-retail/check.py FILES [--until DATE] [--json]

It shares nothing with the models, so that a mistake in either shows. ``--json`` writes what every
number on the pages should be, for ``examples/compare.py``; otherwise the totals are printed.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TextIO

POSTAGE = {"POST", "DOT", "C2"}
BY_HAND = {"M", "m"}
NO_SALE = {"AMAZONFEE", "B", "BANK CHARGES", "CRUK", "S"}


class Cell(NamedTuple):
    """All by which the pages can tell lines apart."""

    country: str
    customer: str
    kind: str
    month: str


@dataclass
class Sum:
    """What the lines of a cell come to."""

    lines: int = 0
    units: int = 0
    amount: Decimal = Decimal(0)
    invoices: set[str] = field(default_factory=set)


Cells = dict[Cell, Sum]
Metrics = dict[str, Decimal | int | None]


def main() -> int:
    """Print the totals."""
    parser = argparse.ArgumentParser(description="Totals of Online Retail, computed plainly.")
    parser.add_argument("files", type=Path, help="folder or .tar.gz of daily CSV files")
    parser.add_argument("--until", type=date.fromisoformat, help="last day to count, YYYY-MM-DD")
    parser.add_argument("--json", action="store_true", help="every number, for compare.py")
    given = parser.parse_args()
    cells = add_up(given.files, given.until)
    if given.json:
        json.dump(list(expectations(cells)), sys.stdout, default=str)
    else:
        for page in PAGES:
            for name, value in page(cells).items():
                print(f"{page.__name__:<8} {name:<14} {value or 0:>16,}")
    return 0


def add_up(files: Path, until: date | None) -> Cells:
    """Every line of every file, counted where it belongs."""
    cells: Cells = defaultdict(Sum)
    for file in opened(files, until):
        for line in csv.DictReader(file):
            quantity, price = int(line["Quantity"]), Decimal(line["UnitPrice"])
            cell = cells[
                Cell(
                    country=line["Country"],
                    customer="known" if line["CustomerID"] else "unknown",
                    kind=kind_of(line["StockCode"], quantity, price),
                    month=line["InvoiceDate"][:7],
                )
            ]
            cell.lines += 1
            cell.units += quantity
            cell.amount += quantity * price
            cell.invoices.add(line["InvoiceNo"])
    return cells


def kind_of(code: str, quantity: int, price: Decimal) -> str:
    """What a line is."""
    if code == "D":
        return "discount"
    if code in POSTAGE:
        return "postage"
    if code in BY_HAND:
        return "manual"
    if code in NO_SALE:
        return "fee"
    if not price:
        return "stock"
    return "sale" if quantity > 0 else "return"


def opened(files: Path, until: date | None) -> Iterator[TextIO]:
    """The files up to a day, as text."""
    last = f"{until or date.max}.csv"
    if files.is_dir():
        for path in files.glob("*.csv"):
            if path.name <= last:
                with path.open(encoding="utf-8", newline="") as file:
                    yield file
        return
    with tarfile.open(files) as archive:
        for member in archive:
            name = PurePosixPath(member.name).name
            content = archive.extractfile(member)
            if content is not None and name.endswith(".csv") and name <= last:
                yield io.TextIOWrapper(content, encoding="utf-8", newline="")


def sales(cells: Cells) -> Metrics:
    """The metrics of the page of that name over some cells."""
    sold = [total for cell, total in cells.items() if cell.kind == "sale"]
    orders = len(set[str]().union(*(total.invoices for total in sold)))
    gross = amount(cells, "sale")
    return {
        "net_sales": gross + amount(cells, "return") + amount(cells, "discount"),
        "gross_sales": gross,
        "orders": orders,
        "units": sum(total.units for total in sold),
        "average_order": ratio(gross, orders),
    }


def returns(cells: Cells) -> Metrics:
    """The metrics of the page of that name over some cells."""
    taken_back = -amount(cells, "return")
    return {
        "returns": taken_back,
        "return_rate": ratio(taken_back, amount(cells, "sale")),
        "discounts": -amount(cells, "discount"),
    }


def ledger(cells: Cells) -> Metrics:
    """The metrics of the page of that name over some cells."""
    return {
        "invoiced": sum((total.amount for total in cells.values()), Decimal(0)),
        "lines": sum(total.lines for total in cells.values()),
    }


#: The pages, and what each can be filtered by.
PAGES = {
    sales: ("country", "customer"),
    returns: ("country", "customer"),
    ledger: ("kind", "country"),
}


def amount(cells: Cells, kind: str) -> Decimal:
    """The money of all lines of one kind."""
    return sum((total.amount for cell, total in cells.items() if cell.kind == kind), Decimal(0))


def ratio(part: Decimal, whole: Decimal | int) -> Decimal | None:
    """A quotient to six decimals; None of nothing."""
    return (part / whole).quantize(Decimal("0.000001")) if whole else None


def expectations(cells: Cells) -> Iterator[dict[str, Any]]:
    """What each page should show, unfiltered and under each filter and pair of filters."""
    for page, dimensions in PAGES.items():
        chosen: set[tuple[tuple[str, str], ...]] = {()}
        for cell in cells:
            each = tuple((name, str(getattr(cell, name))) for name in dimensions)
            chosen |= {each[:1], each[1:], each}
        for where in sorted(chosen):
            part = {
                cell: total
                for cell, total in cells.items()
                if all(getattr(cell, name) == value for name, value in where)
            }
            months = {
                month: page({cell: total for cell, total in part.items() if cell.month == month})
                for month in sorted({cell.month for cell in part})
            }
            for metric, value in page(part).items():
                is_ratio = metric in {"average_order", "return_rate"}
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
