"""A small shop written by hand, and what its dashboard must show, worked out without any SQL.

Everything here is plain Python over ``Decimal`` and ``zoneinfo``: it shares no line with the code
it judges. ``board`` follows the definitions, not the models:

- net sales: quantity times price, less discount, less refunds; a refund counts at its order's time
- an order of several categories is one order; cancelled orders count nowhere
- ``30d``: the last 30 days of the business clock, today so far included; ``24h``: the last 24 hours
  begun, the one that is running included
- the period before: as many days or hours earlier, and as far into them as now is
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import psycopg

ZONE = ZoneInfo("Europe/London")
NOTHING = Decimal("0.00")


@dataclass(frozen=True)
class Line:
    """``discount`` and ``refund`` are amounts off the whole line."""

    product: int
    quantity: int
    price: Decimal
    discount: Decimal = NOTHING
    refund: Decimal = NOTHING
    refunded_at: datetime | None = None


@dataclass(frozen=True)
class Order:
    """``placed_at`` is UTC, as the database keeps it."""

    id: int
    customer: int
    placed_at: datetime
    lines: tuple[Line, ...]
    status: str = "delivered"


@dataclass(frozen=True)
class Board:
    """What the dashboard shows. Buckets with nothing in them are left out."""

    net_sales: Decimal = NOTHING
    orders: int = 0
    units: int = 0
    by_category: dict[str, Decimal] = field(default_factory=dict)
    by_region: dict[str, Decimal] = field(default_factory=dict)
    by_day: dict[tuple[str, str], Decimal] = field(default_factory=dict)  # (2026-06-01, Books)
    by_hour: dict[tuple[str, str], Decimal] = field(default_factory=dict)  # UTC start of the hour

    @property
    def average_order(self) -> Decimal | None:
        """None where there is no order to average."""
        return self.net_sales / self.orders if self.orders else None


# ── the shop ─────────────────────────────────────────────────────────────────────────────────────


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def pounds(text: str) -> Decimal:
    return Decimal(text)


#: product → category
PRODUCTS = {1: "Books", 2: "Books", 3: "Garden", 4: "Toys"}
#: customer → region
CUSTOMERS = {1: "London", 2: "London", 3: "Scotland", 4: "Wales"}

ORDERS = (
    # ── the clocks go forward: Sunday 29 March 2026, 01:00 UTC is 02:00 in London ────────────────
    Order(
        1, 1, utc("2026-03-28 23:59:59"), (Line(1, 1, pounds("10.00")),)
    ),  # Saturday, last second
    Order(2, 2, utc("2026-03-29 00:30"), (Line(3, 2, pounds("25.50")),)),  # 00:30 GMT
    Order(
        3, 3, utc("2026-03-29 01:00"), (Line(1, 3, pounds("10.00"), pounds("1.50")),)
    ),  # 02:00 BST
    Order(4, 4, utc("2026-03-29 22:59:59"), (Line(4, 1, pounds("39.99")),)),  # Sunday, last second
    Order(5, 1, utc("2026-03-29 23:00"), (Line(2, 1, pounds("7.25")),)),  # Monday 00:00 BST
    # ── a month ends: 23:30 UTC on 31 May is half past midnight on 1 June in London ──────────────
    Order(6, 1, utc("2026-05-31 22:30"), (Line(1, 1, pounds("10.00")),)),  # still 31 May
    Order(7, 2, utc("2026-05-31 23:30"), (Line(2, 2, pounds("7.25")),)),  # 1 June
    # ── one order of two categories ──────────────────────────────────────────────────────────────
    Order(
        8,
        3,
        utc("2026-06-01 09:00"),
        (Line(1, 1, pounds("10.00")), Line(3, 1, pounds("25.50"), pounds("5.50"))),
    ),
    # ── a refund counts on the day of its order, though given back weeks later ───────────────────
    Order(
        9,
        4,
        utc("2026-06-02 12:00"),
        (
            Line(
                *(4, 2, pounds("39.99")),
                refund=pounds("39.99"),
                refunded_at=utc("2026-06-20 10:00"),
            ),
        ),
    ),
    # ── cancelled, once with a refund on top ─────────────────────────────────────────────────────
    Order(10, 1, utc("2026-06-02 13:00"), (Line(1, 9, pounds("10.00")),), status="cancelled"),
    Order(
        11,
        3,
        utc("2026-06-02 14:00"),
        (Line(*(3, 1, pounds("25.50")), refund=pounds("5"), refunded_at=utc("2026-06-03 09:00")),),
        status="cancelled",
    ),
    # ── the clocks go back: Sunday 25 October 2026 has 25 hours, 01:30 comes twice ───────────────
    Order(12, 1, utc("2026-10-24 22:59:59"), (Line(1, 1, pounds("11.00")),)),  # Saturday BST
    Order(13, 2, utc("2026-10-24 23:00"), (Line(3, 1, pounds("26.00")),)),  # Sunday 00:00 BST
    Order(14, 3, utc("2026-10-25 00:30"), (Line(1, 1, pounds("11.00")),)),  # 01:30 BST
    Order(15, 4, utc("2026-10-25 01:30"), (Line(4, 1, pounds("41.00")),)),  # 01:30 GMT
    Order(16, 1, utc("2026-10-25 23:59:59"), (Line(2, 4, pounds("7.50")),)),  # Sunday, last second
    Order(17, 2, utc("2026-10-26 00:00"), (Line(2, 1, pounds("7.50")),)),  # Monday
)


def fill(connection: psycopg.Connection[Any]) -> None:
    """Write the shop into the demo's empty tables, one transaction an order."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(
            "insert into customers (id, email, full_name, region)"
            " values (%(id)s, %(id)s || '@example.com', 'Customer ' || %(id)s, %(region)s)",
            [{"id": customer, "region": region} for customer, region in CUSTOMERS.items()],
        )
        cursor.executemany(
            "insert into products (id, sku, name, category, price, stock)"
            " values (%(id)s, 'P-' || %(id)s, 'Product ' || %(id)s, %(category)s, 1, 100)",
            [{"id": product, "category": category} for product, category in PRODUCTS.items()],
        )
    for order in ORDERS:
        _insert(connection, order)


