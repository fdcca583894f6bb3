from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from upwell.core.schema import Column, TableSchema
from upwell.project.values import Model
from upwell.transform.explain import explain, text
from upwell.transform.plan import Plan, plan_models

GOLDEN = Path(__file__).parents[1] / "golden"

TABLES = (
    TableSchema(
        "shop.orders",
        (Column("id", "BIGINT"), Column("region", "VARCHAR"), Column("customer_id", "BIGINT")),
        ("id",),
    ),
    TableSchema("shop.customers", (Column("id", "BIGINT"), Column("name", "VARCHAR")), ("id",)),
)

NAMED = "select o.id, c.name from shop.orders o join shop.customers c on c.id = customer_id"
BUYERS = """
select region, count(distinct customer_id) as buyers, sum(id) as ids, max(id) as latest
from shop.orders
group by region
"""


LATEST = """
select o.region, max(o.id) as latest, median(o.id) as middle, min(c.name) as first_name
from shop.orders o left join shop.customers c on c.id = o.customer_id
where not exists (select 1 from shop.orders l where l.customer_id = o.customer_id and l.id > o.id)
group by o.region
"""


@pytest.fixture(scope="module")
def plan() -> Plan:
    models = {
        "named": NAMED,
        "buyers": BUYERS,
        "latest": LATEST,
        "ranks": "select name, rank() over (order by id) as place from named order by name",
    }
    return plan_models(
        [
            Model(name=name, sql=sql, path=Path(f"models/{name}.sql"), description=f"About {name}.")
            for name, sql in models.items()
        ],
        TABLES,
    )


@pytest.mark.parametrize("name", ["named", "buyers", "latest", "ranks"])
def test_an_explanation_reads_as_the_golden_file_says(plan: Plan, name: str) -> None:
    assert text(explain(plan, name)) + "\n" == (GOLDEN / f"explain_{name}.txt").read_text()


def test_an_explanation_is_a_value_that_turns_into_json(plan: Plan) -> None:
    value = msgspec.to_builtins(explain(plan, "buyers"))
    assert value["refresh"] == "incremental"
    assert value["reads"] == ("shop.orders",)
    assert [step["gives"] for step in value["steps"]] == [
        "buyers/rows",
        "buyers/distinct customer_id",
        "buyers",
    ]


def test_a_full_refresh_says_because_of_what(plan: Plan) -> None:
    explanation = explain(plan, "ranks")
    assert explanation.refresh == "full"
    assert explanation.steps[0].why == "it uses a window function over all rows"
    assert explanation.notes == ("ORDER BY has no effect on a stored result",)


def test_an_unknown_model_is_a_key_error(plan: Plan) -> None:
    with pytest.raises(KeyError):
        explain(plan, "nobody")
