"""pg_ivm: PostgreSQL's extension that refreshes views by triggers, inside every statement.

It is built from its source, a folder, against the PostgreSQL of the demo. A view over a view is not
possible there, so the hourly one is over the tables. The server is spared what durability costs.
"""

from __future__ import annotations

import atexit
import io
import shutil
import subprocess
import time
from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from benchmarks.contenders.loop import Changes
from benchmarks.contenders.tables import KEYS
from benchmarks.processes import cpu_seconds
from upwell.core.sql import quoted_list
from upwell.demo.server import Server, embedded_binaries

_VIEWS = Path(__file__).parent / "pg_ivm_views"
_FACT = Path(__file__).parent.parent / "ecommerce" / "models" / "fact.sql"
_SETTINGS = {"fsync": "off", "shared_buffers": "1GB", "work_mem": "256MB", "jit": "off"}
_EXPORTED = {
    "fact": "item_id, order_id, order_ts, customer_id, segment, region, product_id, category, qty,"
    " amount",
    "hourly": "h, category, region, s, units, n",
}


class Contender:
    """A server of its own; one connection that writes, as an application's would."""

    def __init__(self, folder: Path, source: str) -> None:
        folder.chmod(0o755)  # the server's user reads the binaries in it
        binaries = _with_extension(folder, Path(source))
        self._server = Server(folder / "server", binaries=binaries, settings=_SETTINGS)
        self._server.start()
        atexit.register(self._server.stop)
        self._connection = psycopg.connect(self._server.url)

    def start(self, base: Path) -> None:
        self._run("tables")
        for table in KEYS:
            self._copy(f"shop.{table}", pq.read_table(base / f"{table}.parquet"))
        for model, file in (("fact", _FACT), ("hourly", _VIEWS / "hourly.sql")):
            query = file.read_text(encoding="utf-8")
            self._connection.execute("SELECT pgivm.create_immv(%s, %s)", (model, query))
        self._run("indexes")
        self._connection.commit()
        self._connection.autocommit = True
        self._connection.execute("VACUUM ANALYZE")
        self._connection.autocommit = False

    def take_in(self, changes: Changes) -> None:
        for table, rows in changes.items():
            operations, given = rows.column("operation"), rows.drop_columns("operation")
            for name, apply in (("delete", _DELETE), ("update", _UPDATE), ("insert", _INSERT)):
                chosen = given.filter(pc.equal(operations, name))
                if chosen.num_rows:
                    self._connection.execute(f"TRUNCATE changed_{table}")
                    self._copy(f"changed_{table}", chosen)
                    self._connection.execute(_statement(apply, table, chosen.column_names))
        self._connection.commit()

    def refresh(self) -> None:
        """Nothing is left to do: the views changed with the tables."""

    def export(self, to: Path) -> None:
        for model, columns in _EXPORTED.items():
            csv = io.BytesIO()
            query = f"COPY (SELECT {columns} FROM {model}) TO STDOUT (FORMAT csv, HEADER)"
            with self._connection.cursor().copy(query) as copy:
                for part in copy:
                    csv.write(part)
            csv.seek(0)
            pq.write_table(pa_csv.read_csv(csv), to / f"{model}.parquet")

    def cpu_seconds(self) -> float:
        return time.process_time() + cpu_seconds(self._connection.info.backend_pid)

    def _run(self, name: str) -> None:
        self._connection.execute((_VIEWS / f"{name}.sql").read_bytes())

    def _copy(self, table: str, rows: pa.Table) -> None:
        csv = io.BytesIO()
        pa_csv.write_csv(rows, csv, pa_csv.WriteOptions(include_header=False))
        columns = quoted_list(rows.column_names)
        with self._connection.cursor().copy(
            f"COPY {table} ({columns}) FROM STDIN (FORMAT csv)"
        ) as copy:
            copy.write(csv.getbuffer())


_DELETE = "DELETE FROM shop.{table} t USING changed_{table} c WHERE t.{key} = c.{key}"
_UPDATE = "UPDATE shop.{table} t SET {assignments} FROM changed_{table} c WHERE t.{key} = c.{key}"
_INSERT = "INSERT INTO shop.{table} ({columns}) SELECT {columns} FROM changed_{table}"


def _statement(form: str, table: str, columns: list[str]) -> str:
    key = KEYS[table]
    assignments = ", ".join(f"{name} = c.{name}" for name in columns if name != key)
    return form.format(table=table, key=key, columns=", ".join(columns), assignments=assignments)


def _with_extension(folder: Path, source: Path) -> Path:
    """A copy of the demo's PostgreSQL with the extension built in; its ``bin`` folder."""
    installation = embedded_binaries().parent
    package = installation.parent
    copy = folder / package.name / installation.name
    shutil.copytree(installation, copy, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, folder / libraries.name, symlinks=True)
    build = folder / "pg_ivm"
    shutil.copytree(source, build)
    make = ["make", f"PG_CONFIG={copy / 'bin' / 'pg_config'}", "with_llvm=no"]
    # The flags PostgreSQL was compiled with may be of another compiler than the one here.
    flags = "CFLAGS=-O2 -fPIC -fvisibility=hidden -fno-strict-aliasing -fwrapv"
    subprocess.run([*make, flags, "install"], cwd=build, check=True, capture_output=True)
    return copy / "bin"
