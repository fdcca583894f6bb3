"""Statements that come again with every version: planned once, then run by their plan's name.

Planning takes DuckDB longer than running over the few rows of a version. A text that comes a second
time is prepared; its plan is made anew now and then, since how large tables are decides how they
are best joined. Results come as Arrow tables.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import duckdb
import pyarrow as pa

#: How often a plan is run before it is made anew.
RUNS_OF_A_PLAN = 250

#: How many texts are remembered; those not used for longest are forgotten.
TEXTS_KEPT = 2_000


@dataclass(slots=True)
class _Text:
    """A statement that has come before. ``runs`` counts those of the plan called ``name``."""

    name: str
    runs: int = 0


class Statements:
    """The statements of one connection."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._texts: OrderedDict[str, _Text] = OrderedDict()
        self._count = 0

    def fetch(self, query: str) -> pa.Table:
        """The rows of a query."""
        return self._connection.execute(self._planned(query)).to_arrow_table()

    def change(self, statement: str) -> int:
        """How many rows a statement inserted or deleted."""
        row = self._connection.execute(self._planned(statement)).fetchone()
        return int(row[0]) if row else 0

    def _planned(self, statement: str) -> str:
        """What to execute: the text itself the first time, then its plan."""
        text = self._texts.get(statement)
        if text is None:
            self._remember(statement)
            return statement
        self._texts.move_to_end(statement)
        if text.runs % RUNS_OF_A_PLAN == 0:
            self._connection.execute(f"PREPARE {text.name} AS {statement}")
        text.runs += 1
        return f"EXECUTE {text.name}"

    def _remember(self, statement: str) -> None:
        self._count += 1
        self._texts[statement] = _Text(f"_upwell_{self._count}")
        if len(self._texts) > TEXTS_KEPT:
            _, oldest = self._texts.popitem(last=False)
            if oldest.runs:
                self._connection.execute(f"DEALLOCATE {oldest.name}")
