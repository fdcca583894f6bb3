"""Models kept fresh: from the deltas of the source tables to the deltas of the models.

Nodes run in the plan's order inside the caller's transaction, so every model is at one version.
A node whose inputs did not change, as far as it reads them, costs nothing. No DDL, and at most four
statements a node: grouped delta, merge with the state, delete, insert; a join of more than two
inputs takes one more for each (``plan/chain.py``).

Invariant: after ``apply`` every relation of the plan equals its full query over the tables as they
stand. A state that contradicts its delta (a row to delete that is not there, a count below zero)
fails its model: the caller rolls back and rebuilds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upwell.core.batch import WEIGHT, consolidate, from_rows
from upwell.core.errors import IntegrityError
from upwell.core.sql import literal, quote, quote_table, quoted_list, screened
from upwell.store.slots import Slots
from upwell.transform.plan import delta as compiled
from upwell.transform.plan import merge, sql
from upwell.transform.plan.bind import LOGICAL_TIME
from upwell.transform.plan.chain import Ground
from upwell.transform.plan.nodes import (
    ROWS,
    Aggregate,
    Keyed,
    Linear,
    ModelPlan,
    Node,
    Outer,
    Plan,
    Recompute,
)
from upwell.transform.refresh.deltas import Deltas, never_null, readers

#: What says that a model cannot be computed, not that the store, the disk or we are at fault.
MODEL_FAILURES = (
    duckdb.DataError,
    duckdb.ProgrammingError,
    duckdb.NotSupportedError,
    duckdb.OutOfMemoryException,
    pa.ArrowException,
    MemoryError,
    IntegrityError,
)

#: So many rows a statement names one by one, which is faster than having it look them up.
MOST_NAMED_ROWS = 250

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ModelFailedError(Exception):
    """A model cannot be computed from the data as it stands now; ``reason`` is DuckDB's."""

    def __init__(self, model: str, reason: str) -> None:
        super().__init__(f"{model}: {reason}")
        self.model = model
        self.reason = reason


