"""Where the files of a lake lie: a folder, or a bucket of S3-compatible storage.

Files are written whole and never changed. A file that ``write`` returned from is durable: in a
folder it was fsynced, and its name with it. A failing fsync ends the process at once, because the
kernel may have dropped what was to be written and would say nothing the second time.

What ``read`` returns is what was written: a file whose name tells its content (``digests.py``) is
checked, and read once more if it differs, since it may have suffered on the way.

Locations are full addresses, as Iceberg's metadata names them: ``file:///…`` or ``s3://bucket/…``.
What follows the scheme is the path as it is, blanks and all: other readers take it literally.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from upwell.core.errors import EnvironmentFault, IntegrityError
from upwell.core.faults import reach
from upwell.store.lake.digests import is_as_named

#: Exit code of a process that could not make a file durable. Its supervisor starts it again.
FSYNC_FAILED = 70
#: Begins the names of files that are being written; what a crash leaves of them is swept.
UNFINISHED = ".unfinished-"
_SCHEME = "file://"


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that is there."""

    location: str
    size_bytes: int


class Objects(Protocol):
    """The files below one address.

    Everything raises ``Unavailable`` where trying again can help, ``EnvironmentFault`` where
    rights, room or the bucket are missing.
    """

    @property
    def root(self) -> str:
        """The address of the lake, without a slash at its end."""
        ...

    def read(self, location: str) -> bytes:
        """A whole file. Raises IntegrityError where it is missing or damaged."""
        ...

    def read_unchecked(self, location: str) -> bytes:
        """As ``read``, whatever is in it: for looking at what is damaged."""
        ...

    def write(self, location: str, data: bytes | memoryview) -> None:
        """Make a file of a new name; durable on return."""
        ...

    def size(self, location: str) -> int | None:
        """None where there is no such file."""
        ...

    def list(self, below: str) -> Iterator[Stored]:
        """Every file below an address, in no particular order."""
        ...

    def delete(self, location: str) -> None:
        """Remove a file. One that is gone already is no error."""
        ...

    def local(self, location: str) -> AbstractContextManager[Path]:
        """The file as one on this machine, as long as the block lasts; checked as by ``read``."""
        ...


def missing(location: str) -> IntegrityError:
    """The error for a file that metadata names and that is not there."""
    return IntegrityError(
        "lake_file_missing",
        "Reading the lake: a file that its metadata names is not there.",
        where=location,
        next_step="Run `upwell scrub`: it tells what the file held and repairs what can be.",
    )


def own_file(root: str, name: str) -> str:
    """Where a file lies that is Upwell's own and no table's.

    It looks like one of a table: a catalog that owns its bucket (S3 Tables, SeaweedFS) lets nothing
    be written beside tables, and asks that what has no ending lie in a folder ``data``.
    """
    return f"{root}/upwell/data/{name}"


def as_written(location: str, read: Callable[[str], bytes]) -> bytes:
    """A whole file, which is what its name says was written, if its name says that."""
    data = read(location)
    if is_as_named(location, data):
        return data
    data = read(location)
    if is_as_named(location, data):
        return data
    raise IntegrityError(
        "lake_file_damaged",
        "Reading the lake: a file is damaged: its content is not what its name says was written.",
        where=location,
        next_step="Run `upwell scrub`: it tells what the file held and repairs what can be.",
    )


class Folder:
    """Files in a folder of this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        with _faults_named("making the lake's folder", str(self._root)):
            self._root.mkdir(parents=True, exist_ok=True)

    @property
    def root(self) -> str:
        return f"{_SCHEME}{self._root}"

    def read(self, location: str) -> bytes:
        return as_written(location, self.read_unchecked)

    def read_unchecked(self, location: str) -> bytes:
        with _faults_named("reading", location):
            try:
                return path_of(location).read_bytes()
            except FileNotFoundError as error:
                raise missing(location) from error

    def write(self, location: str, data: bytes | memoryview) -> None:
        path = path_of(location)
        unfinished = path.with_name(UNFINISHED + path.name)
        with _faults_named("writing", location):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with unfinished.open("wb") as file:
                    half = len(data) // 2
                    file.write(data[:half])
                    reach("lake.file_half_written")
                    file.write(data[half:])
                    file.flush()
                    reach("lake.file_before_fsync")
                    _fsync(file.fileno(), location)
                unfinished.rename(path)
            except OSError:
                unfinished.unlink(missing_ok=True)  # a full disk needs the room
                raise
            _fsync_folder(path.parent)

    def size(self, location: str) -> int | None:
        try:
            return path_of(location).stat().st_size
        except FileNotFoundError:
            return None

    def list(self, below: str) -> Iterator[Stored]:
        base = path_of(below)
        for folder, _, names in os.walk(base):
            for name in names:
                path = Path(folder) / name
                inside = path.relative_to(base).as_posix()
                try:
                    yield Stored(f"{below}/{inside}", path.stat().st_size)
                except FileNotFoundError:
                    continue  # it went while we looked

    def delete(self, location: str) -> None:
        with _faults_named("deleting", location):
            path_of(location).unlink(missing_ok=True)

    @contextmanager
    def local(self, location: str) -> Iterator[Path]:
        as_written(location, self.read_unchecked)
        yield path_of(location)


@contextmanager
def downloaded(location: str, read: Callable[[str], bytes]) -> Iterator[Path]:
    """A file from elsewhere as one on this machine, for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="upwell-lake-") as folder:
        path = Path(folder) / location.rpartition("/")[2]
        path.write_bytes(read(location))
        yield path


def path_of(location: str) -> Path:
    """The path of a ``file:`` address."""
    return Path(location.removeprefix(_SCHEME))


def _fsync(descriptor: int, location: str) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        sys.stderr.write(f"making {location} durable failed ({error}); ending at once\n")
        sys.stderr.flush()
        os._exit(FSYNC_FAILED)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _fsync(descriptor, str(folder))
    finally:
        os.close(descriptor)


@contextmanager
def _faults_named(doing: str, location: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EnvironmentFault(
            "lake_not_writable" if doing != "reading" else "lake_not_readable",
            f"The lake, {doing}: {error.strerror or error}.",
            where=location,
            next_step="See that the disk has room and that the folder may be read and written; "
            "what is not in the lake yet stays in the source's log.",
        ) from error
