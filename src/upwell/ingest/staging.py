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

PLACE = f"{OURS}place"
WEIGHT = f"{OURS}weight"


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
