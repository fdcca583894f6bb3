"""Programs that need an environment of their own: Spark, Polars, DuckDB with its iceberg extension.

Each is made once, outside the repository, from a requirements file beside this module. What such a
program is to do it reads from its standard input, and its answers are Parquet files.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.peers import NotRunError, environment

_HERE = Path(__file__).parent
_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Answers:
    """What statements gave, and why others were refused, by the name of each."""

    rows: Mapping[str, pa.Table]
    refused: Mapping[str, str]


def ask_spark(folder: Path, catalogs: Mapping[str, str], statements: Mapping[str, str]) -> Answers:
    """One session of Spark. ``catalogs`` are addresses of REST catalogs, by their names in SQL."""
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    request = {"folder": str(folder), "catalogs": catalogs, "statements": statements}
    _run("requirements-spark.txt", "spark_job.py", request)
    written = {path.name: pq.read_table(path) for path in folder.iterdir() if path.is_dir()}
    return Answers(written, json.loads((folder / "refused.json").read_text()))


def ask_duckdb(
    folder: Path, before: Sequence[str], statements: Mapping[str, str]
) -> Mapping[str, pa.Table]:
    """One connection of DuckDB with its iceberg extension. ``before`` says what to set up."""
    request = {"folder": str(folder), "before": before, "statements": statements}
    _run("requirements-duckdb.txt", "duckdb_job.py", request)
    return {path.stem: pq.read_table(path) for path in folder.glob("*.parquet")}


def ask_polars(folder: Path, tables: Mapping[str, str]) -> Mapping[str, pa.Table]:
    """Whole tables, given by their metadata files."""
    _run("requirements-polars.txt", "polars_job.py", {"folder": str(folder), "tables": tables})
    return {path.stem: pq.read_table(path) for path in folder.glob("*.parquet")}


def _run(requirements: str, job: str, request: Mapping[str, Any]) -> None:
    try:
        python = environment(str(_HERE / requirements))
    except NotRunError as error:
        pytest.skip(str(error))
    Path(request["folder"]).mkdir()
    ended = subprocess.run(
        [python, _HERE / job],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
        timeout=_SECONDS,
        cwd=request["folder"],
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
