"""The chain of images of every row that a batch touches.

For each touched row: its image before the batch (``ORDER`` -1, from the current table), then one
image a change, in source order. Each knows the change that ended it (``NEXT_ORDER``,
``NEXT_POSITION``, ``NEXT_COMMITTED_AT``; NULL for a row's last image). Values the source did not
send because they did not change are filled from the image before; where there is none, the image is
marked ``UNFILLED``, and storing it would invent data.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from upwell.core.protocols import Int64s, Operation
from upwell.core.schema import TableSchema
from upwell.core.sql import quote, quote_table, quoted_list, screened_list
from upwell.ingest.lineage import Lineages
from upwell.ingest.staging import (
    COMMITTED_AT,
    LINEAGE,
    NEXT_COMMITTED_AT,
    NEXT_ORDER,
    NEXT_POSITION,
    OPERATION,
    ORDER,
    POSITION,
    UNFILLED,
    unchanged_mark,
)

_MOVING, _STARTS = "_moving", "_starts"


def row_images(
    connection: duckdb.DuckDBPyConnection,
    layout: TableSchema,
    changes: pa.Table,
    unchanged: Sequence[str],
    lineages: Lineages | None,
) -> pa.Table:
    """Chain the images. ``changes`` is registered as ``_changes`` and typed as stored."""
    names = quoted_list(layout.column_names)
    table = quote_table(layout.name)
    marks = "".join(f", {quote(unchanged_mark(name))}" for name in unchanged)
    no_marks = ", false" * len(unchanged)
    if lineages is None:
        keys = quoted_list(layout.key)
        return _chained(
            connection,
            layout,
            unchanged,
            staged=f"SELECT {names}, {POSITION}, {COMMITTED_AT}, {ORDER}, {OPERATION}{marks} "
            f"FROM _changes",
            before=f"SELECT {names}, NULL, NULL, -1, 0{no_marks} FROM {table} "
            f"SEMI JOIN (SELECT {screened_list(layout.key)} FROM _changes) USING ({keys})",
            row=keys,
        )
    connection.register(_MOVING, changes.append_column(LINEAGE, pa.array(lineages.of_change)))
    connection.register(_STARTS, _start_keys(layout, changes, lineages))
    try:
        starts = f"(SELECT {screened_list([*layout.key, LINEAGE])} FROM {_STARTS})"
        same_key = " AND ".join(f"t.{quote(name)} = s.{quote(name)}" for name in layout.key)
        return _chained(
            connection,
            layout,
            unchanged,
            staged=f"SELECT {names}, {POSITION}, {COMMITTED_AT}, {ORDER}, {OPERATION}{marks}, "
            f"{LINEAGE} FROM {_MOVING}",
            before=f"SELECT {quoted_list(layout.column_names, 't')}, NULL, NULL, -1, 0{no_marks}, "
            f"s.{LINEAGE} FROM {table} AS t JOIN {starts} AS s ON {same_key}",
            row=LINEAGE,
        )
    finally:
        connection.unregister(_MOVING)
        connection.unregister(_STARTS)


def _start_keys(layout: TableSchema, changes: pa.Table, lineages: Lineages) -> pa.Table:
    columns = zip(*lineages.start_keys, strict=True)
    arrays = [
        pa.array(list(values), changes.schema.field(name).type)
        for name, values in zip(layout.key, columns, strict=True)
    ]
    return pa.table(
        [*arrays, pa.array(lineages.start_lineages, pa.int64())], [*layout.key, LINEAGE]
    )


def _chained(
    connection: duckdb.DuckDBPyConnection,
    layout: TableSchema,
    unchanged: Sequence[str],
    *,
    staged: str,
    before: str,
    row: str,
) -> pa.Table:
    filled = ", ".join(
        f"(last_value(CASE WHEN NOT {quote(unchanged_mark(name))} THEN {{'v': {quote(name)}}} END "
        f"IGNORE NULLS) OVER so_far).v AS {quote(name)}"
        if name in unchanged
        else quote(name)
        for name in layout.column_names
    )
    unfilled = " OR ".join(
        f"(last_value(CASE WHEN NOT {quote(unchanged_mark(name))} THEN true END IGNORE NULLS) "
        f"OVER so_far) IS NULL"
        for name in unchanged
    )
    return connection.execute(
        f"WITH images AS ({staged} UNION ALL {before}) "
        f"SELECT {filled}, {POSITION}, {COMMITTED_AT}, {ORDER}, {OPERATION}, "
        f"first_value({ORDER}) OVER after AS {NEXT_ORDER}, "
        f"first_value({POSITION}) OVER after AS {NEXT_POSITION}, "
        f"first_value({COMMITTED_AT}) OVER after AS {NEXT_COMMITTED_AT}, "
        f"{OPERATION} <> {Operation.DELETE:d} AND ({unfilled or 'false'}) AS {UNFILLED} "
        f"FROM images WINDOW after AS (PARTITION BY {row} ORDER BY {ORDER} "
        f"RANGE BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING), "
        f"so_far AS (PARTITION BY {row} ORDER BY {ORDER} "
        f"ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
    ).to_arrow_table()


def unfilled_changes(images: pa.Table) -> Int64s:
    """Places in the batch of changes that leave out values of rows nothing is known of."""
    places: Int64s = images.filter(images.column(UNFILLED)).column(ORDER).to_numpy()
    return places
