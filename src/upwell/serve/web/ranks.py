"""The stable place of every value of a dimension: it gives a category the same colour for ever.

Alphabetical when first asked, new values after them, for as long as the process lives. Safe to use
from several threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import duckdb

from upwell.core.sql import quote_table
from upwell.project.values import SemanticModel
from upwell.serve.web.metrics import dimension, expression
from upwell.serve.web.replica import Replica

_FIRST_VALUES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Rank:
    """Of one dimension: the place of a value, and how many values have one."""

    of: Callable[[str | None], int]
    count: int


#: Where there is no dimension.
UNRANKED = Rank(lambda _: 0, 0)


class Ranks:
    """The ranks of all dimensions of a project's semantic models."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._ranks: dict[tuple[str, str], dict[str | None, int]] = {}
        self._lock = threading.Lock()

    def rank(self, connection: duckdb.DuckDBPyConnection, model: SemanticModel, name: str) -> Rank:
        """The rank of the dimension ``name``; its values are read when first asked for."""
        with self._lock:
            ranks = self._ranks.get((model.name, name))
            if ranks is None:
                values = self._values(connection, model, name)
                ranks = {value: rank for rank, value in enumerate(values)}
                self._ranks[model.name, name] = ranks
            return Rank(self._appending(ranks), len(ranks))

    def _appending(self, ranks: dict[str | None, int]) -> Callable[[str | None], int]:
        def rank(value: str | None) -> int:
            with self._lock:
                return ranks.setdefault(value, len(ranks))

        return rank

    def _values(
        self, connection: duckdb.DuckDBPyConnection, model: SemanticModel, name: str
    ) -> Iterable[str | None]:
        where = f"semantic model {model.name}, dimension {name}"
        found = dimension(model, name, where=where)
        sql = expression(found.expr or name, self._replica.schema(model.model), where=where)
        rows = connection.execute(
            f"SELECT DISTINCT CAST({sql} AS VARCHAR) FROM {quote_table(model.model)} "
            f"ORDER BY 1 NULLS LAST LIMIT {_FIRST_VALUES_MAX}"
        ).fetchall()
        return [value for (value,) in rows]
