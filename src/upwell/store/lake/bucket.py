"""Files in a bucket of S3-compatible storage.

What ``write`` returned from is stored by then. Requests are repeated by the store's client for a
short while; after that the fault is the caller's to wait out. No request outlasts its time, so a
bucket that has stalled holds nobody up for long.

A file may also be *swapped*: written only if it is still as it was last seen. That is what a lease
needs (``lease.py``), and nothing else does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from upwell.core.errors import EnvironmentFault, Unavailable, UpwellError
from upwell.core.faults import reach
from upwell.store.lake.catalog import Access
from upwell.store.lake.objects import Stored, as_written, downloaded, missing

if TYPE_CHECKING:
    from obstore.store import S3Config

_REGION = "us-east-1"
_RETRIES = 3
#: Files beyond one part go up in parts, so that each request is small beside its time.
_PART_BYTES = 8 << 20
_PARTS_AT_ONCE = 4
_NOT_THERE = (NotFoundError, FileNotFoundError)


class Bucket:
    """The files of the lake at ``root``, ``s3://bucket/prefix``."""

    def __init__(self, root: str, access: Access) -> None:
        self._root = root
        self.access = access
        self._name = urlsplit(root).netloc
        patience = access.patience
        self._store = S3Store(
            self._name,
            config=_config(access),
            client_options={
                "allow_http": access.endpoint.startswith("http:"),
                "connect_timeout": timedelta(seconds=patience.connect_seconds),
                "timeout": timedelta(seconds=patience.request_seconds),
            },
            retry_config={
                "max_retries": _RETRIES,
                "retry_timeout": timedelta(seconds=patience.retry_seconds),
            },
        )

    @property
    def root(self) -> str:
        return self._root

    def _key(self, location: str) -> str:
        return location.removeprefix(f"s3://{self._name}/")

    def read(self, location: str) -> bytes:
        return as_written(location, self.read_unchecked)

    def read_unchecked(self, location: str) -> bytes:
        with _faults_named("reading", location):
            try:
                return bytes(obstore.get(self._store, self._key(location)).bytes())
            except _NOT_THERE as error:
                if _code(error) == _NO_BUCKET:
                    raise
                raise missing(location) from error

    def write(self, location: str, data: bytes | memoryview) -> None:
        with _faults_named("writing", location):
            reach("lake.object_before_put")
            obstore.put(
                self._store,
                self._key(location),
                memoryview(data).cast("B"),  # as it is: a copy would double what a round needs
                chunk_size=_PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
            )

    def size(self, location: str) -> int | None:
        with _faults_named("reading", location):
            try:
                return int(obstore.head(self._store, self._key(location))["size"])
            except _NOT_THERE:
                self.check()  # the answer does not tell a missing file from a missing bucket
                return None

    def list(self, below: str) -> Iterator[Stored]:
        with _faults_named("listing", below):
            for part in obstore.list(self._store, prefix=self._key(below)):
                for each in part:
                    yield Stored(f"s3://{self._name}/{each['path']}", int(each["size"]))

    def delete(self, location: str) -> None:
        with _faults_named("deleting", location), suppress(*_NOT_THERE):
            obstore.delete(self._store, self._key(location))

    def local(self, location: str) -> AbstractContextManager[Path]:
        return downloaded(location, self.read)

    def check(self) -> None:
        """Raises what keeps us from the bucket, if something does."""
        with _faults_named("opening it", self._root):
            for _ in obstore.list(self._store, prefix=self._key(self._root), chunk_size=1):
                return

    # ── swapping ─────────────────────────────────────────────────────────────────────────────────

    def look(self, location: str) -> tuple[bytes, str] | None:
        """A file's content and its tag, by which it can be swapped; None if there is none."""
        with _faults_named("reading", location):
            try:
                found = obstore.get(self._store, self._key(location))
            except _NOT_THERE as error:
                if _code(error) == _NO_BUCKET:
                    raise
                return None
            return bytes(found.bytes()), found.meta["e_tag"] or ""

    def swap(self, location: str, data: bytes, seen: str | None) -> str | None:
        """Write a file if it still has the tag ``seen`` (None: if there is none); its new tag.

        None where it is not as it was seen. After an error it may have been written all the same.
        """
        with _faults_named("writing", location):
            try:
                written = obstore.put(
                    self._store,
                    self._key(location),
                    data,
                    mode="create" if seen is None else {"e_tag": seen},
                )
            except (AlreadyExistsError, PreconditionError):
                return None
            return written["e_tag"] or ""


def _config(access: Access) -> S3Config:
    config: S3Config = {"region": access.region or _REGION}
    if access.endpoint:
        config["endpoint"] = access.endpoint
        config["virtual_hosted_style_request"] = False
    if access.access_key:
        config["access_key_id"] = access.access_key
        config["secret_access_key"] = access.secret_key
    return config


# ── what goes wrong ──────────────────────────────────────────────────────────────────────────────

_NO_BUCKET = "NoSuchBucket"
_CODE = re.compile(r"<Code>([\w.]+)</Code>|\(code: ([\w.]+)\)")
_FORBIDDEN = re.compile(r"status code: 403\b")
_SEE_KEYS = "See that the lake's access_key and secret_key in upwell.yaml hold."
_SEE_RIGHTS = (
    "See that the lake's key may list the bucket, and read, write and delete below this "
    "address, and that its key for encryption is enabled."
)
#: What the storage says of a request that will not get better by waiting: next step.
_REFUSALS = {
    "InvalidAccessKeyId": _SEE_KEYS,
    "SignatureDoesNotMatch": _SEE_KEYS,
    "ExpiredToken": _SEE_KEYS,
    "InvalidToken": _SEE_KEYS,
    "RequestTimeTooSkewed": "Set the clock of this machine: it differs too much from the store's.",
    "AccessDenied": _SEE_RIGHTS,
    "AllAccessDisabled": _SEE_RIGHTS,
    "KMS.DisabledException": _SEE_RIGHTS,
}


def _code(error: Exception) -> str:
    found = _CODE.search(str(error))
    return (found[1] or found[2]) if found else ""


@contextmanager
def _faults_named(doing: str, location: str) -> Iterator[None]:
    try:
        yield
    except UpwellError:
        raise
    except (BaseError, OSError) as error:
        raise _as_ours(error, f"The lake, {doing}", location) from error


def _as_ours(error: Exception, what: str, where: str) -> UpwellError:
    code = _code(error)
    if code == _NO_BUCKET:
        return EnvironmentFault(
            "lake_bucket_missing",
            f"{what}: there is no such bucket.",
            where=where,
            next_step="Make the bucket, or mend lake.uri in upwell.yaml. What is not in the lake "
            "yet stays in the source's log.",
        )
    is_denied = isinstance(error, PermissionDeniedError | UnauthenticatedError | PermissionError)
    if is_denied or code in _REFUSALS or _FORBIDDEN.search(str(error)):
        return EnvironmentFault(
            "lake_denied",
            f"{what}: the storage denied it ({code or 'without a reason'}).",
            where=where,
            next_step=_REFUSALS.get(code, _SEE_RIGHTS),
        )
    return Unavailable(
        "lake_unavailable",
        f"{what}: {(str(error).splitlines() or [type(error).__name__])[0]}",
        where=where,
        next_step="Nothing is lost; it is tried again.",
    )
