"""Where a project keeps its state: ``.upwell/`` in its folder, and a socket in a short-lived place.

A Unix socket's path must stay under about 100 bytes, whatever the project's path is, so the socket
lies in the user's runtime folder under a name derived from the project's path. Not every process of
a user has the same runtime folder, so a run writes down where its socket is. Refuses state that
cannot be written, and a folder for sockets that others could write to.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from upwell.core.errors import EnvironmentFault

#: Longest path of a socket, in bytes; systems allow 103 to 107.
_SOCKET_BYTES = 100
_ANYBODYS = Path("/tmp")  # noqa: S108 - what is made there is checked to be ours


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
        digest = hashlib.sha256(os.fsencode(self.folder.resolve())).hexdigest()[:16]
        return _socket_in_runtime_folder(f"{digest}.sock")

    def find_socket(self) -> Path:
        """The socket of whoever runs this project, as a client finds it.

        Where the run wrote it down, else where a run with our surroundings would have it.
        """
        try:
            told = Path(os.fsdecode(self._socket_note.read_bytes()))
            if told.is_socket():
                return told
        except (OSError, ValueError):
            pass  # nobody wrote it down, or nobody can read it: there is the usual place
        return self.socket

    @property
    def _socket_note(self) -> Path:
        return self.state / "socket"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the only run of this project. Raises EnvironmentFault if another one is."""
        socket = self.socket
        with self._lock_file() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise self._already_running(file) from error
            try:
                file.truncate(0)
                file.write(str(os.getpid()))
                file.flush()
                self._socket_note.write_bytes(os.fsencode(socket))
            except OSError as error:
                raise self._unwritable(error) from error
            try:
                yield
            finally:
                with contextlib.suppress(OSError):  # a note left behind misleads nobody
                    self._socket_note.unlink()

    def _lock_file(self) -> IO[str]:
        try:
            self.state.mkdir(parents=True, exist_ok=True)
            return (self.state / "lock").open("a+")
        except OSError as error:
            raise self._unwritable(error) from error

    def _already_running(self, lock: IO[str]) -> EnvironmentFault:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        return EnvironmentFault(
            "already_running",
            f"Starting Upwell: process {holder} already runs this project.",
            where=str(self.folder),
            next_step=f"Use what it serves, or stop it first (kill {holder}).",
        )

    def _unwritable(self, error: OSError) -> EnvironmentFault:
        return EnvironmentFault(
            "state_not_writable",
            f"Making a folder for the project's state: {error.strerror or error}.",
            where=str(error.filename or self.state),
            next_step=f"Make {self.state} a folder that you may write to, with room on its disk; "
            f"remove a file or a broken link of that name.",
        )


def _socket_in_runtime_folder(name: str) -> Path:
    """A path for a socket, in a folder of ours that only we can enter.

    The session's runtime folder where it is short and will do, else one of ours beside everybody
    else's. Raises EnvironmentFault if that cannot be had either.
    """
    session = os.environ.get("XDG_RUNTIME_DIR")
    if session:
        path = Path(session) / "upwell" / name
        if len(os.fsencode(path)) <= _SOCKET_BYTES and not _fault_of(path.parent):
            return path
    path = _ANYBODYS / f"upwell-{os.getuid()}" / name
    if fault := _fault_of(path.parent):
        raise EnvironmentFault(
            "runtime_folder_unusable",
            f"Making a folder for the engine's socket: {fault}.",
            where=str(path.parent),
            next_step="Set XDG_RUNTIME_DIR to a folder of your own, with a short path.",
        )
    return path


def _fault_of(folder: Path) -> str:
    """Why this cannot be our private folder; empty if it is, made where it was missing."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        seen = folder.lstat()
        if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.getuid():
            return "it belongs to another user"
        if stat.S_IMODE(seen.st_mode) != 0o700:
            folder.chmod(0o700)
    except OSError as error:
        return error.strerror or str(error)
    return "" if os.access(folder, os.W_OK | os.X_OK) else "it cannot be written to"
