"""A replica in memory that is kept as the engine keeps its store, row by row.

Copies come in parts beside the stream; a key that the stream has touched since a copy began wins
over copied rows. Rows that cannot be stored are set apart. ``check`` holds it against the source's
own checksums.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa

from upwell.core.position import Position
from upwell.core.protocols import (
    LayoutChange,
    Operation,
    SourceBatch,
    SourceTable,
    TableChanges,
    Truncation,
)
from upwell.sources.mysql import MySQLSource
from upwell.sources.mysql.checksum import checksum_sql, row_checksums
from upwell.sources.mysql.places import position_of
from upwell.sources.mysql.server import log_end, meet
from upwell.sources.mysql.session import session
from upwell.sources.mysql.tables import of_state
from upwell.sources.mysql.url import parse_url

Row = dict[str, Any]
_PATIENCE_SECONDS = 30


@dataclass
class Kept:
    """One table: its rows by key, and the keys that the stream has touched since it was copied."""

    table: SourceTable
    rows: dict[tuple[Any, ...], Row] = field(default_factory=dict)
    touched: set[tuple[Any, ...]] = field(default_factory=set)
    refused: list[tuple[str, str]] = field(default_factory=list)
    is_emptied: bool = False

    def key_of(self, row: Row) -> tuple[Any, ...]:
        return tuple(row[name] for name in self.table.schema.key)


class Replica:
    def __init__(self, source: MySQLSource, url: str, tables: Sequence[str]) -> None:
        self.source = source
        self.url = url
        self.names = list(tables)
        looked = source.look()
        assert not looked.unfit, looked.unfit
        self.tables = {name: Kept(table) for name, table in looked.tables.items()}
        self.beginning = source.begin(list(looked.tables.values()))
        self.position: Position = self.beginning.position
        self.batches: list[SourceBatch] = []
        self.whys: list[str] = []
        self.unfit: list[str] = []
        self.stream = self._stream()

    def _stream(self) -> Any:
        return self.source.stream(self.position, [kept.table for kept in self.tables.values()])

    def reopen(self) -> None:
        """Go on at the position reached, over a new connection."""
        self.stream.close()
        self.stream = self._stream()

    def close(self) -> None:
        self.stream.close()

    # ── the stream ───────────────────────────────────────────────────────────────────────────────

    def catch_up(self) -> None:
        """Until the stream has reached what is the log's end now."""
        address = parse_url(self.url)
        with session(address) as opened:
            end = position_of(log_end(opened, meet(opened)))
        self.reach(end)

    def reach(self, position: Position) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while self.position < position:
            assert time.monotonic() < deadline, (self.position, position)
            batch = self.stream.poll(1.0)
            if batch is not None:
                self.apply(batch)

    def apply(self, batch: SourceBatch) -> None:
        assert batch.position >= self.position
        assert list(batch.transactions.positions) == sorted(set(batch.transactions.positions))
        self.position = batch.position
        self.batches.append(batch)
        for change in batch.changes:
            if isinstance(change, TableChanges):
                self._apply_changes(change)
            elif isinstance(change, Truncation):
                kept = self.tables[change.table]
                kept.touched |= set(kept.rows)
                kept.rows.clear()
                kept.is_emptied = True
            else:
                self._apply_layout(change)

    def _apply_changes(self, change: TableChanges) -> None:
        kept = self.tables[change.table]
        assert change.schema == kept.table.schema
        assert change.rows.column_names == list(change.schema.column_names)
        refused = {row for refusal in change.refusals for row in refusal.rows.nonzero()[0].tolist()}
        for refusal in change.refusals:
            kept.refused += [(refusal.reason, raw) for raw in refusal.raw]
        old_keys = change.old_keys.to_pylist() if change.old_keys is not None else []
        moved = dict(zip(change.old_key_rows.tolist(), old_keys, strict=True))
        operations = change.operations.tolist()
        for index, row in enumerate(change.rows.to_pylist()):
            key = kept.key_of(row)
            for gone in (kept.key_of(moved[index]) if index in moved else key, key):
                kept.rows.pop(gone, None)
                kept.touched.add(gone)
            if operations[index] != Operation.DELETE and index not in refused:
                kept.rows[key] = row

    def _apply_layout(self, change: LayoutChange) -> None:
        kept = self.tables[change.table]
        if change.unfit is not None:
            self.unfit.append(change.unfit.code)
            return
        if change.why:
            self.whys.append(change.why)
            self.tables[change.table] = Kept(change.now)
            return
        fills = change.fills.to_pylist()[0] if change.fills is not None else {}
        added = set(change.now.schema.column_names) - set(kept.table.schema.column_names)
        for row in kept.rows.values():
            row.update({name: fills.get(name) for name in added})
        kept.table = change.now

    # ── copies ───────────────────────────────────────────────────────────────────────────────────

    def copy(self, *names: str, part_bytes: int = 1 << 20) -> None:
        """Read tables whole, beside the stream, and settle them."""
        copy = self.source.copy()
        for name in names or tuple(self.tables):
            kept = self.tables[name]
            kept.touched = set()
            plan = copy.plan(kept.table, part_bytes)
            for part in plan.parts:
                self.merge(name, copy.read(kept.table, part))
        copy.close()

    def merge(self, name: str, copied: Any) -> None:
        """Rows of a part, once the stream has come to where they were read."""
        self.reach(copied.position)
        kept = self.tables[name]
        for batch in copied.rows:
            for row in batch.to_pylist():
                if kept.key_of(row) not in kept.touched:
                    kept.rows[kept.key_of(row)] = row
        for refused in copied.refused:
            kept.refused += [(refused.reason, raw) for raw in refused.raw]

    # ── comparing ────────────────────────────────────────────────────────────────────────────────

    def table(self, name: str) -> pa.Table:
        """The rows in the order of their keys, as Arrow."""
        kept = self.tables[name]
        captured = of_state(kept.table)
        types = [captured.types[at].arrow for at in captured.kept]
        columns = kept.table.schema.column_names
        rows = [kept.rows[key] for key in sorted(kept.rows, key=repr)]
        arrays = [
            pa.array([row[column] for row in rows], kind)
            for column, kind in zip(columns, types, strict=True)
        ]
        return pa.Table.from_arrays(arrays, names=list(columns))

    def check(self) -> None:
        """The replica's tables have the source's checksums."""
        expected = row_checksums(self.url, "shop", self.names)
        for name, kept in self.tables.items():
            with duckdb.connect() as store:
                store.execute("SET TimeZone = 'UTC'")
                store.register("kept", self.table(name))
                found = store.execute(checksum_sql(kept.table.schema, "kept")).fetchone()
            assert found == expected[name], name
