"""What is true after each batch: the base tables in memory, and both models recomputed from them.

Every contender's result is compared with this, row by row, whatever the contender says of itself.
"""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.contenders import tables
from benchmarks.contenders.loop import read_changes
from benchmarks.ecommerce.changes import order_items, products
from benchmarks.ecommerce.shop import TABLES, read_models, rows_of
from upwell.core.protocols import Operation, TableChanges
from upwell.core.sql import quoted_list

#: A batch: new, changed and deleted order items, and products that change category.
CHANGED_ITEMS, CHANGED_PRODUCTS = 90, 10

#: The models, what identifies a row of each, and what is compared: not the mean of ``hourly``,
#: which systems round differently and which follows from the rest.
MODELS = {"fact": ("item_id",), "hourly": ("h", "category", "region")}
_COMPARED = {
    "fact": "item_id, order_id, CAST(order_ts AS TIMESTAMP) AS order_ts, customer_id, segment,"
    " region, product_id, category, qty, CAST(amount AS DECIMAL(18, 2)) AS amount",
    "hourly": "CAST(h AS TIMESTAMP) AS h, category, region, CAST(s AS DECIMAL(18, 2)) AS s,"
    " CAST(units AS BIGINT) AS units, CAST(n AS BIGINT) AS n",
}


class Truth:
    """A shop of ``items`` order items; its base tables are Parquet files in ``base``."""

    def __init__(self, folder: Path, items: int, seed: int) -> None:
        self._folder = folder
        self._random = np.random.default_rng(seed)
        self._connection = duckdb.connect()
        self._batches = 0
        self.base = folder / "base"
        self.base.mkdir()
        for table in TABLES:
            query, parameters = rows_of(table.name, items)
            rows = self._connection.execute(query, parameters).to_arrow_table()
            pq.write_table(rows, self.base / _file_of(table.name))
        tables.load(self._connection, self.base)

    def next_batch(self) -> Path:
        """The folder of a new batch, one file a table; it is true from here on."""
        batch = self._folder / f"batch-{self._batches}"
        batch.mkdir()
        self._batches += 1
        for changes in (
            order_items(self._connection, self._random, CHANGED_ITEMS, recent=True),
            products(self._connection, self._random, CHANGED_PRODUCTS),
        ):
            pq.write_table(_with_operations(changes), batch / _file_of(changes.table))
        tables.take_in(self._connection, read_changes(batch))
        self.recompute()
        return batch

    def recompute(self) -> None:
        """Both models from the base tables as they stand."""
        for model in read_models(tuple(MODELS)):
            self._connection.execute(f"CREATE OR REPLACE TABLE {model.name} AS {model.sql}")

    def wrong_rows(self, exported: Path) -> dict[str, int]:
        """By model: how many keys have a row that is missing, other than it must be, or too many.

        ``exported`` holds a Parquet file for each model.
        """
        return {model: self._wrong_rows(model, exported / f"{model}.parquet") for model in MODELS}

    def _wrong_rows(self, model: str, file: Path) -> int:
        columns = _COMPARED[model]
        self._connection.register("_exported", pq.read_table(file))
        found = self._connection.execute(
            f"SELECT count(*) FROM (SELECT {columns} FROM {model}) AS truth"
            f" FULL JOIN (SELECT {columns} FROM _exported) AS theirs"
            f" USING ({quoted_list(MODELS[model])}) WHERE truth IS DISTINCT FROM theirs"
        ).fetchone()
        self._connection.unregister("_exported")
        return int(found[0]) if found else 0


def _with_operations(changes: TableChanges) -> pa.Table:
    names = [Operation(number).name.lower() for number in changes.operations.tolist()]
    return changes.rows.append_column("operation", pa.array(names))


def _file_of(table: str) -> str:
    return f"{table.removeprefix('shop.')}.parquet"
