"""A contender in a process of its own, spoken to line by line (``loop.py`` is the other end)."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from benchmarks.peers import NotRunError, environment, require_program
from benchmarks.processes import pss_mb

REQUIREMENTS = "requirements-models.txt"

#: Starting takes the longest, for who takes a million rows one by one.
PATIENCE_SECONDS = 900
_GOODBYE_SECONDS = 10
_ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True, slots=True)
class System:
    """A contender: its name in the table, its module, and whether Upwell's environment has it."""

    title: str
    module: str
    options: Sequence[str] = ()
    is_at_home: bool = False
    needs: Sequence[str] = ()  # programs


class Child:
    """The process of a system, which owns ``folder``. Ends with the context.

    Raises NotRunError, with the process's last words, when it cannot go on.
    """

    def __init__(self, system: System, folder: Path) -> None:
        for program in system.needs:
            require_program(program, f"{system.title} needs it")
        folder.mkdir()
        self._folder = folder
        self._log = folder / "log"
        python = sys.executable if system.is_at_home else str(environment(REQUIREMENTS))
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(python, "-m", "benchmarks.contenders.loop"),
                    *(system.module, str(folder), *system.options),
                ],
                cwd=_ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def start(self, base: Path) -> float:
        """Load the base tables and compute the models; the seconds it took."""
        return float(self._ask("start", base)["seconds"])

    def refresh(self, batch: Path) -> dict[str, float]:
        """Take a batch in and refresh the models: ``take_in_ms``, ``refresh_ms``, ``cpu_ms``."""
        return self._ask("refresh", batch)

    def export(self) -> Path:
        """The folder in which both models now are, as Parquet files."""
        self._ask("export", self._folder)
        return self._folder

    def memory_mb(self) -> float:
        """Memory of the process and of all that it started."""
        return sum(map(pss_mb, _family(self._process.pid)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(BrokenPipeError):
            _pipe(self._process.stdin).close()
        try:
            self._process.wait(_GOODBYE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _pipe(self._process.stdout).close()

    def _ask(self, do: str, folder: Path) -> dict[str, Any]:
        commands, answers = _pipe(self._process.stdin), _pipe(self._process.stdout)
        try:
            commands.write(json.dumps({"do": do, "folder": str(folder)}).encode() + b"\n")
            commands.flush()
        except BrokenPipeError as error:
            raise NotRunError(self._last_words()) from error
        ready, _, _ = select.select([answers], [], [], PATIENCE_SECONDS)
        if not ready:
            raise NotRunError(f"{do} took more than {PATIENCE_SECONDS} s")
        answer = answers.readline()
        if not answer:
            raise NotRunError(self._last_words())
        return dict(json.loads(answer))

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else "it ended without a word"


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise NotRunError("its process has no pipes")
    return pipe


def _family(pid: int) -> list[int]:
    """A process, its children, and theirs."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [pid, *(each for child in children for each in _family(int(child)))]
