"""Metric definitions, resolved against the columns they are computed from.

A measure becomes one SQL expression over its model's columns and one aggregate; a metric is one
measure, or the ratio of two. Everything is checked when a program starts: names by lookup (with the
nearest valid name in the error), expressions by SQLGlot, their types by DuckDB's own binder over
empty tables. What passes here cannot fail for its definition later.

Refused in an expression: aggregates, windows, subqueries, parameters; a measure's ``agg`` says how
rows are brought together, and nothing else does.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import duckdb
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from upwell.core.errors import ProjectError
from upwell.core.schema import TableSchema
from upwell.core.sql import connect, quote, quote_table
from upwell.project.values import (
    Dimension,
    Measure,
    Metric,
    Project,
    RatioMetric,
    SemanticModel,
    SimpleMetric,
)

Number = int | float | Decimal

_AGGREGATES = {
    "sum": "sum({})",
    "count": "count({})",
    "count_distinct": "count(DISTINCT {})",
}
_REFUSED = (exp.Query, exp.AggFunc, exp.Window, exp.Placeholder, exp.Parameter, exp.Star, exp.Alias)


@dataclass(frozen=True, slots=True)
class Definition:
    """A metric with what it is made of, in the order numerator, denominator."""

    metric: Metric
    measures: tuple[Measure, ...]
    models: tuple[SemanticModel, ...]  # of the measures, one by one

    @property
    def is_ratio(self) -> bool:
        return isinstance(self.metric, RatioMetric)

    @property
    def is_additive(self) -> bool:
        """Do the parts of a whole add up to it?"""
        return not self.is_ratio and self.measures[0].agg != "count_distinct"

    def value(self, values: Mapping[str, Number]) -> Number | None:
        """The metric from its measures' values; None for a ratio to nothing."""
        first, *rest = (values.get(measure.name, 0) for measure in self.measures)
        if not rest:
            return first
        return float(first) / float(rest[0]) if rest[0] else None


def define(project: Project, name: str, *, where: str) -> Definition:
    """The definition of the metric ``name``; ``where`` names it, for the error."""
    metric = project.metrics.get(name)
    if metric is None:
        raise unknown("metric", name, project.metrics, where=where)
    measures: list[Measure] = []
    models: list[SemanticModel] = []
    for simple in _simple_metrics(project, metric):
        model, measure = _measure(project, simple)
        measures.append(measure)
        models.append(model)
    return Definition(metric, tuple(measures), tuple(models))


def dimension(model: SemanticModel, name: str, *, where: str) -> Dimension:
    """The dimension ``name`` of a semantic model. Raises ProjectError if it has none."""
    for candidate in model.dimensions:
        if candidate.name == name:
            return candidate
    names = [candidate.name for candidate in model.dimensions]
    raise unknown("dimension", name, names, where=f"{where}, of semantic model {model.name}")


def time_dimension(model: SemanticModel) -> Dimension:
    """The dimension that says when: in which bucket a row of the model counts."""
    where = f"semantic model {model.name}: defaults"
    found = dimension(model, model.defaults.agg_time_dimension, where=where)
    if found.type != "time":
        raise ProjectError(
            "not_a_time",
            f"dimension {found.name} is categorical, so it cannot say when something happened",
            where=where,
            next_step="name a dimension of type time as agg_time_dimension",
        )
    return found


def aggregate(measure: Measure, column: str) -> str:
    """The aggregate of a measure over an SQL column that holds its expression."""
    return _AGGREGATES[measure.agg].format(column)


def expression(text: str, schema: TableSchema, *, where: str) -> str:
    """An expression of a metrics file as SQL over the columns of ``schema``, all names quoted.

    Raises ProjectError if it does not parse, names an unknown column or is more than an expression
    over one row.
    """
    try:
        statements = sqlglot.parse(f"SELECT {text}", dialect="duckdb")
    except SqlglotError as error:
        raise ProjectError(
            "bad_expression",
            f"{text!r} is not an SQL expression: {str(error).splitlines()[0]}",
            where=where,
            next_step=f"write an expression over the columns of {schema.name}",
        ) from error
    tree = _only_projection(statements)
    if tree is None or any(isinstance(node, _REFUSED) for node in tree.walk()):
        raise _not_plain(text, where)
    names = {name.lower(): name for name in schema.column_names}
    for column in list(tree.find_all(exp.Column)):
        if column.table or column.name.lower() not in names:
            raise unknown("column", column.sql(), names.values(), where=f"{where}: {text}")
        column.set("this", exp.to_identifier(names[column.name.lower()], quoted=True))
    return tree.sql(dialect="duckdb")


def formula(definition: Definition, labels: Mapping[str, str]) -> str:
    """How the metric is computed, for people: ``sum(net_amount)``, ``Net sales ÷ Orders``."""
    metric = definition.metric
    if isinstance(metric, RatioMetric):
        parts = (metric.type_params.numerator, metric.type_params.denominator)
        return " ÷ ".join(labels.get(part, part) for part in parts)
    measure = definition.measures[0]
    return aggregate(measure, measure.expr or measure.name).replace("DISTINCT", "distinct")


