"""The past of the sample shop: ninety days of it as Arrow tables, from a seed.

The same seed, ``now`` and zone give the same rows. The tables fit ``schema.sql``; ids are explicit
and rise with time, every reference points to a row that exists, nothing happens after ``now``, and
an order that was paid was paid exactly the sum of its lines. NumPy makes whole columns; no step
looks at a single order.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upwell.demo import assortment, tide
from upwell.demo.baskets import Baskets, fill_baskets
from upwell.demo.demand import (
    DAY,
    HOUR,
    SECOND,
    Bools,
    Ints,
    arrivals,
    choose,
    demand_for,
    hours_of,
    microseconds,
)

DAYS = 90
ORDERS_A_DAY = 1_000
CUSTOMERS = 20_000

_CANCELLED = 0.04
_REFUNDED = 0.055
_MEMBERS_SINCE_DAYS = 500  # some customers joined before the history begins


@dataclass(frozen=True, slots=True)
class Orders:
    """The heads of all orders, as columns in order of time; ``customer`` counts from 0."""

    placed_us: Ints
    hour_of_week: Ints
    customer: Ints
    paid_us: Ints  # where ``paid``
    paid: Bools
    cancelled: Bools  # half of these were paid before

    def __len__(self) -> int:
        return len(self.placed_us)


def generate(
    *,
    seed: int,
    now: datetime,
    zone: ZoneInfo,
    days: int = DAYS,
    orders_a_day: int = ORDERS_A_DAY,
    customers: int = CUSTOMERS,
) -> dict[str, pa.Table]:
    """Every table of the shop as it stands at ``now`` (aware), in the order of their references.

    The history covers the last ``days`` calendar days of ``zone``, today so far included, and grows
    to ``orders_a_day`` at its end.
    """
    random = np.random.default_rng(seed)
    now_us = microseconds(now)
    hours, local = hours_of(now, zone, days)
    demand = demand_for(random, hours, local, now_us)
    placed_us, hour = arrivals(random, hours, local, orders_a_day, demand.sum(axis=1))
    placed_us, hour = placed_us[placed_us < now_us], hour[placed_us < now_us]

    members_since_us = hours[0] - _MEMBERS_SINCE_DAYS * DAY
    joined_us = np.sort(random.integers(members_since_us, now_us, customers))
    orders = _place(random, placed_us, local[hour], joined_us, now_us)
    baskets = fill_baskets(random, placed_us, demand[hour], now_us)
    return {
        "customers": _customers(random, joined_us),
        "products": _products(random, hours[0], now_us),
        "orders": _orders(random, orders, now_us),
        "order_items": _order_items(baskets),
        "payments": _payments(random, orders, baskets, now_us),
        "refunds": _refunds(random, orders, baskets, now_us),
    }


def _place(
    random: np.random.Generator, placed_us: Ints, local: Ints, joined_us: Ints, now_us: int
) -> Orders:
    """Who ordered (only those who had joined, some far more often than others), and who paid."""
    count = len(placed_us)
    joined = np.maximum(np.searchsorted(joined_us, placed_us), 1)
    customer = np.floor(joined * random.random(count) ** 1.6).astype(np.int64)
    cancelled = random.random(count) < _CANCELLED
    paid_us = placed_us + random.integers(5 * SECOND, 600 * SECOND, count)
    paid = (paid_us < now_us) & ~(cancelled & (random.random(count) < 0.5))
    return Orders(placed_us, local, customer, paid_us, paid, cancelled)


# ── the tables ───────────────────────────────────────────────────────────────────────────────────


def _customers(random: np.random.Generator, joined_us: Ints) -> pa.Table:
    count = len(joined_us)
    number = np.arange(1, count + 1)
    first = _pick(assortment.FIRST_NAMES, random.integers(0, len(assortment.FIRST_NAMES), count))
    last = _pick(assortment.LAST_NAMES, random.integers(0, len(assortment.LAST_NAMES), count))
    shares = list(assortment.REGIONS.values())
    region = random.choice(len(shares), size=count, p=shares)
    dotted = pc.utf8_lower(pc.binary_join_element_wise(first, last, "."))
    handle = pc.replace_substring(dotted, "'", "")
    digits = pa.array(number).cast(pa.string())
    born = random.integers(-14_000, 13_000, count).astype(np.int32)  # days since 1970
    return pa.table(
        {
            "id": number,
            "email": pc.binary_join_element_wise(handle, digits, "@example.com", ""),
            "full_name": pc.binary_join_element_wise(first, last, " "),
            "region": _pick(tuple(assortment.REGIONS), region),
            "born_on": pa.array(born, pa.date32(), mask=random.random(count) < 0.3),
            "accepts_marketing": random.random(count) < 0.42,
            "created_at": _instants(joined_us),
        }
    )


def _products(random: np.random.Generator, begin_us: int, now_us: int) -> pa.Table:
    products = assortment.products()
    count = len(products)
    listed = (begin_us // DAY - random.integers(30, 900, count)).astype(np.int32)
    return pa.table(
        {
            "id": np.arange(1, count + 1),
            "sku": [article.sku for article in products],
            "name": [article.name for article in products],
            "category": [article.category for article in products],
            "price": _money(np.array([article.price_pence for article in products])),
            "stock": random.integers(60, 900, count),
            "weight_kg": [article.weight_kg for article in products],
            "attributes": [
                json.dumps({"kind": article.kind, "variant": article.variant}, ensure_ascii=False)
                for article in products
            ],
            "listed_on": pa.array(listed, pa.date32()),
            "updated_at": _instants(now_us - random.integers(DAY, 60 * DAY, count)),
        }
    )


def _orders(random: np.random.Generator, orders: Orders, now_us: int) -> pa.Table:
    """How far each order has come by ``now``, and when it took its last step."""
    count = len(orders)
    shipped_us = orders.paid_us + random.integers(2 * HOUR, 40 * HOUR, count)
    delivered_us = shipped_us + random.integers(20 * HOUR, 90 * HOUR, count)
    steps = np.stack([orders.placed_us, orders.paid_us, shipped_us, delivered_us])
    taken = orders.paid * ((steps[1:] < now_us).sum(axis=0))
    stepped_us = np.take_along_axis(steps, taken[None, :], axis=0)[0]
    cancelled_us = np.minimum(orders.paid_us + HOUR, now_us)
    statuses = ("placed", "paid", "shipped", "delivered", "cancelled")
    gift = random.random(count) < 0.02
    return pa.table(
        {
            "id": np.arange(1, count + 1),
            "reference": random_uuids(random, count),
            "customer_id": orders.customer + 1,
            "status": _pick(statuses, np.where(orders.cancelled, 4, taken)),
            "channel": _pick(
                assortment.CHANNELS, choose(random, tide.channels()[orders.hour_of_week])
            ),
            "placed_at": _instants(orders.placed_us),
            "updated_at": _instants(np.where(orders.cancelled, cancelled_us, stepped_us)),
            "gift_note": pa.array(np.full(count, "Happy birthday!"), mask=~gift),
        }
    )


def _order_items(baskets: Baskets) -> pa.Table:
    return pa.table(
        {
            "id": np.arange(1, len(baskets.order) + 1),
            "order_id": baskets.order + 1,
            "product_id": baskets.product + 1,
            "quantity": baskets.quantity,
            "unit_price": _money(baskets.unit_price),
            "discount": _money(baskets.discount),
        }
    )


def _payments(
    random: np.random.Generator, orders: Orders, baskets: Baskets, now_us: int
) -> pa.Table:
    order = np.flatnonzero(orders.paid)
    method = random.choice(4, size=len(order), p=[0.62, 0.27, 0.06, 0.05])
    voided_us = np.minimum(orders.paid_us[order] + HOUR, now_us)
    return pa.table(
        {
            "id": np.arange(1, len(order) + 1),
            "order_id": order + 1,
            "method": _pick(assortment.PAYMENT_METHODS, method),
            "amount": _money(baskets.totals(len(orders))[order]),
            "paid_at": _instants(orders.paid_us[order]),
            "voided_at": _instants(voided_us, missing=~orders.cancelled[order]),
        }
    )


def _refunds(
    random: np.random.Generator, orders: Orders, baskets: Baskets, now_us: int
) -> pa.Table:
    """One line each of some orders, in full or by half, one to ten days after the order."""
    returned = orders.paid & ~orders.cancelled & (random.random(len(orders)) < _REFUNDED)
    line = np.flatnonzero(np.diff(baskets.order, prepend=-1))[returned]  # the first of each order
    refunded_us = orders.placed_us[returned] + random.integers(DAY, 10 * DAY, len(line))
    line, refunded_us = line[refunded_us < now_us], refunded_us[refunded_us < now_us]
    in_full = random.random(len(line)) < 0.75
    amount = np.where(in_full, baskets.net[line], (baskets.net[line] + 1) // 2)
    reason = random.integers(0, len(assortment.REFUND_REASONS), len(line))
    return pa.table(
        {
            "id": np.arange(1, len(line) + 1),
            "order_id": baskets.order[line] + 1,
            "product_id": baskets.product[line] + 1,
            "amount": _money(amount),
            "reason": _pick(assortment.REFUND_REASONS, reason),
            "refunded_at": _instants(refunded_us),
        }
    )


# ── columns ──────────────────────────────────────────────────────────────────────────────────────


def _instants(microseconds: Ints, missing: Bools | None = None) -> pa.Array:
    return pa.array(microseconds, pa.int64(), mask=missing).cast(pa.timestamp("us", "UTC"))


def _money(pence: Ints) -> pa.Array:
    """Pence as pounds with two places."""
    hundredth = pa.scalar("0.01").cast(pa.decimal128(3, 2))
    return pc.multiply(pa.array(pence).cast(pa.decimal128(19, 0)), hundredth)


def _pick(words: tuple[str, ...], index: Ints) -> pa.Array:
    return pa.array(words).take(pa.array(index))


def random_uuids(random: np.random.Generator, count: int) -> pa.Array:
    """UUIDs of version 4, as text."""
    raw = np.frombuffer(random.bytes(16 * count), np.uint8).reshape(count, 16).copy()
    raw[:, 6] = raw[:, 6] & 0x0F | 0x40
    raw[:, 8] = raw[:, 8] & 0x3F | 0x80
    digits = np.frombuffer(raw.tobytes().hex().encode(), "S1").reshape(count, 32)
    text = np.insert(digits, [8, 12, 16, 20], b"-", axis=1)
    return pa.array(np.ascontiguousarray(text).view("S36").ravel().astype("U36"))
