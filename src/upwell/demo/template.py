"""Writes the sample shop's project into a folder, for a user to read and edit.

What a user has edited is never overwritten: a folder that holds a project stays as it is. Refuses a
folder where another file stands in the way, before writing anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath

from upwell.core.errors import EnvironmentFault, UsageError

SETTINGS_FILE = "upwell.yaml"

#: What ``write_project`` fills in, as it stands in the template.
_URL = "postgresql://postgres@127.0.0.1:5432/shop"
_ZONE = "Europe/London"
_HTTP = "127.0.0.1:8321"


def write_project(
    folder: Path, *, url: str = _URL, zone: str = _ZONE, http: str = _HTTP
) -> tuple[Path, ...]:
    """Write the project and return its files; none when ``folder`` holds a project already.

    ``url`` is where the shop is while the environment variable ``SHOP_URL`` does not say otherwise.
    Raises ``UsageError`` when a file of the project is there with other content but no project,
    ``EnvironmentFault`` when the folder cannot be written.
    """
    if (folder / SETTINGS_FILE).exists():
        return ()
    contents = {
        folder.joinpath(path): _filled_in(text, url=url, zone=zone, http=http)
        for path, text in template_files().items()
    }
    _refuse_to_overwrite(folder, contents)
    try:
        for path, text in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise EnvironmentFault(
            "project_not_written",
            f"cannot write the sample project: {error.strerror}",
            where=str(error.filename or folder),
            next_step="choose another folder with --dir, or make room",
        ) from error
    return tuple(contents)


def template_files() -> dict[PurePosixPath, str]:
    """The template: path in the project → text. ``upwell.yaml`` comes last.

    The order matters: a folder is a project once it has that file, so half a project is none.
    """
    root = files("upwell.demo").joinpath("project")
    found = dict(_walk(root, PurePosixPath()))
    return dict(sorted(found.items(), key=lambda item: (item[0].name == SETTINGS_FILE, item[0])))


def _walk(folder: Traversable, path: PurePosixPath) -> Iterator[tuple[PurePosixPath, str]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry, path / entry.name)
        elif not entry.name.startswith("."):
            yield path / entry.name, entry.read_text(encoding="utf-8")


def _filled_in(text: str, *, url: str, zone: str, http: str) -> str:
    for placeholder, value in ((_URL, url), (_ZONE, zone), (_HTTP, http)):
        text = text.replace(placeholder, json.dumps(value)[1:-1])  # YAML reads JSON's escapes
    return text


def _refuse_to_overwrite(folder: Path, contents: dict[Path, str]) -> None:
    for path, text in contents.items():
        if path.exists() and path.read_text(encoding="utf-8", errors="replace") != text:
            raise UsageError(
                "file_in_the_way",
                "the folder is not empty, and a file of the sample project is there already",
                where=str(path),
                next_step=f"choose another folder than {folder} with --dir, or move the file away",
            )
