"""The page's own files, in memory, under an address that changes with their content.

All lie under ``/static/<digest>/``, so they refer to one another by relative address and a browser
may keep them for ever; another version of the program has another digest.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

_MEDIA_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
    "woff2": "font/woff2",
}
_COMPRESSED_ALREADY = {"woff2"}
_FOREVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    """One file; ``zipped`` is None where that gains nothing."""

    content: bytes
    zipped: bytes | None
    media_type: str


@dataclass(frozen=True, slots=True)
class Assets:
    """All files by path, and the digest of them together."""

    files: Mapping[str, Asset]
    digest: str

    def address(self, path: str) -> str:
        """Where a browser finds a file. Raises KeyError if there is none."""
        if path not in self.files:
            raise KeyError(path)
        return f"/static/{self.digest}/{path}"

    def respond(self, request: Request) -> Response:
        """The answer to ``/static/{digest}/{path:path}``."""
        asset = self.files.get(request.path_params["path"])
        if asset is None or request.path_params["digest"] != self.digest:
            return PlainTextResponse("There is no such file here; reload the page.", 404)
        headers = {"cache-control": _FOREVER, "vary": "accept-encoding"}
        if asset.zipped is not None and "gzip" in request.headers.get("accept-encoding", ""):
            headers["content-encoding"] = "gzip"
            return Response(asset.zipped, headers=headers, media_type=asset.media_type)
        return Response(asset.content, headers=headers, media_type=asset.media_type)


def load_assets() -> Assets:
    """Read every file of the package's ``static`` folder."""
    found = dict(_walk(resources.files("upwell.serve.web") / "static", ""))
    digest = hashlib.sha256()
    for path in sorted(found):
        digest.update(path.encode() + b"\0" + hashlib.sha256(found[path]).digest())
    files = {path: _asset(path, content) for path, content in found.items()}
    return Assets(files, digest.hexdigest()[:12])


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, bytes]]:
    files: list[tuple[str, bytes]] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            files += _walk(entry, f"{prefix}{entry.name}/")
        elif entry.name.rpartition(".")[2] in _MEDIA_TYPES:
            files.append((prefix + entry.name, entry.read_bytes()))
    return files


def _asset(path: str, content: bytes) -> Asset:
    ending = path.rpartition(".")[2]
    zipped = None if ending in _COMPRESSED_ALREADY else gzip.compress(content, 6, mtime=0)
    return Asset(content, zipped, _MEDIA_TYPES[ending])
