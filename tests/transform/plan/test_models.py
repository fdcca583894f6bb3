from __future__ import annotations

from pathlib import Path

import pytest

from upwell.core.errors import ProjectError
from upwell.core.schema import Column, TableSchema
from upwell.project.values import Model
from upwell.transform.plan import Plan, plan_models
from upwell.transform.plan.nodes import Recompute


def table(name: str, key: tuple[str, ...], **columns: str) -> TableSchema:
    return TableSchema(name, tuple(Column(n, t, nullable=False) for n, t in columns.items()), key)


SHOP = (
    table("shop.customers", ("id",), id="BIGINT", region="VARCHAR"),
    table("shop.products", ("id",), id="BIGINT", category="VARCHAR"),
    table(
        "shop.orders",
        ("id",),
        id="BIGINT",
        customer_id="BIGINT",
        placed_at="TIMESTAMPTZ",
        status="VARCHAR",
    ),
    table(
        "shop.order_items",
        ("id",),
        id="BIGINT",
        order_id="BIGINT",
        product_id="BIGINT",
        quantity="INTEGER",
        unit_price="DECIMAL(12,2)",
        discount="DECIMAL(12,2)",
    ),
    table(
        "shop.refunds",
        ("id",),
        id="BIGINT",
        order_id="BIGINT",
        product_id="BIGINT",
        amount="DECIMAL(12,2)",
    ),
)

SALE_LINES = """
select order_id, product_id, quantity as units, quantity * unit_price - discount as net_amount
from shop.order_items
union all
select order_id, product_id, 0, -amount from shop.refunds
"""
ORDER_CATEGORIES = """
-- What each order sold per category.
select o.id as order_id, o.placed_at, c.region, p.category, sum(l.units) as units,
       sum(l.net_amount) as net_amount
from sale_lines l
join shop.orders o on o.id = l.order_id
join shop.products p on p.id = l.product_id
join shop.customers c on c.id = o.customer_id
where o.status <> 'cancelled'
group by all;
"""


def model(name: str, sql: str, *key: str) -> Model:
    return Model(name=name, sql=sql, path=Path(f"models/{name}.sql"), key=key)


def plan(*models: Model) -> Plan:
    return plan_models(models, SHOP)


def refusal(*models: Model) -> ProjectError:
    with pytest.raises(ProjectError) as refused:
        plan(*models)
    return refused.value


def test_the_sample_models_are_fully_incremental_and_their_key_is_proven() -> None:
    planned = plan(
        model("order_categories", ORDER_CATEGORIES, "order_id", "category"),
        model("sale_lines", SALE_LINES),
    )
    assert [each.name for each in planned.models] == ["sale_lines", "order_categories"]
    assert not any(isinstance(node.kind, Recompute) for node in planned.nodes)
    assert planned.model("order_categories").schema.key == ("order_id", "category")
    types = {each.name: each.type for each in planned.model("order_categories").schema.columns}
    assert types["units"] == "HUGEINT"
    assert types["net_amount"] == "DECIMAL(38,2)"


def test_a_key_is_found_without_being_declared() -> None:
    planned = plan(model("sale_lines", SALE_LINES), model("order_categories", ORDER_CATEGORIES))
    assert planned.model("order_categories").schema.key == ("order_id", "category")


def test_a_declared_key_that_cannot_be_proven_is_not_relied_on() -> None:
    wrong = plan(model("lines", "select order_id, quantity from shop.order_items", "order_id"))
    assert wrong.model("lines").schema.key == ()
    assert wrong.model("lines").nodes[-1].unique == ()
    assert "nothing relies on it" in wrong.model("lines").notes[0]


@pytest.mark.parametrize(
    ("sql", "key"),
    [
        ("select id, status from shop.orders where status = 'paid'", ("id",)),
        ("select o.id, i.id as item from shop.orders o, shop.order_items i", ("id", "item")),
        ("select i.id from shop.order_items i join shop.orders o on i.order_id = o.id", ("id",)),
        ("select o.id from shop.order_items i join shop.orders o on i.order_id = o.id", ()),
        ("select i.id from shop.order_items i join shop.orders o on i.order_id < o.id", ()),
        ("select i.order_id from shop.order_items i where i.id = 5", ("order_id",)),
        ("select status, count(*) as n from shop.orders group by 1", ("status",)),
        ("select upper(status) as s, count(*) as n from shop.orders group by status", ()),
        ("select count(*) as n from shop.orders group by status", ()),
        ("select distinct region from shop.customers", ("region",)),
        ("select nullif(region, '') as r, count(*) as n from shop.customers group by 1", ()),
        ("select coalesce(nullif(region, ''), 'x') as r from shop.customers group by 1", ("r",)),
    ],
)
def test_keys_are_those_that_follow_from_the_sources(sql: str, key: tuple[str, ...]) -> None:
    assert plan(model("m", sql)).model("m").schema.key == key


@pytest.mark.parametrize(("constant", "key"), [("'1'", ("line",)), ("1", ())])
def test_a_number_may_equal_several_texts(constant: str, key: tuple[str, ...]) -> None:
    tables = [table("shop.codes", ("code", "line"), code="VARCHAR", line="INTEGER")]
    text = model("m", f"select line from shop.codes where code = {constant}")
    assert plan_models([text], tables).model("m").schema.key == key


