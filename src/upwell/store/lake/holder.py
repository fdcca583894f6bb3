"""Who may write a lake: one engine at a time, and everybody else is told which.

In a folder the operating system knows whether the holder lives (a lock on a file); in a bucket it
has to say so itself (``lease.py``). Neither is what keeps rows single: that is the epoch, asserted
with every commit. This only keeps two engines from working at once, and says who the other is.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from upwell.core.errors import EnvironmentFault

LOCK_FILE = "upwell.lock"


class Holder(msgspec.Struct, frozen=True):
    """An engine that holds a lake."""

    host: str
    pid: int
    project: str

    @classmethod
    def of_this_process(cls, project: Path) -> Holder:
        return cls(socket.gethostname(), os.getpid(), str(project.resolve()))

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, for {self.project}"


@contextmanager
def folder_held(folder: Path, holder: Holder) -> Iterator[None]:
    """Hold a lake in a folder for as long as the block lasts, however the process ends.

    Raises EnvironmentFault naming the holder where somebody else does.
    """
    with (folder / LOCK_FILE).open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise held_by(_read(file.read()), str(folder)) from error
        file.truncate(0)
        file.write(msgspec.json.encode(holder))
        file.flush()
        yield


def _read(data: bytes) -> str:
    try:
        return str(msgspec.json.decode(data, type=Holder))
    except msgspec.DecodeError:
        return "somebody who has not said who it is"


def held_by(holder: str, where: str) -> EnvironmentFault:
    """The error for a lake that another engine holds."""
    return EnvironmentFault(
        "lake_held",
        f"Opening the lake: it is held by {holder}.",
        where=where,
        next_step="Use what that one serves, or stop it first.",
    )
