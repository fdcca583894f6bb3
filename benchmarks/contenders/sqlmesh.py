"""SQLMesh on DuckDB: incremental models by unique key over the rows that changed in an interval.

Its shortest interval is five minutes, so batches are given the times of following days, and each
run is told that its day is over: what is measured is the run alone, in this process, its project
loaded already.
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
import time
from pathlib import Path
from typing import Any

import duckdb

from benchmarks.contenders import tables
from benchmarks.contenders.loop import Changes

os.environ["SQLMESH__DISABLE_ANONYMIZED_ANALYTICS"] = "true"  # before it is loaded
from sqlmesh import Context  # type: ignore[import-not-found]  # in its own environment
from sqlmesh.core.config import (  # type: ignore[import-not-found]  # as above
    Config,
    DuckDBConnectionConfig,
    GatewayConfig,
    ModelDefaultsConfig,
)

_PROJECT = Path(__file__).parent / "sqlmesh_project"
_FIRST_DAY = dt.date(2025, 1, 1)  # what lies in the future is not run


class Contender:
    """A SQLMesh project of its own over a DuckDB file beside it."""

    def __init__(self, folder: Path) -> None:
        self._project = Path(shutil.copytree(_PROJECT, folder / "project"))
        self._file = folder / "store.duckdb"
        self._day = _FIRST_DAY
        connection = DuckDBConnectionConfig(database=str(self._file))
        self._config = Config(
            gateways={"here": GatewayConfig(connection=connection)},
            model_defaults=ModelDefaultsConfig(dialect="duckdb", start=str(_FIRST_DAY)),
        )
        self._context: Any = None  # made once the tables are there

    def start(self, base: Path) -> None:
        with duckdb.connect(str(self._file)) as connection:
            tables.load(connection, base, self._changed_at())
        self._context = Context(paths=[str(self._project)], config=self._config)
        self._context.plan(auto_apply=True, no_prompts=True, execution_time=self._after_the_day())

    def take_in(self, changes: Changes) -> None:
        self._day += dt.timedelta(days=1)
        with self._connection() as connection:
            tables.take_in(connection, changes, self._changed_at())

    def refresh(self) -> None:
        done = self._context.run(execution_time=self._after_the_day(), skip_janitor=True)
        if not done.is_success:
            raise RuntimeError(f"SQLMesh run: {done}")

    def export(self, to: Path) -> None:
        with self._connection() as connection:
            tables.export(connection, "shop_models", to)

    def cpu_seconds(self) -> float:
        return time.process_time()

    def _connection(self) -> duckdb.DuckDBPyConnection:
        return duckdb.connect(str(self._file))

    def _changed_at(self) -> str:
        return f"TIMESTAMP '{self._day} 12:00:00' AS _changed_at"

    def _after_the_day(self) -> str:
        return f"{self._day + dt.timedelta(days=1)} 00:01:00"
