"""Capture from MariaDB: its log decoded, beside what the server's own tool takes to read it.

The log is written once a transaction size and read by every run of every kind over the Unix socket.
Server and reader share the machine. Every run is checked: Upwell's by the checksum over all rows,
which must be the source's, the tool's and the bare receiver's by the bytes they got.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.pages import Page, Table
from benchmarks.processes import cpu_seconds
from benchmarks.programs import WrongRunError, told_by
from benchmarks.series import Series
from tests.mariadb import Server
from upwell.core.position import Position
from upwell.core.protocols import Checksum
from upwell.sources.mysql import MySQLSource
from upwell.sources.mysql.checksum import row_checksums

SEED = 7
_DATABASE = "sales"
_SETTINGS = {
    "innodb_buffer_pool_size": "1G",
    "innodb_log_file_size": "1G",
    "max_binlog_size": "1G",
    "innodb_autoinc_lock_mode": "2",
}
UPWELL, BARE = "Upwell, decoded", "bare receiver"
TOOL, TOOL_VALUES = "mariadb-binlog, raw to a file", "mariadb-binlog, values as text"
KINDS = {BARE: "bare", UPWELL: "decoded", TOOL: "tool-raw", TOOL_VALUES: "tool-values"}
_STATEMENTS = Path(__file__).with_suffix(".sql")


@dataclass(frozen=True)
class Log:
    """A written log: from where to where, and what the table then holds."""

    server: Server
    rows: int
    checksum: Checksum
    first: Position
    last: Position


@dataclass(frozen=True)
class Run:
    """One reading of the log."""

    rows: int
    seconds: float
    cpu_seconds: float
    server_cpu_seconds: float

    @property
    def rows_a_second(self) -> float:
        return self.rows / self.seconds


def measure(
    *, rows: int = 1_000_000, sizes: Sequence[int] = (1000, 10, 1), rounds: int = 5
) -> Page:
    """All kinds over logs of each transaction size."""
    rates, pairs = [], []
    for size in sizes:
        with written_log(rows, size) as log:
            series: Series[Run] = Series(list(KINDS), rounds)
            series.measure(lambda kind, log=log: _run(kind, log))  # type: ignore[misc]
        rates += [_rates(size, kind, series) for kind in KINDS]
        pairs += [_pair(size, other, series) for other in KINDS if other != UPWELL]
    return Page(
        f"From MariaDB's binary log. Each run reads {rows:,} inserted rows of 12 columns over the "
        f"Unix socket; {rounds} rounds of all kinds, each round begins with another kind. Cells: "
        "median (least–greatest). Every run of Upwell had the source's checksum.",
        f"{rows:,} rows, seed {SEED} (`benchmarks/mysql.sql`)",
        "python -m benchmarks mysql",
        [
            Table(
                ("rows a transaction", "kind", "rows/s", "client CPU s", "server CPU s"),
                rates,
                "Rates",
            ),
            Table(("rows a transaction", "pair", "ratio of rows/s"), pairs, "Pairs, by rounds"),
        ],
        versions={"MariaDB": _version()},
        notes=_NOTES,
    )


_NOTES = (
    "The bare receiver is Upwell's own thread, whose bytes are counted and thrown away.",
    "Upwell decodes to batches of Arrow columns, verifies every checksum, and stores nothing.",
    (
        "The tool is `mariadb-binlog --read-from-remote-server`: `--raw` writes the bytes to "
        "a file as they come, with `--base64-output=decode-rows -v` it prints values to nowhere."
    ),
    "Inserts alone; MySQL was not measured.",
)


@contextmanager
def written_log(rows: int, size: int) -> Iterator[Log]:
    """A server whose log has ``rows`` sales in transactions of ``size``."""
    statements = _statements()
    with (
        tempfile.TemporaryDirectory(prefix="upwell-bench-") as name,
        Server(Path(name), _SETTINGS) as server,
    ):
        connection = server.connect()
        with connection.cursor() as cursor:
            cursor.execute(f"create database {_DATABASE} character set utf8mb4")
            cursor.execute(f"use {_DATABASE}")
            for statement in statements["tables"].split(";\n")[:2]:
                cursor.execute(statement)
            cursor.execute("set sql_log_bin = 0")
            cursor.execute(statements["pool"].format(seed=SEED, rows=rows))
            cursor.execute(statements["sell"])
            connection.commit()
            cursor.execute("set sql_log_bin = 1")
            first = _position(server)
            cursor.execute("set autocommit = 0")
            cursor.execute(f"call sell({rows}, {size})")
        connection.close()
        url = server.url_of(_DATABASE)
        checksum = row_checksums(url, "sales", ["sales"])["sales.sales"]
        yield Log(server, rows, checksum, first, _position(server))


def _statements() -> dict[str, str]:
    parts = re.split(r"-- name: (\w+)\n", _STATEMENTS.read_text())[1:]
    return {
        name: text.strip().removesuffix(";")
        for name, text in zip(parts[::2], parts[1::2], strict=True)
    }


def _position(server: Server) -> Position:
    source = MySQLSource("sales", server.url_of(_DATABASE), ["sales"])
    return source.begin([]).position


def _version() -> str:
    done = subprocess.run(
        ["/usr/sbin/mariadbd", "--version"], check=True, capture_output=True, text=True
    )
    found = re.search(r"[\d.]+-MariaDB", done.stdout)
    return found[0] if found else "unknown"


def _run(kind: str, log: Log) -> Run:
    """One reading, checked."""
    process = log.server.process_id
    before = cpu_seconds(process)
    told = told_by(
        sys.executable,
        "benchmarks.mysql_receivers",
        KINDS[kind],
        options={
            "url": log.server.url_of(_DATABASE),
            "first": log.first,
            "last": log.last,
        },
    )
    if kind == UPWELL and told["checksum"] != [log.checksum[0], str(log.checksum[1])]:
        raise WrongRunError(f"{kind}: {told}, but the source has {log.checksum}")
    if kind in (BARE, TOOL) and told["bytes"] < 100 * log.rows:
        raise WrongRunError(f"{kind}: only {told['bytes']} bytes for {log.rows} rows")
    server_seconds = cpu_seconds(process) - before
    return Run(log.rows, told["seconds"], told["cpu_seconds"], server_seconds)


def _rates(size: int, kind: str, series: Series[Run]) -> tuple[object, ...]:
    return (
        f"{size:,}",
        kind,
        series.spread(kind, lambda run: run.rows_a_second).show(),
        series.spread(kind, lambda run: run.cpu_seconds).show(".2f"),
        series.spread(kind, lambda run: run.server_cpu_seconds).show(".2f"),
    )


def _pair(size: int, other: str, series: Series[Run]) -> tuple[object, ...]:
    ratio = series.ratio(UPWELL, other, lambda run: run.rows_a_second)
    return f"{size:,}", f"{UPWELL} ÷ {other}", ratio.show(".2f")
