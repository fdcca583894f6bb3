"""What a project says, as frozen values. ``read.py`` makes them from files.

Field names are the keys of the YAML files; metrics keep MetricFlow's own keys. What ``upwell.yaml``
says stands in ``settings.py``, what all have in common in ``value.py``.

What one value cannot know (that a named metric exists, that a zone is real) is ``check.py``'s.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from upwell.project.settings import Settings
from upwell.project.value import Name, Period, Span, Text, Value

# ── models/**/*.sql ──────────────────────────────────────────────────────────────────────────────


class Model(Value, frozen=True, kw_only=True):
    """One SELECT. ``key`` and ``owner`` come from the leading comment, as does ``description``.

    ``sql`` is the text of the file up to a closing semicolon, leading comment included, so that
    line numbers in it are those of the file. ``path`` is relative to the project's folder.
    """

    name: str
    sql: str
    path: Path
    description: str = ""
    key: tuple[str, ...] = ()
    owner: str = ""


# ── metrics/*.yaml ───────────────────────────────────────────────────────────────────────────────


class Defaults(Value, frozen=True, kw_only=True):
    """What holds for all measures of a semantic model."""

    agg_time_dimension: Annotated[
        Name, Meta(description="The time dimension that measures are summed over.")
    ]


class Entity(Value, frozen=True, kw_only=True):
    """A thing the rows are about. Kept for MetricFlow; not used in calculation yet."""

    name: Annotated[Name, Meta(description="Name of the entity.")]
    type: Annotated[
        Literal["primary", "unique", "foreign", "natural"],
        Meta(description="How the entity identifies rows."),
    ]
    expr: Annotated[
        str | None, Meta(description="SQL expression over the model's columns; default: the name.")
    ] = None
    description: Annotated[str, Meta(description="What it is, for readers.")] = ""


Granularity = Literal["second", "minute", "hour", "day", "week", "month"]


class DimensionTypeParams(Value, frozen=True, kw_only=True):
    """What only a time dimension has."""

    time_granularity: Annotated[
        Granularity,
        Meta(description="The finest unit that the column's times are meaningful to."),
    ] = "day"


class Dimension(Value, frozen=True, kw_only=True):
    """Something to group and filter by."""

    name: Annotated[Name, Meta(description="Name, unique in its semantic model.")]
    type: Annotated[
        Literal["time", "categorical"], Meta(description="A point in time, or one of some values.")
    ]
    expr: Annotated[
        str | None, Meta(description="SQL expression over the model's columns; default: the name.")
    ] = None
    label: Annotated[str | None, Meta(description="Name as people see it.")] = None
    description: Annotated[str, Meta(description="What it is, for readers.")] = ""
    type_params: Annotated[
        DimensionTypeParams | None, Meta(description="Only for `type: time`.")
    ] = None

    @property
    def granularity(self) -> Granularity:
        """The finest unit that the times are meaningful to."""
        return (self.type_params or DimensionTypeParams()).time_granularity


class Measure(Value, frozen=True, kw_only=True):
    """An aggregate over the model's rows that metrics build on."""

    name: Annotated[Name, Meta(description="Name, unique in the project.")]
    agg: Annotated[
        Literal["sum", "count", "count_distinct"], Meta(description="How values are aggregated.")
    ]
    expr: Annotated[
        str | None, Meta(description="SQL expression over the model's columns; default: the name.")
    ] = None
    description: Annotated[str, Meta(description="What it is, for readers.")] = ""


class SemanticModel(Value, frozen=True, kw_only=True):
    """What the columns of a model mean: measures to aggregate, dimensions to group by."""

    name: Annotated[Name, Meta(description="Name, unique in the project.")]
    model: Annotated[Name, Meta(description="The model it describes.")]
    defaults: Annotated[Defaults, Meta(description="What holds for all its measures.")]
    measures: Annotated[tuple[Measure, ...], Meta(description="Aggregates that metrics build on.")]
    dimensions: Annotated[
        tuple[Dimension, ...], Meta(description="What one can group and filter by.")
    ]
    entities: Annotated[tuple[Entity, ...], Meta(description="What the rows are about.")] = ()
    description: Annotated[str, Meta(description="What it is, for readers.")] = ""


