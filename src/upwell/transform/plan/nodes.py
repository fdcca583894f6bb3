"""The plan's values: models made of nodes, each node one way to keep a result fresh.

Every node gives a relation that other nodes may read: a model under its own name in ``main``, a
part of one under a hidden name in the schema ``_upwell``. Inside a node, expressions are SQL text
over the aliases of its inputs; ``sql.py`` compiles them to the full query and to the delta.

A new way to refresh is a new member of ``Kind``, a rule in ``decompose.py`` that chooses it and a
function in ``refresh/refresher.py`` that runs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from upwell.core.schema import Column, TableSchema
from upwell.project.values import Model

#: Schema of the hidden relations and states.
HIDDEN = "_upwell"

#: Hidden columns of an aggregate's state.
ROWS = "_rows"


def group_column(index: int) -> str:
    return f"_g{index}"


def value_column(index: int) -> str:
    return f"_v{index}"


def count_column(index: int) -> str:
    return f"_n{index}"


def sum_column(index: int) -> str:
    return f"_s{index}"


@dataclass(frozen=True, slots=True)
class Input:
    """A relation as one FROM item reads it: under ``alias``, and only these columns.

    ``condition`` is what its rows must meet by themselves; ``tested`` are the columns that this
    reads and nothing else does. A change that shows in them alone is none to whoever reads it.
    """

    alias: str
    relation: str
    columns: tuple[Column, ...]
    condition: str = ""
    tested: tuple[Column, ...] = ()


@dataclass(frozen=True, slots=True)
class Condition:
    """What rows of a join must meet, as SQL over ``Flat`` columns; ``reads`` names these."""

    text: str
    aliases: frozenset[str]
    reads: frozenset[str]


@dataclass(frozen=True, slots=True)
class Flat:
    """A branch's expressions over one relation that holds the columns of all its inputs.

    A column's name in it is that of ``flat_column``; ``shown`` are those that the outputs read.
    """

    outputs: tuple[str, ...]
    shown: frozenset[str]
    conditions: tuple[Condition, ...]


def flat_column(alias: str, name: str) -> str:
    return f"{alias}.{name}"


@dataclass(frozen=True, slots=True)
class Branch:
    """One SELECT of inner joins: the rows of the inputs' product that meet every condition.

    ``conditions`` are those besides the inputs' own. ``flat`` says the same of one relation, where
    there are more than two inputs.
    """

    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    conditions: tuple[str, ...]
    flat: Flat | None = None

    @property
    def all_conditions(self) -> list[str]:
        return [*(each.condition for each in self.inputs if each.condition), *self.conditions]


@dataclass(frozen=True, slots=True)
class Linear:
    """A UNION ALL of branches: its delta follows from the deltas of its inputs alone.

    ``stored`` results are tables: models, so that one that fails keeps its last good rows. Hidden
    ones are views, read where they are used.
    """

    branches: tuple[Branch, ...]
    stored: bool


@dataclass(frozen=True, slots=True)
class Match:
    """Which rows of an input have a partner: those that meet a row of ``partners``.

    Invariant: under ``conditions`` each row of the input meets at most one row of ``partners``.
    """

    partners: Input
    conditions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outer:
    """A join of ``left`` with ``right`` in which what a row gives hangs on its having a partner.

    ``LEFT`` and ``FULL`` pad rows without a partner with NULLs; ``ANTI`` gives just these, with the
    columns of ``left`` alone. ``outputs`` are columns of the two; ``matches`` says of each side
    whose rows without a partner are wanted (left, then right) which rows have one.
    """

    side: Literal["LEFT", "FULL", "ANTI"]
    left: Input
    right: Input
    on: tuple[str, ...]
    outputs: tuple[tuple[str, Column], ...]  # alias, column
    matches: tuple[Match, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """A key that cuts time into spans: its position, the time as SQL, its type, days in a span.

    What the spans of some keys cover is a range of the time, by which DuckDB skips whole parts of a
    table; of the key itself it knows nothing before it has computed it.
    """

    key: int
    time: str
    type: str
    days: int


@dataclass(frozen=True, slots=True)
class Keyed:
    """A query whose result falls into parts by key, each made of the rows of that key alone.

    ``rows`` gives the keys, then the values that the query reads, under ``row_names``. ``outputs``
    and ``clauses`` (GROUP BY and HAVING, or QUALIFY) make the result of them; the stored rows of a
    key are found again by ``key_columns``, the node's columns that show the keys.
    """

    rows: Branch
    key_columns: tuple[str, ...]
    outputs: tuple[str, ...]
    clauses: str
    spans: tuple[Span, ...] = ()

    @property
    def row_names(self) -> list[str]:
        keys = len(self.key_columns)
        values = range(len(self.rows.outputs) - keys)
        return [*map(group_column, range(keys)), *map(value_column, values)]


Extreme = Literal["min", "max"]


def extreme_column(extreme: Extreme, index: int) -> str:
    return f"_{extreme}{index}"


@dataclass(frozen=True, slots=True)
class Argument:
    """What aggregates count, add up or compare: a column after the groups of ``Aggregate.rows``.

    ``sum_type`` is the exact type DuckDB gives its SUM, None where no sum is asked for; ``type`` is
    that of the values. ``distinct`` names the hidden relation that holds each value once a group.
    ``always``: every row has a value.
    """

    type: str
    sum_type: str | None
    distinct: str | None = None
    extremes: tuple[Extreme, ...] = ()
    always: bool = False

    @property
    def is_counted(self) -> bool:
        """Whether the number of its values is kept, which may be another than that of the rows."""
        return self.distinct is not None or not self.always


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A GROUP BY of mergeable aggregates, kept as counters in the table ``state``.

    The state holds, for each group, its columns ``_g…``, the number of rows ``_rows`` and for each
    argument the number of values ``_n…``, their sum ``_s…`` and their ``_min…`` and ``_max…``. A
    group vanishes at ``_rows`` 0; without groups there always is exactly one row. ``outputs`` and
    ``having`` are SQL over it. ``null_groups``: the columns of groups that may be NULL.
    """

    rows: Branch  # outputs: the groups, then the arguments
    group_types: tuple[str, ...]
    null_groups: frozenset[str]
    arguments: tuple[Argument, ...]
    outputs: tuple[str, ...]
    having: str | None
    state: str

    @property
    def groups(self) -> int:
        """How many columns it groups by."""
        return len(self.group_types)

    @property
    def extremes(self) -> list[tuple[Extreme, int]]:
        """The extremes that are kept: which, and of which argument."""
        return [
            (extreme, index)
            for index, argument in enumerate(self.arguments)
            for extreme in argument.extremes
        ]


