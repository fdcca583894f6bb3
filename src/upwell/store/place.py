"""Where a project keeps its state: ``.upwell/`` in its folder, and a socket in a short-lived place.

A Unix socket's path must stay under about 100 bytes, whatever the project's path is, so the socket
lies in the user's runtime folder under a name derived from the project's path.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from upwell.core.errors import EnvironmentFault


@dataclass(frozen=True, slots=True)
class StatePlace:
    """The state of the project in ``folder``."""

    folder: Path

    @property
    def state(self) -> Path:
        return self.folder / ".upwell"

    @property
    def hot_store(self) -> Path:
        return self.state / "hot.duckdb"

    @property
    def logs(self) -> Path:
        return self.state / "log"

    @property
    def socket(self) -> Path:
        """The engine's socket; its folder is made if missing."""
        name = hashlib.sha256(os.fsencode(self.folder.resolve())).hexdigest()[:16]
        return _runtime_folder() / f"{name}.sock"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the only run of this project. Raises EnvironmentFault if another one is."""
        self.state.mkdir(parents=True, exist_ok=True)
        with (self.state / "lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                holder = file.read().strip() or "unknown"
                raise EnvironmentFault(
                    "already_running",
                    f"Starting Upwell: process {holder} already runs this project.",
                    where=str(self.folder),
                    next_step=f"Use what it serves, or stop it first (kill {holder}).",
                ) from error
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield


def _runtime_folder() -> Path:
    """A folder only this user can enter. Raises EnvironmentFault if somebody else made it."""
    given = os.environ.get("XDG_RUNTIME_DIR")
    base = Path(given) if given else Path(tempfile.gettempdir())
    folder = base / ("upwell" if given else f"upwell-{os.getuid()}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid() or folder.is_symlink():
        raise EnvironmentFault(
            "runtime_folder_taken",
            "Making a folder for the engine's socket: it belongs to another user.",
            where=str(folder),
            next_step="Set XDG_RUNTIME_DIR to a folder of your own.",
        )
    return folder