@pytest.mark.parametrize(
    ("sql", "code", "where", "says"),
    [
        ("select id,\n custmer_id\nfrom shop.orders", "model_does_not_bind", ":2", "customer_id"),
        ("select o.id\nfrom shop.order o", "unknown_table", ":2", "did you mean shop.orders?"),
        ("select id + placed_at as x from shop.orders", "model_does_not_bind", ":1", "BIGINT"),
        ("select id from shop.orders where", "model_does_not_parse", ":1", "near"),
        ("select 'abc from shop.orders", "model_does_not_parse", "", "DuckDB"),
        ("", "model_not_a_select", "", "exactly one SELECT"),
        ("delete from shop.orders", "model_not_a_select", "", "exactly one SELECT"),
        ("select 1 as x; select 2 as x", "model_not_a_select", "", "exactly one SELECT"),
        ("select id, ID from shop.orders", "model_columns", "", "two columns the name"),
        ("select id as _weight from shop.orders", "model_columns", "", "_weight"),
        ("select current_time as t, id from shop.orders", "model_columns", "", "VARCHAR"),
        ("select (id, status) as pair from shop.orders", "model_columns", "", "STRUCT"),
        ("select random() as r from shop.orders", "model_not_repeatable", "", "random()"),
        ("select age(placed_at) as a from shop.orders", "model_not_repeatable", "", "age(current"),
        ("select id from shop.orders where id = $x", "model_not_repeatable", "", "parameter"),
        ("select id from shop.orders tablesample 5%", "model_not_repeatable", "", "sample"),
        ("select rowid as r from shop.orders", "model_not_repeatable", "", "rowid"),
        ("select status collate nocase as s from shop.orders", "model_not_repeatable", "", "lower"),
        ("select * from read_csv('x.csv')", "model_reads_outside", "", "read_csv()"),
        ("select * from 'x.csv'", "unknown_table", ":1", "x.csv"),
    ],
)
def test_a_model_that_does_not_hold_is_refused_with_place_and_next_step(
    sql: str, code: str, where: str, says: str
) -> None:
    error = refusal(model("m", sql))
    assert error.code == code
    assert error.where == f"models/m.sql{where}"
    assert says in str(error)
    assert error.next_step


def test_a_type_is_told_by_its_kind_and_not_by_the_labels_in_it() -> None:
    text = "select 'VARIANT'::enum('VARIANT', 'BIT') as kind, {'BIT': id} as b from shop.orders"
    assert plan(model("m", text)).model("m").schema.column_names == ("kind", "b")


@pytest.mark.parametrize(
    ("expression", "nullable"),
    [
        ("cast(id as varchar)", False),
        ("cast(facts as varchar)", True),
        ("cast(coalesce(facts, '1') as integer)", True),
        ("cast(cast(id as json) as integer)", True),
    ],
)
def test_what_is_cast_from_json_may_be_null(expression: str, nullable: bool) -> None:
    tables = [table("shop.notes", ("id",), id="BIGINT", facts="JSON")]
    planned = plan_models([model("m", f"select {expression} as x from shop.notes")], tables)
    assert planned.model("m").schema.column("x").nullable is nullable


def test_a_circle_names_the_models_in_it() -> None:
    error = refusal(
        model("a", "select x from b"), model("b", "select x from c"), model("c", "select x from a")
    )
    assert error.code == "model_circle"
    assert "a → b → c → a" in error.what


def test_a_key_column_that_is_not_there_is_refused_with_the_nearest_name() -> None:
    error = refusal(model("m", "select id, status from shop.orders", "statsu"))
    assert (error.code, error.next_step) == ("model_key", "did you mean status?")


def test_a_model_cannot_take_the_name_of_a_table() -> None:
    with pytest.raises(ProjectError) as refused:
        plan_models([model("orders", "select 1 as x")], [table("orders", ("id",), id="BIGINT")])
    assert refused.value.code == "model_name_taken"


def test_the_fingerprint_follows_the_meaning_not_the_writing() -> None:
    def fingerprint(sql: str, below: str = SALE_LINES) -> str:
        planned = plan(model("sale_lines", below), model("m", sql))
        return planned.model("m").fingerprint

    first = fingerprint("select order_id from sale_lines")
    assert fingerprint("-- said otherwise\nSELECT order_id\nFROM sale_lines;") == first
    assert fingerprint("select product_id from sale_lines") != first
    assert fingerprint("select order_id from sale_lines", SALE_LINES + " where amount > 1") != first


def test_the_fingerprint_follows_the_tables_that_are_read() -> None:
    text = model("m", "select id from shop.customers")
    wider = table("shop.customers", ("id",), id="INTEGER", region="VARCHAR")
    assert (
        plan_models([text], SHOP).model("m").fingerprint
        != plan_models([text], [wider]).model("m").fingerprint
    )


def test_output_names_keep_the_case_they_are_written_in() -> None:
    planned = plan(model("m", 'select id as "Order Id", status as Status from shop.orders'))
    assert planned.model("m").schema.column_names == ("Order Id", "Status")


def test_a_mean_is_spelled_out_and_the_clock_bound_while_the_text_stays_the_users_own() -> None:
    text = """select avg(quantity) as "avg(x)", 'now() and avg(1)' as t, -- avg(y)
mean(discount) filter (where id > 1) + 1 as b, current_date as d, avg(id) over () as w
from shop.order_items group by id"""
    query = plan(model("m", text)).model("m").query
    assert query.startswith('select (sum(quantity) / count(quantity)) as "avg(x)", \'now() and avg')
    assert (
        "(sum(discount) filter (where id > 1) / count(discount) filter (where id > 1)) + 1" in query
    )
    assert "CAST(make_timestamptz($logical_time_us) AS DATE) as d, avg(id) over () as w" in query
