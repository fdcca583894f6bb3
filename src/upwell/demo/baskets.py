"""What stood in the baskets of the sample shop's past: lines, prices and discounts.

A product stands in an order once at most, and lines of one order lie together. All money is in
whole pence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upwell.demo import assortment
from upwell.demo.demand import DAY, Floats, Ints, choose, promotions

LINES = (0.38, 0.30, 0.17, 0.10, 0.05)  # the chance of 1, 2, ... 5 lines in an order
_PROMOTION_DISCOUNT = 0.2


@dataclass(frozen=True, slots=True)
class Baskets:
    """The lines of all orders, as columns; ``order`` and ``product`` count from 0."""

    order: Ints
    product: Ints
    quantity: Ints
    unit_price: Ints  # pence
    discount: Ints

    @property
    def net(self) -> Ints:
        return self.quantity * self.unit_price - self.discount

    def totals(self, orders: int) -> Ints:
        """What each order comes to."""
        return np.bincount(self.order, weights=self.net, minlength=orders).astype(np.int64)


def fill_baskets(
    random: np.random.Generator, placed_us: Ints, demand: Floats, now_us: int
) -> Baskets:
    """Lines for every order; ``demand`` holds the pull of each category when it was placed."""
    lines = random.choice(np.arange(1, 6), size=len(placed_us), p=LINES)
    order = np.repeat(np.arange(len(placed_us)), lines)
    category = choose(random, demand[order])
    first = np.repeat(np.cumsum(lines) - lines, lines)
    alike = random.random(len(order)) < 0.5  # whoever buys a tent looks at stoves
    category = np.where(alike, category[first], category)
    product = _choose_products(random, category)
    _, kept = np.unique(order * 1_000_000 + product, return_index=True)
    order, product, category = order[kept], product[kept], category[kept]

    age_us = now_us - placed_us[order]
    price = _price_then(random, product, age_us)
    quantity = random.choice([1, 2, 3, 4], size=len(order), p=[0.76, 0.16, 0.05, 0.03])
    quantity = np.where(price > 6_000, 1, quantity)
    discount = np.rint(price * quantity * _discount_rate(random, category, age_us))
    return Baskets(order, product, quantity, price, discount.astype(np.int64))


def _choose_products(random: np.random.Generator, category: Ints) -> Ints:
    """A product of each category; its best sellers are spread over the list."""
    articles = len(assortment.products()) // len(assortment.CATEGORIES)
    rank = random.choice(articles, size=len(category), p=popularity(articles))
    return category * articles + (rank * 17 + category * 11) % articles  # 17 and 50 are coprime


def popularity(articles: int) -> Floats:
    """How well the articles of one category sell, best first: a long tail (Zipf, s=0.9)."""
    weights = 1 / np.arange(1, articles + 1) ** 0.9
    shares: Floats = weights / weights.sum()
    return shares


def _price_then(random: np.random.Generator, product: Ints, age_us: Ints) -> Ints:
    """The price on the day: three in ten products have changed theirs since."""
    today = np.array([article.price_pence for article in assortment.products()])
    before = np.rint(today * random.choice([0.9, 0.95, 1.05], size=len(today))).astype(np.int64)
    changed = random.integers(5, 80, len(today)) * DAY  # ago
    ever = random.random(len(today)) < 0.3
    old = ever[product] & (age_us > changed[product])
    return np.where(old, before[product], today[product])


def _discount_rate(random: np.random.Generator, category: Ints, age_us: Ints) -> Floats:
    coupon = random.random(len(category)) < 0.08
    rate = np.where(coupon, random.choice([0.1, 0.15], size=len(category)), 0.0)
    for promoted, running in promotions(age_us):
        rate = np.where(running & (category == promoted), _PROMOTION_DISCOUNT, rate)
    return rate
