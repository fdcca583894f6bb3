"""Joins of more than two inputs: their delta, one join after another.

With Dₖ the delta of the join of the first k inputs, and each X read as it stands NOW:

    Dₖ  =  Dₖ₋₁ ⋈ (Xₖ - ΔXₖ)  +  ΔXₖ ⋈ X₁ ⋈ … ⋈ Xₖ₋₁

which takes a number of joins that grows with the square of the inputs, not two to their power. The
last product begins at ΔXₖ and goes from input to input, so each join has one small side, and what
comes to nothing costs no more.

What is joined on the way is laid where SQL reads it, in steps small enough for DuckDB to be sure to
take the small side first. It knows no values of what is laid, and none of a table that the version
has written to: the join of these two it takes to be as large as the table, and so would join whole
tables to one another. See docs/decisions/0011-joins-one-by-one.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from upwell.core.batch import WEIGHT
from upwell.core.schema import Column
from upwell.core.sql import quote, quoted_list
from upwell.transform.plan import sql
from upwell.transform.plan.nodes import Branch, Condition, Flat, Input, flat_column


@dataclass(frozen=True, slots=True)
class Ground:
    """What the statements of one node's delta stand on.

    ``lay`` runs a query, the second argument, and lays its rows where SQL reads them, by their
    role, the first. It gives the name under which they are read, or None if there are none.
    ``is_written`` says of a relation whether the version has written to it.
    """

    lay: Callable[[str, str], str | None]
    is_written: Callable[[str], bool]


_SO_FAR, _COMING = "so_far", "coming"


@dataclass(frozen=True, slots=True)
class _Rows:
    """Weighted rows of the join of some inputs, flat; ``read`` is an item of FROM."""

    path: tuple[str, ...]  # the inputs' aliases in the order they were joined
    read: str

    @property
    def aliases(self) -> frozenset[str]:
        return frozenset(self.path)


@dataclass(frozen=True, slots=True)
class _Product:
    """Rows to be joined with inputs as they stand, or one as it stood before ``delta``."""

    rows: _Rows
    sources: Sequence[Input]
    delta: str | None = None

    @property
    def path(self) -> tuple[str, ...]:
        return (*self.rows.path, *(each.alias for each in self.sources))


def chained(
    branch: Branch, flat: Flat, deltas: Mapping[Input, str], names: Sequence[str], ground: Ground
) -> list[str]:
    """The SELECTs whose sum is the branch's delta, its outputs under ``names``.

    ``deltas``: the inputs that changed, each with the name of its delta.
    """
    chain = _Chain(branch.inputs, flat, ground)
    changed = [each for each in branch.inputs if each in deltas]
    first = changed[0]
    passed, left = [first], chain.in_order(first, branch.inputs, changed)
    so_far: _Rows | None = _delta(first, deltas[first])
    products: list[_Product] = []
    while left:
        source, products = left[0], []
        sources = [source] if source in deltas else chain.step(left, changed)
        if so_far is not None:
            products.append(_Product(so_far, sources, deltas.get(source)))
        if source in deltas:
            products += chain.walk(source, deltas[source], passed)
        passed, left = passed + sources, left[len(sources) :]
        if left:
            so_far = chain.laid(products, [each.alias for each in passed])
    return [chain.shown(each, names) for each in products]


def _are_tied(source: Input, aliases: AbstractSet[str], conditions: Sequence[Condition]) -> bool:
    """Whether a condition compares an input with what has these aliases."""
    others = (each.aliases - {source.alias} for each in conditions if source.alias in each.aliases)
    return any(each and each <= aliases for each in others)


@dataclass(frozen=True, slots=True)
class _Chain:
    """The join whose delta is made."""

    inputs: Sequence[Input]
    flat: Flat
    ground: Ground

    def in_order(
        self, first: Input, inputs: Sequence[Input], changed: Sequence[Input]
    ) -> list[Input]:
        """The inputs in the order they are joined to ``first``, along their conditions.

        What changed goes before the rest, which so is joined once; of that, what was written to
        goes last.
        """
        left = [each for each in inputs if each != first]
        left.sort(key=lambda each: (each not in changed, self._is_written(each)))
        ordered, aliases = [], {first.alias}
        while left:
            tied = (each for each in left if _are_tied(each, aliases, self.flat.conditions))
            found = next(tied, left[0])
            left.remove(found)
            aliases.add(found.alias)
            ordered.append(found)
        return ordered

    def step(self, left: Sequence[Input], changed: Sequence[Input]) -> list[Input]:
        """The inputs at the head of those left that one statement joins, as they stand.

        No more than one that was written to, the last.
        """
        found: list[Input] = []
        for each in left:
            if each in changed:
                break
            found.append(each)
            if self._is_written(each):
                break
        return found

    def _is_written(self, source: Input) -> bool:
        return self.ground.is_written(source.relation)

    def walk(self, source: Input, delta: str, through: Sequence[Input]) -> list[_Product]:
        """A delta's product with inputs as they stand: its last step, or none if it is empty."""
        left = self.in_order(source, through, ())
        rows: _Rows | None = _delta(source, delta)
        while rows is not None:
            sources = self.step(left, ())
            product = _Product(rows, sources)
            left = left[len(sources) :]
            if not left:
                return [product]
            rows = self.laid([product], product.path)
        return []

    def laid(self, products: Sequence[_Product], path: Sequence[str]) -> _Rows | None:
        """The sum of products, run and laid; None if it is empty."""
        if not products:
            return None
        columns = self._needed(path)
        outputs = [quote(each.name) for each in columns]
        names = [each.name for each in columns]
        query = sql.union(self._joined(each, outputs, names) for each in products)
        name = self.ground.lay(quoted_list(path), query)
        return None if name is None else _Rows(tuple(path), sql.typed(columns, name))

    def shown(self, product: _Product, names: Sequence[str]) -> str:
        """A last product, as the branch's outputs."""
        return self._joined(product, self.flat.outputs, names)

    def _needed(self, path: Sequence[str]) -> list[Column]:
        """The columns of joined inputs that something later reads."""
        aliases = set(path)
        needed = set(self.flat.shown)
        for condition in self.flat.conditions:
            if not condition.aliases <= aliases:
                needed |= condition.reads
        return [
            column
            for each in self.inputs
            if each.alias in aliases
            for column in _flat_columns(each)
            if column.name in needed
        ]

    def _joined(self, product: _Product, outputs: Sequence[str], names: Sequence[str]) -> str:
        weight = f"{_SO_FAR}.{WEIGHT}"
        if product.delta is None:
            coming = [f"({_current(each)})" for each in product.sources]
        else:
            coming = [_before(product.sources[0], product.delta)]
            weight += f" * {_COMING}0.{WEIGHT}"
        sources = [f"{product.rows.read} AS {_SO_FAR}"]
        sources += [f"{each} AS {_COMING}{index}" for index, each in enumerate(coming)]
        both = set(product.path)
        conditions = [
            each.text
            for each in self.flat.conditions
            if each.aliases <= both
            and not (each.aliases and each.aliases <= product.rows.aliases)  # met before
        ]
        return (
            f"SELECT {sql.named([*outputs, weight], [*names, WEIGHT])}"
            f" FROM {', '.join(sources)}{sql.where(conditions)}"
        )