class Refresher:
    """Applies versions to the models of a plan, over the one connection that writes.

    ``held`` models keep the result they have, with everything that reads them.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, plan: Plan) -> None:
        self._connection = connection
        self._plan = plan
        self._columns = {node.name: node.columns for node in plan.nodes}
        self._held: dict[str, str] = {}
        self._slots = Slots(connection)
        self._readers = readers(plan)
        self._never_null = never_null(plan)

    @property
    def reads_clock(self) -> bool:
        """Whether results change as time passes, without any change of data."""
        return any(model.reads_clock for model in self._plan.models)

    @property
    def held(self) -> Mapping[str, str]:
        """Models that are not refreshed, and why."""
        return self._held

    def hold(self, name: str, reason: str) -> None:
        """Refresh neither this model nor what reads it, until it is built anew."""
        self._held[name] = reason
        for model in self._plan.models:
            if model.name not in self._held and self._held.keys() & set(model.reads):
                self._held[model.name] = f"it reads {name}"

    def apply(self, deltas: Mapping[str, pa.Table], logical_time_us: int) -> dict[str, pa.Table]:
        """The consolidated delta of every model that changed, by name; states are updated.

        ``deltas``: consolidated change batches of source tables by SQL name. Call it inside a
        transaction in which the source tables already stand as the deltas leave them. Without
        deltas it is a tick: only what reads the clock is refreshed. Raises ``ModelFailedError``
        where the data makes a model fail; the transaction is lost then.
        """
        self._slots.begin()
        known = Deltas(self._slots, self._fetch, self._readers, self._never_null)
        for name, batch in deltas.items():
            if batch.num_rows:
                known.add(name, batch)
        changed: dict[str, pa.Table] = {}
        for model in self._plan.models:
            if model.name in self._held:
                continue
            try:
                delta = self._refresh_model(model, known, logical_time_us)
            except MODEL_FAILURES as error:
                raise ModelFailedError(model.name, str(error)) from error
            if delta is not None:
                changed[model.name] = delta
        self._slots.empty()
        return changed

    def _refresh_model(
        self, model: ModelPlan, known: Deltas, logical_time_us: int
    ) -> pa.Table | None:
        for node in model.nodes:
            delta = self._refresh(node, known, logical_time_us)
            if delta is not None and delta.num_rows:
                known.add(node.name, delta)
        return delta if delta is not None and delta.num_rows else None

    def _refresh(self, node: Node, known: Deltas, logical_time_us: int) -> pa.Table | None:
        match node.kind:
            case Linear():
                return self._refresh_linear(node, node.kind, known)
            case Outer():
                return self._refresh_outer(node, node.kind, known)
            case Aggregate():
                return self._refresh_aggregate(node, node.kind, known)
            case Keyed():
                return self._refresh_keyed(node, node.kind, known)
            case Recompute():
                return self._refresh_in_full(node, node.kind, known, logical_time_us)

    # ── linear ───────────────────────────────────────────────────────────────────────────────────

    def _refresh_linear(self, node: Node, kind: Linear, known: Deltas) -> pa.Table | None:
        seen = _seen(node, known)
        if not seen:
            return None
        query = compiled.linear_delta(node, kind, seen, self._ground(node, known))
        if query is None:
            return None
        delta = self._fetch(query)
        if kind.stored and delta.num_rows:
            self._store(node, delta)
        return delta

    def _ground(self, node: Node, known: Deltas) -> Ground:
        """Rows on the way to a node's delta lie in slots that are its own."""

        def lay(role: str, query: str) -> str | None:
            rows = self._fetch(query)
            return self._slots.put(f"{node.name}: {role}", rows) if rows.num_rows else None

        return Ground(lay, is_written=known.has)

    def _refresh_outer(self, node: Node, kind: Outer, known: Deltas) -> pa.Table | None:
        seen = _seen(node, known)
        return self._fetch(compiled.outer_delta(node, kind, seen)) if seen else None

    def _store(self, node: Node, delta: pa.Table) -> None:
        """Apply a delta to a stored relation, in which rows may repeat."""
        weights = delta.column(WEIGHT)
        gone = delta.filter(pc.less(weights, 0))
        if gone.num_rows:
            self._delete(node, gone)
        come = delta.filter(pc.greater(weights, 0))
        if come.num_rows:
            rows = self._slots.put(f"{node.name}+", _repeated(come))
            names = quoted_list(node.column_names)
            source = sql.typed(node.columns, rows)
            self._change(f"INSERT INTO {quote_table(node.name)} SELECT {names} FROM {source}")

    def _delete(self, node: Node, gone: pa.Table) -> None:
        """Delete as many copies of each row as its weight says, found by its key if it has one."""
        names = node.unique or node.column_names
        nullable = frozenset(name for name in names if gone.column(name).null_count)
        source = sql.typed(node.columns, self._slots.put(f"{node.name}-", gone))
        found = (
            f"FROM {source} AS gone JOIN {quote_table(node.name)} AS stored"
            f" ON {sql.match('gone', 'stored', names, nullable)}"
        )
        if node.unique:
            rows = f"SELECT stored.rowid {found}"
        else:
            copy = f"row_number() OVER (PARTITION BY {quoted_list(names, 'stored')})"
            rows = (
                f"SELECT id FROM (SELECT stored.rowid AS id, gone.{WEIGHT} AS copies,"
                f" {copy} AS copy {found}) WHERE copy <= -copies"
            )
        deleted = self._change(f"DELETE FROM {quote_table(node.name)} WHERE rowid IN ({rows})")
        expected = -pc.sum(gone.column(WEIGHT)).as_py()
        if deleted != expected:
            raise _contradiction(node, f"{expected} rows vanish, of which {deleted} were stored")

    # ── aggregates ───────────────────────────────────────────────────────────────────────────────

    def _refresh_aggregate(self, node: Node, kind: Aggregate, known: Deltas) -> pa.Table | None:
        seen = _seen(node, known)
        distinct = {
            argument.distinct: sql.typed(
                self._columns[argument.distinct], known.name(argument.distinct)
            )
            for argument in kind.arguments
            if argument.distinct and known.has(argument.distinct)
        }
        if not seen and not distinct:
            return None
        query = merge.grouped_delta(kind, seen, distinct, self._ground(node, known))
        merged = None if query is None else self._merge(node, kind, query)
        if merged is None or not merged.num_rows:
            return None
        least = pc.min(merged.column(ROWS)).as_py()
        if least < 0:
            raise _contradiction(node, "a group would have fewer than zero rows")
        self._write_state(kind, merged, some_end=least == 0)
        return self._consolidated(node, kind, _shown_change(node, kind, merged))

    def _consolidated(self, node: Node, kind: Aggregate, delta: pa.Table) -> pa.Table:
        """A delta with each row once. Groups that show all they group by differ in it as they are.

        One row may end one group and begin another where the difference does not show.
        """
        if {sql.bare_column(each) for each in kind.outputs} >= set(sql.group_names(kind)):
            return delta
        try:
            return consolidate(delta)
        except pa.ArrowNotImplementedError:  # nested types: Arrow cannot group them, DuckDB can
            rows = sql.typed(node.columns, self._slots.put(f"{node.name}=", delta))
            return self._fetch(compiled.consolidated(f"FROM {rows}", node.column_names))

    def _merge(self, node: Node, kind: Aggregate, query: str) -> pa.Table | None:
        """The touched groups as they are to be stored; ``query`` says how their counters change."""
        if merge.merges_at_once(kind):
            return self._fetch(merge.merge(kind, f"({query})", kind.null_groups))
        groups = sql.group_names(kind)
        grouped = self._fetch(query)
        if not grouped.num_rows:
            return None
        null_groups = frozenset(name for name in groups if grouped.column(name).null_count)
        delta = merge.read_grouped(kind, self._slots.put(f"{node.name}~", grouped))
        merged = self._fetch(merge.merge(kind, delta, null_groups))
        if kind.extremes and pc.any(merged.column(merge.STALE)).as_py():
            stale = merged.filter(merged.column(merge.STALE)).select([*groups, ROWS])
            keys = self._slots.put(f"{node.name}?", stale)
            renewed = self._fetch(merge.renewed_extremes(kind, keys, null_groups))
            extremes = self._slots.put(f"{node.name}!", renewed)
            merged = self._fetch(merge.merge(kind, delta, null_groups, extremes))
        return merged

    def _write_state(self, kind: Aggregate, merged: pa.Table, *, some_end: bool) -> None:
        """Put the touched groups in the place of their state; a group without rows has none."""
        self._forget(kind, merged.select([merge.MERGED_ROWID]).drop_null())
        kept = merged.select(list(sql.state_types(kind)))
        if some_end and kind.groups:
            kept = kept.filter(pc.greater(kept.column(ROWS), 0))
        if kept.num_rows:
            source = quote(self._slots.put(kind.state, kept))
            self._change(f"INSERT INTO {quote_table(kind.state)} FROM {source}")

    def _forget(self, kind: Aggregate, stored: pa.Table) -> None:
        """Delete rows of a state by their rowid."""
        if not stored.num_rows:
            return
        if stored.num_rows <= MOST_NAMED_ROWS:
            named = stored.column(0).to_pylist()
            rows = ", ".join(map(literal, named))
            # by IN alone DuckDB does not skip the parts of the table that hold none of them
            among = f"rowid BETWEEN {literal(min(named))} AND {literal(max(named))} AND "
        else:
            name = self._slots.put(f"{kind.state}-", stored)
            rows, among = f"SELECT {screened(merge.MERGED_ROWID)} FROM {quote(name)}", ""
        self._change(f"DELETE FROM {quote_table(kind.state)} WHERE {among}rowid IN ({rows})")

    # ── touched keys ─────────────────────────────────────────────────────────────────────────────

    def _refresh_keyed(self, node: Node, kind: Keyed, known: Deltas) -> pa.Table | None:
        seen = _seen(node, known)
        if not seen:
            return None
        query = compiled.touched_keys(kind, seen, self._ground(node, known))
        keys = None if query is None else self._fetch(query)
        if keys is None or not keys.num_rows:
            return None
        null_keys = frozenset(name for name in kind.key_columns if keys.column(name).null_count)
        columns = [each for each in node.columns if each.name in kind.key_columns]
        touched = sql.cast(columns, self._slots.put(f"{node.name}?", keys))
        ranges = [
            found
            for each in kind.spans
            if (bounds := _bounds(keys.column(each.key)))
            and (found := compiled.key_range(each, *bounds))
        ]
        delta = self._fetch(compiled.keyed_difference(node, kind, touched, null_keys, ranges))
        if delta.num_rows:
            self._store(node, delta)
        return delta

    # ── full refresh ─────────────────────────────────────────────────────────────────────────────

    def _refresh_in_full(
        self, node: Node, kind: Recompute, known: Deltas, logical_time_us: int
    ) -> pa.Table | None:
        if not kind.reads_clock and not _seen(node, known):
            return None
        parameters = {LOGICAL_TIME: logical_time_us} if kind.reads_clock else None
        delta = self._fetch(compiled.difference(node), parameters)
        if delta.num_rows:
            self._store(node, delta)
        return delta

    # ── statements ───────────────────────────────────────────────────────────────────────────────

    def _fetch(self, query: str, parameters: dict[str, int] | None = None) -> pa.Table:
        return self._connection.execute(query, parameters).to_arrow_table()

    def _change(self, statement: str) -> int:
        """How many rows a statement inserted or deleted."""
        row = self._connection.execute(statement).fetchone()
        return int(row[0]) if row else 0


