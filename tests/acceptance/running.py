"""A project of the sample shop, running for a test as for a user: real processes, real data.

``shop_project`` makes the database and the folder, ``running`` the processes; what a page shows is
read as a page reads it, over HTTP.
"""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import psycopg
import pytest

from upwell.app import commands
from upwell.core.errors import Unavailable
from upwell.demo.server import Server
from upwell.demo.shop import create_schema, open_shop
from upwell.demo.template import write_project
from upwell.feed.channel import EngineClient
from upwell.sources.postgres.checksum import row_checksums, wal_position
from upwell.store.place import StatePlace
from upwell.supervise import Event, Supervisor

PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class ShopProject:
    """A shop's database with empty tables, and the sample project on it."""

    folder: Path
    url: str
    address: str

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.url, autocommit=True)

    @property
    def engine(self) -> EngineClient:
        return EngineClient(StatePlace(self.folder).socket)

    def board(self, period: str = "30d", **filters: str) -> dict[str, Any]:
        """The page's numbers: tiles by metric and kind."""
        query = urllib.parse.urlencode({"period": period, **filters})
        return get_json(f"{self.address}/api/v1/dashboards/sales?{query}")


def get_json(address: str) -> dict[str, Any]:
    with urllib.request.urlopen(address, timeout=10) as reply:  # noqa: S310 - loopback
        return dict(json.load(reply))


def number(board: dict[str, Any], metric: str, of: str = "value") -> Any:
    """A number tile's value, or its value in the period before (``previous``)."""
    (tile,) = [
        tile for tile in board["tiles"] if (tile["kind"], tile["metric"]) == ("number", metric)
    ]
    return tile.get(of)


def bars(board: dict[str, Any], dimension: str) -> dict[str, float]:
    """A ranking as value by label, without the empty ones."""
    (tile,) = [
        tile for tile in board["tiles"] if tile["kind"] == "bars" and tile["by"] == dimension
    ]
    return {row["label"]: row["value"] for row in tile["rows"] if row["value"]}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(holds: Callable[[], bool], *, seconds: float = PATIENCE_SECONDS) -> float:
    """Wait until ``holds()``; the seconds it took. Connection errors count as not yet."""
    begun = time.monotonic()
    while True:
        try:
            if holds():
                return time.monotonic() - begun
        except (OSError, Unavailable):
            pass
        assert time.monotonic() - begun < seconds, "it never came to hold"
        threading.Event().wait(0.02)


def shop_project(server: Server, folder: Path, *, days_of_history: int = 0) -> ShopProject:
    """A new database on ``server`` and a project in ``folder`` that follows it.

    The shop is empty, or has sold sixty orders a day until now.
    """
    database = f"shop_{uuid4().hex[:12]}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"create database {database}")
    url, http = server.url_of(database), f"127.0.0.1:{free_port()}"
    with psycopg.connect(url, autocommit=True) as connection:
        if days_of_history:
            open_shop(
                connection,
                seed=3,
                now=datetime.now(UTC),
                zone=ZoneInfo("Europe/London"),
                days=days_of_history,
                orders_a_day=60,
                customers=400,
            )
        else:
            create_schema(connection)
    write_project(folder, url=url, http=http)
    settings = folder / "upwell.yaml"
    # Slots belong to the whole server, and their names come from the project's.
    settings.write_text(settings.read_text().replace("name: shop", f"name: {database}"))
    return ShopProject(folder, url, f"http://{http}")


@contextmanager
def running(
    project: ShopProject, *processes: str, code: Path | None = None
) -> Iterator[Supervisor]:
    """The project's processes (all, or those named), ready; what they left is released after.

    ``code`` is where another version of the program lies.
    """
    program = ["env", f"PYTHONPATH={code}"] if code is not None else []
    chosen: dict[str, Sequence[str]] = {
        name: [*program, *command]
        for name, command in commands(project.folder).items()
        if not processes or name in processes
    }
    events: list[Event] = []
    supervisor = Supervisor(chosen, StatePlace(project.folder).logs, events.append)
    stop = threading.Event()
    with supervisor.running():
        supervisor.watch(stop, until=supervisor.all_ready)
        watcher = threading.Thread(target=supervisor.watch, args=(stop,))
        watcher.start()
        try:
            if "web" in chosen:
                eventually(lambda: bool(project.board()))
            yield supervisor
        finally:
            stop.set()
            watcher.join()


def is_equal_to_the_shop(project: ShopProject) -> bool:
    """Whether every captured table has the shop's row checksums, at the position it is at now."""
    reached = wal_position(project.url)
    eventually(lambda: project.engine.ask("checksums")["positions"]["shop"] >= reached)
    ours = project.engine.ask("checksums")["tables"]
    theirs = row_checksums(project.url, "shop", [name.partition(".")[2] for name in ours])
    return {name: [str(part) for part in sums] for name, sums in theirs.items()} == dict(ours)


def surplus_rows(project: ShopProject) -> list[int]:
    """For each captured table, how many rows the replica has more than the shop (or fewer, < 0)."""
    ours = project.engine.ask("checksums")["tables"]
    theirs = row_checksums(project.url, "shop", [name.partition(".")[2] for name in ours])
    return [int(ours[name][0]) - rows for name, (rows, _) in theirs.items()]


def answers(project: ShopProject) -> bool:
    """Whether the engine answers, and has read its tables and built its models."""
    status = project.engine.ask("status")
    is_built = "not there yet" not in status["trouble"]
    return bool(status["version"]) and not status["reading"] and is_built


def trouble(project: ShopProject) -> str:
    """What does not go on, as status and boards say it; empty while all is well."""
    return str(project.engine.ask("status")["trouble"])


def is_durable(project: ShopProject) -> bool:
    """Whether the newest version is in the lake."""
    status = project.engine.ask("status")
    return bool(status["durable_version"]) and status["durable_version"] == status["version"]


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A disk of its own in ``folder``, for as long as the block lasts; skips where none may be."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small disk needs the right to mount one")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def release(project: ShopProject) -> None:
    """Drop the project's slot, so that the server forgets its log."""
    with project.connect() as connection:
        connection.execute(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots "
            "where database = current_database() and not active"
        )
