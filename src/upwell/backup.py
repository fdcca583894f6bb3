"""Backup and restore of what neither lake nor source hold: the project, its journal and registry.

Consistent while Upwell runs: project files are read once, and what lies in ``.upwell`` of them is
only ever added to. The hot store is not in it; the restored project rebuilds it from the lake, and
goes on with the source where the lake ends. Nothing is written before everything in an archive has
been found to be what was put in. A file that the settings refer to (``file:PATH``) is a
secret and stays out.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from upwell.core.errors import EnvironmentFault, IntegrityError, UsageError
from upwell.project.read import SETTINGS_FILE
from upwell.project.values import Project

FORMAT = 1
_CONTENTS = "upwell-backup.json"
#: Below ``.upwell``: what is kept; everything else there is made anew.
_KEPT_STATE = ("journal", "registry")
_STATE = ".upwell"
_LEFT_OUT = frozenset({".git", "__pycache__", ".venv", "node_modules"})
_MOST_BYTES = 16 << 30
_LAKE = re.compile(r"^lake\s*:", re.MULTILINE)
_URI = re.compile(r"(?<=[\s{,])uri\s*:\s*[^,}\n#]+")


class Entry(msgspec.Struct, frozen=True):
    """One file of a backup."""

    path: str
    size_bytes: int
    sha256: str


class Contents(msgspec.Struct, frozen=True):
    """What a backup says of itself. ``lake`` is the full address of the project's lake."""

    project: str
    made_at: str
    lake: str
    files: tuple[Entry, ...]
    format: int = FORMAT


def back_up(project: Project, archive: Path) -> Contents:
    """Write a backup of a project, complete or not at all.

    Raises UsageError where the archive is there already, EnvironmentFault where it cannot be
    written.
    """
    if archive.exists():
        raise UsageError(
            "backup_exists",
            "Writing a backup: there is a file of that name.",
            where=str(archive),
            next_step="Choose another name; a backup is never overwritten.",
        )
    unfinished = archive.with_name(f".{archive.name}.unfinished")
    entries = []
    try:
        with tarfile.open(unfinished, "w:gz", format=tarfile.PAX_FORMAT) as tar:
            for path in _files(project):
                data = path.read_bytes()
                name = path.relative_to(project.folder).as_posix()
                entries.append(Entry(name, len(data), hashlib.sha256(data).hexdigest()))
                _add(tar, name, data)
            contents = Contents(
                project.settings.name,
                time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                _lake_address(project),
                tuple(entries),
            )
            _add(tar, _CONTENTS, msgspec.json.encode(contents))
        unfinished.rename(archive)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise EnvironmentFault(
            "backup_not_written",
            f"Writing a backup: {error.strerror or error}.",
            where=str(error.filename or archive),
            next_step="Write it where there is room and you may write.",
        ) from error
    return contents


def _files(project: Project) -> Iterator[Path]:
    """The files of a backup, in an order that is always the same."""
    lake = project.settings.lake
    lake_folder = (project.folder / lake.uri).resolve() if lake is not None else None
    secret = {path.resolve() for path in project.secret_files}
    for path in sorted(project.folder.rglob("*")):
        parts = path.relative_to(project.folder).parts
        is_state = parts[0] == _STATE
        if not path.is_file() or path.is_symlink() or _LEFT_OUT & set(parts):
            continue
        if lake_folder is not None and path.resolve().is_relative_to(lake_folder):
            continue
        if path.resolve() in secret:
            continue
        if not is_state or (len(parts) > 2 and parts[1] in _KEPT_STATE):
            yield path


def _lake_address(project: Project) -> str:
    lake = project.settings.lake
    if lake is None or "://" in lake.uri:
        return "" if lake is None else lake.uri
    return str((project.folder / lake.uri).resolve())


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def restore(archive: Path, folder: Path) -> Contents:
    """Put a backup's files into an empty folder; its lake stays where it is.

    Raises UsageError for a folder that holds something, IntegrityError for an archive that is not
    whole; nothing is written then.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(
            "folder_not_empty",
            "Restoring a backup: the folder holds something already.",
            where=str(folder),
            next_step="Give an empty or a new folder.",
        )
    contents, files = _read(archive)
    settings = files.get(SETTINGS_FILE)
    if settings is not None and contents.lake.startswith("/"):
        files[SETTINGS_FILE] = _with_lake(settings.decode(), contents.lake).encode()
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return contents


def _read(archive: Path) -> tuple[Contents, dict[str, bytes]]:
    try:
        with tarfile.open(archive, "r:gz") as tar:
            found = {member.name: _data(tar, member, archive) for member in tar if member.isfile()}
        contents = msgspec.json.decode(found.pop(_CONTENTS), type=Contents)
    except (tarfile.TarError, EOFError, KeyError, msgspec.DecodeError, OSError) as error:
        raise _not_whole(archive, f"it cannot be read ({error})") from error
    if contents.format != FORMAT:
        raise IntegrityError(
            "backup_format",
            f"Restoring a backup: it has format {contents.format}, this Upwell knows {FORMAT}.",
            where=str(archive),
            next_step="Use the Upwell that wrote it, or a newer one.",
        )
    for entry in contents.files:
        data = found.get(entry.path)
        if data is None or hashlib.sha256(data).hexdigest() != entry.sha256:
            raise _not_whole(archive, f"{entry.path} is not what was put in")
    return contents, {entry.path: found[entry.path] for entry in contents.files}


def _data(tar: tarfile.TarFile, member: tarfile.TarInfo, archive: Path) -> bytes:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or member.size > _MOST_BYTES:
        raise _not_whole(archive, f"it holds a file that no backup has, {member.name!r}")
    file: Any = tar.extractfile(member)
    return bytes(file.read())


def _with_lake(settings: str, address: str) -> str:
    """The settings with the lake's full address: the folder it was relative to is another now."""
    quoted = msgspec.json.encode(address).decode()
    begin = _LAKE.search(settings)
    if begin is None:
        return f"{settings.rstrip()}\nlake: {{uri: {quoted}}}\n"
    head, tail = settings[: begin.end()], settings[begin.end() :]
    return head + _URI.sub(lambda _: f"uri: {quoted}", tail, count=1)


def _not_whole(archive: Path, how: str) -> IntegrityError:
    return IntegrityError(
        "backup_not_whole",
        f"Restoring a backup: {how}.",
        where=str(archive),
        next_step="Use another backup; nothing was written.",
    )
