from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from upwell.core.batch import WEIGHT
from upwell.core.schema import Column, TableSchema
from upwell.core.sql import connect
from upwell.project.values import Model
from upwell.transform.plan import Plan, plan_models
from upwell.transform.refresh import ModelFailedError, Refresher, build, drop, prove

ORDERS = TableSchema(
    "shop.orders",
    (
        Column("id", "BIGINT"),
        Column("region", "VARCHAR"),
        Column("amount", "DECIMAL(10,2)"),
        Column("weight", "DOUBLE"),
    ),
    ("id",),
)
ITEMS = TableSchema("shop.items", (Column("id", "BIGINT"), Column("order_id", "BIGINT")), ("id",))

TABLES = """
create table shop.orders (id bigint, region varchar, amount decimal(10, 2), weight double);
create table shop.items (id bigint, order_id bigint);
insert into shop.orders values (1, 'x', 5, 0.1), (2, 'y', 7, 0.2), (3, null, 9, 0.3);
insert into shop.items values (10, 1), (11, 1), (12, 2), (13, 3);
"""

MODELS = {
    "lines": "select i.id, region, amount from shop.items i join shop.orders o on o.id = order_id",
    "by_region": "select region, sum(amount) as amount, count(*) as n from lines group by region",
    "weights": "select region, sum(weight) as weight from shop.orders group by region",
    "places": "select region, rank() over (order by amount) as place from by_region",
    "late": "select count(*) as n from shop.orders where make_timestamp(id * 1000000) < now()",
}


def plan_of(models: dict[str, str]) -> Plan:
    return plan_models(
        [Model(name=name, sql=sql, path=Path(f"{name}.sql")) for name, sql in models.items()],
        [ORDERS, ITEMS],
    )


PLAN = plan_of(MODELS)


@pytest.fixture
def store() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = connect(zone="UTC", threads=1)
    connection.execute("CREATE SCHEMA shop")
    connection.execute(TABLES)
    build(connection, PLAN, [model.name for model in PLAN.models], 0)
    yield connection
    connection.close()


class Counting:
    """A connection that counts the statements run on it."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self.statements: list[str] = []

    def execute(self, query: str, parameters: object = None) -> duckdb.DuckDBPyConnection:
        self.statements.append(query)
        return self._connection.execute(query, parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def new_amount(store: duckdb.DuckDBPyConnection, order: int, amount: int) -> dict[str, pa.Table]:
    """Change an order's amount in the source table; the delta."""
    return change(store, order, f"amount = {amount}")


def change(store: duckdb.DuckDBPyConnection, order: int, assignment: str) -> dict[str, pa.Table]:
    where = f"WHERE id = {order}"
    old = store.execute(f"SELECT *, -1::BIGINT AS {WEIGHT} FROM shop.orders {where}")
    before = old.to_arrow_table()
    store.execute(f"UPDATE shop.orders SET {assignment} {where}")
    new = store.execute(f"SELECT *, 1::BIGINT AS {WEIGHT} FROM shop.orders {where}")
    return {"shop.orders": pa.concat_tables([before, new.to_arrow_table()])}


def rows(delta: pa.Table) -> set[tuple[Any, ...]]:
    return {tuple(row.values()) for row in delta.to_pylist()}


def test_a_change_goes_through_models_over_models_as_their_deltas(
    store: duckdb.DuckDBPyConnection,
) -> None:
    changed = Refresher(store, PLAN).apply(new_amount(store, 1, 6), 0)
    assert rows(changed["by_region"]) == {("x", Decimal(10), 2, -1), ("x", Decimal(12), 2, 1)}
    assert rows(changed["lines"]) == {
        (10, "x", Decimal(5), -1), (11, "x", Decimal(5), -1),
        (10, "x", Decimal(6), 1), (11, "x", Decimal(6), 1),
    }  # fmt: skip
    assert "places" not in changed, "x is still between y and the NULL region"


def test_a_change_that_no_model_reads_runs_no_statement_for_it(
    store: duckdb.DuckDBPyConnection,
) -> None:
    plan = plan_of({name: MODELS[name] for name in ("lines", "by_region")})
    counting = Counting(store)
    refresher = Refresher(counting, plan)  # type: ignore[arg-type]  # counts what it passes on
    assert refresher.apply(change(store, 1, "weight = 9"), 0) == {}
    assert counting.statements == []


