"""The shop's past: the same from the same seed, whole, and shaped like a shop's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from upwell.demo import assortment, history

LONDON = ZoneInfo("Europe/London")
NOW = datetime(2026, 6, 10, 14, 25, 30, tzinfo=UTC)


def past(
    *,
    seed: int = 1,
    now: datetime = NOW,
    zone: ZoneInfo = LONDON,
    days: int = 40,
    orders_a_day: int = 200,
) -> dict[str, pa.Table]:
    return history.generate(
        seed=seed, now=now, zone=zone, days=days, orders_a_day=orders_a_day, customers=500
    )


@pytest.fixture(scope="module")
def shop() -> duckdb.DuckDBPyConnection:
    """The history as tables to ask questions of."""
    connection = duckdb.connect()
    connection.execute("set timezone = 'Europe/London'")
    for name, rows in past().items():
        connection.register("rows", rows)
        connection.execute(f"create table {name} as from rows")
    return connection


def count(shop: duckdb.DuckDBPyConnection, query: str) -> int:
    row = shop.execute(f"select count(*) from ({query})").fetchone()
    assert row is not None
    return int(row[0])


def test_the_same_seed_gives_the_same_rows() -> None:
    assert past() == past()


def test_another_seed_gives_other_orders() -> None:
    assert past()["orders"] != past(seed=2)["orders"]


def test_every_paid_order_was_paid_the_sum_of_its_lines(shop: duckdb.DuckDBPyConnection) -> None:
    paid = "select * from orders where status in ('paid', 'shipped', 'delivered')"
    wrong = f"""
        select o.id from ({paid}) o
        left join (select order_id, sum(quantity * unit_price - discount) as due
                   from order_items group by all) i on i.order_id = o.id
        left join (select order_id, sum(amount) as amount from payments where voided_at is null
                   group by all) p on p.order_id = o.id
        where p.amount is distinct from i.due
    """
    assert count(shop, paid) > 5_000
    assert count(shop, wrong) == 0


def test_only_paid_orders_have_money_and_only_cancelled_ones_had_it_voided(
    shop: duckdb.DuckDBPyConnection,
) -> None:
    joined = "select * from payments p join orders o on o.id = p.order_id"
    assert count(shop, f"{joined} where status = 'placed'") == 0
    assert count(shop, f"{joined} where (status = 'cancelled') <> (voided_at is not null)") == 0
    assert count(shop, f"{joined} where status = 'cancelled'") > 0


def test_every_reference_points_to_a_row(shop: duckdb.DuckDBPyConnection) -> None:
    for table, column, target in (
        ("orders", "customer_id", "customers"),
        ("order_items", "order_id", "orders"),
        ("order_items", "product_id", "products"),
        ("payments", "order_id", "orders"),
    ):
        assert count(shop, f"from {table} anti join {target} t on t.id = {column}") == 0
    assert count(shop, "from refunds anti join order_items using (order_id, product_id)") == 0


def test_a_product_stands_in_an_order_once(shop: duckdb.DuckDBPyConnection) -> None:
    twice = "select 1 from order_items group by order_id, product_id having count(*) > 1"
    assert count(shop, twice) == 0


def test_nobody_is_refunded_more_than_they_paid_for_the_line(
    shop: duckdb.DuckDBPyConnection,
) -> None:
    lines = "from refunds join order_items i using (order_id, product_id)"
    assert count(shop, f"{lines} where amount > i.quantity * i.unit_price - i.discount") == 0
    assert count(shop, lines) > 0


@pytest.mark.parametrize(
    "column",
    [
        "orders.placed_at",
        "orders.updated_at",
        "payments.paid_at",
        "payments.voided_at",
        "refunds.refunded_at",
        "customers.created_at",
        "products.updated_at",
    ],
)
def test_nothing_happens_after_now(column: str) -> None:
    table, name = column.split(".")
    busy = past(days=2, orders_a_day=20_000)  # so busy that a payment is under way right now
    assert pc.max(busy[table][name]).as_py() <= NOW


def test_ids_count_from_one_in_order_of_time(shop: duckdb.DuckDBPyConnection) -> None:
    number = "row_number() over (order by placed_at, id)"
    assert count(shop, f"from orders qualify id <> {number} or id < 1") == 0


def test_customers_joined_before_they_ordered(shop: duckdb.DuckDBPyConnection) -> None:
    too_early = (
        "from orders o join customers c on c.id = o.customer_id where placed_at < created_at"
    )
    assert count(shop, too_early) == 0


def test_the_evening_peak_is_that_of_the_shop_s_clock() -> None:
    many = past(days=28, orders_a_day=5_000)["orders"]
    local = pc.local_timestamp(many["placed_at"].cast(pa.timestamp("us", LONDON.key)))
    working = many.append_column("local", local).filter(pc.less(pc.day_of_week(local), 5))
    hours = pc.value_counts(pc.hour(working["local"])).to_pylist()
    busiest = max(hours, key=lambda row: int(row["counts"]))
    assert busiest["values"] == 20  # in June an hour ahead of UTC


def test_the_history_begins_at_a_midnight_of_the_shop() -> None:
    kolkata = ZoneInfo("Asia/Kolkata")
    first = pc.min(past(zone=kolkata, days=3, orders_a_day=50_000)["orders"]["placed_at"]).as_py()
    midnight = datetime(2026, 6, 8, tzinfo=kolkata)
    assert midnight <= first < midnight + timedelta(minutes=10)


def test_a_day_of_23_hours_and_one_of_25_are_filled() -> None:
    for now, hours in (
        (datetime(2026, 3, 29, 22, 59, 59, tzinfo=UTC), 23),
        (datetime(2026, 10, 25, 23, 59, 59, tzinfo=UTC), 25),
    ):
        placed = past(now=now, days=1, orders_a_day=20_000)["orders"]["placed_at"]
        assert pc.count_distinct(pc.floor_temporal(placed, unit="hour")).as_py() == hours


def test_a_history_that_begins_at_this_very_midnight_is_empty() -> None:
    tables = past(now=datetime(2026, 6, 9, 23, 0, tzinfo=UTC), days=1)
    assert [tables[name].num_rows for name in ("orders", "order_items", "refunds")] == [0, 0, 0]


def test_shares_are_those_of_a_shop(shop: duckdb.DuckDBPyConnection) -> None:
    orders = count(shop, "from orders")
    assert 0.03 < count(shop, "from orders where status = 'cancelled'") / orders < 0.05
    assert 0.03 < count(shop, "from refunds") / orders < 0.06
    assert 1.9 < count(shop, "from order_items") / orders < 2.3
    best_sellers = "select product_id from order_items group by 1 order by count(*) desc limit 40"
    top = count(shop, f"from order_items where product_id in ({best_sellers})")
    assert top > count(shop, "from order_items") * 0.3  # a tenth of the products


def test_the_assortment_has_fifty_products_in_each_of_eight_categories() -> None:
    products = assortment.products()
    assert len({product.sku for product in products}) == len({p.name for p in products}) == 400
    per_category = [sum(p.category == c.name for p in products) for c in assortment.CATEGORIES]
    assert per_category == [50] * 8
