"""A small shop for the web's tests: its project, and its one table with rows made from tuples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pyarrow as pa
import yaml

from upwell.core.batch import WEIGHT
from upwell.core.schema import Column, TableSchema
from upwell.project.settings import Settings
from upwell.project.values import Dashboard, MetricsFile, Project

METRICS = """
semantic_models:
  - name: sales
    model: order_categories
    defaults: {agg_time_dimension: placed_at}
    entities: [{name: order, type: foreign, expr: order_id}]
    dimensions:
      - {name: placed_at, type: time, type_params: {time_granularity: hour}}
      - {name: category, type: categorical}
      - {name: region, type: categorical}
    measures:
      - {name: net_sales, agg: sum, expr: net_amount}
      - {name: orders, agg: count_distinct, expr: order_id}
      - {name: units, agg: sum}
metrics:
  - {name: net_sales, label: Net sales, type: simple, type_params: {measure: net_sales},
     meta: {format: currency, currency: GBP}}
  - {name: orders, label: Orders, type: simple, type_params: {measure: orders}}
  - {name: units, label: Units, type: simple, type_params: {measure: units}}
  - {name: average_order, label: Average order, type: ratio,
     type_params: {numerator: net_sales, denominator: orders}, meta: {format: currency}}
"""

DASHBOARD = """
title: Sales
period: {default: 30d, choices: [24h, 7d, 30d]}
compare: previous_period
filters: [category, region]
tiles:
  - {metric: net_sales}
  - {metric: orders}
  - {metric: units}
  - {metric: average_order}
  - {metric: net_sales, by: category, over: time, as: stacked_area,
     grain: {24h: hour, 7d: hour, 30d: day}}
  - {metric: net_sales, by: region, as: ranked_bars}
  - {metric: net_sales, by: category, as: ranked_bars}
"""

#: The same board over data of any age, its timeline at the usual grains.
LONG_DASHBOARD = DASHBOARD.replace(
    "{default: 30d, choices: [24h, 7d, 30d]}", "{default: all, choices: [24h, 7d, 30d, 12m, all]}"
).replace("grain: {24h: hour, 7d: hour, 30d: day}", "grain: {}")

NET_SALES, ORDERS, UNITS, AVERAGE, TIMELINE, REGIONS, CATEGORIES = range(7)

SCHEMA = TableSchema(
    "order_categories",
    (
        Column("order_id", "BIGINT"),
        Column("placed_at", "TIMESTAMPTZ"),
        Column("region", "VARCHAR"),
        Column("category", "VARCHAR"),
        Column("units", "BIGINT"),
        Column("net_amount", "DECIMAL(18,2)"),
    ),
    key=("order_id", "category"),
)

_ARROW = pa.schema(
    {
        "order_id": pa.int64(),
        "placed_at": pa.timestamp("us", "UTC"),
        "region": pa.string(),
        "category": pa.string(),
        "units": pa.int64(),
        "net_amount": pa.decimal128(18, 2),
    }
)

#: order, instant in microseconds, region, category, units, amount
Row = tuple[int, int | None, str | None, str | None, int | None, Decimal | None]


def make_project(
    *,
    zone: str = "Europe/London",
    day_starts: str = "00:00",
    dashboard: str = DASHBOARD,
    metrics_file: str = METRICS,
) -> Project:
    """The project with one dashboard, ``sales``."""
    metrics = msgspec.convert(yaml.safe_load(metrics_file), MetricsFile)
    settings: dict[str, Any] = {
        "name": "shop",
        "sources": {"shop": {"type": "postgres", "url": "postgresql://x/y", "tables": ["orders"]}},
        "time": {"zone": zone, "day_starts": day_starts},
    }
    return Project(
        folder=Path(),
        settings=msgspec.convert(settings, Settings),
        models={},
        semantic_models={model.name: model for model in metrics.semantic_models},
        metrics={metric.name: metric for metric in metrics.metrics},
        dashboards={"sales": msgspec.convert(yaml.safe_load(dashboard), Dashboard)},
        requirements={},
    )


def table(rows: Iterable[Row]) -> pa.Table:
    """Rows as the feed's snapshot has them."""
    columns = list(zip(*rows, strict=True)) or [()] * len(_ARROW)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _ARROW, strict=True)]
    return pa.table(arrays, schema=_ARROW)


def batch(rows: Iterable[Row], weights: Sequence[int]) -> pa.Table:
    """Rows with weights as the feed's delta has them."""
    return table(rows).append_column(WEIGHT, pa.array(weights, pa.int64()))


def instant_us(*when: int, zone: str = "Europe/London", fold: int = 0) -> int:
    """A moment of the local clock: year, month, day, hour, minute, second."""
    moment = datetime(*when, tzinfo=ZoneInfo(zone), fold=fold)  # type: ignore[arg-type,misc]
    return int(moment.timestamp()) * 1_000_000


def local(us: int, zone: str = "Europe/London") -> str:
    """What the local clock shows: ``2026-03-29 02:00``."""
    return datetime.fromtimestamp(us / 1e6, UTC).astimezone(ZoneInfo(zone)).strftime("%F %H:%M")


NOTHING_COMMITTED = np.empty(0, np.int64)
