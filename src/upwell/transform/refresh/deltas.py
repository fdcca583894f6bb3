"""The deltas of one version: Arrow tables that DuckDB can read for as long as the version is made.

Read where they lie, not written to temporary tables: it costs no statement, and the number of rows
comes free. A reader sees a delta through the columns it uses; what an update did to other columns
cancels out before any query runs.
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from upwell.core.batch import WEIGHT, consolidate
from upwell.store.slots import Slots
from upwell.transform.plan import delta
from upwell.transform.plan.nodes import Input


class Deltas:
    """What has changed so far in a version, by relation, and how it is read."""

    def __init__(self, slots: Slots, fetch: Callable[[str], pa.Table]) -> None:
        self._slots = slots
        self._fetch = fetch
        self._batches: dict[str, pa.Table] = {}
        self._names: dict[str, str] = {}
        self._seen: dict[tuple[str, tuple[str, ...], str], str | None] = {}

    def add(self, relation: str, batch: pa.Table) -> None:
        """The consolidated, non-empty delta of a relation."""
        self._batches[relation] = batch

    def has(self, relation: str) -> bool:
        return relation in self._batches

    def name(self, relation: str) -> str:
        """The name under which SQL reads the relation's whole delta."""
        if relation not in self._names:
            self._names[relation] = self._slots.put(relation, self._batches[relation])
        return self._names[relation]

    def seen_by(self, reader: Input) -> str | None:
        """The name of the delta as a reader sees it; None if nothing changed for it."""
        batch = self._batches.get(reader.relation)
        if batch is None:
            return None
        columns = tuple(column.name for column in reader.columns)
        key = (reader.relation, columns, reader.condition)
        if key not in self._seen:
            self._seen[key] = (
                self._pass(reader, columns)
                if reader.condition
                else self._project(reader.relation, batch, columns)
            )
        return self._seen[key]

    def _pass(self, reader: Input, columns: tuple[str, ...]) -> str | None:
        """The rows that meet a reader's own condition: what they were tested by may cancel out."""
        passed = self._fetch(delta.passed(reader, self.name(reader.relation)))
        return self._put(reader.relation, columns, passed, reader.condition)

    def _put(
        self, relation: str, columns: tuple[str, ...], rows: pa.Table, condition: str = ""
    ) -> str | None:
        role = f"{relation}({', '.join(columns)}){condition}"
        return self._slots.put(role, rows) if rows.num_rows else None

    def _project(self, relation: str, batch: pa.Table, columns: tuple[str, ...]) -> str | None:
        only_inserts = pc.min(batch.column(WEIGHT)).as_py() > 0
        if only_inserts or len(columns) + 1 == batch.num_columns:
            return self.name(relation)
        if not columns:
            unchanged = pc.sum(batch.column(WEIGHT)).as_py() == 0
            return None if unchanged else self.name(relation)
        try:
            projected = consolidate(batch.select([*columns, WEIGHT]))
        except pa.ArrowNotImplementedError:  # nested types: Arrow cannot group them, DuckDB can
            return self.name(relation)
        return self._put(relation, columns, projected)
