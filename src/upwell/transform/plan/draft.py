"""The nodes of one model as they come about, each bound by DuckDB the moment it is added.

Invariant: a node's relation has the very columns and types DuckDB gives the query it stands for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlglot import exp

from upwell.core.batch import WEIGHT
from upwell.transform.plan import sql
from upwell.transform.plan.bind import Binder, Refused
from upwell.transform.plan.joins import Joined, Obstacle
from upwell.transform.plan.keys import Facts, Reference, Relation
from upwell.transform.plan.nodes import HIDDEN, Aggregate, Kind, Linear, Node


@dataclass(frozen=True, slots=True)
class Target:
    """The relation a query is to become. ``declared``: the key the model claims to have."""

    name: str
    columns: tuple[str, ...]
    declared: tuple[str, ...] = ()

    @property
    def hidden(self) -> bool:
        return self.name.startswith(HIDDEN + ".")

    @property
    def declared_positions(self) -> tuple[int, ...]:
        names = [name.lower() for name in self.columns]
        return tuple(names.index(name.lower()) for name in self.declared)


@dataclass(slots=True)
class Draft:
    """The nodes so far. ``relations``: what else there is to read, by lower-case name."""

    model: str
    binder: Binder
    relations: Mapping[str, Relation]
    nodes: list[Node] = field(default_factory=list)
    _taken: set[str] = field(default_factory=set)

    def hidden(self, label: str, columns: Sequence[str]) -> Target:
        """A new hidden relation: ``_upwell.daily/sums``."""
        name = f"{HIDDEN}.{self.model}/{label}"
        count = 2
        while name in self._taken:
            name = f"{HIDDEN}.{self.model}/{label} {count}"
            count += 1
        self._taken.add(name)
        return Target(name, tuple(columns))

    def forget(self, mark: int) -> None:
        """Take back all nodes but the first ``mark``."""
        self._taken -= {node.name for node in self.nodes[mark:]}
        del self.nodes[mark:]

    def add(
        self,
        target: Target,
        kind: Kind,
        *,
        reason: str,
        never_null: Sequence[bool] = (),
        unique: tuple[int, ...] = (),
    ) -> Relation:
        """Add the node that gives ``target``.

        Raises ``Obstacle`` if DuckDB does not bind it or cannot keep what it gives.
        """
        _refuse_names(target.columns)
        try:
            bound = self.binder.declare(target.name, sql.full(kind, target.columns), target.columns)
        except Refused as refused:
            raise _not_bound(refused) from refused
        stored = sql.state_types(kind).values() if isinstance(kind, Aggregate) else ()
        for of_type in [*(each.type for each in bound), *stored]:
            if not self.binder.keeps(of_type):
                raise Obstacle(f"holds a {of_type} on the way, which cannot be kept")
        known = never_null or [False] * len(bound)
        columns = tuple(
            replace(each, nullable=not never) for each, never in zip(bound, known, strict=True)
        )
        names = tuple(columns[index].name for index in unique)
        self.nodes.append(Node(target.name, columns, kind, reason, names))
        return Relation(target.name, columns, names)

    def types(self, joined: Joined, expressions: Sequence[exp.Expr]) -> list[str]:
        """The types DuckDB gives these expressions over a join. Raises ``Obstacle``."""
        if not expressions:
            return []
        names = [f"c{index}" for index in range(len(expressions))]
        try:
            query = sql.full_branch(joined.branch(expressions), names)
            return [each.type for each in self.binder.describe(query)]
        except Refused as refused:
            raise _not_bound(refused) from refused

    def relation(
        self, joined: Joined, needed: Sequence[Reference], label: str
    ) -> tuple[Relation, dict[Reference, str]]:
        """A join as one relation, and what its needed columns are called in it.

        A relation that is read as it is stays itself; anything else becomes a hidden one.
        """
        inputs = joined.facts.inputs
        known = {
            (alias, each.name.lower()): each.name
            for alias, relation in inputs.items()
            for each in relation.columns
        }
        places = {place: known[place] for place in needed if place in known}
        if len(inputs) == 1 and not joined.facts.conditions:
            return next(iter(inputs.values())), places
        outputs = [exp.column(name, alias, quoted=True) for (alias, _), name in places.items()]
        names = [f"{alias}.{name}" for (alias, _), name in places.items()]
        target = self.hidden(label, names)
        kind = Linear((joined.branch(outputs),), stored=False)
        relation = self.add(
            target,
            kind,
            reason="gathers what the join around it reads",
            never_null=[joined.facts.never_null(each) for each in outputs],
            unique=joined.facts.unique(outputs),
        )
        return relation, dict(zip(places, names, strict=True))


def alone(alias: str, relation: Relation) -> Joined:
    """A relation read as it is."""
    return Joined(Facts({alias: relation}, ()))


def _refuse_names(columns: Sequence[str]) -> None:
    names = [each.lower() for each in columns]
    if len(set(names)) < len(names) or WEIGHT in names:
        raise Obstacle("names a column as hidden ones are named")


def _not_bound(refused: Refused) -> Obstacle:
    return Obstacle(f"could not be taken apart ({refused.what})")
