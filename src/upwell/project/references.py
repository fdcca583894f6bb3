"""Values by reference: what a project's files name and the environment or a file holds.

A reference is ``${NAME}``, ``${NAME:-default}`` or ``${file:PATH}``, anywhere in a value; a value
``file:PATH`` is short for ``${file:PATH}``. A file holds one line, whose end does not count. Inside
a longer URL its content is a part of that, whatever characters it has: a password is written into
the file as it is, without ``%40`` for ``@``.

Refuses a variable that is not set, a ``${`` that begins no reference, and a file that cannot be
read, is empty, holds several lines, or is none (a pipe would be empty the next time). What is
refused is named; what a file holds never is.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

_REFERENCE = re.compile(
    r"\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|file:(?P<file>[^}]+)\})?"
)
_WHOLE = "file:"
_MOST_BYTES = 64 << 10


class UnresolvedError(ValueError):
    """A reference cannot be filled in: ``what`` is wrong with it, and the ``next_step``."""

    def __init__(self, what: str, next_step: str, *, variable: bool = False) -> None:
        super().__init__(what)
        self.what = what
        self.next_step = next_step
        self.is_variable = variable


@dataclass(frozen=True, slots=True)
class Resolved:
    """A value with its references filled in, and the files that they named."""

    text: str
    files: tuple[Path, ...] = ()


def resolve(text: str, environment: Mapping[str, str], folder: Path) -> Resolved:
    """``text`` with every reference filled in; nothing is filled in twice.

    As in a shell, the default also stands in for an empty variable. Paths are relative to
    ``folder``. Raises ``UnresolvedError``.
    """
    if text.startswith(_WHOLE):
        path = folder / text.removeprefix(_WHOLE)
        return Resolved(_content(path), (path,))
    files: list[Path] = []
    is_in_url = "://" in text

    def value(match: re.Match[str]) -> str:
        if match["file"] is not None:
            files.append(folder / match["file"])
            content = _content(files[-1])
            return quote(content, safe="") if is_in_url else content
        return _variable(match, environment)

    return Resolved(_REFERENCE.sub(value, text), tuple(files))


def without_references(text: str) -> str:
    """What of a value stands in the file itself."""
    return "" if text.startswith(_WHOLE) else _REFERENCE.sub("", text)


def is_open_to_all(path: Path) -> bool:
    """Whether everybody on this machine may read or write a file."""
    return bool(path.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH))


def _variable(match: re.Match[str], environment: Mapping[str, str]) -> str:
    name, default = match["name"], match["default"]
    if name is None:
        raise UnresolvedError(
            "`${` begins no reference here",
            "write ${NAME}, ${NAME:-default} or ${file:PATH}; a bare $ needs no braces",
            variable=True,
        )
    if default is not None and "${" in default:
        raise UnresolvedError(
            f"the default of {name} holds a reference itself",
            "write a plain default, or set the variable and leave it out",
            variable=True,
        )
    found = environment.get(name) or default
    if found is None:
        raise UnresolvedError(
            f"the environment variable {name} is not set",
            f"set it (export {name}=…), or write ${{{name}:-default}}",
            variable=True,
        )
    return found


def _content(path: Path) -> str:
    """The one line of a file."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnresolvedError(f"{path} is no ordinary file", "name a file that holds the value")
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        step = "write the value there, or correct the path; it is relative to the project's folder"
        raise UnresolvedError(f"there is no file {path}", step) from None
    except PermissionError:
        step = "give it to the user that runs Upwell: chown USER, chmod 600"
        raise UnresolvedError(f"the file {path} may not be read", step) from None
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise UnresolvedError(f"the file {path} cannot be read: {said}", "see to it") from None
    fault = _fault_of(content)
    if fault:
        raise UnresolvedError(f"the file {path} {fault}", "write the value alone, on one line")
    return content.decode().removesuffix("\n").removesuffix("\r")


def _fault_of(content: bytes) -> str:
    """What keeps a file's content from being a value; empty where nothing does."""
    line = content.removesuffix(b"\n").removesuffix(b"\r")
    if not line.strip():
        return "is empty"
    if len(content) > _MOST_BYTES:
        return "is too large for a password or an address"
    if b"\n" in line or b"\r" in line or b"\0" in line:
        return "holds more than one line"
    try:
        line.decode()
    except UnicodeDecodeError:
        return "is not UTF-8 text"
    return ""
