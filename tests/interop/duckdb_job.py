"""Run by the Python of an environment with DuckDB's iceberg extension: statements in, files out.

Standard input holds JSON: ``before``, statements that set up; ``statements``, each written as the
Parquet file of its name in ``folder``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
from duckdb_extensions import import_extension  # type: ignore[import-not-found]  # in its own


def main() -> int:
    request = json.load(sys.stdin)
    for name in ("icu", "avro", "httpfs", "iceberg"):
        import_extension(name)
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    for statement in ("LOAD icu", "LOAD avro", "LOAD httpfs", "LOAD iceberg", *request["before"]):
        connection.execute(statement)
    for name, statement in request["statements"].items():
        rows = connection.execute(statement).to_arrow_table()
        pq.write_table(rows, Path(request["folder"]) / f"{name}.parquet")
    return 0


if __name__ == "__main__":
    sys.exit(main())
