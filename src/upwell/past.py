"""What tables were: change logs as a whole, row histories, and everything as of a time or version.

The newest part of a change log lies in the hot store, the rest in the lake; here they are one.
Nothing is read twice and nothing is left out in between: the hot store is read first, at one
version, and a log's rows come from the lake up to the mark, and from the hot store beyond it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import duckdb
import pyarrow as pa

from upwell.core.errors import UsageError
from upwell.core.protocols import SourceTable
from upwell.core.schema import TableSchema
from upwell.core.sql import connect, literal, quoted_list
from upwell.ingest.tables import change_log, log_name
from upwell.store.lake.lake import Lake
from upwell.store.lake.mark import Mark
from upwell.store.lake.reading import log_rows, log_table, standing
from upwell.store.lake.retention import FOLDED, FOLDED_BEFORE
from upwell.store.lake.tables import LakeTable
from upwell.store.lake.writer import read_mark
from upwell.transform.plan import ModelPlan, Plan
from upwell.transform.plan.bind import LOGICAL_TIME

HISTORY = "__history"
_LOG, _HOT = "_log", "_hot"


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in the past: a version, or a time of the sources' clocks (UTC)."""

    version: int | None = None
    time: datetime | None = None

    @property
    def condition(self) -> str:
        """Which rows of a change log belong to it, as SQL."""
        if self.version is not None:
            return f"_version <= {self.version:d}"
        assert self.time is not None  # noqa: S101 - one of the two is given
        return f"_committed_at <= TIMESTAMPTZ {literal(self.time.isoformat())}"

    def __str__(self) -> str:
        return f"version {self.version}" if self.time is None else str(self.time)


@dataclass(frozen=True, slots=True)
class Logs:
    """The change logs of a project as they can be read.

    ``hot`` are the parts in the hot store, at ``version``; ``identities`` say which log each is.
    """

    zone: str
    layouts: Mapping[str, TableSchema]
    identities: Mapping[str, str]
    version: int
    hot: Mapping[str, pa.Table]
    lake: Lake | None

    def whole(self, table: str) -> pa.Table:
        """A table's change log, oldest first."""
        return self._read(table, f"SELECT * FROM {_LOG} ORDER BY _version, _position")

    def history(self, table: str) -> pa.Table:
        """Every image a row ever had, from when to when: ``_valid_from``, ``_valid_to``.

        NULL: it stands. An image that came and went within one transaction never was; one that a
        snapshot found is valid from when it was found.
        """
        schema = self.layouts[table]
        names, key = quoted_list(schema.column_names), quoted_list(schema.key)
        return self._read(
            table,
            f"SELECT {names}, _committed_at AS _valid_from, lead(_committed_at) OVER "
            f"(PARTITION BY {key} ORDER BY _version, _position, _weight) AS _valid_to FROM ("
            f"SELECT {names}, _version, _position, max(_committed_at) AS _committed_at, "
            f"sum(_weight)::BIGINT AS _weight FROM {_LOG} GROUP BY {names}, _version, _position "
            f"HAVING sum(_weight) <> 0) QUALIFY _weight > 0 ORDER BY {key}, _valid_from",
        )

    def as_of(self, table: str, moment: Moment) -> pa.Table:
        """A table as it stood. Raises UsageError for a moment before it was first read."""
        schema = self.layouts[table]
        names = quoted_list(schema.column_names)
        with self._opened(table) as (connection, stored):
            if stored is not None:
                _check_kept(stored, table, moment)
            self._check(connection, table, moment)
            rows = f"(SELECT * FROM {_LOG} WHERE {moment.condition})"
            return connection.execute(
                f"SELECT {names} FROM ({standing(rows, schema)}) WHERE _weight > 0"
            ).to_arrow_table()

    def _check(self, connection: duckdb.DuckDBPyConnection, table: str, moment: Moment) -> None:
        """Refuse a moment of which nothing is known."""
        found = connection.execute(
            f"SELECT min(_version), min(_committed_at)::VARCHAR, count(*), "
            f"count(*) FILTER (WHERE {moment.condition}) FROM {_LOG}"
        ).fetchone()
        first, begins, rows, before = found or (None, None, 0, 0)
        if rows and not before:
            raise UsageError(
                "before_history",
                f"Reading {table} as of {moment}: its history begins later.",
                where=table,
                next_step=f"It begins with version {first}, at {begins}.",
            )
        if moment.version is not None and moment.version > self.version:
            raise UsageError(
                "version_to_come",
                f"Reading {table} as of {moment}: the newest version is {self.version}.",
                next_step="Ask for that one, or for a time.",
            )

    def _read(self, table: str, sql: str) -> pa.Table:
        with self._opened(table) as (connection, _):
            return connection.execute(sql).to_arrow_table()

    @contextmanager
    def _opened(self, table: str) -> Iterator[tuple[duckdb.DuckDBPyConnection, LakeTable | None]]:
        """A connection in which ``_LOG`` is a table's whole log, and what the lake has of that."""
        name = log_name(table)
        log = change_log(SourceTable(self.layouts[table], ""), self.identities[name])
        columns = quoted_list(column.name for column in log.columns)
        with connect(zone=self.zone) as connection:
            connection.register(_HOT, self.hot[name])
            mark = read_mark(self.lake) if self.lake is not None else Mark()
            stored = None
            if self.lake is not None and mark.logs.get(name) == log.identity:
                stored = log_table(self.lake, name, log.identity)
            if self.lake is None or stored is None:
                connection.execute(f"CREATE VIEW {_LOG} AS SELECT {columns} FROM {_HOT}")
                yield connection, None
                return
            with log_rows(self.lake, stored, log, min(mark.version, self.version)) as rows:
                connection.execute(
                    f"CREATE VIEW {_LOG} AS SELECT {columns} FROM {rows} UNION ALL "
                    f"SELECT {columns} FROM {_HOT} WHERE _version > {mark.version:d}"
                )
                yield connection, stored