class SimpleParams(Value, frozen=True, kw_only=True):
    """What a simple metric is made of."""

    measure: Annotated[Name, Meta(description="The measure it shows.")]


class RatioParams(Value, frozen=True, kw_only=True):
    """What a ratio is made of: two simple metrics."""

    numerator: Annotated[Name, Meta(description="The simple metric that is divided.")]
    denominator: Annotated[Name, Meta(description="The simple metric that divides.")]


class MetricMeta(Value, frozen=True, kw_only=True):
    """How a metric's values are written."""

    format: Annotated[
        Literal["number", "currency", "percent"], Meta(description="How values are written.")
    ] = "number"
    currency: Annotated[
        Annotated[
            str,
            Meta(
                pattern="^[A-Z]{3}$", extra={"expected": "three letters of ISO 4217, such as GBP"}
            ),
        ]
        | None,
        Meta(description="ISO 4217 code, for `format: currency`; without it no sign is shown."),
    ] = None


class _Metric(Value, frozen=True, kw_only=True):
    name: Annotated[Name, Meta(description="Name, unique in the project.")]
    label: Annotated[Text, Meta(description="Name as people see it.")]
    description: Annotated[str, Meta(description="Definition, shown with the metric.")] = ""
    meta: Annotated[MetricMeta, Meta(description="How values are written.")] = MetricMeta()


class SimpleMetric(_Metric, frozen=True, kw_only=True, tag="simple", tag_field="type"):
    """A measure that people see."""

    type_params: Annotated[SimpleParams, Meta(description="What it is made of.")]


class RatioMetric(_Metric, frozen=True, kw_only=True, tag="ratio", tag_field="type"):
    """One metric divided by another, each aggregated first."""

    type_params: Annotated[RatioParams, Meta(description="What it is made of.")]


Metric = SimpleMetric | RatioMetric


class MetricsFile(Value, frozen=True, kw_only=True):
    """Semantic models and metrics; a project's metrics files are read as one."""

    semantic_models: Annotated[
        tuple[SemanticModel, ...], Meta(description="What the columns of models mean.")
    ] = ()
    metrics: Annotated[tuple[Metric, ...], Meta(description="Numbers with a name.")] = ()


# ── dashboards/*.yaml ────────────────────────────────────────────────────────────────────────────

Grain = Literal["hour", "day", "week", "month"]


class PeriodChoice(Value, frozen=True, kw_only=True):
    """The spans of time a viewer can look at."""

    default: Annotated[Period, Meta(description="The period shown at first.")]
    choices: Annotated[
        tuple[Period, ...],
        Meta(
            description="Periods to choose from: the last so many business hours, days or calendar "
            "months, the one that is running included; or `all`, from the first day that has data "
            "to the last, with which nothing is compared. A row without a time from 1990 to now "
            "counts in none; with `all` the page says how many there are.",
            min_length=1,
        ),
    ]


class Tile(Value, frozen=True, kw_only=True):
    """A number (metric alone), ranked bars (`by`), or a timeline (`over: time`)."""

    metric: Annotated[Name, Meta(description="The metric shown.")]
    by: Annotated[Name | None, Meta(description="Categorical dimension to split by.")] = None
    over: Annotated[Literal["time"] | None, Meta(description="`time` draws a timeline.")] = None
    show: Annotated[
        Literal["number", "ranked_bars", "stacked_area"] | None,
        Meta(
            description="How it is drawn; default: what `by` and `over` suggest. `number` takes "
            "neither, `ranked_bars` takes `by` alone, `stacked_area` takes both."
        ),
    ] = msgspec.field(default=None, name="as")
    grain: Annotated[
        dict[Period, Grain],
        Meta(
            description="For a timeline, what one point covers in each period; default: an hour up "
            "to 7 days, a day up to 120, a week up to 400, a month beyond; for periods in months, "
            "a day up to `3m`, a month beyond; never finer than the `time_granularity`. With more "
            "than 1,500 points the next coarser grain is taken."
        ),
    ] = msgspec.field(default_factory=dict)
    title: Annotated[str | None, Meta(description="Heading; default: the metric's label.")] = None


