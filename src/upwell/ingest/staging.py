"""What a batch looks like to SQL on its way into the store: staged tables and our columns in them.

Our columns stand beside the source's, which may have any name but one: none begins as ours do,
because ``tables`` refuses a layout in which one does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import pyarrow as pa

#: Begins every staged column of ours. Needs no quotes in SQL, and is compared without case there.
OURS = "__upwell_"

ORDER = f"{OURS}order"
OPERATION = f"{OURS}operation"
POSITION = f"{OURS}position"
COMMITTED_AT = f"{OURS}committed_at"
LINEAGE = f"{OURS}lineage"
WEIGHT = f"{OURS}weight"
NEXT_ORDER = f"{OURS}next_order"
NEXT_POSITION = f"{OURS}next_position"
NEXT_COMMITTED_AT = f"{OURS}next_committed_at"
UNFILLED = f"{OURS}unfilled"


def unchanged_mark(column: str) -> str:
    """The column that marks the values of ``column`` not sent; its name needs quotes."""
    return f"{OURS}unchanged {column}"


def is_ours(column: str) -> bool:
    """Whether a column of this name could be taken for a staged one of ours."""
    return column.lower().startswith(OURS)


@contextmanager
def registered(connection: duckdb.DuckDBPyConnection, name: str, table: pa.Table) -> Iterator[None]:
    """``table`` can be queried as ``name`` inside."""
    connection.register(name, table)
    try:
        yield
    finally:
        connection.unregister(name)
