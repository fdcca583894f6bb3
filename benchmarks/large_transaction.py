"""One transaction of some gigabytes: how much memory the engine takes meanwhile, and how long."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks.folders import passing_folder
from benchmarks.followed import following, until, until_equal
from benchmarks.pages import Page, Table
from benchmarks.processes import children, cpu_seconds, pss_mb
from upwell.demo.server import Server
from upwell.feed.channel import EngineClient
from upwell.store.place import StatePlace

_SETTINGS = """name: large
sources:
  shop:
    type: postgres
    url: {url}
    tables: [items, others]
"""
_MODEL = """select region, count(*) as items, sum(amount) as amount from shop.items group by region
"""
_ROW_BYTES = 1_000
_INSERT = """insert into items select i, i % 50, i * 0.01, repeat(md5(i::text), 31)
from generate_series(1, {rows}) i"""
_UPDATE = "update items set amount = amount + 1, region = region + 1"


@dataclass(frozen=True)
class _Taken:
    """What one transaction cost the engine."""

    seconds: float
    before_mb: float
    peak_mb: float
    cpu_seconds: float


def measure(*, gigabytes: tuple[float, ...] = (0.5, 2.0, 5.0)) -> Page:
    """Each size inserted, then updated, in one transaction."""
    rows = []
    for size in gigabytes:
        count = int(size * 1e9 / _ROW_BYTES)
        with passing_folder() as folder, _shop(folder) as (url, project):
            for what, statement in (("inserted", _INSERT), ("updated", _UPDATE)):
                taken = _take(url, project, statement.format(rows=count))
                rows.append(
                    (
                        f"{size:g} GB",
                        what,
                        f"{count:,}",
                        f"{taken.seconds:.0f}",
                        f"{size * 1000 / taken.seconds:.0f}",
                        f"{taken.cpu_seconds:.0f}",
                        f"{taken.before_mb:.0f}",
                        f"{taken.peak_mb:.0f}",
                    )
                )
    return Page(
        "One transaction that inserts rows of a kilobyte, then one that updates them all, with a "
        "model that sums them by region. Proportional set size of the engine in MiB: before the "
        "transaction, and at most until it was visible.",
        "made up",
        "python -m benchmarks large_transaction",
        [
            Table(
                (
                    "transaction",
                    "rows",
                    "count",
                    "seconds from commit to visible",
                    "MB/s",
                    "engine's CPU seconds",
                    "MiB before",
                    "MiB at most",
                ),
                rows,
            )
        ],
        notes=[
            (
                "Checked each time: table and row checksums equal the database's, and nothing of "
                "the transaction was to be seen before all of it."
            ),
        ],
    )


@contextmanager
def _shop(folder: Path) -> Iterator[tuple[str, Path]]:
    with Server(folder / "server", settings={"max_wal_size": "64GB"}) as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(
                "create table items (id int primary key, region int, amount numeric(14,2), "
                "note text); alter table items alter note set storage plain;"
                "create table others (id int primary key)"
            )
        project = folder / "project"
        (project / "models").mkdir(parents=True)
        (project / "upwell.yaml").write_text(_SETTINGS.format(url=server.url))
        (project / "models" / "by_region.sql").write_text(_MODEL)
        with following(project):
            yield server.url, project


def _take(url: str, project: Path, statement: str) -> _Taken:
    """Make the transaction, and wait until it is to be seen."""
    client = EngineClient(StatePlace(project).socket)
    with psycopg.connect(url) as connection:
        connection.execute(statement.encode())
        engine = children(os.getpid(), {"engine": "upwell.engine_process"})["engine"]
        before, used = pss_mb(engine), cpu_seconds(engine)
        peaks = [before]
        is_over = threading.Event()

        def watch() -> None:
            while not is_over.wait(0.2):
                peaks.append(pss_mb(engine))

        watching = threading.Thread(target=watch)
        watching.start()
        version = client.ask("status")["version"]
        begun = time.monotonic()
        connection.commit()
    try:
        until(lambda: bool(client.ask("gauges")["version"] > version), 3600)
        seconds = time.monotonic() - begun
        used = cpu_seconds(engine) - used
        until_equal(url, client, "shop", ("items", "others"), 600)
    finally:
        is_over.set()
        watching.join()
    return _Taken(seconds, before, max(peaks), used)
