"""Keys as numbers: equal exactly where DuckDB says that two keys are equal.

What a batch touches is followed in NumPy and written by SQL that finds rows by their keys; both
must mean the same by *the same key*. Arrow numbers types in which equal values are equal bytes;
floating point is made so first (-0.0 equals 0.0, a NaN any NaN). Keys of other types DuckDB has to
number (``ranks_sql``). NULL, which only a refused value leaves in a key, equals NULL.

The numbers are dense: from 0, and none is left out. Pure.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from upwell.core.protocols import Int64s
from upwell.core.schema import TableSchema
from upwell.core.sql import quote
from upwell.ingest.staging import PLACE
from upwell.ingest.stored import cast_to_stored, is_carried


def are_numbered_by_arrow(layout: TableSchema) -> bool:
    """Whether ``number_keys`` can be used for the key of ``layout``."""
    types = [layout.column(name).type for name in layout.key]
    return all(is_carried(each) or each == "UUID" for each in types)


def number_keys(keys: pa.Table) -> Int64s:
    """The number of each row's key. ``keys``: the key columns, as DuckDB gives them."""
    first, *others = keys.columns
    numbers = _numbers(first)
    for column in others:
        if numbers.max(initial=-1) + 1 == len(numbers):
            break  # told apart already
        more = _numbers(column)
        # Both are dense, so their product is at most the square of the number of rows.
        both = numbers * (more.max(initial=0) + 1) + more
        numbers = _dense(pa.array(both))
    return numbers


def ranks_sql(layout: TableSchema, keys: str) -> str:
    """The query that numbers the keys in a table, of any type, in the order of its ``PLACE``."""
    columns = ", ".join(cast_to_stored(layout.column(name)) for name in layout.key)
    return (
        f"SELECT dense_rank() OVER (ORDER BY {columns}) - 1 AS number "
        f"FROM {quote(keys)} ORDER BY {PLACE}"
    )


def _numbers(column: pa.ChunkedArray) -> Int64s:
    return _dense(_comparable(column.combine_chunks()))


def _dense(values: pa.Array) -> Int64s:
    numbers: Int64s = values.dictionary_encode(null_encoding="encode").indices.to_numpy()
    return numbers.astype(np.int64)


def _comparable(values: pa.Array) -> pa.Array:
    """Values that are equal where their bytes are."""
    if not pa.types.is_floating(values.type):
        return values
    numbers = values.to_numpy(zero_copy_only=False) + 0.0  # -0.0 + 0.0 is 0.0
    numbers[np.isnan(numbers)] = np.nan
    return pa.array(numbers, values.type, mask=np.asarray(values.is_null()))
