"""The files of a project folder: which there are, and their text.

Invariant: nothing outside the folder is ever read, whatever links lie in it. Refused rather than
passed over, since the author will wonder why nothing happens: links that lead outside, linked
folders, folders where none are read, ``.yml`` and ``.SQL`` endings. Refused too: files that are not
regular, larger than 256 KiB, or not UTF-8.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from upwell.core.errors import ProjectError
from upwell.project.problems import ProjectErrors, problem

_LARGEST_BYTES = 1 << 18
_MISSPELT = {".yml": ".yaml"}


def list_files(
    folder: Path, kind: str, suffix: str, *, nested: bool
) -> Iterator[str | ProjectError]:
    """Paths inside ``folder`` of the files that sub-folder ``kind`` holds, in order of name.

    What is wrong comes in between as a problem. Nothing comes where there is no such sub-folder.
    """
    directory = folder / kind
    if directory.is_symlink():
        yield _unreadable("a linked folder is not followed", kind, "put the folder itself here")
        return
    if not directory.is_dir():
        return
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except OSError as error:
        what = f"the folder cannot be read: {error.strerror}"
        yield _unreadable(what, kind, "make it readable")
        return
    for entry in entries:
        file = f"{kind}/{entry.name}"
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if nested:
                yield from list_files(folder, file, suffix, nested=True)
            else:
                yield _unreadable(
                    f"{kind}/ takes no folders", file, f"move its files to {kind}/ itself"
                )
        elif entry.name.endswith(suffix):
            yield file
        else:
            found = Path(entry.name).suffix.lower()
            if _MISSPELT.get(found, found) == suffix:
                step = f"rename it to end in {suffix}"
                yield _unreadable(f"the ending must be {suffix}", file, step)


def read_text(folder: Path, file: str) -> str:
    """The text of a file, without a byte order mark. Raises ``ProjectErrors``."""
    path = folder / file
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            step = "put the file itself here"
            raise ProjectErrors([_unreadable("a link leads outside the project", file, step)])
        if not path.is_file():
            raise ProjectErrors([_unreadable("this is not a file", file, "remove it")])
        with path.open("rb") as opened:
            content = opened.read(_LARGEST_BYTES + 1)
    except OSError as error:
        what = f"the file cannot be read: {error.strerror}"
        raise ProjectErrors([_unreadable(what, file, "make it readable")]) from error
    if len(content) > _LARGEST_BYTES:
        raise ProjectErrors([_unreadable("the file is larger than 256 KiB", file, "split it")])
    return _decoded(content, file)


def _decoded(content: bytes, file: str) -> str:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        what = f"the file is not UTF-8: byte 0x{content[error.start]:02X}"
        raise ProjectErrors([_unreadable(what, file, "save it as UTF-8", line)]) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        what = "the file holds a NUL character"
        raise ProjectErrors([_unreadable(what, file, "save it as text", line)])
    return text.removeprefix("\ufeff")


def _unreadable(what: str, file: str, next_step: str, line: int = 1) -> ProjectError:
    return problem("project_file_unreadable", what, where=f"{file}:{line}", next_step=next_step)