def test_a_node_takes_at_most_four_statements_and_none_of_them_is_ddl(
    store: duckdb.DuckDBPyConnection,
) -> None:
    plan = plan_of({name: MODELS[name] for name in ("lines", "by_region")})
    counting = Counting(store)
    refresher = Refresher(counting, plan)  # type: ignore[arg-type]  # counts what it passes on
    refresher.apply(new_amount(store, 1, 6), 0)
    verbs = [statement.split()[0] for statement in counting.statements]
    assert verbs == ["SELECT", "DELETE", "INSERT", "SELECT", "SELECT", "DELETE", "INSERT"]


def test_an_aggregate_over_groups_that_are_never_null_reads_its_state_as_it_counts(
    store: duckdb.DuckDBPyConnection,
) -> None:
    plan = plan_of({"copies": "select id, count(*) as n from shop.orders group by id"})
    build(store, plan, ["copies"], 0)
    counting = Counting(store)
    refresher = Refresher(counting, plan)  # type: ignore[arg-type]  # counts what it passes on
    row = store.execute(f"SELECT *, 1::BIGINT AS {WEIGHT} FROM shop.orders WHERE id = 1")
    delta = row.to_arrow_table()
    store.execute("INSERT INTO shop.orders SELECT * FROM shop.orders WHERE id = 1")
    refresher.apply({"shop.orders": delta}, 0)
    verbs = [statement.split()[0] for statement in counting.statements]
    assert verbs == ["SELECT", "DELETE", "INSERT"]


def test_readers_under_one_condition_have_it_judged_once(
    store: duckdb.DuckDBPyConnection,
) -> None:
    joined = "from shop.items i join shop.orders o on o.id = i.order_id where o.amount > 0"
    plan = plan_of({"a": f"select i.id, o.region {joined}", "b": f"select i.id, o.weight {joined}"})
    build(store, plan, ["a", "b"], 0)
    counting = Counting(store)
    refresher = Refresher(counting, plan)  # type: ignore[arg-type]  # counts what it passes on
    assert rows(refresher.apply(change(store, 3, "region = 'z'"), 0)["a"]) == {
        (13, None, -1), (13, "z", 1),
    }  # fmt: skip
    judged = [each for each in counting.statements if '("o"."amount" > 0)' in each]
    assert len(judged) == 1


def test_a_null_where_none_can_be_fails_what_reads_its_table_though_no_column_of_it_is_shown(
    store: duckdb.DuckDBPyConnection,
) -> None:
    strict = TableSchema(
        "shop.orders",
        tuple(Column(each.name, each.type, each.name == "weight") for each in ORDERS.columns),
        ("id",),
    )
    models = {
        "ids": "select id from shop.items",
        "counts": "select count(region) as n from shop.orders",
    }
    plan = plan_models(
        [Model(name=name, sql=sql, path=Path(f"{name}.sql")) for name, sql in models.items()],
        [strict, ITEMS],
    )
    build(store, plan, list(models), 0)
    refresher = Refresher(store, plan)
    gone = change(store, 1, "region = null")
    with pytest.raises(ModelFailedError, match="a NULL in region") as failed:
        refresher.apply(gone, 0)
    assert failed.value.model == "counts"


def test_an_aggregate_whose_groups_do_not_change_stops_the_change(
    store: duckdb.DuckDBPyConnection,
) -> None:
    swap = {
        name: pa.concat_tables([one[name], other[name]])
        for one, other in [(change(store, 1, "region = 'y'"), change(store, 2, "region = 'x'"))]
        for name in one
    }
    plan = plan_of({"regions": "select distinct region from shop.orders"})
    build(store, plan, ["regions"], 0)
    assert Refresher(store, plan).apply(swap, 0) == {}


