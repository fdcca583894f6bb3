"""Connection URLs: filled in from the environment, and shown without their password.

Invariant: what ``redact_url`` gives holds no password, in whichever of PostgreSQL's spellings it
was written. Refuses a variable that is not set, and a ``${`` that is no variable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_VARIABLE = re.compile(r"\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\})?")

# The password stands between "user:" and the last "@" of the line: one that holds a raw "@", "/" or
# blank must not slip through, and hiding too much does no harm.
_AUTHORITY = re.compile(r"(?P<user>[a-z][a-z0-9+.-]*://[^\s:@/]*):.*@", re.IGNORECASE)
_PARAMETER = re.compile(
    r"(?P<key>\b(?:ssl)?password\s*=\s*)(?:'(?:[^'\\]|\\.)*'|[^\s&]+)", re.IGNORECASE
)


class VariableError(ValueError):
    """A ``${…}`` cannot be filled in. ``name`` is the variable, or empty where none can be read."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def resolve(text: str, environment: Mapping[str, str]) -> str:
    """``text`` with every ``${NAME}`` and ``${NAME:-default}`` replaced; nothing is replaced twice.

    As in a shell, the default also stands in for an empty variable. Raises ``VariableError``.
    """

    def value(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        if name is None:
            raise VariableError("")
        found = environment.get(name) or default
        if found is None:
            raise VariableError(name)
        return found

    return _VARIABLE.sub(value, text)


def redact_url(text: str) -> str:
    """``text`` with the password of a URL or of ``password=…`` replaced by ``***``."""
    shown = _AUTHORITY.sub(r"\g<user>:***@", text)
    return _PARAMETER.sub(r"\g<key>***", shown)
