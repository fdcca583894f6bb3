"""The proof: a model as it is kept against the model's own text, row for row.

The full side runs the text its author wrote over the tables and models it reads, with only AVG
spelled out and the clock bound; it owes nothing to the planner. Reads only, on any connection.

Floating-point results may differ in their last digits with the order DuckDB adds them up in: two
rows that agree in everything else and within 1e-9 in their floats count as one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import duckdb

from upwell.core.schema import Column
from upwell.core.sql import count_rows, quote, quote_table, quoted_list
from upwell.transform.plan.bind import LOGICAL_TIME
from upwell.transform.plan.nodes import Plan

SAMPLE_ROWS = 10

_FLOATS = ("DOUBLE", "FLOAT")
_TOLERANCE = "1e-9"


@dataclass(frozen=True, slots=True)
class Sample:
    """A row that one side lacks; values as text, None for NULL. ``weight`` > 0: unexpected."""

    weight: int
    values: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Proof:
    """What a comparison found. ``missing`` rows are not kept but should be; ``unexpected`` are."""

    model: str
    rows: int
    missing: int
    unexpected: int
    seconds: float
    columns: tuple[str, ...]
    sample: tuple[Sample, ...]

    @property
    def holds(self) -> bool:
        return not self.missing and not self.unexpected


def prove(
    connection: duckdb.DuckDBPyConnection,
    plan: Plan,
    name: str,
    *,
    logical_time_us: int,
    stopwatch: Callable[[], float] = time.perf_counter,
) -> Proof:
    """Compare a model with its full query at the logical time of the version it stands at.

    Raises ``KeyError`` for a name that is not in the plan.
    """
    model = plan.model(name)
    columns = model.schema.columns
    parameters = {LOGICAL_TIME: logical_time_us} if f"${LOGICAL_TIME}" in model.query else {}
    started = stopwatch()
    rows = count_rows(connection, name)
    differences = _differences(name, model.query, columns)
    totals = (
        "SELECT coalesce(-sum(_weight) FILTER (_weight < 0), 0),"
        f" coalesce(sum(_weight) FILTER (_weight > 0), 0) FROM ({differences})"
    )
    missing, unexpected = _one(connection, totals, parameters)
    sample: list[Sample] = []
    if missing or unexpected:
        texts = ", ".join(f"CAST({quote(each.name)} AS VARCHAR)" for each in columns)
        query = f"SELECT _weight, {texts} FROM ({differences}) ORDER BY ALL LIMIT {SAMPLE_ROWS}"
        found = connection.execute(query, parameters or None).fetchall()
        sample = [Sample(int(weight), tuple(values)) for weight, *values in found]
    return Proof(
        model=name,
        rows=rows,
        missing=missing,
        unexpected=unexpected,
        seconds=stopwatch() - started,
        columns=model.schema.column_names,
        sample=tuple(sample),
    )


def _one(
    connection: duckdb.DuckDBPyConnection, query: str, parameters: dict[str, int]
) -> tuple[int, ...]:
    row = connection.execute(query, parameters or None).fetchone()
    return tuple(int(value) for value in row or ())


def _differences(name: str, query: str, columns: Sequence[Column]) -> str:
    """Rows one side has more often than the other: ``_weight`` > 0 if the stored side."""
    names = quoted_list(each.name for each in columns)
    both = (
        f"SELECT {names}, 1 AS _weight FROM {quote_table(name)} UNION ALL"
        f" SELECT {names}, -1 FROM (\n{query}\n) AS given({names})"
    )
    exact = (
        f"SELECT {names}, sum(_weight) AS _weight FROM ({both})"
        f" GROUP BY {names} HAVING sum(_weight) <> 0"
    )
    floats = [each.name for each in columns if each.type in _FLOATS]
    return _without_close_pairs(exact, columns, floats) if floats else exact


def _without_close_pairs(exact: str, columns: Sequence[Column], floats: Sequence[str]) -> str:
    """Differences less the pairs of rows that differ only by rounding in their floats."""
    names = quoted_list(each.name for each in columns)
    others = [each.name for each in columns if each.name not in floats]
    order = quoted_list(floats)
    partition = quoted_list([*others, "_side"]) if others else '"_side"'
    copies = (
        f"SELECT {names}, CAST(sign(_weight) AS BIGINT) AS _side,"
        f" unnest(range(CAST(abs(_weight) AS BIGINT))) AS _copy FROM ({exact})"
    )
    ranked = (
        f"SELECT *, row_number() OVER (PARTITION BY {partition} ORDER BY {order}, _copy) AS _rank"
        f" FROM ({copies})"
    )
    same = [f"a.{quote(each)} IS NOT DISTINCT FROM b.{quote(each)}" for each in others]
    close = [
        f"(a.{c} IS NOT DISTINCT FROM b.{c}"
        f" OR abs(a.{c} - b.{c}) <= {_TOLERANCE} * greatest(abs(a.{c}), abs(b.{c})))"
        for c in map(quote, floats)
    ]
    on = " AND ".join(["a._side = -b._side", "a._rank = b._rank", *same, *close])
    return (
        f"WITH ranked AS MATERIALIZED ({ranked}) SELECT {names}, _side AS _weight FROM ranked AS a"
        f" WHERE NOT EXISTS (SELECT 1 FROM ranked AS b WHERE {on})"
    )
