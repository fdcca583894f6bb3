"""What production sees: the latency of its own transactions with and without Upwell on it.

pgbench's usual transactions at a fixed rate, on Debian's PostgreSQL 15; the same database with
nobody, with Upwell following it, and with Upwell reading its tables anew all the while. Server,
pgbench and Upwell share the machine, so what Upwell computes is in it too.
"""

from __future__ import annotations

import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.folders import passing_folder
from benchmarks.followed import following, until, until_equal
from benchmarks.pages import Page, Table
from benchmarks.programs import WrongRunError
from benchmarks.series import Series
from upwell.demo.server import Server
from upwell.feed.channel import EngineClient
from upwell.store.place import StatePlace

_BINARIES = Path("/usr/lib/postgresql/15/bin")
_SETTINGS = """name: bank
sources:
  bank:
    type: postgres
    url: {url}
    tables: [pgbench_accounts, pgbench_branches, pgbench_tellers]
    copy: {{connections: 1, megabytes_per_second: {megabytes}}}
"""
_MEGABYTES_A_SECOND = 10.0
_TABLES = ("pgbench_accounts", "pgbench_branches", "pgbench_tellers")
_ALONE, _FOLLOWED, _READ = "alone", "followed", "read anew meanwhile"


@dataclass(frozen=True)
class Run:
    """One run of pgbench."""

    mean_ms: float
    p50_ms: float
    p99_ms: float
    transactions_a_second: float


def measure(*, seconds: int = 40, rounds: int = 5, rate: int = 300, scale: int = 10) -> Page:
    """The three kinds, interleaved."""
    with passing_folder() as folder, _bank(folder, scale) as (server, project):
        series: Series[Run] = Series([_ALONE, _FOLLOWED, _READ], rounds)
        series.measure(lambda kind: _run(server, project, kind, seconds, rate))
    alone = series.spread(_ALONE, lambda run: run.p50_ms).median
    alone_99 = series.spread(_ALONE, lambda run: run.p99_ms).median
    rows = []
    for kind in series.kinds:
        p50 = series.spread(kind, lambda run: run.p50_ms)
        p99 = series.spread(kind, lambda run: run.p99_ms)
        rows.append(
            (
                kind,
                series.spread(kind, lambda run: run.transactions_a_second).show(),
                series.spread(kind, lambda run: run.mean_ms).show(",.2f"),
                p50.show(",.2f"),
                p99.show(",.2f"),
                f"{p50.median / alone:.2f}",
                f"{p99.median / alone_99:.2f}",
            )
        )
    return Page(
        f"pgbench at {rate} transactions a second, {seconds} s a run, {rounds} rounds of all "
        f"kinds, each beginning with another. Cells: median (least–greatest).",
        f"pgbench, scale {scale}",
        "python -m benchmarks burden",
        [
            Table(
                (
                    "database",
                    "transactions/s",
                    "mean ms",
                    "p50 ms",
                    "p99 ms",
                    "p50 to alone",
                    "p99 to alone",
                ),
                rows,
            )
        ],
        notes=[
            (
                f"While it is read, all three tables are copied again and again, within a budget "
                f"of {_MEGABYTES_A_SECOND:g} MB a second over one connection."
            ),
            "Upwell has no core of its own here: its processor time is taken from the database's.",
        ],
    )


@contextmanager
def _bank(folder: Path, scale: int) -> Iterator[tuple[Server, Path]]:
    with Server(folder / "server", binaries=_BINARIES, settings={"fsync": "on"}) as server:
        _pgbench(server, "--initialize", f"--scale={scale}", "--quiet")
        project = folder / "project"
        project.mkdir()
        settings = _SETTINGS.format(url=server.url, megabytes=_MEGABYTES_A_SECOND)
        (project / "upwell.yaml").write_text(settings)
        yield server, project


def _run(server: Server, project: Path, kind: str, seconds: int, rate: int) -> Run:
    followed = nullcontext() if kind == _ALONE else following(project)
    with tempfile.TemporaryDirectory() as logs, followed:
        client = EngineClient(StatePlace(project).socket)
        reading = _reading(client) if kind == _READ else nullcontext()
        with reading:
            _pgbench(
                server,
                "--client=4",
                f"--time={seconds}",
                f"--rate={rate}",
                "--no-vacuum",
                "--log",
                f"--log-prefix={logs}/log",
            )
        latencies = np.concatenate(
            [np.loadtxt(path, usecols=2, ndmin=1) for path in Path(logs).iterdir()]
        )
        if kind != _ALONE:
            until_equal(server.url, client, "bank", _TABLES)
    p50, p99 = (float(each) / 1000 for each in np.percentile(latencies, [50, 99]))
    return Run(float(latencies.mean()) / 1000, p50, p99, len(latencies) / seconds)


@contextmanager
def _reading(client: EngineClient) -> Iterator[None]:
    """Tables are read anew, one time after the other."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            client.ask("resync", {"anew": True})
            until(lambda: stop.is_set() or not client.ask("readings")["waiting"])

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _pgbench(server: Server, *arguments: str) -> None:
    done = subprocess.run(
        [str(_BINARIES / "pgbench"), *arguments, server.url],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise WrongRunError(f"pgbench: {done.stderr}")
