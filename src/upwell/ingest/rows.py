"""The rows of a stored table, looked up and moved by change batches.

What is looked up are the rows that changes touch, as they were before; what is moved is a net
difference. Two statements to move (delete, insert), one to look up; types that Arrow does not carry
cost one more for values and one for keys. What lies between is Arrow (docs/decisions/0010).
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upwell.core.batch import WEIGHT
from upwell.core.protocols import Int64s, TableChanges
from upwell.core.schema import Column, TableSchema
from upwell.core.sql import quote, quote_table, quoted_list, screened
from upwell.ingest.images import Touched
from upwell.ingest.keys import are_numbered_by_arrow, number_keys, ranks_sql
from upwell.ingest.lineage import trace_lineages
from upwell.ingest.staging import PLACE
from upwell.ingest.stored import as_stored, cast_to_stored
from upwell.store.slots import Slots


class StoredRows:
    """Rows of tables over the one connection that writes.

    A ``layout`` names the stored table and its columns. ``begin`` and ``empty`` enclose what is
    done in one transaction.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._slots = Slots(connection)
        self._schemas: dict[TableSchema, pa.Schema] = {}

    def begin(self) -> None:
        """Forget what a rollback has taken away."""
        self._slots.begin()

    def empty(self) -> None:
        """Let go of what takes room."""
        self._slots.empty()

    def stored(self, layout: TableSchema, columns: Sequence[Column], sent: pa.Table) -> pa.Table:
        """``columns`` of what was sent, in the Arrow types in which DuckDB gives them back.

        A column the source no longer has reads NULL.
        """
        schema = self._schema(layout)
        found: dict[str, pa.ChunkedArray | pa.Array | None] = {}
        for column in columns:
            arrow = schema.field(column.name).type
            found[column.name] = (
                as_stored(sent.column(column.name), column, arrow)
                if column.name in sent.column_names
                else pa.nulls(sent.num_rows, arrow)
            )
        others = [column for column in columns if found[column.name] is None]
        if others:
            names = [column.name for column in others]
            rows = quote(self._slots.put(f"{layout.name}<", sent.select(names)))
            casts = ", ".join(cast_to_stored(column) for column in others)
            cast = self.fetch(f"SELECT {casts} FROM {rows}")
            found |= {name: cast.column(index) for index, name in enumerate(names)}
        return pa.table(list(found.values()), pa.schema([schema.field(name) for name in found]))

    def touched(self, layout: TableSchema, change: TableChanges, rows: pa.Table) -> Touched:
        """Rows are told apart by their keys, or by their lineages where keys moved."""
        keys = rows.select(layout.key)
        if change.old_keys is not None and change.old_keys.num_rows:
            columns = [layout.column(name) for name in layout.key]
            keys = pa.concat_tables([keys, self.stored(layout, columns, change.old_keys)])
        before = self._before(layout, keys)
        numbers = self._numbers(layout, pa.concat_tables([keys, before.select(layout.key)]))
        after, old, key_before = np.split(numbers, [rows.num_rows, keys.num_rows])
        if not len(old):
            return Touched(before, key_before, after)
        moved = dict(zip(change.old_key_rows.tolist(), old.tolist(), strict=True))
        lineages = trace_lineages(after.tolist(), moved)
        start = np.empty(len(numbers), np.int64)
        start[lineages.start_keys] = np.arange(len(lineages.start_keys))
        # What stood under the key that a row had comes last: it is what unchanged values are of.
        last_to_first = np.argsort(-start[key_before], kind="stable")
        row_before = lineages.start_lineages[start[key_before[last_to_first]]]
        return Touched(before.take(pa.array(last_to_first)), row_before, lineages.of_change)

    def move(self, layout: TableSchema, delta: pa.Table) -> None:
        """Bring the table forward by a consolidated delta."""
        weights = delta.column(WEIGHT)
        gone = delta.select(layout.key).filter(pc.less(weights, 0))
        come = delta.select(layout.column_names).filter(pc.greater(weights, 0))
        self.replace(layout, gone, come)

    def replace(self, layout: TableSchema, gone: pa.Table, come: pa.Table) -> None:
        """Delete every row that has a key of ``gone``, then insert the rows that ``come``."""
        if gone.num_rows:
            keys = self.keys(layout, f"{layout.name}-", gone)
            same_key = " AND ".join(f"t.{quote(name)} = d.{quote(name)}" for name in layout.key)
            bounds, ends = _bounds(f"t.{quote(layout.key[0])}", gone.column(layout.key[0]))
            self._connection.execute(
                f"DELETE FROM {quote_table(layout.name)} AS t USING {keys} AS d "
                f"WHERE {same_key} AND {bounds}",
                ends,
            )
        if come.num_rows:
            self.insert(layout.name, come)

    def insert(self, table: str, rows: pa.Table) -> None:
        names = quoted_list(rows.column_names)
        come = quote(self._slots.put(f"{table}+", rows))
        self._connection.execute(
            f"INSERT INTO {quote_table(table)} ({names}) SELECT {names} FROM {come}"
        )

    def keys(self, layout: TableSchema, role: str, keys: pa.Table) -> str:
        """SQL that reads keys as they are stored, for a join."""
        name = self._slots.put(role, keys)
        columns = [layout.column(each) for each in layout.key]
        read = ", ".join(screened(each.name, cast_to_stored(each)) for each in columns)
        return f"(SELECT {read} FROM {quote(name)})"

    def fetch(self, query: str, parameters: Sequence[object] = ()) -> pa.Table:
        """What a query gives."""
        return self._connection.execute(query, parameters).to_arrow_table()

    def _before(self, layout: TableSchema, keys: pa.Table) -> pa.Table:
        """The rows of the current table that have one of ``keys``."""
        table, names = quote_table(layout.name), quoted_list(layout.column_names)
        wanted = self.keys(layout, f"{layout.name}?", keys)
        bounds, ends = _bounds(quote(layout.key[0]), keys.column(layout.key[0]))
        return self.fetch(
            f"SELECT {names} FROM {table} SEMI JOIN {wanted} USING ({quoted_list(layout.key)}) "
            f"WHERE {bounds}",
            ends,
        )

    def _numbers(self, layout: TableSchema, keys: pa.Table) -> Int64s:
        if are_numbered_by_arrow(layout):
            return number_keys(keys)
        places = pa.array(np.arange(keys.num_rows))
        name = self._slots.put(f"{layout.name}#", keys.append_column(PLACE, places))
        numbers: Int64s = self.fetch(ranks_sql(layout, name)).column(0).to_numpy()
        return numbers

    def _schema(self, layout: TableSchema) -> pa.Schema:
        if layout not in self._schemas:
            names = quoted_list(layout.column_names)
            none = self.fetch(f"SELECT {names} FROM {quote_table(layout.name)} LIMIT 0")
            self._schemas[layout] = none.schema
        return self._schemas[layout]


def _bounds(column: str, values: pa.ChunkedArray) -> tuple[str, Sequence[object]]:
    """A condition that holds where the column has one of these values, and its parameters.

    DuckDB passes over what a join rules out where the rows are committed; of those that a large
    transaction has brought so far it would read all, for every part.
    """
    if not pa.types.is_integer(values.type) or not len(values):
        return "true", ()
    ends = pc.min_max(values).as_py()
    return f"{column} BETWEEN ? AND ?", (ends["min"], ends["max"])
