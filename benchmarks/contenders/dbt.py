"""dbt-core with dbt-duckdb: incremental models with delete+insert and a hand-written filter.

dbt runs inside this process with its project parsed already, so that what is measured is the run
alone. The base tables carry ``_changed_at``, as extract-and-load tools add it.

The filter is either the usual one, order items that changed since the last run, or with the option
``all_tables`` one that looks at all five joined tables.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import duckdb
from dbt.cli.main import dbtRunner, dbtRunnerResult  # type: ignore[import-not-found]  # its own environment

from benchmarks.contenders import tables
from benchmarks.contenders.loop import Changes

_PROJECT = Path(__file__).parent / "dbt_project"


class Contender:
    """A dbt project of its own over a DuckDB file beside it."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._all_tables = "all_tables" in options
        self._project = Path(shutil.copytree(_PROJECT, folder / "project"))
        self._file = folder / "dbt.duckdb"
        self._batch = 0
        self._runner = dbtRunner()

    def start(self, base: Path) -> None:
        with duckdb.connect(str(self._file)) as connection:
            tables.load(connection, base, self._changed_at())
        parsed = self._invoke("parse")
        self._runner = dbtRunner(manifest=parsed.result)
        self.refresh()

    def take_in(self, changes: Changes) -> None:
        self._batch += 1
        with duckdb.connect(str(self._file)) as connection:
            tables.take_in(connection, changes, self._changed_at())

    def refresh(self) -> None:
        self._invoke("run")

    def export(self, to: Path) -> None:
        with duckdb.connect(str(self._file)) as connection:
            tables.export(connection, "main", to)

    def cpu_seconds(self) -> float:
        return time.process_time()

    def _changed_at(self) -> str:
        return f"TIMESTAMP '2027-01-01' + to_seconds({self._batch}) AS _changed_at"

    def _invoke(self, verb: str) -> dbtRunnerResult:
        folder = str(self._project)
        given = f"{{file: '{self._file}', all_tables: {str(self._all_tables).lower()}}}"
        done = self._runner.invoke(
            [
                "--quiet",
                "--no-send-anonymous-usage-stats",
                verb,
                *("--project-dir", folder, "--profiles-dir", folder, "--vars", given),
            ]
        )
        if not done.success:
            raise RuntimeError(f"dbt {verb}: {done.exception or done.result}")
        return done
