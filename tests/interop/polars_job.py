"""Run by the Python of an environment with Polars: metadata files of tables in, Parquet files out.

Standard input holds JSON: ``tables``, metadata files by names for them, each read and written as
the Parquet file of its name in ``folder``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import polars as pl  # type: ignore[import-not-found]  # in its own environment
import pyarrow.parquet as pq


def main() -> int:
    request = json.load(sys.stdin)
    for name, file in request["tables"].items():
        rows = pl.scan_iceberg(file).collect().to_arrow(compat_level=pl.CompatLevel.oldest())
        pq.write_table(rows, Path(request["folder"]) / f"{name}.parquet")
    return 0


if __name__ == "__main__":
    sys.exit(main())
