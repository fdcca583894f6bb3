"""The demonstration: a shop's PostgreSQL, its customers, and Upwell on it, until stopped.

Upwell runs here exactly as ``upwell run`` does: on a project folder that can be read and edited,
with a source it knows only by its URL. At the end the numbers are checked against the shop itself.
"""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
from psycopg.rows import dict_row

from upwell.app import commands
from upwell.core.errors import Unavailable, UsageError
from upwell.core.position import Position
from upwell.demo.customers import customers, send_home
from upwell.demo.server import Server
from upwell.demo.shop import has_shop, open_shop
from upwell.demo.template import write_project
from upwell.feed.channel import EngineClient
from upwell.project.read import read_project
from upwell.project.values import Project
from upwell.sources.postgres.checksum import row_checksums, wal_position
from upwell.store.place import StatePlace
from upwell.supervise import Supervisor

DATABASE = "shop"
SEED = 7
#: Longest wait for Upwell to have taken in everything the shop wrote.
CATCH_UP_SECONDS = 30.0

Tell = Callable[[str, Mapping[str, Any]], None]
"""Told of progress: an event's name and facts about it."""


@dataclass(frozen=True, slots=True)
class Options:
    """What ``upwell demo`` was asked for. ``seconds`` counts from the first live tile."""

    folder: Path
    rate: float = 2.0
    http: str | None = None
    seconds: float | None = None


def run_demo(options: Options, tell: Tell, stop: threading.Event) -> dict[str, Any] | None:
    """Run until ``stop`` or for ``seconds``; returns the report of a run that ended by itself.

    Raises UpwellError; nothing is left running in any case.
    """
    begun = time.monotonic()
    with ExitStack() as closing:
        closing.enter_context(StatePlace(options.folder).held())
        server = closing.enter_context(_server(options.folder))
        tell("server_started", {"url": server.url_of(DATABASE)})
        _prepare_shop(server, options.folder, tell)
        os.environ["SHOP_URL"] = server.url_of(DATABASE)
        project = _project(options, server)
        place = StatePlace(project.folder)
        supervisor = Supervisor(
            commands(project.folder), place.logs, lambda event: tell(event["event"], event)
        )
        closing.enter_context(supervisor.running())
        supervisor.watch(stop, until=supervisor.all_ready)
        address = f"http://{project.settings.serve.http}"
        supervisor.watch(stop, until=lambda: _answers(f"{address}/readyz"))
        tell(
            "live",
            {
                "address": address,
                "url": server.url_of(DATABASE),
                "folder": str(project.folder),
                "seconds": time.monotonic() - begun,
            },
        )
        simulator = closing.enter_context(customers(server.url_of(DATABASE), options.rate))
        until = None if options.seconds is None else time.monotonic() + options.seconds
        supervisor.watch(stop, until=lambda: until is not None and time.monotonic() >= until)
        if stop.is_set():
            return None
        memory = _memory_mb(supervisor.pids())
        written = send_home(simulator)
        return _report(project, server, written, address) | {"pss_mb": memory}


# ── the parts ────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _server(folder: Path) -> Iterator[Server]:
    """The shop's database server, on the port it had before where that is known."""
    state = folder / ".upwell"
    state.mkdir(parents=True, exist_ok=True)
    remembered = state / "shop-port"
    port = int(remembered.read_text()) if remembered.exists() else 0
    server = Server(state / "shop-database", port=port)
    with server:
        remembered.write_text(str(server.port))
        yield server


def _prepare_shop(server: Server, folder: Path, tell: Tell) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        found = connection.execute(
            "select 1 from pg_database where datname = %s", [DATABASE]
        ).fetchone()
        if not found:
            connection.execute(f"create database {DATABASE}")
    with psycopg.connect(
        server.url_of(DATABASE), autocommit=True, row_factory=dict_row
    ) as connection:
        if not has_shop(connection):
            rows = open_shop(
                connection, seed=SEED, now=datetime.now(UTC), zone=ZoneInfo("Europe/London")
            )
            tell("history_loaded", {"rows": rows, "folder": str(folder)})


