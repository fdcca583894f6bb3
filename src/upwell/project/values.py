"""What a project says, as frozen values. ``read.py`` makes them from files.

Field names are the keys of the YAML files; metrics keep MetricFlow's own keys. The ``Meta`` of a
field is the one place that says what a key means and what it may hold: strict reading, the
published JSON Schemas and ``docs/reference/project.md`` all come from it. ``extra["expected"]``
completes the sentence "write …" where a pattern alone would not help a reader.

What one value cannot know (that a named metric exists, that a zone is real) is ``check.py``'s.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from upwell.project.url import redact_url

Name = Annotated[
    str,
    Meta(
        pattern=r"^[a-z][a-z0-9_]{0,62}$",
        extra={"expected": "lower-case letters, digits and _, beginning with a letter"},
    ),
]
Span = Annotated[
    str,
    Meta(
        pattern=r"^[1-9][0-9]{0,3}[hd]$",
        extra={"expected": "a number of hours or days, such as 24h or 30d"},
    ),
]
Period = Annotated[
    str,
    Meta(
        pattern=r"^([1-9][0-9]{0,3}[hd]|[1-9][0-9]{0,2}m|all)$",
        extra={"expected": "a number of hours, days or months, such as 24h, 30d or 12m, or all"},
    ),
]
Text = Annotated[str, Meta(min_length=1, extra={"expected": "some text"})]


class _Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A strict, immutable struct: an unknown key in a file is an error."""


# ── upwell.yaml ──────────────────────────────────────────────────────────────────────────────────

Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


class BusinessTime(_Value, frozen=True, kw_only=True):
    """The clock of the business: when a day and a week begin, and where."""

    zone: Annotated[
        str, Meta(description="IANA time zone in which days are counted, e.g. `Europe/London`.")
    ] = "UTC"
    day_starts: Annotated[
        str,
        Meta(
            description="Time of day at which a business day begins.",
            pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$",
            extra={"expected": "a time of day such as 06:00"},
        ),
    ] = "00:00"
    week_starts: Annotated[Weekday, Meta(description="First day of the business week.")] = "monday"


class PostgresSource(_Value, frozen=True, kw_only=True, tag="postgres", tag_field="type"):
    """A PostgreSQL database, followed by logical replication."""

    url: Annotated[
        Text,
        Meta(
            description="`postgresql://user:password@host:port/database`. `${NAME}` and "
            "`${NAME:-default}` are filled in from the environment, so that a password need not "
            "stand in the file."
        ),
    ]
    tables: Annotated[
        tuple[
            Annotated[
                str,
                Meta(
                    pattern=r"^[^.\x00-\x1f]{1,63}(\.[^.\x00-\x1f]{1,63})?$",
                    extra={"expected": "a table's name, with its schema unless that is public"},
                ),
            ],
            ...,
        ],
        Meta(
            description="Tables to capture. `orders` means `public.orders` and is `<source>.orders`"
            " in SQL; `sales.orders` is `<source>.sales__orders`.",
            min_length=1,
        ),
    ]

    def __repr__(self) -> str:
        return f"PostgresSource(url={redact_url(self.url)!r}, tables={self.tables!r})"

    def __rich_repr__(self) -> list[tuple[str, object]]:  # else rich would print the fields as is
        return [("url", redact_url(self.url)), ("tables", self.tables)]


Source = PostgresSource  # a union as kinds of source are added


class Serve(_Value, frozen=True, kw_only=True):
    """Addresses served. Loopback only, as long as there is no access control."""

    http: Annotated[
        str, Meta(description="`host:port` of dashboards and HTTP API; port 0 takes a free one.")
    ] = "127.0.0.1:8321"
    sql: Annotated[
        str | None,
        Meta(description="`host:port` of the SQL endpoint. Accepted, not served yet."),
    ] = None


class Lake(_Value, frozen=True, kw_only=True):
    """Where the durable copy lies, in Iceberg tables that other programs read as well.

    A lake in a bucket needs an Iceberg REST catalog; keys are references such as `${LAKE_KEY}`.
    """

    uri: Annotated[Text, Meta(description="A folder (`./lake`) or `s3://bucket/prefix`.")] = (
        "./lake"
    )
    catalog: Annotated[
        str, Meta(description="Address of the Iceberg REST catalog of a lake in a bucket.")
    ] = ""
    warehouse: Annotated[
        str, Meta(description="What the catalog calls the lake's place; default: the bucket.")
    ] = ""
    endpoint: Annotated[
        str, Meta(description="Address of S3-compatible storage; default: that of AWS.")
    ] = ""
    region: Annotated[str, Meta(description="Region of the bucket.")] = ""
    access_key: Annotated[
        str, Meta(description="Access key; default: what the machine's role gives.")
    ] = ""
    secret_key: Annotated[str, Meta(description="Secret of the access key.")] = ""
    commit_seconds: Annotated[
        float, Meta(description="What was taken in is durable after about this long.", ge=1)
    ] = 30.0
    commit_megabytes: Annotated[
        float, Meta(description="Or sooner, once so much was logged.", ge=1)
    ] = 64.0
    history_days: Annotated[
        dict[Text, Annotated[int, Meta(ge=1)]],
        Meta(
            description="How many days of history to keep of a table, by its name in SQL "
            "(`shop.orders`); default: all. What still stands is always kept."
        ),
    ] = {}
    publish: Annotated[
        tuple[Text, ...] | None,
        Meta(
            description="Tables and models that the lake shows as they stand, by name in SQL; "
            "default: every model."
        ),
    ] = None
    publish_by_month: Annotated[
        dict[Text, Text],
        Meta(
            description="Of what is published, the time column by whose month it is parted: only "
            "months in which something changed are written again. A model of metrics is parted by "
            "their time by itself."
        ),
    ] = {}
    publish_minutes: Annotated[
        float, Meta(description="How often what is published is brought up to date.", ge=0.1)
    ] = 15.0

    def __repr__(self) -> str:
        return f"Lake(uri={self.uri!r}, catalog={self.catalog!r})"

    def __rich_repr__(self) -> list[tuple[str, object]]:  # else rich would print the keys
        return [("uri", self.uri), ("catalog", self.catalog)]


