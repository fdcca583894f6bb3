"""The numbers of a view, with one statement a semantic model.

A *cut* is one way a tile looks at the facts: by which dimension, over which buckets, and whose
filter it leaves out (a ranked list shows what its own filter would hide). All cuts of one semantic
model are answered together: its rows inside the two windows are read once, and each combination of
filters and measures is one GROUPING SETS over them.

Sums of decimals stay decimals. A row whose time is NULL, outside the calendar or after now is in no
window; ``read_held`` says how many such rows there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import duckdb

from upwell.core.schema import TableSchema
from upwell.core.sql import quote, quote_table
from upwell.project.values import Grain, Measure, SemanticModel
from upwell.serve.web.calendar import Span, Window
from upwell.serve.web.metrics import Number, aggregate, dimension, expression
from upwell.serve.web.period import GRAINS
from upwell.serve.web.replica import At, OnCalendar
from upwell.serve.web.view import Filter


@dataclass(frozen=True, slots=True)
class Cut:
    """One way to look: grouped ``by`` a dimension, ``over`` buckets, without one filter."""

    by: str | None = None
    over: Grain | None = None
    ignores: str | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """A place in a cut: in the current window or the previous one, which bucket, which value."""

    is_current: bool
    bucket_us: int | None = None
    value: str | None = None


#: What one cut holds: the measures' values, by name, of each cell that has any rows.
Cells = Mapping[Cell, Mapping[str, Number]]


@dataclass(frozen=True, slots=True)
class _Branch:
    """Cuts that share filters and measures, and so one SELECT."""

    ignores: str | None
    measures: tuple[Measure, ...]
    cuts: tuple[Cut, ...]


@dataclass(frozen=True, slots=True)
class _Place:
    """In which columns of a result row a cut has its bucket, its value and its measures."""

    cut: Cut
    bucket: int | None
    value: int | None
    measures: Mapping[str, int]


def read_facts(
    connection: duckdb.DuckDBPyConnection,
    model: SemanticModel,
    schema: TableSchema,
    *,
    wanted: Mapping[Cut, Iterable[str]],
    filters: Sequence[Filter],
    window: Window,
) -> dict[Cut, Cells]:
    """The values of all ``wanted`` cuts, each with the names of the measures it needs."""
    needed: dict[Cut, set[str]] = {}
    for cut, names in wanted.items():
        needed.setdefault(_distinct(cut, filters), set()).update(names)
    query = _Query(model, schema, needed, filters)
    statement, values = query.statement(window)
    found: dict[Cut, dict[Cell, dict[str, Number]]] = {cut: {} for cut in needed}
    places = query.places()
    for row in connection.execute(statement, values).fetchall():
        place = places[row[:2]]
        bucket_us = None if place.bucket is None else row[place.bucket]
        if place.bucket is not None and bucket_us is None:
            continue  # the previous window is not drawn over time
        value = None if place.value is None else row[place.value]
        found[place.cut][Cell(row[2], bucket_us, value)] = {
            name: 0 if row[column] is None else row[column]
            for name, column in place.measures.items()
        }
    return {cut: found[_distinct(cut, filters)] for cut in wanted}


@dataclass(frozen=True, slots=True)
class Held:
    """What there is of a model's rows: between which instants they count, and how many nowhere."""

    span: Span | None
    rows_left_out: int


def read_held(
    connection: duckdb.DuckDBPyConnection, model: SemanticModel, begins_us: int, now_us: int
) -> Held:
    """What is held from the beginning of the calendar up to and with now."""
    instant = quote(At(model.defaults.agg_time_dimension).instant)
    counts = f"FILTER ({instant} BETWEEN $1 AND $2)"
    row = connection.execute(
        f"SELECT min({instant}) {counts}, max({instant}) {counts}, count(*), count(*) {counts} "
        f"FROM {quote_table(model.model)}",
        [begins_us, now_us],
    ).fetchone()
    first_us, last_us, rows, counted = row or (None, None, 0, 0)
    return Held(None if first_us is None else Span(first_us, last_us + 1), rows - counted)