def test_time_alone_refreshes_what_reads_the_clock_and_nothing_else(
    store: duckdb.DuckDBPyConnection,
) -> None:
    refresher = Refresher(store, PLAN)
    changed = refresher.apply({}, 2_500_000)
    assert set(changed) == {"late"}
    assert rows(changed["late"]) == {(0, -1), (2, 1)}
    assert refresher.apply({}, 2_600_000) == {}
    assert prove(store, PLAN, "late", logical_time_us=2_500_000).holds
    assert not prove(store, PLAN, "late", logical_time_us=9_000_000).holds


def test_a_rolled_back_version_leaves_the_refresher_fit_for_the_next(
    store: duckdb.DuckDBPyConnection,
) -> None:
    refresher = Refresher(store, PLAN)
    store.execute("BEGIN")
    refresher.apply(new_amount(store, 1, 6), 0)
    store.execute("ROLLBACK")
    store.execute("BEGIN")
    refresher.apply(new_amount(store, 2, 8), 0)
    store.execute("COMMIT")
    assert all(prove(store, PLAN, name, logical_time_us=0).holds for name in MODELS)


def test_text_may_come_in_any_of_arrows_string_types(store: duckdb.DuckDBPyConnection) -> None:
    refresher = Refresher(store, PLAN)
    for string in (pa.string_view(), pa.large_string()):
        delta = new_amount(store, 2, 8)["shop.orders"]
        column = delta.column_names.index("region")
        delta = delta.set_column(column, "region", delta.column("region").cast(string))
        refresher.apply({"shop.orders": delta}, 0)
        assert all(prove(store, PLAN, name, logical_time_us=0).holds for name in MODELS)


@pytest.mark.parametrize("name", ["lines", "by_region", "weights", "places"])
@pytest.mark.parametrize("damage", ["DELETE FROM {0} WHERE TRUE", "INSERT INTO {0} FROM {0}"])
def test_a_proof_finds_a_damaged_state(
    store: duckdb.DuckDBPyConnection, name: str, damage: str
) -> None:
    assert prove(store, PLAN, name, logical_time_us=0).holds
    stored = '_upwell."by_region#state"' if name == "by_region" else name
    store.execute(damage.format(stored))
    proof = prove(store, PLAN, name, logical_time_us=0)
    assert not proof.holds
    assert proof.missing + proof.unexpected > 0
    assert len(proof.sample) == min(10, proof.missing + proof.unexpected)


def test_a_proof_names_the_rows_that_differ(store: duckdb.DuckDBPyConnection) -> None:
    store.execute("UPDATE _upwell.\"by_region#state\" SET _s0 = _s0 + 1 WHERE _g0 = 'x'")
    proof = prove(store, PLAN, "by_region", logical_time_us=0)
    assert (proof.rows, proof.missing, proof.unexpected) == (3, 1, 1)
    sample = {(each.weight, each.values) for each in proof.sample}
    assert sample == {(-1, ("x", "10.00", "2")), (1, ("x", "11.00", "2"))}


def test_a_proof_forgives_the_last_digit_of_a_float_and_nothing_more(
    store: duckdb.DuckDBPyConnection,
) -> None:
    store.execute("UPDATE weights SET weight = weight * (1 + 1e-14)")
    assert prove(store, PLAN, "weights", logical_time_us=0).holds
    store.execute("UPDATE weights SET weight = weight * (1 + 1e-6) WHERE region = 'x'")
    proof = prove(store, PLAN, "weights", logical_time_us=0)
    assert (proof.missing, proof.unexpected) == (1, 1)


def test_a_proof_only_reads_and_runs_on_another_cursor(store: duckdb.DuckDBPyConnection) -> None:
    cursor = store.cursor()
    cursor.execute("BEGIN TRANSACTION READ ONLY")
    assert all(prove(cursor, PLAN, name, logical_time_us=0).holds for name in MODELS)


@pytest.mark.parametrize("damaged", ["lines", '_upwell."by_region#state"'])
def test_a_state_that_contradicts_a_delta_is_reported_and_not_written_over(
    store: duckdb.DuckDBPyConnection, damaged: str
) -> None:
    store.execute(f"DELETE FROM {damaged} WHERE TRUE")
    gone = store.execute(f"SELECT *, -1::BIGINT AS {WEIGHT} FROM shop.orders WHERE id = 1")
    delta = gone.to_arrow_table()
    store.execute("DELETE FROM shop.orders WHERE id = 1")
    with pytest.raises(ModelFailedError, match="contradicts"):
        Refresher(store, PLAN).apply({"shop.orders": delta}, 0)


