"""The golden numbers themselves: worked out by hand here, by ``shop.board`` there.

The pipeline is held against ``shop.board``; this file holds ``shop.board`` against paper and
pencil, so that a slip in it cannot pass as the truth.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime
from decimal import Decimal

import psycopg
import pytest

from upwell.demo.server import Server
from upwell.demo.shop import create_schema

from . import shop
from .shop import board, board_before, pounds, utc

SPRING_SUNDAY = utc("2026-03-29 22:59:59")  # 23:59:59 in London, of a day of 23 hours
JUNE_FIRST = utc("2026-06-01 11:00")  # noon in London
LATE_JUNE = utc("2026-06-25 08:00")
AUTUMN_SUNDAY = utc("2026-10-25 23:59:59")  # the last second of a day of 25 hours
AUTUMN_MONDAY = utc("2026-10-26 00:30")
IDLE_NIGHT = utc("2026-08-15 02:10")


def numbers(of: shop.Board) -> tuple[str, int, int]:
    return str(of.net_sales), of.orders, of.units


@pytest.mark.parametrize(
    ("now", "period", "expected"),
    [
        # the day lasts 23 hours, so the 24th is Saturday's last: order 1 (10.00), and of Sunday
        # 2 (51.00), 3 (28.50) and 4 (39.99)
        (SPRING_SUNDAY, "24h", ("129.49", 4, 7)),
        (utc("2026-03-29 23:00:00"), "24h", ("126.74", 4, 7)),  # 1 goes, 5 (7.25) comes
        # orders 6 (10.00), 7 (14.50) and 8 (30.00)
        (JUNE_FIRST, "24h", ("54.50", 3, 5)),
        (JUNE_FIRST, "30d", ("54.50", 3, 5)),
        # 30 days back from 25 June is 27 May: 6, 7, 8 and 9 (79.98 less 39.99 refunded)
        (LATE_JUNE, "30d", ("94.49", 4, 7)),
        (LATE_JUNE, "7d", ("0.00", 0, 0)),
        # the day lasts 25 hours, so 24 leave out its first and order 13 (26.00):
        # 14 (11.00), 15 (41.00), 16 (30.00)
        (AUTUMN_SUNDAY, "24h", ("82.00", 3, 6)),
        # seven days begin on Monday: 13 as well, and Saturday's 12 (11.00)
        (AUTUMN_SUNDAY, "7d", ("119.00", 5, 8)),
        # half past midnight: from Sunday 01:00 GMT on, 15 and 16; and 17 (7.50)
        (AUTUMN_MONDAY, "24h", ("78.50", 3, 6)),
        (IDLE_NIGHT, "24h", ("0.00", 0, 0)),
        (IDLE_NIGHT, "30d", ("0.00", 0, 0)),
    ],
)
def test_totals_are_those_on_paper(
    now: datetime, period: str, expected: tuple[str, int, int]
) -> None:
    assert numbers(board(now, period)) == expected


@pytest.mark.parametrize(
    ("now", "period", "expected"),
    [
        # noon on 5 April against noon on 29 March, clocks forward in between: from Monday 23 March
        # to Sunday 29 March 12:00, that is orders 1, 2 and 3
        (utc("2026-04-05 11:00"), "7d", ("89.50", 3, 6)),
        # 13:00 GMT on 1 November against 13:00 GMT on 25 October: 12, 13, 14 and 15
        (utc("2026-11-01 13:00"), "7d", ("89.00", 4, 4)),
        # 24 hours of 3 June begin on 2 June 09:00 UTC, those before on 1 June 09:00: order 8
        (utc("2026-06-03 08:00"), "24h", ("30.00", 1, 2)),
        # 30 days to 30 July begin on 1 July, those before on 1 June in London: 7, 8 and 9
        (utc("2026-07-30 10:00"), "30d", ("84.49", 3, 6)),
        (IDLE_NIGHT, "24h", ("0.00", 0, 0)),
    ],
)
def test_the_period_before_is_its_same_elapsed_part(
    now: datetime, period: str, expected: tuple[str, int, int]
) -> None:
    assert numbers(board_before(now, period)) == expected


def test_an_order_of_two_categories_is_one_order_in_all_and_one_in_each() -> None:
    now = utc("2026-06-01 09:30")
    day = board(now, "24h", region="Scotland")
    assert numbers(day) == ("30.00", 1, 2)
    assert day.by_category == {"Books": pounds("10.00"), "Garden": pounds("20.00")}
    assert board(now, "24h", region="Scotland", category="Books").orders == 1
    assert board(now, "24h", region="Scotland", category="Garden").orders == 1


def test_a_refund_counts_on_the_day_of_its_order_and_takes_no_units() -> None:
    day_of_the_order = board(utc("2026-06-02 20:00"), "24h")
    assert numbers(day_of_the_order) == ("39.99", 1, 2)
    assert numbers(board(utc("2026-06-20 20:00"), "24h")) == ("0.00", 0, 0)


def test_cancelled_orders_count_nowhere_not_even_by_their_refund() -> None:
    without = [order for order in shop.ORDERS if order.status != "cancelled"]
    assert len(without) == len(shop.ORDERS) - 2
    assert board(LATE_JUNE, "30d") == board(LATE_JUNE, "30d", orders=without)
    revived = [dataclasses.replace(order, status="paid") for order in shop.ORDERS]
    assert numbers(board(LATE_JUNE, "30d", orders=revived)) == ("204.99", 6, 17)


def test_half_past_midnight_in_london_is_a_day_of_the_new_month() -> None:
    assert board(JUNE_FIRST, "7d").by_day == {
        ("2026-05-31", "Books"): pounds("10.00"),
        ("2026-06-01", "Books"): pounds("24.50"),
        ("2026-06-01", "Garden"): pounds("20.00"),
    }


def test_the_day_the_clocks_go_forward_has_its_own_sales_only() -> None:
    assert board(utc("2026-03-30 08:00"), "7d").by_day == {
        ("2026-03-28", "Books"): pounds("10.00"),
        ("2026-03-29", "Garden"): pounds("51.00"),
        ("2026-03-29", "Books"): pounds("28.50"),
        ("2026-03-29", "Toys"): pounds("39.99"),
        ("2026-03-30", "Books"): pounds("7.25"),
    }


def test_the_hour_that_comes_twice_is_two_hours_of_one_day() -> None:
    week = board(AUTUMN_SUNDAY, "7d")
    assert week.by_hour == {
        ("2026-10-24T22:00Z", "Books"): pounds("11.00"),
        ("2026-10-24T23:00Z", "Garden"): pounds("26.00"),
        ("2026-10-25T00:00Z", "Books"): pounds("11.00"),  # 01:30, the first time
        ("2026-10-25T01:00Z", "Toys"): pounds("41.00"),  # 01:30, an hour later
        ("2026-10-25T23:00Z", "Books"): pounds("30.00"),
    }
    sunday = {of: net for (day, of), net in week.by_day.items() if day == "2026-10-25"}
    assert sunday == {"Garden": pounds("26"), "Books": pounds("41"), "Toys": pounds("41")}


def test_regions_are_those_of_the_customers() -> None:
    assert board(LATE_JUNE, "30d").by_region == {
        "London": pounds("24.50"),
        "Scotland": pounds("30.00"),
        "Wales": pounds("39.99"),
    }


def test_the_average_is_over_orders_and_an_idle_night_has_none() -> None:
    assert board(LATE_JUNE, "30d").average_order == Decimal("94.49") / 4
    assert board(IDLE_NIGHT, "24h").average_order is None


@pytest.mark.parametrize("now", [SPRING_SUNDAY, JUNE_FIRST, LATE_JUNE, AUTUMN_SUNDAY])
@pytest.mark.parametrize("period", ["24h", "7d", "30d"])
def test_every_split_adds_up_to_the_total(now: datetime, period: str) -> None:
    whole = board(now, period)
    for split in (whole.by_category, whole.by_region, whole.by_day, whole.by_hour):
        assert sum(split.values()) == whole.net_sales


@pytest.mark.postgres
def test_the_shop_is_written_as_it_stands_here(postgres: Server) -> None:
    with psycopg.connect(postgres.url, autocommit=True) as admin:
        admin.execute("create database golden_shop")
    with psycopg.connect(postgres.url_of("golden_shop"), autocommit=True) as connection:
        create_schema(connection)
        shop.fill(connection)
        rows = connection.execute("select id, customer_id, status::text, placed_at from orders")
        written = {row[0]: row[1:] for row in rows.fetchall()}
        sums = connection.execute("select sum(quantity * unit_price - discount) from order_items")
        refunds = connection.execute("select sum(amount), count(*) from refunds").fetchone()
        assert written == {o.id: (o.customer, o.status, o.placed_at) for o in shop.ORDERS}
        assert sums.fetchone() == (pounds("513.22"),)
        assert refunds == (pounds("44.99"), 2)
