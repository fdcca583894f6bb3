"""Files in a bucket of S3-compatible storage.

What ``write`` returned from is stored by then; ETags and lengths are checked by the store's client.
Requests are retried by it for a short while; after that the fault is the caller's to wait out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import (
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from upwell.core.errors import EnvironmentFault, Unavailable
from upwell.core.faults import reach
from upwell.store.lake.catalog import Access
from upwell.store.lake.objects import Stored, downloaded, missing

if TYPE_CHECKING:
    from obstore.store import S3Config

_REGION = "us-east-1"
_RETRY_SECONDS = 10.0
_REQUEST_SECONDS = 30.0


class Bucket:
    """See the module."""

    def __init__(self, root: str, access: Access) -> None:
        self._root = root
        parts = urlsplit(root)
        self._name = parts.netloc
        self.store = S3Store(
            self._name,
            config=_config(access),
            client_options={
                "allow_http": access.endpoint.startswith("http:"),
                "timeout": timedelta(seconds=_REQUEST_SECONDS),
            },
            retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=_RETRY_SECONDS)},
        )

    @property
    def root(self) -> str:
        return self._root

    def key(self, location: str) -> str:
        """The key of an object in the bucket."""
        return location.removeprefix(f"s3://{self._name}/")

    def read(self, location: str) -> bytes:
        with _faults_named("reading", location):
            try:
                return bytes(obstore.get(self.store, self.key(location)).bytes())
            except (NotFoundError, FileNotFoundError) as error:
                raise missing(location) from error

    def write(self, location: str, data: bytes | memoryview) -> None:
        with _faults_named("writing", location):
            reach("lake.object_before_put")
            obstore.put(self.store, self.key(location), bytes(data))

    def size(self, location: str) -> int | None:
        with _faults_named("reading", location):
            try:
                return int(obstore.head(self.store, self.key(location))["size"])
            except (NotFoundError, FileNotFoundError):
                return None

    def list(self, below: str) -> Iterator[Stored]:
        with _faults_named("listing", below):
            for part in obstore.list(self.store, prefix=self.key(below)):
                for each in part:
                    yield Stored(f"s3://{self._name}/{each['path']}", int(each["size"]))

    def delete(self, location: str) -> None:
        with _faults_named("deleting", location):
            try:
                obstore.delete(self.store, self.key(location))
            except (NotFoundError, FileNotFoundError):
                return

    def local(self, location: str) -> AbstractContextManager[Path]:
        return downloaded(location, self.read)


def _config(access: Access) -> S3Config:
    config: S3Config = {"region": access.region or _REGION}
    if access.endpoint:
        config["endpoint"] = access.endpoint
        config["virtual_hosted_style_request"] = False
    if access.access_key:
        config["access_key_id"] = access.access_key
        config["secret_access_key"] = access.secret_key
    return config


@contextmanager
def _faults_named(doing: str, location: str) -> Iterator[None]:
    try:
        yield
    except (PermissionDeniedError, UnauthenticatedError, PermissionError) as error:
        raise EnvironmentFault(
            "lake_denied",
            f"The lake, {doing}: it was denied.",
            where=location,
            next_step="See that the lake's key holds, and that it may read, write and delete here.",
        ) from error
    except (obstore.exceptions.BaseError, OSError) as error:
        raise Unavailable(
            "lake_unavailable",
            f"The lake, {doing}: {str(error).splitlines()[0]}",
            where=location,
            next_step="Nothing is lost; it is tried again.",
        ) from error