def published_tables(project: Project) -> tuple[str, ...]:
    """The models that the project's dashboards are computed from, in order of first mention."""
    tables: dict[str, None] = {}
    for name, board in project.dashboards.items():
        for tile in board.tiles:
            definition = define(project, tile.metric, where=f"dashboards/{name}.yaml")
            tables.update(dict.fromkeys(model.model for model in definition.models))
    return tuple(tables)


def check_metrics(project: Project, schemas: Mapping[str, TableSchema]) -> list[ProjectError]:
    """Everything that does not hold between metric definitions and their models' columns.

    ``schemas`` holds the models by name; a semantic model over one that is missing is reported.
    """
    faults: list[ProjectError] = []
    with connect(zone=project.settings.time.zone, threads=1) as connection:
        for name, schema in schemas.items():
            _create_empty(connection, name, schema)
        for model in project.semantic_models.values():
            schema_or_none = schemas.get(model.model)
            if schema_or_none is None:
                where = f"semantic model {model.name}"
                faults.append(unknown("model", model.model, schemas, where=where))
                continue
            faults += _check_model(connection, model, schema_or_none)
    for name in project.metrics:
        try:
            define(project, name, where=f"metric {name}")
        except ProjectError as fault:
            faults.append(fault)
    return faults


def unknown(kind: str, name: str, known: Iterable[str], *, where: str) -> ProjectError:
    """The error for a name that is not there, with the nearest one that is."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    expected = ", ".join(names[:12]) or "nothing: none is defined"
    return ProjectError(
        f"unknown_{kind}",
        f"there is no {kind} {name!r}",
        where=where,
        next_step=f"did you mean {near[0]}?" if near else f"expected one of: {expected}",
    )


def _simple_metrics(project: Project, metric: Metric) -> Sequence[SimpleMetric]:
    if isinstance(metric, SimpleMetric):
        return (metric,)
    parts = []
    for name in (metric.type_params.numerator, metric.type_params.denominator):
        part = project.metrics.get(name)
        if not isinstance(part, SimpleMetric):
            simple = [
                key for key, value in project.metrics.items() if isinstance(value, SimpleMetric)
            ]
            raise unknown(
                "metric", name, simple, where=f"metric {metric.name}, a ratio of simple ones"
            )
        parts.append(part)
    return parts


def _measure(project: Project, metric: SimpleMetric) -> tuple[SemanticModel, Measure]:
    name = metric.type_params.measure
    for model in project.semantic_models.values():
        for measure in model.measures:
            if measure.name == name:
                return model, measure
    names = [
        measure.name for model in project.semantic_models.values() for measure in model.measures
    ]
    raise unknown("measure", name, names, where=f"metric {metric.name}")


def _create_empty(connection: duckdb.DuckDBPyConnection, name: str, schema: TableSchema) -> None:
    if "." in name:
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(name.partition('.')[0])}")
    columns = ", ".join(f"{quote(column.name)} {column.type}" for column in schema.columns)
    connection.execute(f"CREATE TABLE {quote_table(name)} ({columns})")


def _check_model(
    connection: duckdb.DuckDBPyConnection, model: SemanticModel, schema: TableSchema
) -> list[ProjectError]:
    faults: list[ProjectError] = []
    checks: list[tuple[str, str, str]] = [
        (f"measure {measure.name}", measure.expr or measure.name, _AGGREGATES[measure.agg])
        for measure in model.measures
    ]
    for candidate in model.dimensions:
        wanted = "CAST({} AS TIMESTAMPTZ)" if candidate.type == "time" else "CAST({} AS VARCHAR)"
        checks.append((f"dimension {candidate.name}", candidate.expr or candidate.name, wanted))
    for what, text, template in checks:
        where = f"semantic model {model.name}, {what}"
        try:
            sql = expression(text, schema, where=where)
            connection.execute(f"SELECT {template.format(sql)} FROM {quote_table(schema.name)}")
        except ProjectError as fault:
            faults.append(fault)
        except duckdb.Error as error:
            faults.append(_does_not_bind(text, schema, error, where))
    return faults


def _only_projection(statements: Sequence[object]) -> exp.Expression | None:
    """What one SELECT of one value and nothing else selects; None for anything more."""
    if len(statements) != 1 or not isinstance(select := statements[0], exp.Select):
        return None
    said = {name for name, value in select.args.items() if value}
    found = select.expressions
    is_plain = said == {"expressions"} and len(found) == 1
    return found[0] if is_plain and isinstance(found[0], exp.Expression) else None


def _does_not_bind(text: str, schema: TableSchema, error: duckdb.Error, where: str) -> ProjectError:
    types = ", ".join(f"{column.name} {column.type}" for column in schema.columns)
    return ProjectError(
        "bad_expression",
        f"{text!r} does not compute: {str(error).splitlines()[0]}",
        where=where,
        next_step=f"the columns of {schema.name} are: {types}",
    )


def _not_plain(text: str, where: str) -> ProjectError:
    return ProjectError(
        "bad_expression",
        f"{text!r} is more than an expression over one row",
        where=where,
        next_step="leave out aggregates, windows, subqueries and aliases: agg says how rows add up",
    )
