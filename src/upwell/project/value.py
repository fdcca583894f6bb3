"""What the values of a project are made of: a strict struct, and words that recur.

The ``Meta`` of a field is the one place that says what a key means and what it may hold: strict
reading, the published JSON Schemas and ``docs/reference/project.md`` all come from it.
``extra["expected"]`` completes the sentence "write …" where a pattern alone would not help.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, inspect

Name = Annotated[
    str,
    Meta(
        pattern=r"^[a-z][a-z0-9_]{0,62}$",
        extra={"expected": "lower-case letters, digits and _, beginning with a letter"},
    ),
]
Span = Annotated[
    str,
    Meta(
        pattern=r"^[1-9][0-9]{0,3}[hd]$",
        extra={"expected": "a number of hours or days, such as 24h or 30d"},
    ),
]
Period = Annotated[
    str,
    Meta(
        pattern=r"^([1-9][0-9]{0,3}[hd]|[1-9][0-9]{0,2}m|all)$",
        extra={"expected": "a number of hours, days or months, such as 24h, 30d or 12m, or all"},
    ),
]
Text = Annotated[str, Meta(min_length=1, extra={"expected": "some text"})]
Reference = Annotated[str, Meta(extra={"reference": "address"})]
"""Text that ``${NAME}``, ``${file:PATH}`` or ``file:PATH`` may stand in: see ``references.py``."""
Secret = Annotated[str, Meta(extra={"reference": "secret"})]
"""Such text of which nothing may be shown."""


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A strict, immutable struct: an unknown key in a file is an error."""


def references_of(kind: type[msgspec.Struct]) -> dict[str, str]:
    """The fields of a struct that are a ``Reference`` or a ``Secret``, and which of the two."""
    found = inspect.type_info(kind)
    assert isinstance(found, inspect.StructType)  # noqa: S101 - what a struct's type is
    kinds = {field.name: reference_kind(field.type) for field in found.fields}
    return {name: kind for name, kind in kinds.items() if kind}


def reference_kind(kind: inspect.Type) -> str:
    """``address`` or ``secret`` of a field's type that takes references; else empty."""
    return (kind.extra or {}).get("reference", "") if isinstance(kind, inspect.Metadata) else ""
