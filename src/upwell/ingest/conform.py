"""Rows of a layout that a table is not to follow, made to fit the one it has.

A column that is new is left out, one that is gone reads NULL, and a value of another type is taken
if its text can be read as the stored type. A row with a value that cannot be is refused, and goes
to quarantine; so is one that lacks a value which is never NULL.
"""

from __future__ import annotations

from dataclasses import replace

import duckdb
import numpy as np
import pyarrow as pa

from upwell.core.protocols import Operation, Refusal, TableChanges
from upwell.core.schema import TableSchema
from upwell.core.sql import quote
from upwell.ingest.staging import registered

_ROWS = "_rows"


def conformed(
    connection: duckdb.DuckDBPyConnection, change: TableChanges, layout: TableSchema
) -> TableChanges:
    """``change`` in the columns and types of ``layout``, with what does not fit refused."""
    given = {column.name: column.type for column in change.schema.columns}
    if all(given.get(column.name) == column.type for column in layout.columns):
        return change
    is_row = change.operations != Operation.DELETE
    columns: dict[str, pa.ChunkedArray | pa.Array] = {}
    refusals = list(change.refusals)
    for column in layout.columns:
        name = column.name
        if name not in given:
            if not column.nullable:
                reason = f"{name}: the source has no such column any more"
                refusals.append(Refusal(reason, is_row, [""] * int(is_row.sum())))
            continue
        sent = change.rows.column(name)
        if given[name] == column.type:
            columns[name] = sent
            continue
        with registered(connection, _ROWS, pa.table({name: sent})):
            text = f"CAST({quote(name)} AS VARCHAR)"
            read = connection.execute(
                f"SELECT {text}, TRY_CAST({text} AS {column.type}) FROM {_ROWS}"
            ).to_arrow_table()
        columns[name] = read.column(1)
        refused = np.asarray(read.column(0).is_valid()) & ~np.asarray(read.column(1).is_valid())
        if refused.any():
            raw = read.column(0).filter(pa.array(refused)).to_pylist()
            refusals.append(Refusal(f"{name}: {column.type} cannot hold this value", refused, raw))
    unchanged = {name: mask for name, mask in change.unchanged.items() if name in columns}
    return replace(
        change,
        schema=layout,
        rows=pa.table(columns),
        unchanged=unchanged,
        refusals=tuple(refusals),
    )