def _check_kept(stored: LakeTable, table: str, moment: Moment) -> None:
    """Refuse a moment of which the lake no longer keeps the history."""
    if FOLDED not in stored.properties:
        return
    folded = int(stored.properties[FOLDED])
    before = datetime.fromisoformat(stored.properties[FOLDED_BEFORE])
    if (moment.version or folded) < folded or (moment.time or before) < before:
        raise UsageError(
            "history_folded",
            f"Reading {table} as of {moment}: only later history is kept of it.",
            where=table,
            next_step=f"It is kept from version {folded}, {before} on; lake.history_days in "
            f"upwell.yaml says for how long.",
        )


def table_of(name: str, layouts: Mapping[str, TableSchema]) -> str | None:
    """The captured table whose change log or history a name means; None for any other name."""
    for suffix in (HISTORY, log_name("")):
        table = name.removesuffix(suffix)
        if table != name and table in layouts and name not in layouts:
            return table
    return None


@dataclass(frozen=True, slots=True)
class Derivation:
    """Models to be computed, in order: name, query, and what it binds."""

    tables: Sequence[str]
    models: Sequence[tuple[str, str, dict[str, int]]]


def derivation(plan: Plan, names: Sequence[str], logical_time_us: int) -> Derivation:
    """Which captured tables, and which models in which order, give the tables named.

    Raises UsageError for a name that is neither.
    """
    captured = {schema.name for schema in plan.tables}
    models = {model.name: model for model in plan.models}
    wanted: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in wanted:
            continue
        if name not in captured and name not in models:
            raise UsageError(
                "no_past",
                f"Reading {name} as of the past: only captured tables and models have one.",
                where=name,
                next_step="Ask without --as-of.",
            )
        wanted.add(name)
        if name in models:
            waiting += models[name].reads
    chosen = [model for model in plan.models if model.name in wanted]
    return Derivation(
        sorted(wanted & captured),
        [(model.name, model.query, _bound(model, logical_time_us)) for model in chosen],
    )


def _bound(model: ModelPlan, logical_time_us: int) -> dict[str, int]:
    return {LOGICAL_TIME: logical_time_us} if model.reads_clock else {}
