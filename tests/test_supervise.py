"""The supervisor, over real children: small Python programs that do one thing each."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from upwell import supervise
from upwell.core.errors import EnvironmentFault, ProjectError, Unavailable
from upwell.supervise import Supervisor

REPORT = "import os, signal, sys, threading, time\nfrom upwell.supervise import *\n"
WAITS = "on_orphaned(lambda: os._exit(0)); report('ready'); threading.Event().wait()"
STUBBORN = (
    "signal.signal(signal.SIGTERM, signal.SIG_IGN); report('ready'); threading.Event().wait()"
)
REFUSES = """
from upwell.core.errors import ProjectError
sys.exit(report_error(ProjectError("bad", "No such table.", where="x.sql", next_step="Mend it.")))
"""
AWAY = """
from upwell.core.errors import Unavailable
told = report_error(Unavailable("lake_unavailable", "The lake is away.", next_step="It is tried."))
sys.exit(told)
"""
CRASHES = "print('about to crash', file=sys.stderr); sys.exit(1)"


def child(program: str) -> list[str]:
    return [sys.executable, "-c", REPORT + program]


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that is dead but not yet waited for does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline


class Seen:
    """Everything the supervisor told."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def __call__(self, event: dict[str, Any]) -> None:
        self.events.append(event)

    def count(self, event: str) -> int:
        return sum(each["event"] == event for each in self.events)


@contextlib.contextmanager
def watched(logs: Path, **programs: str) -> Iterator[tuple[Supervisor, Seen]]:
    seen = Seen()
    commands: dict[str, Sequence[str]] = {
        name: child(program) for name, program in programs.items()
    }
    supervisor = Supervisor(commands, logs, seen)
    with supervisor.running():
        yield supervisor, seen


def until(supervisor: Supervisor, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    supervisor.watch(threading.Event(), until=lambda: condition() or time.monotonic() > deadline)
    assert condition()


def test_what_a_child_reports_is_passed_on_with_its_name(tmp_path: Path) -> None:
    told = "report('news', count=3); print('noise'); print(5); print('{}'); sys.stdout.flush();"
    with watched(tmp_path, one=told + WAITS, two=WAITS) as (supervisor, seen):
        until(supervisor, supervisor.all_ready)
    assert {"event": "news", "count": 3, "process": "one"} in seen.events
    assert seen.count("ready") == 2
    assert len(seen.events) == 3


def test_a_child_killed_is_started_again(tmp_path: Path) -> None:
    with watched(tmp_path, one=WAITS) as (supervisor, seen):
        until(supervisor, supervisor.all_ready)
        killed = supervisor.pids()["one"]
        os.kill(killed, signal.SIGKILL)
        until(supervisor, lambda: seen.count("ready") == 2)
        assert supervisor.pids()["one"] != killed
    assert {"event": "died", "process": "one", "code": -9} in seen.events
    assert seen.count("restarted") == 1


def test_a_child_that_says_why_it_cannot_work_ends_the_run_with_that_error(tmp_path: Path) -> None:
    with (
        pytest.raises(ProjectError, match="No such table") as caught,
        watched(tmp_path, one=WAITS, two=REFUSES) as (supervisor, seen),
    ):
        until(supervisor, lambda: False)
    assert (caught.value.where, caught.value.next_step) == ("x.sql", "Mend it.")
    assert seen.count("restarted") == 0


def test_a_child_that_keeps_crashing_ends_the_run_and_names_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "RESTART_SECONDS", (0.05, 0.1))
    with (
        pytest.raises(EnvironmentFault, match="keeps ending by itself") as caught,
        watched(tmp_path, one=CRASHES) as (supervisor, _),
    ):
        until(supervisor, lambda: False)
    assert "about to crash" in Path(caught.value.where).read_text()


def test_a_child_that_has_worked_waits_for_what_is_away_as_long_as_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "RESTART_SECONDS", (0.01, 0.02))
    away, back = tmp_path / "away", f"if not os.path.exists({str(tmp_path / 'away')!r}):\n    "
    with watched(tmp_path, one=f"{back}{WAITS}\n{AWAY}") as (supervisor, seen):
        until(supervisor, supervisor.all_ready)
        away.touch()
        os.kill(supervisor.pids()["one"], signal.SIGKILL)
        until(supervisor, lambda: seen.count("error") == 4)
        away.unlink()
        until(supervisor, supervisor.all_ready)
    away.touch()
    with (
        pytest.raises(Unavailable, match="The lake is away"),
        watched(tmp_path, one=f"{back}{WAITS}\n{AWAY}") as (supervisor, seen),
    ):
        until(supervisor, lambda: False)  # it never worked: perhaps the address is wrong


def test_no_child_is_left_after_the_run(tmp_path: Path) -> None:
    with watched(tmp_path, one=WAITS, two=WAITS) as (supervisor, _):
        until(supervisor, supervisor.all_ready)
        pids = supervisor.pids().values()
    assert not any(is_alive(pid) for pid in pids)
    assert supervisor.pids() == {}


def test_no_child_is_left_when_the_run_breaks(tmp_path: Path) -> None:
    pids: list[int] = []

    def break_off() -> bool:
        pids.extend(supervisor.pids().values())
        raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        watched(tmp_path, one=WAITS, two=WAITS) as (supervisor, _),
    ):
        supervisor.watch(threading.Event(), until=lambda: supervisor.all_ready() and break_off())
    assert len(pids) == 2
    assert not any(is_alive(pid) for pid in pids)


def test_a_child_that_ignores_the_request_to_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "STOP_SECONDS", 2.0)
    with watched(tmp_path, one=STUBBORN) as (supervisor, _):
        until(supervisor, supervisor.all_ready)
        (pid,) = supervisor.pids().values()
        asked = time.monotonic()
    assert not is_alive(pid)
    assert time.monotonic() - asked < supervise.STOP_SECONDS + 1  # the promise itself is a time


def test_no_child_outlives_a_supervisor_that_was_killed(tmp_path: Path) -> None:
    program = f"""
        import sys, threading
        from pathlib import Path
        from upwell.supervise import Supervisor
        child = [sys.executable, "-c", {REPORT + WAITS!r}]
        supervisor = Supervisor({{"a": child, "b": child}}, Path({str(tmp_path)!r}), lambda _: None)
        with supervisor.running():
            supervisor.watch(threading.Event(), until=supervisor.all_ready)
            print(*supervisor.pids().values(), flush=True)
            threading.Event().wait()
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert len(pids) == 2
        assert all(is_alive(pid) for pid in pids)
        process.kill()
    wait(lambda: not any(is_alive(pid) for pid in pids))


def test_a_log_that_grew_large_is_put_by_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "LOG_BYTES", 10)
    (tmp_path / "one.log").write_text("old words, many of them")
    with watched(tmp_path, one="print('new', file=sys.stderr);" + WAITS) as (supervisor, _):
        until(supervisor, supervisor.all_ready)
    assert (tmp_path / "one.log.1").read_text().startswith("old words")
    assert (tmp_path / "one.log").read_text() == "new\n"
