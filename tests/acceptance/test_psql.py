"""What somebody does in psql on the shop's database shows on the page, right and soon."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from tests.acceptance.running import (
    ShopProject,
    bars,
    eventually,
    is_equal_to_the_shop,
    number,
    release,
    running,
    shop_project,
)
from upwell.demo.server import Server


@dataclass(frozen=True)
class Live:
    project: ShopProject
    shop: psycopg.Connection[Any]

    def run(self, statement: str, *parameters: object) -> None:
        self.shop.execute(statement.encode(), parameters or None)

    def one(self, statement: str, *parameters: object) -> Any:
        row = self.shop.execute(statement.encode(), parameters or None).fetchone()
        assert row is not None
        return row[0]

    def shows_what_the_shop_says(self) -> bool:
        """The page's 30 days against the shop's own tables, in its own SQL."""
        board = self.project.board()
        begin = datetime.fromtimestamp(board["window"]["starts_ms"] / 1000, UTC)
        end = datetime.fromtimestamp(board["window"]["ends_ms"] / 1000, UTC)
        rows = self.shop.execute(_TRUTH, {"begin": begin, "end": end}).fetchall()
        by_category = {category: float(net) for category, _, net, _ in rows if category and net}
        by_region = {region: float(net) for _, region, net, _ in rows if region and net}
        (total,) = [row for row in rows if row[0] is None and row[1] is None]
        return (
            number(board, "net_sales") == float(total[2] or 0)
            and number(board, "orders") == total[3]
            and bars(board, "category") == by_category
            and bars(board, "region") == by_region
        )


_TRUTH = b"""
with lines as (
    select order_id, product_id, quantity * unit_price - discount as net from order_items
    union all
    select order_id, product_id, -amount from refunds
)
select p.category::text, c.region::text, sum(l.net), count(distinct o.id)
from lines l
join orders o on o.id = l.order_id
join products p on p.id = l.product_id
join customers c on c.id = o.customer_id
where o.status <> 'cancelled' and o.placed_at >= %(begin)s and o.placed_at <= %(end)s
group by grouping sets ((), (p.category), (c.region))
"""


@pytest.fixture(scope="module")
def live(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("live") / "project"
    project = shop_project(postgres, folder, days_of_history=70)
    with running(project), project.connect() as shop:
        yield Live(project, shop)
    release(project)


def recent(position: int) -> str:
    """The id of a recent order, as SQL."""
    return (
        "(select id from orders where status <> 'cancelled' "
        f"order by placed_at desc offset {position} limit 1)"
    )


ACTIONS = {
    "an order is cancelled": f"update orders set status = 'cancelled' where id = {recent(0)}",
    "a product changes its category": "update products set category = 'Mystery' where id in "
    f"(select product_id from order_items where order_id = {recent(3)})",
    "a customer moves to another region": "update customers set region = 'Atlantis' where id = "
    f"(select customer_id from orders where id = {recent(5)})",
    "an order is deleted with its items": f"delete from orders where id = {recent(7)}",
    "a line is refunded": "insert into refunds (order_id, product_id, amount) "
    f"select order_id, product_id, 0.5 from order_items where order_id = {recent(9)} limit 1",
    "refunds are truncated": "truncate refunds",
    "every price changes at once": "update order_items set unit_price = unit_price + 0.01",
    "a key moves": f"update order_items set id = id + 1000000 where order_id = {recent(11)}",
    "an order moves to another day": "update orders set placed_at = placed_at - interval '1 day' "
    f"where id = {recent(13)}",
}


@pytest.mark.postgres
@pytest.mark.parametrize("action", ACTIONS)
def test_the_page_follows(live: Live, action: str) -> None:
    assert live.shows_what_the_shop_says()
    before = live.project.board()
    live.run(ACTIONS[action])
    eventually(lambda: live.shows_what_the_shop_says() and live.project.board() != before)


@pytest.mark.postgres
def test_a_transaction_that_is_rolled_back_shows_nowhere(live: Live) -> None:
    with live.shop.transaction(force_rollback=True):
        live.run("update products set category = 'Never'")
    live.run("update products set category = 'Later' where id = 1")
    eventually(live.shows_what_the_shop_says)
    assert "Never" not in bars(live.project.board(), "category")


@pytest.mark.postgres
def test_every_model_and_every_table_is_proved_after_all_of_it(live: Live) -> None:
    proof = live.project.engine.ask("prove")
    assert all(model["holds"] for model in proof["models"])
    assert is_equal_to_the_shop(live.project)