def _flat_columns(source: Input) -> list[Column]:
    return [
        Column(flat_column(source.alias, each.name), each.type, each.nullable)
        for each in source.columns
    ]


def _delta(source: Input, delta: str) -> _Rows:
    """A changed input's delta."""
    columns = [sql.carried(each, flat_column(source.alias, each.name)) for each in source.columns]
    return _Rows((source.alias,), f"(SELECT {', '.join([*columns, WEIGHT])} FROM {quote(delta)})")


def _current(source: Input, *more: str) -> str:
    """An input as it stands: the rows that meet its own condition, and ``more`` columns."""
    columns = [f"{quote(source.alias)}.{quote(each.name)}" for each in source.columns]
    outputs = sql.named(columns, [flat_column(source.alias, each.name) for each in source.columns])
    shown = ", ".join([*([outputs] if outputs else []), *more]) or "1"
    condition = sql.where([source.condition] if source.condition else [])
    return f"SELECT {shown} FROM {sql.current(source)}{condition}"


def _before(source: Input, delta: str) -> str:
    """An input as it stood before its delta, weighted.

    DuckDB hands what a join knows of its keys on through UNION ALL, so that it skips the same parts
    of the table as without.
    """
    names = [quote(each.name) for each in _flat_columns(source)]
    gone = ", ".join([*names, f"-{WEIGHT}"])
    current = _current(source, f"CAST(1 AS BIGINT) AS {WEIGHT}")
    return f"({current} UNION ALL SELECT {gone} FROM {_delta(source, delta).read})"