@dataclass(frozen=True, slots=True)
class Recompute:
    """A query that is run in full and compared with what is stored."""

    query: str
    reads: tuple[Input, ...]
    reads_clock: bool


Kind = Linear | Outer | Aggregate | Keyed | Recompute


@dataclass(frozen=True, slots=True)
class Node:
    """One relation of the plan. ``unique`` columns are proven to differ between any two rows."""

    name: str
    columns: tuple[Column, ...]
    kind: Kind
    reason: str
    unique: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[Input, ...]:
        """What the node reads; one relation may appear under several aliases."""
        match self.kind:
            case Linear(branches=branches):
                return tuple(source for branch in branches for source in branch.inputs)
            case Outer(left=left, matches=(match,), side="ANTI"):
                return left, match.partners  # the right side matters through its partners alone
            case Outer(left=left, right=right, matches=matches):
                return left, right, *(match.partners for match in matches)
            case Aggregate(rows=rows) | Keyed(rows=rows):
                return rows.inputs
            case Recompute(reads=reads):
                return reads

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """How one model is computed: its nodes in order, the last of which is the model itself.

    ``query`` is the model's own text with AVG written as SUM/COUNT and the clock bound to
    ``$logical_time_us``; it owes nothing to the nodes, so that a proof can rest on it.
    ``schema.key`` is proven and NOT NULL, or empty; a merely declared key is in ``model.key``.
    """

    model: Model
    schema: TableSchema
    query: str
    reads: tuple[str, ...]
    nodes: tuple[Node, ...]
    reads_clock: bool
    fingerprint: str
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.model.name


@dataclass(frozen=True, slots=True)
class Plan:
    """Every model of a project, each after those it reads."""

    tables: tuple[TableSchema, ...]
    models: tuple[ModelPlan, ...]

    def model(self, name: str) -> ModelPlan:
        """The model called ``name``. Raises KeyError if there is none."""
        for model in self.models:
            if model.name == name:
                return model
        raise KeyError(name)

    @property
    def nodes(self) -> Iterator[Node]:
        """All nodes, in an order in which each comes after its inputs."""
        for model in self.models:
            yield from model.nodes