class Dashboard(Value, frozen=True, kw_only=True):
    """One page of live tiles. The file's name is the dashboard's."""

    title: Annotated[Text, Meta(description="Heading of the page.")]
    period: Annotated[PeriodChoice, Meta(description="The spans of time to choose from.")]
    tiles: Annotated[
        tuple[Tile, ...], Meta(description="What is shown, in reading order.", min_length=1)
    ]
    compare: Annotated[
        Literal["previous_period"] | None,
        Meta(
            description="Show each number's change against the same elapsed part of the period "
            "before; `all` has none before it."
        ),
    ] = None
    filters: Annotated[
        tuple[Name, ...],
        Meta(
            description="Categorical dimensions to filter by; every tile's metric must have them."
        ),
    ] = ()
    description: Annotated[str, Meta(description="What the page is for.")] = ""


# ── requirements/*.yaml ──────────────────────────────────────────────────────────────────────────


class Requirement(Value, frozen=True, kw_only=True):
    """One thing a stakeholder needs, measured where it can be."""

    id: Annotated[
        str,
        Meta(
            description="Identifier, unique in the project, e.g. `MKT-1`.",
            pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,62}$",
            extra={"expected": "letters, digits, -, _ and ., beginning with a letter"},
        ),
    ]
    kind: Annotated[
        Literal["functional", "non-functional"],
        Meta(description="What the system does, or how well it does it."),
    ]
    need: Annotated[str, Meta(description="What is needed, in the stakeholder's words.")] = ""
    met_by: Annotated[
        str | None, Meta(description="What answers the need, e.g. `dashboard:sales`.")
    ] = None
    measure: Annotated[
        str | None,
        Meta(
            description="What is measured. `freshness` (commit in the source to visible on the "
            "dashboard) is; anything else is reported as not measured."
        ),
    ] = None
    of: Annotated[
        str | None, Meta(description="What the measure is taken of, e.g. `dashboard:sales`.")
    ] = None
    target: Annotated[
        str | None,
        Meta(description="What the measure must reach, e.g. `p99 <= 5 s`; units ms, s, min."),
    ] = None
    over: Annotated[
        Span | None, Meta(description="The span of time that is judged, up to now.")
    ] = None


class RequirementsFile(Value, frozen=True, kw_only=True):
    """What one stakeholder needs, and the decision it serves."""

    stakeholder: Annotated[Text, Meta(description="Who needs it.")]
    requirements: Annotated[
        tuple[Requirement, ...], Meta(description="What they need.", min_length=1)
    ]
    decision: Annotated[str, Meta(description="The decision that the data is needed for.")] = ""


# ── the whole ────────────────────────────────────────────────────────────────────────────────────


class Project(Value, frozen=True, kw_only=True):
    """A project folder, read and checked file by file and against itself.

    Dashboards and requirement files are keyed by file name without ending; metrics, models and
    semantic models by name. ``secret_files`` are those that references in the settings name,
    ``written_out`` says where a password or key stands in the settings itself.
    """

    folder: Path
    settings: Settings
    models: dict[str, Model]
    semantic_models: dict[str, SemanticModel]
    metrics: dict[str, Metric]
    dashboards: dict[str, Dashboard]
    requirements: dict[str, RequirementsFile]
    secret_files: tuple[Path, ...] = ()
    written_out: tuple[str, ...] = ()
