"""Connection URLs, shown without their password.

Invariant: what ``redact_url`` gives holds no password, in whichever of PostgreSQL's spellings it
was written.
"""

from __future__ import annotations

import re

# The password stands between "user:" and the last "@" of the line: one that holds a raw "@", "/" or
# blank must not slip through, and hiding too much does no harm.
_AUTHORITY = re.compile(r"(?P<user>[a-z][a-z0-9+.-]*://[^\s:@/]*):(?P<password>.*)@", re.IGNORECASE)
_PARAMETER = re.compile(
    r"(?P<key>\b(?:ssl)?password\s*=\s*)(?:'(?:[^'\\]|\\.)*'|[^\s&]+)", re.IGNORECASE
)


def redact_url(text: str) -> str:
    """``text`` with the password of a URL or of ``password=…`` replaced by ``***``."""
    shown = _AUTHORITY.sub(r"\g<user>:***@", text)
    return _PARAMETER.sub(r"\g<key>***", shown)


def holds_password(text: str) -> bool:
    """Whether a URL has a password that is not empty."""
    given = any(found["password"] for found in _AUTHORITY.finditer(text))
    return given or _PARAMETER.search(text) is not None
