"""Loads the files of Olist, a Brazilian marketplace, into PostgreSQL.

    python examples/olist/load.py FOLDER... [--url URL]

The files may lie in one folder or in several, as ``.csv`` or ``.csv.gz``; where more than one has a
file, the first is taken. All tables are replaced in one transaction, so the load can be repeated,
also while Upwell follows, and nobody sees half of it.

Values enter as they stand in the file; what is empty is NULL, and rows without a key (some copies
are padded with them) are left out. Refused: a missing file or column, and, by the database, a row
whose order, product, seller or customer is missing.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

URL = "postgresql://postgres@127.0.0.1:54329/olist"
SCHEMA = Path(__file__).parent / "schema.sql"


@dataclass(frozen=True)
class Table:
    """A table and its file: columns by the names that the file gives them, the key first."""

    name: str
    file: str
    columns: Mapping[str, str]
    optional: bool = False


#: In the order of their foreign keys.
TABLES = (
    Table(
        "customers",
        "olist_customers_dataset",
        {
            "customer_id": "customer_id",
            "customer_unique_id": "customer_unique_id",
            "customer_zip_code_prefix": "zip_code_prefix",
            "customer_city": "city",
            "customer_state": "state",
        },
    ),
    Table(
        "sellers",
        "olist_sellers_dataset",
        {
            "seller_id": "seller_id",
            "seller_zip_code_prefix": "zip_code_prefix",
            "seller_city": "city",
            "seller_state": "state",
        },
    ),
    Table(
        "category_names",
        "product_category_name_translation",
        {"product_category_name": "category", "product_category_name_english": "english"},
        optional=True,  # categories then keep their Portuguese names
    ),
    Table(
        "products",
        "olist_products_dataset",
        {
            "product_id": "product_id",
            "product_category_name": "category",
            "product_photos_qty": "photos",
            "product_weight_g": "weight_g",
            "product_length_cm": "length_cm",
            "product_height_cm": "height_cm",
            "product_width_cm": "width_cm",
        },
    ),
    Table(
        "orders",
        "olist_orders_dataset",
        {
            "order_id": "order_id",
            "customer_id": "customer_id",
            "order_status": "status",
            "order_purchase_timestamp": "purchased_at",
            "order_approved_at": "approved_at",
            "order_delivered_carrier_date": "handed_to_carrier_at",
            "order_delivered_customer_date": "delivered_at",
            "order_estimated_delivery_date": "estimated_delivery",
        },
    ),
    Table(
        "order_items",
        "olist_order_items_dataset",
        {
            "order_id": "order_id",
            "order_item_id": "item_no",
            "product_id": "product_id",
            "seller_id": "seller_id",
            "shipping_limit_date": "ship_by",
            "price": "price",
            "freight_value": "freight",
        },
    ),
    Table(
        "order_payments",
        "olist_order_payments_dataset",
        {
            "order_id": "order_id",
            "payment_sequential": "payment_no",
            "payment_type": "payment_type",
            "payment_installments": "instalments",
            "payment_value": "amount",
        },
    ),
)


class LoadError(Exception):
    """The files cannot be loaded as they are."""


def main() -> int:
    """Replace what the tables hold. 0: done; 1: refused, and nothing changed."""
    parser = argparse.ArgumentParser(description="Loads Olist.")
    parser.add_argument("folders", type=Path, nargs="+", help="where the CSV files lie")
    parser.add_argument("--url", default=os.environ.get("OLIST_URL") or URL, help="the database")
    given = parser.parse_args()
    try:
        with psycopg.connect(given.url) as connection:  # commits at its end, or nothing of it
            connection.execute(SCHEMA.read_bytes())
            names = sql.SQL(", ").join(sql.Identifier(table.name) for table in TABLES)
            connection.execute(sql.SQL("truncate {}").format(names))
            for table in TABLES:
                print(f"{table.name:<15} {load(connection, table, given.folders):>7,} rows")
    except (LoadError, psycopg.Error, OSError) as error:
        print(f"cannot load Olist: {error}", file=sys.stderr)
        return 1
    return 0


def load(connection: psycopg.Connection, table: Table, folders: Sequence[Path]) -> int:
    """Load one table; how many rows."""
    path = find(table, folders)
    if path is None:
        return 0
    command = sql.SQL("copy {} ({}) from stdin").format(
        sql.Identifier(table.name),
        sql.SQL(", ").join(map(sql.Identifier, table.columns.values())),
    )
    count = 0
    with connection.cursor().copy(command) as copy:
        for row in rows(path, table):
            copy.write_row(row)
            count += 1
    return count


def find(table: Table, folders: Sequence[Path]) -> Path | None:
    """The table's file in the first folder that has it; None if it can do without."""
    for folder in folders:
        for ending in (".csv", ".csv.gz"):
            path = folder / (table.file + ending)
            if path.exists():
                return path
    if table.optional:
        return None
    raise LoadError(f"{table.file}.csv is in none of {', '.join(map(str, folders))}")


def rows(path: Path, table: Table) -> Iterator[list[str | None]]:
    """The rows of a file that have a key, with the table's columns; what is empty is None."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        missing = table.columns.keys() - set(reader.fieldnames or ())
        if missing:
            raise LoadError(f"{path} has no column {', '.join(sorted(missing))}")
        for row in reader:
            values = [row[name] or None for name in table.columns]
            if values[0] is not None:
                yield values


if __name__ == "__main__":
    sys.exit(main())