class Settings(_Value, frozen=True, kw_only=True):
    """The project as a whole: its name, its clock, where data comes from and where it is served."""

    name: Annotated[Text, Meta(description="Name of the project, as people see it.")]
    sources: Annotated[
        dict[Name, Source],
        Meta(
            description="Where changes come from. A source's name is the schema of its tables "
            "in SQL.",
            min_length=1,
        ),
    ]
    time: Annotated[BusinessTime, Meta(description="The clock of the business.")] = BusinessTime()
    serve: Annotated[Serve, Meta(description="Addresses served.")] = Serve()
    lake: Annotated[
        Lake | None,
        Meta(description="Where the durable copy lies; `null`: there is none."),
    ] = Lake()


# ── models/**/*.sql ──────────────────────────────────────────────────────────────────────────────


class Model(_Value, frozen=True, kw_only=True):
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


class Defaults(_Value, frozen=True, kw_only=True):
    """What holds for all measures of a semantic model."""

    agg_time_dimension: Annotated[
        Name, Meta(description="The time dimension that measures are summed over.")
    ]


class Entity(_Value, frozen=True, kw_only=True):
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


class DimensionTypeParams(_Value, frozen=True, kw_only=True):
    """What only a time dimension has."""

    time_granularity: Annotated[
        Granularity,
        Meta(description="The finest unit that the column's times are meaningful to."),
    ] = "day"


class Dimension(_Value, frozen=True, kw_only=True):
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


class Measure(_Value, frozen=True, kw_only=True):
    """An aggregate over the model's rows that metrics build on."""

    name: Annotated[Name, Meta(description="Name, unique in the project.")]
    agg: Annotated[
        Literal["sum", "count", "count_distinct"], Meta(description="How values are aggregated.")
    ]
    expr: Annotated[
        str | None, Meta(description="SQL expression over the model's columns; default: the name.")
    ] = None
    description: Annotated[str, Meta(description="What it is, for readers.")] = ""


class SemanticModel(_Value, frozen=True, kw_only=True):
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


class SimpleParams(_Value, frozen=True, kw_only=True):
    """What a simple metric is made of."""

    measure: Annotated[Name, Meta(description="The measure it shows.")]


class RatioParams(_Value, frozen=True, kw_only=True):
    """What a ratio is made of: two simple metrics."""

    numerator: Annotated[Name, Meta(description="The simple metric that is divided.")]
    denominator: Annotated[Name, Meta(description="The simple metric that divides.")]


class MetricMeta(_Value, frozen=True, kw_only=True):
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


class _Metric(_Value, frozen=True, kw_only=True):
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


class MetricsFile(_Value, frozen=True, kw_only=True):
    """Semantic models and metrics; a project's metrics files are read as one."""

    semantic_models: Annotated[
        tuple[SemanticModel, ...], Meta(description="What the columns of models mean.")
    ] = ()
    metrics: Annotated[tuple[Metric, ...], Meta(description="Numbers with a name.")] = ()


# ── dashboards/*.yaml ────────────────────────────────────────────────────────────────────────────

Grain = Literal["hour", "day", "week", "month"]


class PeriodChoice(_Value, frozen=True, kw_only=True):
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


class Tile(_Value, frozen=True, kw_only=True):
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
    ] = {}
    title: Annotated[str | None, Meta(description="Heading; default: the metric's label.")] = None


class Dashboard(_Value, frozen=True, kw_only=True):
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


class Requirement(_Value, frozen=True, kw_only=True):
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


class RequirementsFile(_Value, frozen=True, kw_only=True):
    """What one stakeholder needs, and the decision it serves."""

    stakeholder: Annotated[Text, Meta(description="Who needs it.")]
    requirements: Annotated[
        tuple[Requirement, ...], Meta(description="What they need.", min_length=1)
    ]
    decision: Annotated[str, Meta(description="The decision that the data is needed for.")] = ""


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
