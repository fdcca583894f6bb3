"""The deltas of one version: Arrow tables that DuckDB can read for as long as the version is made.

Read where they lie, not written to temporary tables: it costs no statement, and the number of rows
comes free. A reader sees a delta through the columns it uses; what an update did to other columns
cancels out before any query runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from upwell.core.batch import WEIGHT, consolidate
from upwell.core.errors import IntegrityError
from upwell.store.slots import Slots
from upwell.transform.plan import delta
from upwell.transform.plan.nodes import Input, Plan

Together = tuple[str, str, str]
"""Readers that see the same rows of a relation: its name, their alias and their condition."""


def readers(plan: Plan) -> dict[Together, Input]:
    """For each condition under which a relation is read, one reader of all that is read so."""
    found: dict[Together, Input] = {}
    for node in plan.nodes:
        for each in node.inputs:
            if each.condition:
                before = found.get(_together(each), each)
                columns = tuple(dict.fromkeys([*before.columns, *each.columns]))
                tested = tuple(
                    column
                    for column in dict.fromkeys([*before.tested, *each.tested])
                    if column not in columns
                )
                found[_together(each)] = replace(each, columns=columns, tested=tested)
    return found


def never_null(plan: Plan) -> dict[str, list[str]]:
    """The columns of each relation that are taken to be never NULL."""
    columns = {table.name: table.columns for table in plan.tables}
    columns |= {node.name: node.columns for node in plan.nodes}
    return {
        name: [each.name for each in found if not each.nullable] for name, found in columns.items()
    }


def _together(reader: Input) -> Together:
    return reader.relation, reader.alias, reader.condition


class Deltas:
    """What has changed so far in a version, by relation, and how it is read."""

    def __init__(
        self,
        slots: Slots,
        fetch: Callable[[str], pa.Table],
        readers: Mapping[Together, Input],
        never_null: Mapping[str, Sequence[str]],
    ) -> None:
        self._slots = slots
        self._fetch = fetch
        self._readers = readers
        self._never_null = never_null
        self._batches: dict[str, pa.Table] = {}
        self._without_nulls: set[str] = set()
        self._passed: dict[Together, pa.Table] = {}
        self._names: dict[str, str] = {}
        self._seen: dict[tuple[Together, tuple[str, ...]], str | None] = {}

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
        """The name of the delta as a reader sees it; None if nothing changed for it.

        Raises ``IntegrityError`` where a NULL is that none was taken to be: what rests on that, a
        count of rows in the place of one of values, would be wrong.
        """
        batch = self._batches.get(reader.relation)
        if batch is None:
            return None
        columns = tuple(column.name for column in reader.columns)
        key = (_together(reader) if reader.condition else (reader.relation, "", ""), columns)
        if key not in self._seen:
            self._refuse_nulls(reader.relation, batch)
            self._seen[key] = self._project(reader, batch, columns)
        return self._seen[key]

    def _refuse_nulls(self, relation: str, batch: pa.Table) -> None:
        if relation in self._without_nulls:
            return
        for name in set(batch.column_names).intersection(self._never_null.get(relation, ())):
            if batch.column(name).null_count:
                raise IntegrityError(
                    "null_where_none_can_be",
                    f"a change of {relation} holds a NULL in {name}, taken to be never NULL",
                    where=relation,
                    next_step="start Upwell again: it reads what tables declare when it starts",
                )
        self._without_nulls.add(relation)

    def _project(self, reader: Input, batch: pa.Table, columns: tuple[str, ...]) -> str | None:
        if reader.condition:
            batch = self._meeting(reader)
        elif len(columns) + 1 == batch.num_columns:
            return self.name(reader.relation)
        seen = _projected(batch, columns)
        if not seen.num_rows:
            return None
        if seen is self._batches[reader.relation]:
            return self.name(reader.relation)
        role = f"{reader.relation}({', '.join(seen.column_names)}){reader.condition}"
        return self._slots.put(role, seen)

    def _meeting(self, reader: Input) -> pa.Table:
        """The rows that meet a reader's own condition, with what any reader under it reads."""
        together = _together(reader)
        if together not in self._passed:
            query = delta.passed(self._readers[together], self.name(reader.relation))
            self._passed[together] = self._fetch(query)
        return self._passed[together]


def _projected(batch: pa.Table, columns: tuple[str, ...]) -> pa.Table:
    """The rows as far as ``columns`` of them are read: what else changed may cancel out."""
    if not batch.num_rows or pc.min(batch.column(WEIGHT)).as_py() > 0:
        return batch
    if not columns:
        unchanged = pc.sum(batch.column(WEIGHT)).as_py() == 0
        return batch.slice(0, 0) if unchanged else batch
    try:
        return consolidate(batch.select([*columns, WEIGHT]))
    except pa.ArrowNotImplementedError:  # nested types: Arrow cannot group them, DuckDB can
        return batch
