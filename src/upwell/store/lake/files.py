"""Iceberg's own way to files, over ours: so that its metadata is as durable as the data.

Metadata files are small: each is held in memory as a whole, between reading or writing and the
place where it lies. pyiceberg makes a ``LakeFiles`` by name, so the objects it goes to are found by
the address of the lake that they belong to.

Files that we name ourselves are named by their content (``Named``), so that a damaged one is known
when it is read. Those that a catalog names, the table's own metadata, are not.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from types import TracebackType

import msgspec
from pyiceberg.io import FileIO, InputFile, InputStream, OutputFile, OutputStream

from upwell.core.errors import IntegrityError
from upwell.store.lake.digests import identity_of
from upwell.store.lake.objects import Objects

#: What pyiceberg's property ``py-io-impl`` must say.
NAME = f"{__name__}.LakeFiles"

_METADATA = ".metadata.json"

_open_lakes: dict[str, Objects] = {}


def announce(objects: Objects) -> None:
    """Let pyiceberg find the files below ``objects.root``."""
    _open_lakes[objects.root] = objects


def _objects_of(location: str) -> Objects:
    for root, objects in _open_lakes.items():
        if location.startswith(f"{root}/"):
            return objects
    raise FileNotFoundError(f"{location} lies in no open lake")


class LakeFiles(FileIO):
    """See the module."""

    def new_input(self, location: str) -> InputFile:
        return _Input(location)

    def new_output(self, location: str) -> OutputFile:
        return _Output(location)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        """Nothing: what is no longer needed is swept, once nobody can be reading it."""


class _Input(InputFile):
    def __len__(self) -> int:
        size = _objects_of(self.location).size(self.location)
        if size is None:
            raise FileNotFoundError(self.location)
        return size

    def exists(self) -> bool:
        return _objects_of(self.location).size(self.location) is not None

    def open(self, seekable: bool = True) -> InputStream:  # noqa: ARG002 - always is
        data = _objects_of(self.location).read(self.location)
        if self.location.endswith(_METADATA):
            _require_metadata(data, self.location)
        return _Reading(data)


def _require_metadata(data: bytes, location: str) -> None:
    """Raise for what cannot be a table's metadata; pyiceberg would, without the file's name."""
    try:
        found = msgspec.json.decode(data)
    except msgspec.DecodeError:
        found = None
    if not isinstance(found, dict) or "format-version" not in found:
        raise IntegrityError(
            "lake_metadata_damaged",
            f"Reading a table's metadata in the lake: the file holds none ({len(data)} bytes).",
            where=location,
            next_step="Restore the file from a backup; `upwell scrub` tells what else is damaged.",
        )


class _Output(OutputFile):
    def __len__(self) -> int:
        return len(_Input(self.location))

    def exists(self) -> bool:
        return _Input(self.location).exists()

    def to_input_file(self) -> InputFile:
        return _Input(self.location)

    def create(self, overwrite: bool = False) -> OutputStream:
        if not overwrite and self.exists():
            raise FileExistsError(self.location)
        return _Writing(self._write)

    def _write(self, data: memoryview) -> None:
        _objects_of(self.location).write(self.location, data)


class Named(OutputFile):
    """A file of which only the folder and the ends of its name are known before it is written.

    ``location`` and ``len`` tell of it once it is closed.
    """

    def __init__(self, folder: str, before: str, after: str) -> None:
        super().__init__(folder)
        self._folder, self._before, self._after = folder, before, after
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def exists(self) -> bool:
        return False  # none of its name: it has none yet

    def to_input_file(self) -> InputFile:
        return _Input(self.location)

    def create(self, overwrite: bool = False) -> OutputStream:  # noqa: ARG002 - none is there
        return _Writing(self._write)

    def _write(self, data: memoryview) -> None:
        self._location = f"{self._folder}/{self._before}{identity_of(data)}{self._after}"
        self._size = len(data)
        _objects_of(self._location).write(self._location, data)


class _Reading(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        return super().read(size)


class _Writing(io.BytesIO):
    """Nothing is there before all is there: what is abandoned leaves nothing."""

    def __init__(self, write: Callable[[memoryview], None]) -> None:
        super().__init__()
        self._write = write

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            super().close()
        super().__exit__(kind, error, trace)

    def close(self) -> None:
        if not self.closed:
            data = self.getbuffer()
            try:
                self._write(data)
            finally:
                data.release()
                super().close()
