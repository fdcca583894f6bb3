"""What a project says, as frozen values. ``read.py`` makes them from files.

Field names are the keys of the YAML files (DESIGN §8); metrics keep MetricFlow's own keys.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec


class _Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A strict, immutable struct: an unknown key in a file is an error."""


# ── upwell.yaml ──────────────────────────────────────────────────────────────────────────────────

Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


class BusinessTime(_Value, frozen=True, kw_only=True):
    """The clock of the business: when a day and a week begin, and where."""

    zone: str = "UTC"
    day_starts: str = "00:00"
    week_starts: Weekday = "monday"


class PostgresSource(_Value, frozen=True, kw_only=True, tag="postgres", tag_field="type"):
    """A PostgreSQL database, followed by logical replication. ``url`` may hold ``${NAME}``."""

    url: str
    tables: tuple[str, ...]  # ``orders`` means ``public.orders``


Source = PostgresSource  # a union as kinds of source are added


class Serve(_Value, frozen=True, kw_only=True):
    """Addresses served; loopback only."""

    http: str = "127.0.0.1:8321"
    sql: str | None = None  # not served yet: ``validate`` warns


class Lake(_Value, frozen=True, kw_only=True):
    """Where the lake lies. Not written yet: ``validate`` warns."""

    uri: str


class Settings(_Value, frozen=True, kw_only=True):
    """``upwell.yaml``."""

    name: str
    sources: dict[str, Source]
    time: BusinessTime = BusinessTime()
    serve: Serve = Serve()
    lake: Lake | None = None


# ── models/**/*.sql ──────────────────────────────────────────────────────────────────────────────


class Model(_Value, frozen=True, kw_only=True):
    """One SELECT. ``key`` and ``owner`` come from the leading comment, as does ``description``."""

    name: str
    sql: str
    path: Path
    description: str = ""
    key: tuple[str, ...] = ()
    owner: str = ""


# ── metrics/*.yaml ───────────────────────────────────────────────────────────────────────────────


class Defaults(_Value, frozen=True, kw_only=True):
    agg_time_dimension: str


class Entity(_Value, frozen=True, kw_only=True):
    name: str
    type: Literal["primary", "unique", "foreign", "natural"]
    expr: str | None = None
    description: str = ""


class DimensionTypeParams(_Value, frozen=True, kw_only=True):
    time_granularity: Literal["second", "minute", "hour", "day", "week", "month"] = "day"


class Dimension(_Value, frozen=True, kw_only=True):
    name: str
    type: Literal["time", "categorical"]
    expr: str | None = None
    label: str | None = None
    description: str = ""
    type_params: DimensionTypeParams | None = None


class Measure(_Value, frozen=True, kw_only=True):
    name: str
    agg: Literal["sum", "count", "count_distinct"]
    expr: str | None = None  # an SQL expression over the model's columns; default: the name
    description: str = ""


class SemanticModel(_Value, frozen=True, kw_only=True):
    name: str
    model: str
    defaults: Defaults
    measures: tuple[Measure, ...]
    dimensions: tuple[Dimension, ...]
    entities: tuple[Entity, ...] = ()
    description: str = ""


class SimpleParams(_Value, frozen=True, kw_only=True):
    measure: str


class RatioParams(_Value, frozen=True, kw_only=True):
    numerator: str  # names of metrics
    denominator: str


class MetricMeta(_Value, frozen=True, kw_only=True):
    format: Literal["number", "currency", "percent"] = "number"
    currency: str | None = None  # ISO 4217; None: shown without a sign


class _Metric(_Value, frozen=True, kw_only=True):
    name: str
    label: str
    description: str = ""
    meta: MetricMeta = MetricMeta()


class SimpleMetric(_Metric, frozen=True, kw_only=True, tag="simple", tag_field="type"):
    type_params: SimpleParams


class RatioMetric(_Metric, frozen=True, kw_only=True, tag="ratio", tag_field="type"):
    type_params: RatioParams


Metric = SimpleMetric | RatioMetric


class MetricsFile(_Value, frozen=True, kw_only=True):
    semantic_models: tuple[SemanticModel, ...] = ()
    metrics: tuple[Metric, ...] = ()


# ── dashboards/*.yaml ────────────────────────────────────────────────────────────────────────────

Grain = Literal["hour", "day"]


class PeriodChoice(_Value, frozen=True, kw_only=True):
    default: str
    choices: tuple[str, ...]  # ``24h``, ``7d``, ``30d``: a number of business hours or days


class Tile(_Value, frozen=True, kw_only=True):
    """A number (metric alone), ranked bars (``by``), or a timeline (``over: time``)."""

    metric: str
    by: str | None = None
    over: Literal["time"] | None = None
    show: Literal["number", "ranked_bars", "stacked_area"] | None = msgspec.field(
        default=None, name="as"
    )
    grain: dict[str, Grain] = {}  # period choice → grain; default: hours up to 7 d, then days
    title: str | None = None


class Dashboard(_Value, frozen=True, kw_only=True):
    title: str
    period: PeriodChoice
    tiles: tuple[Tile, ...]
    compare: Literal["previous_period"] | None = None
    filters: tuple[str, ...] = ()
    description: str = ""


# ── requirements/*.yaml ──────────────────────────────────────────────────────────────────────────


class Requirement(_Value, frozen=True, kw_only=True):
    id: str
    kind: Literal["functional", "non-functional"]
    need: str = ""
    met_by: str | None = None  # ``dashboard:sales``
    measure: str | None = None  # ``freshness``
    of: str | None = None
    target: str | None = None  # ``p99 <= 5 s``
    over: str | None = None  # ``7d``


class RequirementsFile(_Value, frozen=True, kw_only=True):
    stakeholder: str
    requirements: tuple[Requirement, ...]
    decision: str = ""


# ── the whole ────────────────────────────────────────────────────────────────────────────────────


class Project(_Value, frozen=True, kw_only=True):
    """A project folder, read and checked file by file and against itself.

    Dashboards and requirement files are keyed by file name without ending; metrics, models and
    semantic models by name.
    """

    folder: Path
    settings: Settings
    models: dict[str, Model]
    semantic_models: dict[str, SemanticModel]
    metrics: dict[str, Metric]
    dashboards: dict[str, Dashboard]
    requirements: dict[str, RequirementsFile]