def _project(options: Options, server: Server) -> Project:
    extra = {"http": options.http} if options.http else {}
    write_project(options.folder, url=server.url_of(DATABASE), **extra)
    project = read_project(options.folder, environment=os.environ)
    if options.http and project.settings.serve.http != options.http:
        raise UsageError(
            "address_differs",
            f"Starting the demo on {options.http}: the project there serves on "
            f"{project.settings.serve.http}.",
            where=str(options.folder / "upwell.yaml"),
            next_step="Change serve.http in that file, or choose another folder with --dir.",
        )
    return project


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=1):  # noqa: S310 - our own loopback address
            return True
    except OSError:
        return False


# ── the report ───────────────────────────────────────────────────────────────────────────────────


def _report(
    project: Project, server: Server, written: dict[str, Any], address: str
) -> dict[str, Any]:
    client = EngineClient(StatePlace(project.folder).socket)
    url = server.url_of(DATABASE)
    equal, differing = _source_equals_replica(client, project, url)
    proof = client.ask("prove")
    status = client.ask("status")
    with urllib.request.urlopen(f"{address}/api/v1/freshness", timeout=5) as reply:  # noqa: S310
        freshness = json.load(reply)
    return {
        "orders_written": written["orders_written"],
        "changes_captured": status["changes"],
        "versions": status["version"],
        "freshness_ms": _freshness(freshness["dashboards"]),
        "proved": all(model["holds"] for model in proof["models"]),
        "source_equals_replica": equal,
        "differing_tables": differing,
        "models": {model["model"]: model["rows"] for model in proof["models"]},
        "shop": written,
    }


def _freshness(boards: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The slowest board's latencies."""
    return {
        name: max(round(board[f"{name}_ms"] or 0, 1) for board in boards.values())
        for name in ("p50", "p99")
    }


def _source_equals_replica(
    client: EngineClient, project: Project, url: str
) -> tuple[bool, list[str]]:
    """Compare row checksums of every captured table, both sides at one position.

    The shop's customers are gone by now. Somebody in psql may still write: then the shop's own
    checksums differ from one look to the next, and the comparison is made again.
    """
    (name,) = project.settings.sources
    tables = project.settings.sources[name].tables
    deadline = time.monotonic() + CATCH_UP_SECONDS
    while True:
        position = wal_position(url)
        theirs = row_checksums(url, name, tables)
        ours = _checksums_at(client, name, position, deadline)
        differing = [
            table for table, sums in theirs.items() if ours[table] != [str(value) for value in sums]
        ]
        quiet = row_checksums(url, name, tables) == theirs
        if quiet or time.monotonic() > deadline:
            return not differing, differing


def _checksums_at(
    client: EngineClient, source: str, position: Position, deadline: float
) -> dict[str, list[str]]:
    """The replica's checksums once it has reached ``position``."""
    while True:
        ours = client.ask("checksums")
        if ours["positions"][source] >= position:
            return dict(ours["tables"])
        if time.monotonic() > deadline:
            raise Unavailable(
                "not_caught_up",
                f"Comparing shop and replica: Upwell is at {ours['positions'][source]}, the shop "
                f"at {position}, {CATCH_UP_SECONDS:.0f} s after the last order.",
                next_step="`upwell status` and .upwell/log/engine.log say why.",
            )
        time.sleep(0.1)


def _memory_mb(pids: Mapping[str, int]) -> dict[str, float]:
    """Proportional set size of each process with its children, in MiB."""
    sizes = {name: sum(_pss_mb(each) for each in _family(pid)) for name, pid in pids.items()}
    sizes["supervisor"] = _pss_mb(os.getpid())
    return {name: round(size, 1) for name, size in sizes.items()}


def _family(pid: int) -> Iterator[int]:
    yield pid
    children = Path(f"/proc/{pid}/task/{pid}/children")
    if children.exists():
        for child in children.read_text().split():
            yield from _family(int(child))


def _pss_mb(pid: int) -> float:
    rollup = Path(f"/proc/{pid}/smaps_rollup")
    if not rollup.exists():
        return 0.0
    for line in rollup.read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0
