"""Runs a drill: a start, work under load and a rebuild, each with its faults, then the account.

All faults of a phase are armed at once, and each happens once: the process starts again after one
and meets the next. Faults the run did not get to are said to be untried, never counted as survived.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from upwell.app import commands
from upwell.core import faults
from upwell.core.errors import Unavailable
from upwell.core.faults import Fault
from upwell.core.schema import TableSchema
from upwell.demo.customers import customers, send_home
from upwell.drill.account import Line, take
from upwell.drill.scratch import LAKE, Scratch, scratch
from upwell.drill.trials import TRIALS, Phase, Trial
from upwell.project.read import read_project
from upwell.project_lake import find_project_lake
from upwell.sources.postgres.checksum import wal_position
from upwell.supervise import Supervisor

Tell = Callable[[str, Mapping[str, Any]], None]

_PATIENCE_SECONDS = 60.0
_LOAD_SECONDS = (12.0, 150.0)  # quick, in full: longest wait for the faults under load


class Outcome(msgspec.Struct, frozen=True):
    """What became of one trial."""

    point: str
    what: str
    times: int
    survived: bool


class _Drill:
    """One drill while it runs: what is armed, and what has happened."""

    def __init__(self, shop: Scratch, supervisor: Supervisor, stop: threading.Event) -> None:
        self.shop = shop
        self.supervisor = supervisor
        self._stop = stop
        self.outcomes: list[Outcome] = []

    def watch(self, until: Callable[[], bool], seconds: float) -> bool:
        """Let Upwell work until something holds, or for so long; whether it holds."""
        deadline = time.monotonic() + seconds

        def ended() -> bool:
            return until() or time.monotonic() > deadline

        self.supervisor.watch(self._stop, until=ended)
        return until()

    def await_recovery(self) -> bool:
        """Whether all processes work again."""
        return self.watch(
            lambda: self.supervisor.all_ready() and _answers(self.shop), _PATIENCE_SECONDS
        )

    def kill(self, process: str) -> None:
        pid = self.supervisor.pids().get(process)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)

    def note(self, armed: Mapping[Trial, Fault], *, survived: bool) -> None:
        for trial, fault in armed.items():
            if fault.happened:
                self.outcomes.append(Outcome(trial.point, trial.what, fault.happened, survived))


def run_drill(*, quick: bool, tell: Tell, stop: threading.Event) -> dict[str, Any] | None:
    """Go through all trials, or the quick ones; the report, or None if stopped before its end."""
    begun = time.monotonic()
    trials = [trial for trial in TRIALS if trial.is_quick or not quick]
    with scratch(orders_a_day=30 if quick else 100) as shop:
        tell("drill_started", {"faults": len(trials), "folder": str(shop.folder)})
        supervisor = Supervisor(
            commands(shop.folder), shop.place.logs, lambda event: tell(event["event"], event)
        )
        drill = _Drill(shop, supervisor, stop)
        starting = [trial for trial in trials if trial.phase is Phase.START]
        with ExitStack() as closing:
            with _armed(shop.folder, starting) as armed:
                closing.enter_context(supervisor.running())
                # It answers before its tables are read, and more is to happen then.
                drill.watch(partial(_all_happened, armed), _PATIENCE_SECONDS)
                drill.note(armed, survived=drill.await_recovery())
            if not quick:
                _from_nothing(drill, trials)
            people = closing.enter_context(customers(shop.url, 8.0 if quick else 30.0))
            _under_load(drill, trials, quick=quick)
            _without_hot_store(drill, trials)
            changes = int(send_home(people)["row_changes"])
            if stop.is_set():
                return None
            settled = drill.watch(lambda: _is_settled(shop), _PATIENCE_SECONDS)
            lines = _account(shop)
            proofs = shop.engine.ask("prove")["models"]
    return _report(drill.outcomes, trials, lines, proofs) | {
        "changes": changes,
        "settled": settled,
        "seconds": round(time.monotonic() - begun, 1),
    }


def _under_load(drill: _Drill, trials: Sequence[Trial], *, quick: bool) -> None:
    chosen = [trial for trial in trials if trial.phase is Phase.LOAD]
    with _armed(drill.shop.folder, chosen) as armed:
        drill.kill("engine")  # the next one reads what is armed
        drill.watch(partial(_all_happened, armed), _LOAD_SECONDS[0 if quick else 1])
    drill.note(armed, survived=drill.await_recovery())
    drill.kill("web")
    survived = drill.await_recovery()
    drill.outcomes.append(Outcome("web", "the web process, at any moment", 1, survived))


def _from_nothing(drill: _Drill, trials: Sequence[Trial]) -> None:
    """Hot store and lake are deleted together: everything is read from the source again."""
    chosen = [trial for trial in trials if trial.phase is Phase.ANEW]
    with _armed(drill.shop.folder, chosen) as armed:
        drill.shop.place.hot_store.unlink(missing_ok=True)
        shutil.rmtree(drill.shop.folder / LAKE)
        drill.kill("engine")
        drill.watch(partial(_all_happened, armed), _PATIENCE_SECONDS)
    drill.note(armed, survived=drill.await_recovery())


def _without_hot_store(drill: _Drill, trials: Sequence[Trial]) -> None:
    """The hot store is deleted under load, and its rebuild interrupted."""
    chosen = [trial for trial in trials if trial.phase is Phase.REBUILD]
    drill.watch(lambda: _is_in_the_lake(drill.shop), _PATIENCE_SECONDS)
    with _armed(drill.shop.folder, chosen) as armed:
        drill.shop.place.hot_store.unlink(missing_ok=True)
        drill.kill("engine")
        drill.watch(partial(_all_happened, armed), _PATIENCE_SECONDS)
    survived = drill.await_recovery()
    drill.note(armed, survived=survived)
    drill.outcomes.append(Outcome("hot store", "the hot store deleted under load", 1, survived))


def _all_happened(armed: Mapping[Trial, Fault]) -> bool:
    return all(fault.happened == fault.times for fault in armed.values())


@contextmanager
def _armed(folder: Path, trials: Sequence[Trial]) -> Iterator[dict[Trial, Fault]]:
    """Processes started inside the block meet these faults, each as often as it says in all."""
    traces = folder / ".upwell" / "faults"
    traces.mkdir(parents=True, exist_ok=True)
    armed = {
        trial: Fault(trial.point, trial.at, "kill", trial.times, str(traces / trial.point))
        for trial in trials
    }
    os.environ[faults.VARIABLE] = ";".join(map(str, armed.values()))
    try:
        yield armed
    finally:
        os.environ.pop(faults.VARIABLE)


def _answers(shop: Scratch) -> bool:
    try:
        return bool(shop.engine.ask("identity"))
    except Unavailable:
        return False


def _is_in_the_lake(shop: Scratch) -> bool:
    """Whether a round has ended, so that there is something to rebuild from."""
    try:
        return bool(shop.engine.ask("status")["durable_version"])
    except Unavailable:
        return False


def _is_settled(shop: Scratch) -> bool:
    """Whether everything the shop has committed is in the current tables and in the lake."""
    try:
        status = shop.engine.ask("status")
    except Unavailable:
        return False
    reached = all(each["position"] >= wal_position(shop.url) for each in status["sources"])
    return reached and status["durable_version"] == status["version"]


def _account(shop: Scratch) -> list[Line]:
    project = read_project(shop.folder, environment=os.environ)
    lake = find_project_lake(project)
    assert lake is not None  # noqa: S101 - the scratch project has one
    layouts = [msgspec.convert(each, TableSchema) for each in shop.engine.ask("layouts")]
    return take(shop.engine, shop.url, layouts, lake, project.settings.time.zone)


def _report(
    outcomes: Sequence[Outcome],
    trials: Sequence[Trial],
    lines: Sequence[Line],
    proofs: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    met = {outcome.point for outcome in outcomes}
    return {
        "faults": sum(outcome.times for outcome in outcomes),
        "survived": sum(outcome.times for outcome in outcomes if outcome.survived),
        "lost": sum(line.lost for line in lines),
        "doubled": sum(line.doubled for line in lines),
        "equal": all(line.equal for line in lines),
        "proved": all(model["holds"] for model in proofs),
        "untried": [trial.point for trial in trials if trial.point not in met],
        "trials": msgspec.to_builtins(outcomes),
        "tables": msgspec.to_builtins(lines),
    }