def _insert(connection: psycopg.Connection[Any], order: Order) -> None:
    with connection.transaction():
        connection.execute(
            "insert into orders (id, customer_id, status, placed_at) values (%s, %s, %s, %s)",
            [order.id, order.customer, order.status, order.placed_at],
        )
        for line in order.lines:
            connection.execute(
                "insert into order_items (order_id, product_id, quantity, unit_price, discount)"
                " values (%s, %s, %s, %s, %s)",
                [order.id, line.product, line.quantity, line.price, line.discount],
            )
            if line.refund:
                connection.execute(
                    "insert into refunds (order_id, product_id, amount, refunded_at)"
                    " values (%s, %s, %s, %s)",
                    [order.id, line.product, line.refund, line.refunded_at],
                )


# ── what the dashboard must show ─────────────────────────────────────────────────────────────────


def board(
    now: datetime,
    period: str,
    *,
    category: str | None = None,
    region: str | None = None,
    orders: Iterable[Order] = ORDERS,
) -> Board:
    """The board at ``now`` for ``24h``, ``7d`` or ``30d``, for one category or region if given."""
    begin, _ = _window(now, period)
    return _add_up(orders, begin, now, category, region)


def board_before(
    now: datetime,
    period: str,
    *,
    category: str | None = None,
    region: str | None = None,
    orders: Iterable[Order] = ORDERS,
) -> Board:
    """The same elapsed part of the period before."""
    begin, end = _window_before(now, period)
    return _add_up(orders, begin, end, category, region)


def _window(now: datetime, period: str) -> tuple[datetime, datetime]:
    count = int(period[:-1])
    if period.endswith("h"):
        hour = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        return hour - timedelta(hours=count - 1), now
    return _midnight(now, days_before=count - 1), now


def _window_before(now: datetime, period: str) -> tuple[datetime, datetime]:
    count = int(period[:-1])
    if period.endswith("h"):
        begin, end = _window(now, period)
        return begin - timedelta(hours=count), end.astimezone(UTC) - timedelta(hours=count)
    same_time = now.astimezone(ZONE) - timedelta(days=count)  # by the clock on the wall
    return _midnight(now, days_before=2 * count - 1), same_time.astimezone(UTC)


def _midnight(now: datetime, *, days_before: int) -> datetime:
    day = now.astimezone(ZONE).date() - timedelta(days=days_before)
    return datetime(day.year, day.month, day.day, tzinfo=ZONE).astimezone(UTC)


def _add_up(
    orders: Iterable[Order],
    begin: datetime,
    end: datetime,
    category: str | None,
    region: str | None,
) -> Board:
    counted: set[int] = set()
    units, total = 0, NOTHING
    by: dict[str, dict[Any, Decimal]] = {"category": {}, "region": {}, "day": {}, "hour": {}}
    for order in orders:
        where = CUSTOMERS[order.customer]
        inside = begin <= order.placed_at <= end
        if order.status == "cancelled" or not inside or region not in {None, where}:
            continue
        day = order.placed_at.astimezone(ZONE).date().isoformat()
        hour = order.placed_at.strftime("%Y-%m-%dT%H:00Z")
        for line in order.lines:
            of = PRODUCTS[line.product]
            if category not in {None, of}:
                continue
            net = line.quantity * line.price - line.discount - line.refund
            counted.add(order.id)
            units += line.quantity
            total += net
            places = (("category", of), ("region", where), ("day", (day, of)), ("hour", (hour, of)))
            for kind, place in places:
                by[kind][place] = by[kind].get(place, NOTHING) + net
    return Board(total, len(counted), units, by["category"], by["region"], by["day"], by["hour"])
