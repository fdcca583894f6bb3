"""Loads the daily files of Online Retail into PostgreSQL, day by day, oldest first.

    python examples/online-retail/load.py FILES [--url URL] [--days-per-second N] [--until DATE]

``FILES`` is a folder of CSV files named after their days (``2010-12-01.csv``) or a ``.tar.gz`` of
such a folder. Each day is one transaction, and the table ``loaded_files`` remembers its content:
stopped at any moment and started again, the loader goes on with the first day that is missing.

Values enter as they stand in the file. The exception is the customer, written ``17850.0``, which
becomes the integer it is. Refused: a file whose content changed after it was loaded, a customer
that is no whole number, a price finer than the column holds.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import itertools
import os
import re
import sys
import tarfile
import time
from collections.abc import Iterator
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import psycopg

URL = "postgresql://postgres@127.0.0.1:54329/retail"
SCHEMA = Path(__file__).parent / "schema.sql"
NAME = re.compile(r"\d{4}-\d{2}-\d{2}\.csv")

HEADER = [
    *("InvoiceNo", "StockCode", "Description", "Quantity"),
    *("InvoiceDate", "UnitPrice", "CustomerID", "Country"),
]
COPY = """
copy invoice_lines (
    file, invoice_no, stock_code, description, quantity,
    invoiced_at, unit_price, customer_id, country
) from stdin
"""
PRICE_DECIMALS = 3  # of the column unit_price

Line = tuple[str | int | None, ...]


class Day(NamedTuple):
    """One file: its name, and its bytes as they came."""

    name: str
    content: bytes


class LoadError(Exception):
    """The files cannot be loaded as they are."""


def main() -> int:
    """Load what is not loaded yet. 0: done; 1: refused, with what was loaded before it kept."""
    given = arguments()
    try:
        with psycopg.connect(given.url, autocommit=True) as connection:
            connection.execute(SCHEMA.read_bytes())
            for day in days(given.files, given.until):
                lines = load(connection, day)
                told = "already loaded" if lines is None else f"{lines:,} lines"
                print(f"{day.name}  {told}", flush=True)
                if lines is not None and given.days_per_second is not None:
                    time.sleep(1 / given.days_per_second)
    except (LoadError, psycopg.Error, OSError, tarfile.TarError) as error:
        print(f"cannot load {given.files}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; start again to go on", file=sys.stderr)
    return 0


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description="Loads Online Retail, day by day.")
    parser.add_argument("files", type=Path, help="folder or .tar.gz of daily CSV files")
    parser.add_argument("--url", default=os.environ.get("RETAIL_URL") or URL, help="the database")
    parser.add_argument("--days-per-second", type=float, help="at most so many")
    parser.add_argument("--until", type=date.fromisoformat, help="last day to load, YYYY-MM-DD")
    given = parser.parse_args()
    if given.days_per_second is not None and given.days_per_second <= 0:
        parser.error("--days-per-second must be more than 0")
    return given


def days(files: Path, until: date | None = None) -> Iterator[Day]:
    """The daily files, oldest first."""
    found = _days_of_folder(files) if files.is_dir() else _days_of_archive(files)
    first = next(found, None)
    if first is None:
        raise LoadError("there is no file named after its day, such as 2010-12-01.csv")
    for day in itertools.chain([first], found):
        if until is not None and day.name > f"{until}.csv":
            return
        yield day


def load(connection: psycopg.Connection, day: Day) -> int | None:
    """Load one day in one transaction; how many lines, or None when it is in already."""
    sha256 = hashlib.sha256(day.content).hexdigest()
    lines = list(parse(day))
    with connection.transaction():
        # A second loader waits here for the first one's transaction, and then finds the day in.
        taken = connection.execute(
            "insert into loaded_files (name, sha256, lines) values (%s, %s, %s)"
            " on conflict (name) do nothing",
            [day.name, sha256, len(lines)],
        )
        if taken.rowcount == 0:
            _refuse_other_content(connection, day.name, sha256)
            return None
        with connection.cursor().copy(COPY) as copy:
            for line in lines:
                copy.write_row((day.name, *line))
    return len(lines)


def parse(day: Day) -> Iterator[Line]:
    """The lines of a file, in the order of its header; what is empty is None."""
    rows = csv.reader(io.StringIO(day.content.decode("utf-8"), newline=""))
    if next(rows, None) != HEADER:
        raise LoadError(f"{day.name} does not begin with the header {','.join(HEADER)}")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(HEADER):
            raise LoadError(f"{day.name}, line {number}: {len(row)} fields, not {len(HEADER)}")
        try:
            invoice, code, description, quantity, at, price, customer, country = row
            line = (description or None, quantity, at, _price(price), _customer(customer))
        except (ValueError, InvalidOperation) as error:
            raise LoadError(f"{day.name}, line {number}: {error}") from error
        yield (invoice, code, *line, country)


def _price(text: str) -> str:
    """The price as written, once it is sure that the column can hold all of it."""
    exponent = Decimal(text).as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -PRICE_DECIMALS:
        raise ValueError(f"price {text} has more than {PRICE_DECIMALS} decimals")
    return text


def _customer(text: str) -> int | None:
    if not text:
        return None
    number = Decimal(text)
    if number != number.to_integral_value():
        raise ValueError(f"customer {text} is no whole number")
    return int(number)


def _refuse_other_content(connection: psycopg.Connection, name: str, sha256: str) -> None:
    found = connection.execute("select sha256 from loaded_files where name = %s", [name]).fetchone()
    if found is None or found[0] != sha256:
        raise LoadError(
            f"{name} was loaded before with other content; delete its rows from invoice_lines and"
            " loaded_files to load it anew"
        )


def _days_of_folder(folder: Path) -> Iterator[Day]:
    for path in sorted(folder.iterdir()):
        if NAME.fullmatch(path.name):
            yield Day(path.name, path.read_bytes())


def _days_of_archive(path: Path) -> Iterator[Day]:
    with tarfile.open(path) as archive:
        members = {PurePosixPath(member.name).name: member for member in archive}
        for name in sorted(filter(NAME.fullmatch, members)):
            content = archive.extractfile(members[name])
            if content is not None:
                yield Day(name, content.read())


if __name__ == "__main__":
    sys.exit(main())
