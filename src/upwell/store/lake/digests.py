"""Names that tell what a file holds, so that it can be checked wherever it comes from.

Files of the lake never change, so a file may be named by its content: a data file's name ends in
the digest of its bytes, and the UUID in the name of a manifest or of a list of manifests is the
digest too, in the version of UUID that is left to its maker (8, RFC 9562). Of a file that somebody
else has named, nothing can be told here.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from typing import Any

_CHARACTERS = 32
_DATA_FILE = re.compile(rf"-([0-9a-f]{{{_CHARACTERS}}})\.parquet")
_METADATA_FILE = re.compile(
    r"(?:^|-)([0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12})(?:-m\d+)?\.avro"
)
_VERSION, _VARIANT = 8, 0b10


def digest_of(data: Any) -> str:
    """The first 128 bits of the SHA-256 of ``data``."""
    return hashlib.sha256(data).hexdigest()[:_CHARACTERS]


def identity_of(data: Any) -> uuid.UUID:
    """The digest of ``data`` as a UUID, which leaves 122 bits of it."""
    bits = int(digest_of(data), 16)
    bits = bits & ~(0xF << 76) | _VERSION << 76
    return uuid.UUID(int=bits & ~(0b11 << 62) | _VARIANT << 62)


def is_as_named(location: str, data: Any) -> bool:
    """Whether a file holds what its name tells; True where its name tells nothing."""
    name = location.rpartition("/")[2]
    if found := _DATA_FILE.search(name):
        return found[1] == digest_of(data)
    if found := _METADATA_FILE.search(name):
        return found[1] == str(identity_of(data))
    return True
