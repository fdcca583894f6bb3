"""Measured programs: each run is a process of its own that tells its figures as a line of JSON."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[1]
_LONGEST_RUN_SECONDS = 900


class WrongRunError(Exception):
    """A run that did not bring what was in the source: no figure is worth anything then."""


def told_by(
    interpreter: object, module: str, *arguments: object, options: Mapping[str, object]
) -> dict[str, Any]:
    """Run a module in an empty folder until it ends; what its last line says.

    Raises WrongRunError with its last words where it fails.
    """
    listed = [part for name, value in options.items() for part in (f"--{name}", value)]
    command = [str(part) for part in (interpreter, "-m", module, *arguments, *listed)]
    paths = os.pathsep.join([str(_ROOT), str(_ROOT / "src")])
    with tempfile.TemporaryDirectory(prefix="upwell-bench-") as folder:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            timeout=_LONGEST_RUN_SECONDS,
            check=False,
        )
    if done.returncode:
        raise WrongRunError(f"{module} {arguments}: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))
