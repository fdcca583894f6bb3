"""Rows that cannot be stored as they are: set aside with the reason, never silently changed.

A refused row is one whose stored image is unknown from here on, so it leaves the current table (a
DELETE of its key) and stands in ``upwell.quarantine`` with position, key and the refused value.
"""

from __future__ import annotations

import dataclasses

import duckdb
import numpy as np

from upwell.core.protocols import Operation, TableChanges, Transactions


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
    keys = change.rows.select(change.schema.key)
    for refusal in change.refusals:
        rows = np.flatnonzero(refusal.rows)
        operations[rows] = Operation.DELETE
        described = keys.take(rows).to_pylist()
        connection.executemany(
            "INSERT INTO upwell.quarantine VALUES (?, ?, ?, ?, ?, ?)",
            [
                [
                    version,
                    change.table,
                    transactions.positions[int(change.transaction[row])],
                    refusal.reason,
                    ", ".join(f"{name}={value}" for name, value in key.items()),
                    raw,
                ]
                for row, key, raw in zip(rows.tolist(), described, refusal.raw, strict=True)
            ],
        )
    return dataclasses.replace(change, operations=operations, refusals=())
