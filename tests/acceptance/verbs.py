"""Upwell's verbs as a user runs them: each ends by itself, answers, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.acceptance.running import ShopProject
from upwell.cli.main import main
from upwell.core.errors import Exit


@dataclass(frozen=True)
class Outcome:
    """How a verb ended."""

    exit: int
    output: str

    @property
    def data(self) -> Any:
        """What it answers, whether with success or not."""
        return json.loads(self.output)["data"]

    @property
    def rows(self) -> list[dict[str, Any]] | None:
        """Those of a query; None if it was refused."""
        return list(self.data["rows"]) if self.exit == Exit.DONE else None

    @property
    def error(self) -> dict[str, str]:
        answer = json.loads(self.output)
        assert not answer["ok"]
        return dict(answer["error"])


def upwell(folder: Path, *arguments: str, seconds: float = 40, **environment: str) -> Outcome:
    """Run a verb on a project to its end; fails if it leaves a process behind."""
    run = uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-m", "upwell.cli.main", *arguments, "--project", str(folder), "--json"],
        env={**os.environ, "UPWELL_TEST_RUN": run, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.terminate()
        output, _ = process.communicate(timeout=10)
        pytest.fail(f"it did not end by itself: {output!r}")
    assert processes_of(run) == []
    return Outcome(process.returncode, output.decode())


def answered(folder: Path, *arguments: str) -> Outcome:
    """The same in this process, for a verb that starts none: a start of Python is a second."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        try:
            main([*arguments, "--project", str(folder), "--json"])
        except SystemExit as ended:
            return Outcome(int(ended.code or 0), said.getvalue())
    return Outcome(Exit.DONE, said.getvalue())


def processes_of(run: str) -> list[str]:
    """Command lines of everything that inherited the environment of a run."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if f"UPWELL_TEST_RUN={run}".encode() in (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue  # not a process, not ours, or gone
    return found


def refused(project: ShopProject, *, exit_code: Exit, code: str) -> dict[str, str]:
    """``upwell run`` on the project ends at once, with this error and a next step."""
    outcome = upwell(project.folder, "run")
    assert outcome.exit == exit_code, outcome.output
    error = outcome.error
    assert error["code"] == code, error
    assert error["what"]
    assert error["next"]
    return error


def edit(project: ShopProject, file: str, change: Callable[[str], str]) -> None:
    path = project.folder / file
    before = path.read_text()
    after = change(before)
    assert after != before
    path.write_text(after)
