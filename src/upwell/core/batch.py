"""Change batches: Arrow tables in which every row carries a weight.

A change batch is a Z-set (Budiu et al., "DBSP", 2023, section 3): a table plus an int64 column
``_weight`` that says how often each row appears (+) or disappears (-). An update is one row at -1
and one at +1. Addition is concatenation; ``consolidate`` brings a batch to its one normal form: one
entry a row, no zero weights. Batches form an Abelian group under addition; the property tests in
``tests/property/test_batch.py`` hold its laws.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

WEIGHT = "_weight"


def from_rows(rows: pa.Table, weight: int = 1) -> pa.Table:
    """Every row of ``rows`` at one weight."""
    weights = pa.repeat(pa.scalar(weight, pa.int64()), rows.num_rows)
    return rows.append_column(pa.field(WEIGHT, pa.int64(), nullable=False), weights)


def empty(schema: pa.Schema) -> pa.Table:
    """The zero batch over row columns ``schema`` (without ``_weight``)."""
    return from_rows(schema.empty_table())


def row_columns(batch: pa.Table) -> list[str]:
    """The column names without ``_weight``."""
    return [name for name in batch.column_names if name != WEIGHT]


def negate(batch: pa.Table) -> pa.Table:
    """The batch that undoes ``batch``."""
    index = batch.column_names.index(WEIGHT)
    field = batch.schema.field(index)
    return batch.set_column(index, field, pc.negate_checked(batch.column(WEIGHT)))


def add(batches: Sequence[pa.Table]) -> pa.Table:
    """The sum of batches over the same columns, not consolidated. Needs at least one."""
    return pa.concat_tables(batches)


def consolidate(batch: pa.Table) -> pa.Table:
    """The normal form: equal rows merged, their weights added, zero weights gone.

    NULL equals NULL. Keeps the schema and the column order; the row order is free.
    """
    names = row_columns(batch)
    summed = batch.group_by(names, use_threads=False).aggregate([(WEIGHT, "sum")])
    counts = pc.not_equal(summed.column(len(names)), 0)
    if not pc.all(counts, min_count=0).as_py():
        summed = summed.filter(counts)
    merged = summed.rename_columns([*names, WEIGHT])
    if merged.column_names != batch.column_names:
        merged = merged.select(batch.column_names)
    return merged.cast(batch.schema)  # grouping forgets which columns are never NULL