def _seen(node: Node, known: Deltas) -> compiled.Deltas:
    """The inputs in which something changed that the node reads."""
    return {each: name for each in node.inputs if (name := known.seen_by(each))}


def _shown_change(node: Node, kind: Aggregate, merged: pa.Table) -> pa.Table:
    """The visible delta out of a merge: what showed before, negative, and what shows now."""
    shows, showed = merged.column(merge.SHOWS), merged.column(merge.SHOWED)
    stays = pc.and_(pc.and_(shows, showed), merged.column(merge.SAME))
    come = merged.select(merge.new_names(kind)).filter(pc.and_not(shows, stays))
    gone = merged.select(merge.old_names(kind)).filter(pc.and_not(showed, stays))
    names = list(node.column_names)
    return pa.concat_tables(
        [from_rows(come.rename_columns(names)), from_rows(gone.rename_columns(names), -1)]
    )


def _bounds(times: pa.ChunkedArray) -> tuple[datetime, datetime] | None:
    """The least and greatest of some dates or times; None if one is NULL or infinite."""
    if times.null_count:
        return None
    try:
        instants = times.cast(pa.timestamp("us")).cast(pa.int64())
        bounds = pc.min_max(instants)
        least, greatest = (
            _EPOCH + timedelta(microseconds=each.as_py()) for each in (bounds["min"], bounds["max"])
        )
    except (pa.ArrowInvalid, OverflowError):
        return None
    return least, greatest


def _repeated(batch: pa.Table) -> pa.Table:
    """Each row as often as its positive weight says."""
    if pc.max(batch.column(WEIGHT)).as_py() == 1:
        return batch
    weights = batch.column(WEIGHT).to_numpy()
    return batch.take(pa.array(np.repeat(np.arange(batch.num_rows), weights)))


def _contradiction(node: Node, what: str) -> IntegrityError:
    return IntegrityError(
        "state_contradicts_delta",
        f"the stored result of {node.name} contradicts its changes: {what}",
        where=node.name,
        next_step="rebuild the model; its source tables are not affected",
    )
