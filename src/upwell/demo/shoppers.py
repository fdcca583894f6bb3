"""Decides what happens next in the sample shop. Pure: no clock, no database.

Time is counted in orders: everything that follows an order (payment, parcel, cancellation, refund)
is due some number of orders later, so the sequence does not depend on the rate. The same seed, the
same shop to start from, the same hours of the week and the same outcomes give the same actions.
"""

from __future__ import annotations

import heapq
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random

from upwell.demo import assortment, tide
from upwell.demo.actions import Action, Kind, Outcome
from upwell.demo.baskets import LINES, popularity

_NEW_CUSTOMER = 0.12
_CANCELLED = 0.04
_REFUNDED = 0.05
_PRICE_CHANGED = 0.03
_COUPON = 0.08
_GIFT = 0.02


@dataclass(frozen=True, slots=True)
class OpenOrder:
    """An order of the past that may still move: its first product and how far it has come."""

    id: int
    product: int
    status: str


@dataclass(frozen=True, slots=True)
class ShopState:
    """What the shoppers know when they begin: ids, nothing that can go stale."""

    customers: Sequence[int]
    products: Sequence[Sequence[int]]  # by category
    recent_orders: Sequence[OpenOrder]
    last_order: int


class Shoppers:
    """All customers and clerks together. ``next_actions`` for each order; tell what came of them.

    The seed is mixed with the last order's number: going on with a shop never repeats its past.
    """

    def __init__(self, seed: int, shop: ShopState) -> None:
        self._random = Random(f"{seed}:{shop.last_order}")
        self._customers = list(shop.customers)
        self._products = shop.products
        self._best_sellers = [list(accumulate(popularity(len(ids)))) for ids in shop.products]
        self._interest = [list(accumulate(row)) for row in _columns(shop.products)]
        self._channels = [list(accumulate(row)) for row in tide.channels().tolist()]
        self._orders = 0
        self._due: list[tuple[int, int, Action]] = []
        self._scheduled = 0
        self._take_over(shop.recent_orders)

    def next_actions(self, hour_of_week: int) -> Iterator[Action]:
        """What happens up to and including the next order; the last action places it."""
        self._orders += 1
        while self._due and self._due[0][0] <= self._orders:
            yield heapq.heappop(self._due)[2]
        if self._random.random() < _PRICE_CHANGED:
            product = self._random.choice(self._random.choice(self._products))
            factor = self._random.choice((0.90, 0.95, 1.05, 1.10))
            yield Action("change_price", {"product": product, "factor": factor})
        if not self._customers or self._random.random() < _NEW_CUSTOMER:
            yield self._registration()
        yield self._order(hour_of_week)

    def learn(self, action: Action, outcome: Outcome) -> None:
        """What came of an action: a new customer's id, a new order to look after."""
        if outcome.id is None:
            return
        if action.kind == "register_customer":
            self._customers.append(outcome.id)
        if action.kind == "place_order":
            self._look_after(outcome.id, action.values["products"])
            for product in outcome.running_low:
                self._plan("restock", 1, product=product, quantity=self._random.randint(200, 600))

    # ── an order and what follows ────────────────────────────────────────────────────────────────

    def _order(self, hour_of_week: int) -> Action:
        random = self._random
        products = self._basket(hour_of_week)
        values = {
            "reference": uuid.UUID(int=random.getrandbits(128), version=4),
            "customer": self._customers[int(len(self._customers) * random.random() ** 1.6)],
            "channel": random.choices(
                assortment.CHANNELS, cum_weights=self._channels[hour_of_week]
            )[0],
            "gift_note": "Happy birthday!" if random.random() < _GIFT else None,
            "products": products,
            "quantities": random.choices((1, 2, 3, 4), (76, 16, 5, 3), k=len(products)),
            "discount_rates": [0.1 if random.random() < _COUPON else 0.0 for _ in products],
        }
        return Action("place_order", values)

    def _basket(self, hour_of_week: int) -> list[int]:
        """One to five different products; half of the further ones are of the first's category."""
        random = self._random
        chosen: dict[int, None] = {}
        categories = range(len(self._products))
        weights = self._interest[hour_of_week]
        category = first = random.choices(categories, cum_weights=weights)[0]
        for _ in range(random.choices((1, 2, 3, 4, 5), LINES)[0]):
            best_sellers = self._best_sellers[category]
            product = random.choices(self._products[category], cum_weights=best_sellers)[0]
            chosen[product] = None
            alike = random.random() < 0.5
            category = first if alike else random.choices(categories, cum_weights=weights)[0]
        return list(chosen)

    def _registration(self) -> Action:
        random = self._random
        first = random.choice(assortment.FIRST_NAMES)
        last = random.choice(assortment.LAST_NAMES)
        handle = f"{first}.{last}.{random.getrandbits(40):010x}".lower().replace("'", "")
        regions = list(assortment.REGIONS)
        values = {
            "email": f"{handle}@example.com",
            "full_name": f"{first} {last}",
            "region": random.choices(regions, list(assortment.REGIONS.values()))[0],
            "accepts_marketing": random.random() < 0.42,
        }
        return Action("register_customer", values)

    def _look_after(self, order: int, products: Sequence[int]) -> None:
        random = self._random
        if random.random() < _CANCELLED:
            self._plan("cancel_order", random.randint(1, 8), order=order)
        self._pay(order, random.randint(1, 4))
        self._plan("ship_order", random.randint(20, 60), order=order)
        self._plan("deliver_order", random.randint(80, 200), order=order)
        if random.random() < _REFUNDED:
            self._refund(order, random.choice(products), random.randint(10, 120))

    def _take_over(self, orders: Sequence[OpenOrder]) -> None:
        """Orders from before the start go on as well, so that all kinds of things happen early."""
        for order in orders:
            soon = self._random.randint(1, 2 * len(orders))
            if order.status == "placed":
                self._pay(order.id, soon)
            elif order.status == "paid" and self._random.random() < _CANCELLED:
                self._plan("cancel_order", soon, order=order.id)
            elif order.status == "paid":
                self._plan("ship_order", soon, order=order.id)
            elif self._random.random() < 2 * _REFUNDED:
                self._refund(order.id, order.product, soon)

    def _pay(self, order: int, orders_later: int) -> None:
        method = self._random.choices(assortment.PAYMENT_METHODS, (62, 27, 6, 5))[0]
        self._plan("pay_order", orders_later, order=order, method=method)

    def _refund(self, order: int, product: int, orders_later: int) -> None:
        share = 1.0 if self._random.random() < 0.75 else 0.5
        reason = self._random.choice(assortment.REFUND_REASONS)
        self._plan(
            "refund_line", orders_later, order=order, product=product, share=share, reason=reason
        )

    def _plan(self, kind: Kind, orders_later: int, **values: object) -> None:
        self._scheduled += 1  # equal times keep their order
        due = self._orders + orders_later
        heapq.heappush(self._due, (due, self._scheduled, Action(kind, values)))


def _columns(products: Sequence[Sequence[int]]) -> list[list[float]]:
    """Interest in the categories that have products, for each hour of the week."""
    stocked = [float(len(ids) > 0) for ids in products]
    interest: list[list[float]] = (tide.interest() * stocked).tolist()
    return interest
