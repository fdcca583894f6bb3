"""One SELECT, and the tables it reads as DuckDB's own parser understands it."""

from __future__ import annotations

import pytest

from upwell.core.errors import UsageError
from upwell.serve.reader.statement import tables_named


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("select 1", ()),
        ("from shop.orders -- all; of them", ("shop.orders",)),
        ("table daily_sales", ("daily_sales",)),
        ("select * from shop.orders o join shop.orders p using (id)", ("shop.orders",)),
        ("select (select count(*) from shop.items) from daily", ("daily", "shop.items")),
        ('select * from "My Tab".t AS x, shop."b""c" y', ("My Tab.t", 'shop.b"c')),
        ("with shop as (select 1) select * from shop", ()),
        ("with orders as (select * from orders) select * from orders", ("orders",)),
        ("with a as (from shop.q) select * from a, shop.a", ("shop.a", "shop.q")),
        ("select * from shop.a union all select * from shop.b", ("shop.a", "shop.b")),
        ("select 'from shop.hidden' as text from shop.seen", ("shop.seen",)),
        ("summarize shop.orders", ("shop.orders",)),
        ("select * from range(3)", ()),
        ("select 1;", ()),
        ("with r as (select 1 as n from R) select * from R, shop.R", ("R", "shop.R")),
        (
            "with recursive r as (select 1 as n union all select n + 1 from r, shop.x) from r",
            ("shop.x",),
        ),
        ("with a as (select 1), b as (from a, shop.c) from b, a", ("shop.c",)),
        ("select * from (with a as (select 1) from a) join a on true", ("a",)),
        (
            "select unknown_function(id) from shop.orders natural join shop.b",
            ("shop.b", "shop.orders"),
        ),
    ],
)
def test_the_tables_of_a_select_are(sql: str, tables: tuple[str, ...]) -> None:
    assert tables_named(sql) == tables


@pytest.mark.parametrize(
    "sql",
    [
        "",
        ";",
        "-- nothing",
        "select 1; select 2",
        "select 1; drop table shop.orders",
        "insert into shop.orders values (1)",
        "update shop.orders set id = 2",
        "delete from shop.orders",
        "create table t as select 1",
        "attach 'x.duckdb'",
        "copy shop.orders to 'x.csv'",
        "set threads = 1",
        "call pragma_version()",
        "explain select 1",
        "install httpfs",
        "load httpfs",
    ],
)
def test_anything_but_one_select_is_refused(sql: str) -> None:
    with pytest.raises(UsageError) as caught:
        tables_named(sql)
    assert caught.value.code == "not_a_select"
    assert caught.value.next_step


@pytest.mark.parametrize("sql", ["selec 1", "select * from", "select 'open", 'select "open'])
def test_what_does_not_parse_is_told_with_a_way_to_mend_it(sql: str) -> None:
    with pytest.raises(UsageError) as caught:
        tables_named(sql)
    assert caught.value.code == "query_does_not_parse"
    assert caught.value.next_step
