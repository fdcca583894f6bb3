"""The published JSON Schema of each kind of YAML file, so that editors complete and check them.

Invariant: the schemas come from the very structs that files are read into, so that they cannot say
something else. They are laxer than reading: what needs a second file is not in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from upwell.project.settings import Settings
from upwell.project.values import Dashboard, MetricsFile, RequirementsFile

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True, slots=True)
class FileKind:
    """One kind of YAML file: where it lies and what it is read into."""

    name: str
    path: str
    struct: type[msgspec.Struct]


FILE_KINDS = {
    kind.name: kind
    for kind in (
        FileKind("settings", "upwell.yaml", Settings),
        FileKind("metrics", "metrics/*.yaml", MetricsFile),
        FileKind("dashboard", "dashboards/*.yaml", Dashboard),
        FileKind("requirements", "requirements/*.yaml", RequirementsFile),
    )
}


def json_schema(kind: str) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a kind of ``FILE_KINDS``. Raises KeyError for any other."""
    file_kind = FILE_KINDS[kind]
    return {
        "$schema": _DIALECT,
        "$id": f"urn:upwell:schema:{kind}",
        "title": f"Upwell {file_kind.path}",
        **msgspec.json.schema(file_kind.struct),
    }
