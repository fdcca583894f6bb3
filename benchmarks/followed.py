"""An engine that follows a database, in a process of its own, as `upwell run` has it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.programs import WrongRunError
from upwell.app import commands
from upwell.core.errors import Unavailable
from upwell.feed.channel import EngineClient
from upwell.sources.postgres.checksum import row_checksums
from upwell.store.place import StatePlace
from upwell.supervise import Supervisor


@contextmanager
def following(project: Path) -> Iterator[None]:
    """The project's engine, from when all its tables are read."""
    supervisor = Supervisor(
        {"engine": commands(project)["engine"]}, StatePlace(project).logs, lambda _: None
    )
    stop = threading.Event()
    with supervisor.running():
        supervisor.watch(stop, until=supervisor.all_ready)
        client = EngineClient(StatePlace(project).socket)
        until(lambda: not client.ask("readings")["waiting"])
        yield
        stop.set()


def until_equal(
    url: str, client: EngineClient, source: str, tables: Sequence[str], seconds: float = 120.0
) -> None:
    """Until the engine has what the database has now; raises WrongRunError if it never has."""
    wanted = {
        name: [str(each) for each in found]
        for name, found in row_checksums(url, source, list(tables)).items()
    }
    until(lambda: client.ask("checksums")["tables"] == wanted, seconds)


def until(holds: Callable[[], bool], seconds: float = 120.0) -> None:
    """Until something holds; raises WrongRunError if it does not in this time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if holds():
                return
        except Unavailable:
            pass
        time.sleep(0.1)
    raise WrongRunError("what was captured never came to what the database has")
