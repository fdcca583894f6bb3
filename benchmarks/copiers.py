"""One copy of the whole table in a process of its own: ``python -m benchmarks.copiers KIND …``.

Each kind fills the table ``sales`` of a fresh DuckDB file, whose layout the caller gives, in one
transaction and folds the log in; the clock runs from before it connects until that is done. Runs
in the peers' environment: nothing of the product is imported.

- ``adbc``: the ADBC driver's Arrow batches.
- ``extension``: DuckDB's own extension for PostgreSQL.
- ``csv``: psql copies to a CSV file, DuckDB's ``read_csv`` reads that.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import duckdb

_QUERY = "select * from sales"


def copy_by_adbc(connection: duckdb.DuckDBPyConnection, url: str, columns: str) -> None:
    """Types that Arrow has not come as text, and are cast on the way in."""
    from adbc_driver_postgresql import dbapi  # type: ignore[import-not-found]  # the peers' own  # noqa: PLC0415 - only here

    with dbapi.connect(url) as source, source.cursor() as cursor:
        cursor.execute(_QUERY)
        reader = cursor.fetch_record_batch()
        connection.register("incoming", reader)
        connection.execute(f"INSERT INTO sales SELECT {columns} FROM incoming")


def copy_by_extension(connection: duckdb.DuckDBPyConnection, url: str, columns: str) -> None:
    found = importlib.util.find_spec("duckdb_extension_postgres_scanner")
    assert found is not None and found.origin is not None  # noqa: S101, PT018 - installed with us
    (file,) = Path(found.origin).parent.rglob("*.duckdb_extension")
    connection.execute(f"LOAD '{file}'")
    connection.execute(f"ATTACH '{url}' AS shop (TYPE postgres, READ_ONLY)")
    connection.execute(f"INSERT INTO sales SELECT {columns} FROM shop.public.sales")


def copy_by_csv(connection: duckdb.DuckDBPyConnection, url: str, columns: str) -> None:
    """Through a file, as everybody does it. An empty text and NULL differ by the quotes."""
    file = Path("sales.csv").absolute()
    statement = f"\\copy ({_QUERY}) to '{file}' (format csv, force_quote *)"
    subprocess.run(["psql", url, "--quiet", "--command", statement], check=True)
    layout = connection.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'sales' "
        "ORDER BY ordinal_position"
    ).fetchall()
    texts = ", ".join(f"'{name}': 'VARCHAR'" for (name,) in layout)
    connection.execute(
        f"INSERT INTO sales SELECT {columns} FROM read_csv('{file}', header = false, "
        f"auto_detect = false, allow_quoted_nulls = false, columns = {{{texts}}})"
    )


_KINDS = {"adbc": copy_by_adbc, "extension": copy_by_extension, "csv": copy_by_csv}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.copiers", description=__doc__)
    parser.add_argument("kind", choices=_KINDS)
    parser.add_argument("--url", required=True)
    parser.add_argument("--store", required=True, help="the DuckDB file to make")
    parser.add_argument("--layout", required=True, help="the table's columns as JSON pairs")
    given = parser.parse_args()
    layout: list[list[str]] = json.loads(given.layout)
    definitions = ", ".join(f"{name} {kind}" for name, kind in layout)
    columns = ", ".join(f"CAST({name} AS {kind}) AS {name}" for name, kind in layout)
    connection = duckdb.connect(given.store)
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"CREATE TABLE sales ({definitions})")
    wall, cpu = time.monotonic(), _cpu_seconds()
    _KINDS[given.kind](connection, given.url, columns)
    connection.execute("CHECKPOINT")
    told: dict[str, Any] = {
        "seconds": time.monotonic() - wall,
        "cpu_seconds": _cpu_seconds() - cpu,
        "duckdb": duckdb.__version__,
    }
    connection.close()
    sys.stdout.write(json.dumps(told) + "\n")


def _cpu_seconds() -> float:
    """Of this process and the programs it waited for."""
    ours = resource.getrusage(resource.RUSAGE_SELF)
    theirs = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ours.ru_utime + ours.ru_stime + theirs.ru_utime + theirs.ru_stime


if __name__ == "__main__":
    main()
