"""Rows that cannot be stored as they are: set aside with the reason, never silently changed.

A refused row is one whose stored image is unknown from here on, so it leaves the current table (a
DELETE of its key) and stands in ``upwell.quarantine`` with position, key and the refused value. It
comes back with the next change that carries all its values; one that leaves some out, because they
did not change, is held back too. So is one of a row that was left out of the table until then.
"""

from __future__ import annotations

import dataclasses

import duckdb
import numpy as np
import pyarrow as pa

from upwell.core.errors import IntegrityError
from upwell.core.position import Position
from upwell.core.protocols import (
    Int64s,
    Operation,
    Refusal,
    RefusedRows,
    TableChanges,
    Transactions,
)
from upwell.core.schema import TableSchema
from upwell.core.sql import literal, quote
from upwell.ingest.staging import registered

_DESCRIBED = "_described"
_HELD_BACK = "leaves out values that did not change, of a row that was refused before"
_NOT_STORED = "leaves out values that did not change, of a row that was not stored before"


def without_refused(
    connection: duckdb.DuckDBPyConnection,
    change: TableChanges,
    transactions: Transactions,
    version: int,
) -> TableChanges:
    """``change`` with every refused row turned into the removal of its key."""
    if not change.refusals:
        return change
    operations = change.operations.copy()
    keys = _described(connection, change.rows.select(change.schema.key))
    for refusal in change.refusals:
        rows = np.flatnonzero(refusal.rows)
        operations[rows] = Operation.DELETE
        connection.executemany(
            "INSERT INTO upwell.quarantine VALUES (?, ?, ?, ?, ?, ?)",
            [
                [
                    version,
                    change.table,
                    transactions.positions[int(change.transaction[row])],
                    refusal.reason,
                    keys[row],
                    raw,
                ]
                for row, raw in zip(rows.tolist(), refusal.raw, strict=True)
            ],
        )
    return dataclasses.replace(change, operations=operations, refusals=())


def set_aside(
    connection: duckdb.DuckDBPyConnection,
    schema: TableSchema,
    refused: RefusedRows,
    position: Position,
    version: int,
) -> None:
    """Put rows that a snapshot could not give into quarantine."""
    keys = _described(connection, pa.Table.from_batches([refused.rows]).select(schema.key))
    connection.executemany(
        "INSERT INTO upwell.quarantine VALUES (?, ?, ?, ?, ?, ?)",
        [
            [version, schema.name, position, refused.reason, key, raw]
            for key, raw in zip(keys, refused.raw, strict=True)
        ],
    )


def hold_back(
    connection: duckdb.DuckDBPyConnection,
    change: TableChanges,
    rows: Int64s,
    transactions: Transactions,
    version: int,
) -> TableChanges:
    """``change`` without those of ``rows``, which leave values out, whose row is in quarantine.

    Raises IntegrityError where none of them is: the source and the current table disagree.
    """
    keys = _described(connection, change.rows.select(change.schema.key))
    before = list(keys)
    if change.old_keys is not None:
        old_keys = _described(connection, change.old_keys)
        for row, key in zip(change.old_key_rows.tolist(), old_keys, strict=True):
            before[row] = key
    wanted = [before[row] for row in rows.tolist()]
    found = connection.execute(
        "SELECT DISTINCT key FROM upwell.quarantine "
        "WHERE source_table = ? AND list_contains(?, key)",
        [change.table, wanted],
    ).fetchall()
    refused = {key for (key,) in found}
    held = [row for row, key in zip(rows.tolist(), wanted, strict=True) if key in refused]
    if change.is_filtered and not held:
        not_stored = _refusing(change, rows.tolist(), _NOT_STORED)
        return without_refused(connection, not_stored, transactions, version)
    if not held:
        raise IntegrityError(
            "before_image_missing",
            f"Taking in changes of {change.table}: {len(rows)} of them leave out unchanged values "
            f"of rows that the current table does not have.",
            where=change.table,
            next_step="Remove .upwell/hot.duckdb while Upwell is stopped and run again: "
            "everything is read anew from the source.",
        )
    refused_before = _refusing(change, held, _HELD_BACK)
    return without_refused(connection, refused_before, transactions, version)


def _refusing(change: TableChanges, rows: list[int], reason: str) -> TableChanges:
    mask = np.zeros(len(change.operations), np.bool_)
    mask[rows] = True
    return dataclasses.replace(change, refusals=[Refusal(reason, mask, [""] * len(rows))])


def _described(connection: duckdb.DuckDBPyConnection, keys: pa.Table) -> list[str]:
    """Every key as people read it: ``order_id=7, line=1``; instants in UTC.

    DuckDB writes the values: it knows infinity and years before 1, Python does not.
    """
    parts = ", ".join(
        f"{literal(f'{name}=')} || coalesce(CAST({quote(name)} AS VARCHAR), 'NULL')"
        for name in keys.column_names
    )
    with registered(connection, _DESCRIBED, _without_zones(keys)):
        found = connection.execute(f"SELECT concat_ws(', ', {parts}) FROM {_DESCRIBED}").fetchall()
    return [key for (key,) in found]


def _without_zones(keys: pa.Table) -> pa.Table:
    """Instants as times of UTC, so that the project's time zone does not show in their text."""
    fields = [
        field.with_type(pa.timestamp(field.type.unit))
        if pa.types.is_timestamp(field.type)
        else field
        for field in keys.schema
    ]
    return keys.cast(pa.schema(fields))
