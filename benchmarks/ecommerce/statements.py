"""What a refresh does, statement by statement: a connection that notes what passes through it.

A statement's time is that of running it and of fetching its result, since DuckDB does much of the
work while the result is fetched. Noting costs about a microsecond a statement.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from upwell.transform.plan.nodes import ModelPlan

_NUMBERED = re.compile(r"(_upwell_delta_)\d+")


@dataclass(slots=True)
class Statement:
    """One statement of a model: ``kind`` is its first word, ``seconds`` what it took."""

    model: str
    text: str
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    @property
    def kind(self) -> str:
        return self.text.split(maxsplit=1)[0].upper()

    @property
    def shape(self) -> str:
        """The text without what differs from one version to the next."""
        return _NUMBERED.sub(r"\1n", " ".join(self.text.split()))


class Watched:
    """A connection that behaves as the one inside, and notes what it is asked.

    ``model`` names whose statements come next; ``seconds_of`` holds the time each model took,
    Python included, up to the next one's begin.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        stopwatch: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._connection = connection
        self._stopwatch = stopwatch
        self._since = 0.0
        self.model = ""
        self.statements: list[Statement] = []
        self.seconds_of: dict[str, float] = {}

    def begin(self, model: str) -> None:
        """What comes from here on is of ``model``; an empty name ends the last one."""
        now = self._stopwatch()
        if self.model:
            spent = self.seconds_of.get(self.model, 0.0) + now - self._since
            self.seconds_of[self.model] = spent
        self.model, self._since = model, now

    def reset(self) -> None:
        """Forget what was noted."""
        self.model, self.statements, self.seconds_of = "", [], {}

    @property
    def queries(self) -> list[Statement]:
        """The statements that DuckDB ran."""
        return [each for each in self.statements if not each.kind.endswith("REGISTER")]

    def execute(self, query: str, parameters: object = None) -> _Result:
        statement = self._note(query)
        result = self._timed(statement, self._connection.execute, query, parameters)
        return _Result(result, statement, self._timed)

    def register(self, name: str, source: object) -> None:
        self._timed(self._note("REGISTER"), self._connection.register, name, source)

    def unregister(self, name: str) -> None:
        self._timed(self._note("UNREGISTER"), self._connection.unregister, name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def _note(self, text: str) -> Statement:
        statement = Statement(self.model, text)
        self.statements.append(statement)
        return statement

    def _timed(self, statement: Statement, call: Callable[..., Any], *given: object) -> Any:
        cpu, begun = time.process_time(), self._stopwatch()
        try:
            return call(*given)
        finally:
            statement.seconds += self._stopwatch() - begun
            statement.cpu_seconds += time.process_time() - cpu


@dataclass(frozen=True, slots=True)
class _Result:
    """A result whose fetching counts as time of its statement."""

    inside: Any
    statement: Statement
    timed: Callable[..., Any]

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inside, name)
        return (
            (lambda *given: self.timed(self.statement, found, *given)) if callable(found) else found
        )


class Announced(tuple[ModelPlan, ...]):  # noqa: SLOT001 - a tuple of this kind can have no slots
    """The models of a plan, telling whose turn it is as they are gone through in order.

    A tuple, because a plan's models are one.
    """

    announce: Callable[[str], None]

    @classmethod
    def to(cls, announce: Callable[[str], None], models: Iterable[ModelPlan]) -> Announced:
        announced = cls(models)
        announced.announce = announce
        return announced

    def __iter__(self) -> Iterator[ModelPlan]:
        for model in super().__iter__():
            self.announce(model.name)
            yield model
        self.announce("")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one kind of statement of one model took, over all runs."""

    model: str
    what: str
    times: int
    seconds: float
    cpu_seconds: float


def costs(statements: Sequence[Statement], what: Callable[[Statement], str]) -> list[Cost]:
    """Statements of a model that are alike, taken together; the costliest first."""
    alike: dict[tuple[str, str], list[Statement]] = {}
    for each in statements:
        alike.setdefault((each.model, what(each)), []).append(each)
    summed = [
        Cost(
            *key,
            len(found),
            sum(each.seconds for each in found),
            sum(each.cpu_seconds for each in found),
        )
        for key, found in alike.items()
    ]
    return sorted(summed, key=lambda cost: -cost.cpu_seconds)
