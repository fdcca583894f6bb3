"""A shop whose engine is killed, frozen and cut off while orders come in, and the account after.

The engine is the real one, in its own process under the real supervisor; faults are those of
``core/faults.py``, armed as a drill arms them, and every row is counted as a drill counts it.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tests.acceptance.running import (
    ShopProject,
    answers,
    eventually,
    is_durable,
    is_equal_to_the_shop,
)
from upwell.app import commands
from upwell.core.errors import UpwellError
from upwell.core.schema import TableSchema
from upwell.demo.customers import customers, send_home
from upwell.drill.account import Line, take
from upwell.project.read import read_project
from upwell.project_lake import find_project_lake
from upwell.store.lake.lake import Lake
from upwell.store.place import StatePlace
from upwell.supervise import Supervisor

PATIENCE_SECONDS = 90.0
ORDERS_A_SECOND = 20.0
RECOVERY_KILLS = 2
_RECOVERY_SECONDS = (0.2, 1.6)  # within these, an engine that starts is busy with its start


@dataclass
class Siege:
    """An engine that is under supervision and under attack."""

    project: ShopProject
    supervisor: Supervisor
    kills: int = 0
    ended: UpwellError | None = None
    chance: random.Random = field(default_factory=lambda: random.Random(19))

    @property
    def place(self) -> StatePlace:
        return StatePlace(self.project.folder)

    def until(self, holds: Callable[[], bool], *, seconds: float = PATIENCE_SECONDS) -> float:
        """Wait until something holds; fails at once where the run has ended with an error."""

        def holds_now() -> bool:
            assert self.ended is None, self.ended
            return holds()

        return eventually(holds_now, seconds=seconds)

    def until_it_answers(self) -> float:
        return self.until(lambda: answers(self.project))

    def kill(self, meanwhile: Callable[[], None] | None = None) -> None:
        """``kill -9`` the engine; what is done ``meanwhile`` it does not see."""
        self.until(lambda: "engine" in self.supervisor.pids())
        pid = self.supervisor.pids()["engine"]
        os.kill(pid, signal.SIGSTOP)
        if meanwhile is not None:
            meanwhile()
        os.kill(pid, signal.SIGKILL)
        self.kills += 1
        self.until(lambda: self.supervisor.pids().get("engine", pid) != pid)

    def kill_while_it_recovers(self) -> None:
        """Twice in a row, somewhere in the start of an engine that was just killed."""
        for _ in range(RECOVERY_KILLS):
            threading.Event().wait(self.chance.uniform(*_RECOVERY_SECONDS))
            self.kill()

    def lose_hot_store(self) -> None:
        """The file and its write-ahead log."""
        for path in self.place.hot_store.parent.glob("hot.duckdb*"):
            path.unlink()

    def lose_everything(self) -> None:
        """Hot store and lake: everything is to be read from the source again."""
        self.lose_hot_store()
        shutil.rmtree(self.project.folder / "lake")

    def watch(self, stop: threading.Event) -> None:
        try:
            self.supervisor.watch(stop)
        except UpwellError as error:
            self.ended = error


@contextmanager
def besieged(project: ShopProject, command: Sequence[str] | None = None) -> Iterator[Siege]:
    """The project's engine, answering, for as long as the block lasts."""
    engine = command or commands(project.folder)["engine"]
    siege = Siege(
        project, Supervisor({"engine": engine}, StatePlace(project.folder).logs, lambda _: None)
    )
    stop = threading.Event()
    with siege.supervisor.running():
        watcher = threading.Thread(target=siege.watch, args=(stop,))
        watcher.start()
        try:
            siege.until_it_answers()
            yield siege
        finally:
            stop.set()
            watcher.join()


@dataclass(frozen=True)
class Account:
    """What is there after a siege: lines of a drill's account, and models that are not equal."""

    lines: Sequence[Line]
    broken: Sequence[str]
    seconds: float

    @property
    def is_right(self) -> bool:
        return all(line.equal for line in self.lines) and not self.broken

    @property
    def figures(self) -> dict[str, Any]:
        """For a report; ``seconds`` until everything was there and durable."""
        return {
            "lost": sum(line.lost for line in self.lines),
            "doubled": sum(line.doubled for line in self.lines),
            "seconds": round(self.seconds, 1),
        }


def account(project: ShopProject, *, seconds: float = PATIENCE_SECONDS) -> Account:
    """Count every row in the log, in the current tables and in the lake; nobody may write."""
    begun = time.monotonic()
    eventually(lambda: is_equal_to_the_shop(project), seconds=seconds)
    eventually(lambda: is_durable(project), seconds=seconds)
    settled = time.monotonic() - begun
    layouts = [msgspec.convert(each, TableSchema) for each in project.engine.ask("layouts")]
    zone = read_project(project.folder, environment=os.environ).settings.time.zone
    lines = take(project.engine, project.url, layouts, lake_of(project), zone)
    models = project.engine.ask("prove")["models"]
    broken = [model["model"] for model in models if not model["holds"]]
    return Account(lines, broken, settled)


def lake_of(project: ShopProject) -> Lake:
    """The project's lake, for reading."""
    lake = find_project_lake(read_project(project.folder, environment=os.environ))
    assert lake is not None
    return lake


def busy_for_a_while(project: ShopProject) -> int:
    """Customers come, some versions are made, and they go; how many changes they made."""
    before = project.engine.ask("status")["version"]
    with customers(project.url, ORDERS_A_SECOND) as shop:
        eventually(lambda: project.engine.ask("status")["version"] > before + 5)
        return int(send_home(shop)["row_changes"])


def biggest(project: ShopProject, pattern: str) -> Path:
    """The biggest file of the project's lake below these names."""
    found = (project.folder / "lake").glob(pattern)
    return max(found, key=lambda path: path.stat().st_size)
