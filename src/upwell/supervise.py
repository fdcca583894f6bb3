"""Runs the processes of a project and keeps them running.

A child tells what happens as JSON lines on its standard output, and ends when its standard input
closes, so no child outlives its supervisor however that ends. A child that dies is started again;
one that says why it cannot work (exit 2 or 3) ends the whole run with that error, unless it has
worked before and what it waits for is only away: then it is started again until that is back.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from upwell.core.errors import (
    EnvironmentFault,
    Exit,
    GapError,
    IntegrityError,
    ProjectError,
    Unavailable,
    UpwellError,
    UsageError,
)

Event = dict[str, Any]
OnEvent = Callable[[Event], None]

STOP_SECONDS = 10.0
RESTART_SECONDS = (0.05, 5.0)
#: A child that ends by itself sooner than this after it started counts towards giving up.
WELL_SECONDS = 30.0
LOG_BYTES = 16 << 20

_ERRORS = {
    kind.__name__: kind
    for kind in (
        UsageError,
        ProjectError,
        EnvironmentFault,
        Unavailable,
        GapError,
        IntegrityError,
    )
}


def report(event: str, **facts: Any) -> None:
    """Called in a child: tell the supervisor."""
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()


def report_error(error: UpwellError) -> int:
    """Called in a child that cannot work: tell why. Returns its exit code."""
    report("error", kind=type(error).__name__, error=error.as_dict())
    return int(error.exit)


def on_orphaned(action: Callable[[], None]) -> None:
    """Called in a child: have ``action`` called once the supervisor is gone."""

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 1024):
                pass
        action()

    threading.Thread(target=watch, name="supervisor-watch", daemon=True).start()


def _event(line: bytes) -> Event | None:
    """What a line reports; None for anything else that found its way to standard output."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "event" in found else None


@dataclass(slots=True)
class _Child:
    name: str
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    reader: threading.Thread | None = None
    started_at: float = 0.0
    restart_at: float | None = None
    restart_seconds: float = RESTART_SECONDS[0]
    error: UpwellError | None = None
    has_worked: bool = False
    ready: threading.Event = field(default_factory=threading.Event)


class Supervisor:
    """The children of one project.

    ``commands`` maps a child's name to its command line; ``on_event`` is called, from one thread at
    a time, with everything a child reports and with ``{"event": "restarted", "process": name}``.
    """

    def __init__(self, commands: dict[str, Sequence[str]], logs: Path, on_event: OnEvent) -> None:
        self._children = {name: _Child(name, command) for name, command in commands.items()}
        self._logs = logs
        self._on_event = on_event
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def pids(self) -> dict[str, int]:
        """The running children's process ids."""
        return {
            child.name: child.process.pid
            for child in self._children.values()
            if child.process is not None and child.process.poll() is None
        }

    def all_ready(self) -> bool:
        """Whether every child has reported ``ready`` since its last start."""
        return all(child.ready.is_set() for child in self._children.values())

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """The children run inside, and none is left afterwards."""
        self._logs.mkdir(parents=True, exist_ok=True)
        try:
            for child in self._children.values():
                self._start(child)
            yield
        finally:
            self.stop()

    def watch(self, stop: threading.Event, *, until: Callable[[], bool] | None = None) -> None:
        """Pass on events and restart what dies, until ``stop`` is set or ``until()`` holds.

        Raises the error of a child that cannot work.
        """
        while not stop.is_set() and not (until is not None and until()):
            with contextlib.suppress(queue.Empty):
                self._handle(self._events.get(timeout=0.05))
            for child in self._children.values():
                self._look_after(child)

    def stop(self) -> None:
        """Ask every child to end, and end those that do not."""
        running = [child.process for child in self._children.values() if child.process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for child in self._children.values():
            self._hear_out(child)
            child.process = None

    def _start(self, child: _Child) -> None:
        path = self._logs / f"{child.name}.log"
        if path.exists() and path.stat().st_size > LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        child.ready.clear()
        child.started_at = time.monotonic()
        child.error = None
        child.restart_at = None
        with path.open("ab") as log:
            child.process = subprocess.Popen(  # noqa: S603 - our own command line
                child.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        child.reader = threading.Thread(
            target=self._read, args=(child, child.process), name=f"{child.name}-events", daemon=True
        )
        child.reader.start()

    def _read(self, child: _Child, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None  # noqa: S101 - opened as a pipe above
        with process.stdout:
            for line in process.stdout:
                event = _event(line)
                if event is not None:
                    self._events.put({**event, "process": child.name})

    def _handle(self, event: Event) -> None:
        child = self._children[event["process"]]
        if event["event"] == "ready":
            child.ready.set()
            child.has_worked = True
        elif event["event"] == "error":
            kind = _ERRORS.get(event["kind"], UpwellError)
            about = event["error"]
            child.error = kind(
                about["code"], about["what"], where=about["where"], next_step=about["next"]
            )
        self._on_event(event)

    def _look_after(self, child: _Child) -> None:
        now = time.monotonic()
        if child.restart_at is not None:
            if now >= child.restart_at:
                self._start(child)
                self._on_event({"event": "restarted", "process": child.name})
            return
        if child.process is None or (code := child.process.poll()) is None:
            return
        self._hear_out(child)
        is_kept_waiting = child.has_worked and child.error is not None and child.error.retry
        if code in {Exit.USAGE, Exit.ENVIRONMENT} and not is_kept_waiting:
            raise child.error or self._unexplained(child, code)
        was_well = child.ready.is_set() and now - child.started_at > WELL_SECONDS
        if code < 0 or was_well:  # killed from outside, or a rare mishap
            child.restart_seconds = RESTART_SECONDS[0]
        elif child.restart_seconds >= RESTART_SECONDS[1] and not is_kept_waiting:
            raise self._unexplained(child, code)
        self._on_event({"event": "died", "process": child.name, "code": code})
        child.restart_at = now + child.restart_seconds
        child.restart_seconds = min(child.restart_seconds * 2, RESTART_SECONDS[1])

    def _hear_out(self, child: _Child) -> None:
        """Everything a dead child still had to say."""
        if child.reader is not None:
            child.reader.join(1.0)
        if child.process is not None and child.process.stdin is not None:
            child.process.stdin.close()
        while not self._events.empty():
            self._handle(self._events.get())

    def _unexplained(self, child: _Child, code: int) -> UpwellError:
        return EnvironmentFault(
            "process_failed",
            f"Running the {child.name} process: it keeps ending by itself (exit {code}).",
            where=str(self._logs / f"{child.name}.log"),
            next_step="Read the end of that log.",
        )