def next_arrival_us(
    connection: duckdb.DuckDBPyConnection, model: SemanticModel, now_us: int, until_us: int
) -> int | None:
    """When the first row stamped later than now comes into the window; None if not by ``until_us``.

    Clocks differ, so such rows are common, and they must show when their time has come.
    """
    instant = quote(At(model.defaults.agg_time_dimension).instant)
    row = connection.execute(
        f"SELECT min({instant}) FROM {quote_table(model.model)} "
        f"WHERE {instant} > $1 AND {instant} < $2",
        [now_us, until_us],
    ).fetchone()
    return row[0] if row else None


class _Query:
    """The statement over one semantic model, and how to read its rows.

    Every row is: branch; which grouping columns were aggregated away (bits); whether it is of the
    current window; one column a grain; one a dimension; one a measure (NULL where the branch has no
    need of it).
    """

    def __init__(
        self,
        model: SemanticModel,
        schema: TableSchema,
        wanted: Mapping[Cut, Iterable[str]],
        filters: Sequence[Filter],
    ) -> None:
        self.model = model
        self.schema = schema
        self.at = At(model.defaults.agg_time_dimension)
        self.filters = filters
        self.branches = _branches(model, wanted)
        self.grains = [grain for grain in GRAINS if any(cut.over == grain for cut in wanted)]
        names = {cut.by for cut in wanted if cut.by} | {each.dimension for each in filters}
        self.dimensions = sorted(names)
        used = {measure.name for branch in self.branches for measure in branch.measures}
        self.measures = [measure for measure in model.measures if measure.name in used]

    def statement(self, window: Window) -> tuple[str, list[object]]:
        """The SQL and the values to bind."""
        values: list[object] = [window.current.start_us, window.current.end_us]
        instant = quote(self.at.instant)
        rows = f"{instant} >= $1 AND {instant} < $2"
        if window.previous is not None:
            values += [window.previous.start_us, window.previous.end_us]
            rows = f"({rows}) OR ({instant} >= $3 AND {instant} < $4)"
        columns = [f"{instant} >= $1 AS is_current"]
        columns += [
            f"CASE WHEN {instant} >= $1 THEN {quote(self._bucket(grain))} END AS {grain}_us"
            for grain in self.grains
        ]
        for index, name in enumerate(self.dimensions):
            columns.append(f"CAST({self._dimension_sql(name)} AS VARCHAR) AS d{index}")
            passes = self._passes(name, values)
            if passes:
                columns.append(f"{passes} AS p{index}")
        columns += [f"{self._measure_sql(each)} AS m{i}" for i, each in enumerate(self.measures)]
        facts = f"SELECT {', '.join(columns)} FROM {self._source()} WHERE {rows}"
        selects = [self._select(number, branch) for number, branch in enumerate(self.branches)]
        return f"WITH facts AS MATERIALIZED ({facts}) " + " UNION ALL ".join(selects), values

    def places(self) -> dict[tuple[int, int], _Place]:
        """How to read a row, by its first two columns."""
        first_dimension = 3 + len(self.grains)
        first_measure = first_dimension + len(self.dimensions)
        return {
            (number, self._aggregated(branch, cut)): _Place(
                cut,
                bucket=3 + self.grains.index(cut.over) if cut.over else None,
                value=first_dimension + self.dimensions.index(cut.by) if cut.by else None,
                measures={
                    measure.name: first_measure + self.measures.index(measure)
                    for measure in branch.measures
                },
            )
            for number, branch in enumerate(self.branches)
            for cut in branch.cuts
        }

    def _source(self) -> str:
        """The model's table; with the calendar where weeks or months are counted."""
        table = quote_table(self.schema.name)
        if not {"week", "month"} & set(self.grains):
            return table
        days = f"{quote(self.at.day)} = {quote(OnCalendar.DAY)}"
        return f"{table} JOIN {quote(OnCalendar.TABLE)} ON {days}"

    def _bucket(self, grain: Grain) -> str:
        """The column that holds the start of a row's bucket."""
        return {
            "hour": self.at.hour,
            "day": self.at.day,
            "week": OnCalendar.WEEK,
            "month": OnCalendar.MONTH,
        }[grain]

    def _select(self, number: int, branch: _Branch) -> str:
        used = self._grouped(branch)
        groups = [f"{grain}_us" for grain in self.grains]
        groups += [f"d{index}" for index in range(len(self.dimensions))]
        sets = ", ".join(f"({', '.join(['is_current', *self._group(c)])})" for c in branch.cuts)
        columns = [str(number), f"grouping_id({', '.join(used)})" if used else "0", "is_current"]
        columns += [name if name in used else "NULL" for name in groups]
        columns += [
            aggregate(measure, f"m{index}") if measure in branch.measures else "NULL"
            for index, measure in enumerate(self.measures)
        ]
        conditions = [
            f"p{self.dimensions.index(each.dimension)}"
            for each in self.filters
            if each.dimension != branch.ignores
        ]
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        return f"SELECT {', '.join(columns)} FROM facts{where} GROUP BY GROUPING SETS ({sets})"

    def _group(self, cut: Cut) -> list[str]:
        over = [f"{cut.over}_us"] if cut.over else []
        return over + ([f"d{self.dimensions.index(cut.by)}"] if cut.by else [])

    def _grouped(self, branch: _Branch) -> list[str]:
        """The columns that some cut of the branch groups by."""
        return sorted({name for cut in branch.cuts for name in self._group(cut)})

    def _aggregated(self, branch: _Branch, cut: Cut) -> int:
        group = self._group(cut)
        bits = "".join("0" if name in group else "1" for name in self._grouped(branch))
        return int(bits or "0", 2)

    def _passes(self, name: str, values: list[object]) -> str:
        """The condition of the filter on a dimension, over its column of the table."""
        chosen = next((each.values for each in self.filters if each.dimension == name), None)
        if chosen is None:
            return ""
        column = f"CAST({self._dimension_sql(name)} AS VARCHAR)"
        values.append([value for value in chosen if value is not None])
        among = f"coalesce(list_contains(${len(values)}::VARCHAR[], {column}), false)"
        return f"({among} OR {column} IS NULL)" if None in chosen else among

    def _dimension_sql(self, name: str) -> str:
        where = f"semantic model {self.model.name}"
        found = dimension(self.model, name, where=where)
        where = f"{where}, dimension {name}"
        return f"({expression(found.expr or name, self.schema, where=where)})"

    def _measure_sql(self, measure: Measure) -> str:
        where = f"semantic model {self.model.name}, measure {measure.name}"
        return f"({expression(measure.expr or measure.name, self.schema, where=where)})"


def _distinct(cut: Cut, filters: Sequence[Filter]) -> Cut:
    """The cut without what makes no difference: leaving out a filter that is not set."""
    is_set = any(each.dimension == cut.ignores for each in filters)
    return cut if is_set else replace(cut, ignores=None)


def _branches(model: SemanticModel, wanted: Mapping[Cut, Iterable[str]]) -> list[_Branch]:
    """Cuts brought together by the filters that hold for them and the measures they need."""
    together: dict[tuple[str | None, tuple[str, ...]], list[Cut]] = {}
    for cut, names in wanted.items():
        together.setdefault((cut.ignores, tuple(sorted(names))), []).append(cut)
    measures = {measure.name: measure for measure in model.measures}
    return [
        _Branch(ignores, tuple(measures[name] for name in names), tuple(cuts))
        for (ignores, names), cuts in together.items()
    ]
