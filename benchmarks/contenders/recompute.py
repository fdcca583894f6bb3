"""Both models recomputed in DuckDB after every batch, on all cores."""

from __future__ import annotations

import time
from pathlib import Path

import duckdb

from benchmarks.contenders import tables
from benchmarks.contenders.loop import Changes

_MODELS = Path(__file__).parent.parent / "ecommerce" / "models"


class Contender:
    """A DuckDB file with both models as tables, replaced whole."""

    def __init__(self, folder: Path) -> None:
        self._connection = duckdb.connect(str(folder / "recompute.duckdb"))

    def start(self, base: Path) -> None:
        tables.load(self._connection, base)
        self.refresh()

    def take_in(self, changes: Changes) -> None:
        tables.take_in(self._connection, changes)

    def refresh(self) -> None:
        self._connection.begin()
        for model in ("fact", "hourly"):
            query = (_MODELS / f"{model}.sql").read_text(encoding="utf-8")
            self._connection.execute(f"CREATE OR REPLACE TABLE {model} AS {query}")
        self._connection.commit()

    def export(self, to: Path) -> None:
        tables.export(self._connection, "main", to)

    def cpu_seconds(self) -> float:
        return time.process_time()
