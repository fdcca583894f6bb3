"""Metric definitions hold against their models' columns, or say where they do not."""

from __future__ import annotations

import msgspec
import pytest

from upwell.core.errors import ProjectError
from upwell.core.schema import Column, TableSchema
from upwell.project.values import Measure, Project
from upwell.serve.web.metrics import check_metrics, define, expression, formula, published_tables

from .shop import SCHEMA, make_project

PROJECT = make_project()


def with_measure(expr: str, agg: str = "sum") -> Project:
    """The project in which net sales are measured by another expression."""
    model = PROJECT.semantic_models["sales"]
    measure = msgspec.convert({"name": "net_sales", "agg": agg, "expr": expr}, Measure)
    changed = msgspec.structs.replace(model, measures=(measure, *model.measures[1:]))
    return msgspec.structs.replace(PROJECT, semantic_models={"sales": changed})


def test_a_sound_project_has_no_faults() -> None:
    assert check_metrics(PROJECT, {SCHEMA.name: SCHEMA}) == []


@pytest.mark.parametrize(
    "expr", ["net_amount - units * 2", "CASE WHEN Units > 1 THEN net_amount END"]
)
def test_an_expression_over_the_columns_is_sound(expr: str) -> None:
    assert check_metrics(with_measure(expr), {SCHEMA.name: SCHEMA}) == []


@pytest.mark.parametrize(
    ("expr", "says"),
    [
        ("net_amout", "did you mean net_amount?"),
        ("orders.net_amount", "no column"),
        ("net_amount +", "not an SQL expression"),
        ("sum(net_amount)", "more than an expression"),
        ("(SELECT max(units) FROM order_categories)", "more than an expression"),
        ("row_number() OVER ()", "more than an expression"),
        ("net_amount; DROP TABLE order_categories", "more than an expression"),
        ("net_amount FROM order_categories", "more than an expression"),
        ("net_amount, units", "more than an expression"),
        ("DROP TABLE order_categories", "not an SQL expression"),
        ("?", "more than an expression"),
        ("category", "does not compute"),
        ("no_such_function(units)", "does not compute"),
    ],
)
def test_an_expression_that_cannot_be_summed_is_a_fault_that_says_where(
    expr: str, says: str
) -> None:
    (fault,) = check_metrics(with_measure(expr), {SCHEMA.name: SCHEMA})
    assert says in str(fault)
    assert "measure net_sales" in fault.where


def test_a_model_that_is_missing_is_a_fault_with_the_nearest_name() -> None:
    other = TableSchema("order_category", (Column("x", "INTEGER"),))
    (fault,) = check_metrics(PROJECT, {other.name: other})
    assert "did you mean order_category?" in str(fault)


def test_names_in_expressions_are_quoted_and_keep_the_columns_spelling() -> None:
    schema = TableSchema("t", (Column("Net Amount", "INTEGER"), Column("select", "INTEGER")))
    assert expression('"net amount" + "SELECT"', schema, where="") == '"Net Amount" + "select"'


def test_a_reader_is_told_how_a_metric_is_computed() -> None:
    labels = {name: metric.label for name, metric in PROJECT.metrics.items()}
    told = {name: formula(define(PROJECT, name, where=""), labels) for name in PROJECT.metrics}
    assert told == {
        "net_sales": "sum(net_amount)",
        "orders": "count(distinct order_id)",
        "units": "sum(units)",
        "average_order": "Net sales ÷ Orders",
    }


def test_only_the_tables_that_dashboards_name_are_published() -> None:
    assert published_tables(PROJECT) == ("order_categories",)


def test_an_unknown_metric_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ProjectError) as refused:
        define(PROJECT, "net_sale", where="dashboards/sales.yaml")
    assert "did you mean net_sales?" in str(refused.value)
