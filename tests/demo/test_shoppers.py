"""Decisions of the simulated customers, without any database."""

from __future__ import annotations

from collections import Counter

from upwell.demo.actions import Action, Outcome
from upwell.demo.shoppers import OpenOrder, Shoppers, ShopState
from upwell.demo.tide import HOURS_A_WEEK, channels, interest, visits

SATURDAY_NOON, TUESDAY_NOON = 5 * 24 + 12, 24 + 12
SHELVES = tuple(range(first, first + 50) for first in range(1, 400, 50))


def state(
    *, last_order: int = 10, recent: tuple[OpenOrder, ...] = (), customers: int = 20
) -> ShopState:
    return ShopState(range(1, customers + 1), SHELVES, recent, last_order)


def live(shoppers: Shoppers, orders: int, *, hour: int = TUESDAY_NOON) -> list[Action]:
    """What happens when a shop grants everything, giving out rising ids."""
    done: list[Action] = []
    for _ in range(orders):
        for action in shoppers.next_actions(hour):
            done.append(action)
            shoppers.learn(action, Outcome(1, 1_000 + len(done)))
    return done


def test_the_same_seed_and_shop_give_the_same_actions() -> None:
    assert live(Shoppers(5, state()), 300) == live(Shoppers(5, state()), 300)


def test_another_seed_or_a_shop_further_on_gives_others() -> None:
    references = [
        {a.values["reference"] for a in live(shoppers, 50) if a.kind == "place_order"}
        for shoppers in (
            Shoppers(5, state()),
            Shoppers(6, state()),
            Shoppers(5, state(last_order=11)),
        )
    ]
    assert len(set.union(*references)) == 150


def test_every_round_ends_with_an_order_of_one_to_five_different_products() -> None:
    shoppers = Shoppers(1, state())
    for _ in range(200):
        *_, last = shoppers.next_actions(TUESDAY_NOON)
        assert last.kind == "place_order"
        products = last.values["products"]
        assert 1 <= len(products) == len(set(products)) <= 5
        assert len(last.values["quantities"]) == len(last.values["discount_rates"]) == len(products)


def test_what_follows_an_order_concerns_that_order() -> None:
    shoppers = Shoppers(1, state())
    placed: dict[int, list[int]] = {}
    followed: Counter[str] = Counter()
    for number in range(1, 801):
        for action in shoppers.next_actions(TUESDAY_NOON):
            if action.kind == "place_order":
                placed[number] = action.values["products"]
                shoppers.learn(action, Outcome(1, number))
            elif "order" in action.values:
                followed[action.kind] += 1
                assert action.values["order"] in placed
                if action.kind == "refund_line":
                    assert action.values["product"] in placed[action.values["order"]]
    assert set(followed) == {
        *("pay_order", "ship_order", "deliver_order", "cancel_order", "refund_line")
    }
    assert 15 <= followed["cancel_order"] <= 50
    assert 15 <= followed["refund_line"] <= 60


def test_a_product_running_low_is_restocked_with_the_next_order() -> None:
    shoppers = Shoppers(1, state())
    *_, order = shoppers.next_actions(TUESDAY_NOON)
    shoppers.learn(order, Outcome(1, 11, running_low=(77,)))
    first, *_ = shoppers.next_actions(TUESDAY_NOON)
    assert (first.kind, first.values["product"]) == ("restock", 77)


def test_an_order_the_shop_refused_is_forgotten() -> None:
    shoppers = Shoppers(1, state())
    kinds = Counter[str]()
    for _ in range(300):
        for action in shoppers.next_actions(TUESDAY_NOON):
            kinds[action.kind] += 1
            shoppers.learn(action, Outcome())
    assert set(kinds) == {"place_order", "register_customer", "change_price"}


def test_orders_of_the_past_are_taken_over() -> None:
    delivered = (OpenOrder(number, 3, "delivered") for number in range(100, 200))
    recent = (OpenOrder(7, 1, "placed"), OpenOrder(8, 2, "paid"), *delivered)
    actions = live(Shoppers(1, state(recent=recent)), 250)
    of = {a.values["order"]: a.kind for a in actions if a.values.get("order", 1_000) < 1_000}
    assert of.pop(7) == "pay_order"
    assert of.pop(8) in {"ship_order", "cancel_order"}
    assert set(of.values()) == {"refund_line"}
    assert 3 <= len(of) <= 25


def test_a_shop_without_customers_begins_with_a_registration() -> None:
    shoppers = Shoppers(1, state(customers=0))
    for action in shoppers.next_actions(TUESDAY_NOON):
        shoppers.learn(action, Outcome(1, 55))
        if action.kind == "place_order":
            assert action.values["customer"] == 55


def test_new_customers_order_too() -> None:
    shoppers = Shoppers(1, state(customers=1))
    buyers = {a.values.get("customer") for a in live(shoppers, 300)} - {None}
    assert len(buyers) > 10


def test_what_is_bought_follows_the_hour_of_the_week() -> None:
    garden = SHELVES[1]

    def share(hour: int) -> float:
        actions = live(Shoppers(1, state()), 1_500, hour=hour)
        products = [p for a in actions for p in a.values.get("products", ())]
        return sum(product in garden for product in products) / len(products)

    assert share(SATURDAY_NOON) > share(TUESDAY_NOON) * 1.2


def test_the_tide_is_made_of_shares() -> None:
    assert visits().shape == (HOURS_A_WEEK,)
    assert abs(visits().mean() - 1) < 1e-9
    for shares in (interest(), channels()):
        assert len(shares) == HOURS_A_WEEK
        assert (shares >= 0).all()
        assert (abs(shares.sum(axis=1) - 1) < 1e-9).all()