def test_a_model_that_asks_for_more_memory_than_there_is_fails_and_not_the_engine(
    store: duckdb.DuckDBPyConnection,
) -> None:
    plan = plan_of({"long": "select repeat('x', amount::bigint) as text from shop.orders"})
    build(store, plan, ["long"], 0)
    store.execute("SET memory_limit = '32MB'")
    delta = new_amount(store, 1, 60_000_000)
    with pytest.raises(ModelFailedError, match="Out of Memory"):
        Refresher(store, plan).apply(delta, 0)


def test_a_model_that_duckdb_no_longer_binds_fails_and_not_the_engine(
    store: duckdb.DuckDBPyConnection,
) -> None:
    delta = new_amount(store, 1, 6)
    store.execute("DROP TABLE shop.items")
    with pytest.raises(ModelFailedError, match="items"):
        Refresher(store, PLAN).apply(delta, 0)


def test_building_again_replaces_what_another_plan_of_the_model_left(
    store: duckdb.DuckDBPyConnection,
) -> None:
    distinct = "select id as region, count(distinct region) as n from shop.orders group by 1"
    other = plan_of({"by_region": distinct})
    build(store, other, ["by_region"], 0)
    assert prove(store, other, "by_region", logical_time_us=0).holds
    drop(store, "by_region")
    left = store.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name LIKE 'by_region%'")
    assert left.fetchall() == [(0,)]


def test_a_whole_number_sum_past_64_bits_stays_exact(store: duckdb.DuckDBPyConnection) -> None:
    large = 2**62
    plan = plan_of({"big": f"select sum(id::hugeint * {large}) as total from shop.orders"})
    build(store, plan, ["big"], 0)
    added = store.execute(f"SELECT *, 1::BIGINT AS {WEIGHT} FROM shop.orders WHERE id = 3")
    delta = added.to_arrow_table()
    store.execute("INSERT INTO shop.orders FROM shop.orders WHERE id = 3")
    changed = Refresher(store, plan).apply({"shop.orders": delta}, 0)
    assert rows(changed["big"]) == {(Decimal(6 * large), -1), (Decimal(9 * large), 1)}


# ── conditions ───────────────────────────────────────────────────────────────────────────────────


def test_a_change_that_only_a_condition_sees_and_that_meets_it_before_and_after_is_none() -> None:
    store = connect(zone="UTC", threads=1)
    store.execute("CREATE SCHEMA shop")
    store.execute(TABLES)
    text = """
        select o.region, count(*) as n from shop.items i join shop.orders o on o.id = i.order_id
        where o.amount > 3 group by 1
    """
    plan = plan_of({"sold": text})
    build(store, plan, ["sold"], 0)
    counting = Counting(store)
    refresher = Refresher(counting, plan)  # type: ignore[arg-type]  # notes, and passes on
    assert refresher.apply(change(store, 1, "amount = 4"), 0) == {}
    assert len(counting.statements) == 1
    assert refresher.apply(change(store, 1, "amount = 3"), 0).keys() == {"sold"}
    assert prove(store, plan, "sold", logical_time_us=0).holds
    store.close()


# ── extremes ───────────────────────────────────────────────────────────────


def orders(*changes: tuple[Any, ...]) -> pa.Table:
    """A delta of orders: id, region, amount, weight, and the row's own weight."""
    ids, regions, amounts, weights, signs = zip(*changes, strict=True)
    return pa.table(
        {
            "id": pa.array(ids, pa.int64()),
            "region": pa.array(regions, pa.string()),
            "amount": pa.array([Decimal(str(each)) for each in amounts], pa.decimal128(10, 2)),
            "weight": pa.array(weights, pa.float64()),
            WEIGHT: pa.array(signs, pa.int64()),
        }
    )


EXTREMES = plan_of(
    {
        "extremes": "select region, min(amount) as least, max(amount) as most from shop.orders"
        " group by region"
    }
)


