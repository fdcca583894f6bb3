"""Who may write a lake: one engine at a time, and everybody else is told which.

In a folder the operating system knows whether the holder lives (a lock on a file); in a bucket it
has to say so itself (``lease.py``). Neither is what keeps rows single: that is the epoch, asserted
with every commit. This only keeps two engines from working at once, and says who the other is.
"""

from __future__ import annotations

import fcntl
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from upwell.core.errors import EnvironmentFault, UpwellError
from upwell.store.lake.objects import Objects, path_of

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


class Hold:
    """A lake that is ours, until it is lost: then whoever listens is told, once."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._lost: UpwellError | None = None
        self._tell: Callable[[UpwellError], None] | None = None

    def listen(self, tell: Callable[[UpwellError], None]) -> None:
        """Have ``tell`` called when the lake is lost; at once if it is already."""
        with self._guard:
            self._tell = tell
            lost = self._lost
        if lost is not None:
            tell(lost)

    def lose(self, error: UpwellError) -> None:
        """Another engine holds the lake now."""
        with self._guard:
            is_first, self._lost = self._lost is None, self._lost or error
            tell = self._tell
        if is_first and tell is not None:
            tell(error)


@contextmanager
def held(objects: Objects, holder: Holder) -> Iterator[Hold]:
    """Hold a lake for as long as the block lasts, however the process ends.

    Raises EnvironmentFault naming the holder where somebody else does.
    """
    if objects.root.startswith("file:"):
        with _folder_held(path_of(objects.root), holder):
            yield Hold()
        return
    from upwell.store.lake.bucket import Bucket  # noqa: PLC0415 - obstore is only for this
    from upwell.store.lake.lease import bucket_held  # noqa: PLC0415 - as above

    assert isinstance(objects, Bucket)  # noqa: S101 - there are two kinds
    with bucket_held(objects, holder) as hold:
        yield hold


@contextmanager
def _folder_held(folder: Path, holder: Holder) -> Iterator[None]:
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
