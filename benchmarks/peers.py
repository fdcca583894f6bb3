"""Programs of others to compare with, in virtual environments of their own.

What they need never enters the product's pins: each environment is made from a requirements file
beside this module, once, outside the repository. A peer that cannot be had here is *not run*, and
the reason stands in the table.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
CAPTURE = "requirements-capture.txt"
_INSTALL_SECONDS = 600


class NotRunError(Exception):
    """Why a peer cannot run on this machine, in a few words."""


def environment(requirements: str) -> Path:
    """The interpreter of an environment with ``requirements``, a file beside this module.

    It is kept in the user's cache for the next time. Raises NotRunError if it cannot be made.
    """
    wanted = HERE / requirements
    digest = hashlib.sha256(wanted.read_bytes() + sys.version.encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    place = cache / "upwell-benchmarks" / f"{wanted.stem}-{digest}"
    python = place / "bin" / "python"
    if (place / "complete").exists():
        return python
    shutil.rmtree(place, ignore_errors=True)
    sys.stderr.write(f"  making an environment with {requirements}\n")
    install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r")
    try:
        _run(sys.executable, "-m", "venv", place)
        _run(python, *install, wanted)
    except (subprocess.SubprocessError, OSError) as error:
        raise NotRunError(f"{requirements} cannot be installed: {_last_line(error)}") from error
    (place / "complete").touch()
    return python


def require_program(name: str, why: str) -> None:
    """Raise NotRunError unless a program is on the path."""
    if shutil.which(name) is None:
        raise NotRunError(f"no {name} here ({why})")


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=_INSTALL_SECONDS)


def _last_line(error: Exception) -> str:
    said = getattr(error, "stderr", None) or str(error)
    lines = [line for line in str(said).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