@pytest.mark.parametrize(
    ("gone", "come", "looks_again"),
    [
        (None, (4, "x", "6", 0.0), False),
        (None, (4, "x", "1", 0.0), False),
        ((3, "x", "5", 0.1), None, True),
        ((3, "x", "5", 0.1), (3, "x", "4", 0.1), True),  # the greatest may have been the 5
        ((2, "x", "4.5", 0.1), None, False),
        ((1, "x", "4", 0.1), (1, "x", "3", 0.1), False),
        ((1, "x", "4", 0.1), (1, "x", "4", 0.2), False),
    ],
)
def test_rows_are_looked_at_again_only_where_an_extreme_went_and_none_as_far_out_came(
    gone: tuple[Any, ...] | None, come: tuple[Any, ...] | None, looks_again: bool
) -> None:
    store = connect(zone="UTC", threads=1)
    store.execute("CREATE SCHEMA shop")
    store.execute(TABLES)
    rows = "(1, 'x', 4, 0.1), (2, 'x', 4.5, 0.1), (3, 'x', 5, 0.1)"
    store.execute(f"DELETE FROM shop.orders WHERE TRUE; INSERT INTO shop.orders VALUES {rows}")
    build(store, EXTREMES, ["extremes"], 0)
    counting = Counting(store)
    changes = []
    if gone is not None:
        store.execute(f"DELETE FROM shop.orders WHERE id = {gone[0]}")
        changes.append((*gone, -1))
    if come is not None:
        store.execute("INSERT INTO shop.orders VALUES (?, ?, ?, ?)", list(come))
        changes.append((*come, 1))
    Refresher(counting, EXTREMES).apply({"shop.orders": orders(*changes)}, 0)  # type: ignore[arg-type]
    assert prove(store, EXTREMES, "extremes", logical_time_us=0).holds
    assert any("renewed" in each for each in counting.statements) == looks_again
    store.close()


def test_a_refresher_goes_on_after_a_rollback_and_after_a_column_of_another_type(
    store: duckdb.DuckDBPyConnection,
) -> None:
    refresher = Refresher(store, PLAN)
    row = orders((4, "x", "1", 0.0, 1))
    store.execute("BEGIN")
    store.execute("INSERT INTO shop.orders VALUES (4, 'x', 1, 0)")
    refresher.apply({"shop.orders": row}, 0)
    store.execute("ROLLBACK")
    for batch in (row, row.set_column(1, "region", row.column(1).cast(pa.large_string()))):
        store.execute("BEGIN")
        store.execute("INSERT INTO shop.orders VALUES (4, 'x', 1, 0)")
        refresher.apply({"shop.orders": batch}, 0)
        for model in PLAN.models:
            assert prove(store, PLAN, model.name, logical_time_us=0).holds, model.name
        store.execute("ROLLBACK")


def test_duckdb_still_knows_nothing_of_a_table_the_transaction_wrote_to() -> None:
    """Should this fail, larger joins may do in one statement: see docs/decisions/0011."""

    def estimated() -> int:
        query = "EXPLAIN (FORMAT json) SELECT t.v FROM t JOIN few ON t.v = few.v"
        ((_, plan),) = connection.execute(query).fetchall()
        return int(json.loads(plan)[0]["extra_info"]["Estimated Cardinality"])

    connection = connect(zone="UTC", threads=1)
    connection.execute("CREATE TABLE t AS SELECT range AS v FROM range(10000)")
    connection.register("few", pa.table({"v": [1, 2]}))
    assert estimated() < 10
    connection.execute("BEGIN")
    connection.execute("INSERT INTO t VALUES (1)")
    assert estimated() >= 10_000
    connection.close()


def test_duckdb_still_folds_what_it_prepares_by_statistics_that_pass() -> None:
    """Should this fail, prepared plans may have become safe: see docs/decisions/0009."""
    connection = connect(zone="UTC", threads=1)
    connection.execute("CREATE TABLE t (v BIGINT); INSERT INTO t VALUES (1), (2)")
    connection.execute("PREPARE q AS SELECT v, v > 2 FROM t")
    connection.execute("INSERT INTO t VALUES (4)")
    assert (4, False) in connection.execute("EXECUTE q").fetchall()
    assert (4, True) in connection.execute("SELECT v, v > 2 FROM t").fetchall()
    connection.close()
