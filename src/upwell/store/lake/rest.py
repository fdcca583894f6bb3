"""An Iceberg REST catalog, asked with a patience that ends.

pyiceberg asks through ``requests``, which waits for ever unless it is told not to, and whose limit
starts anew with every byte. Here every request ends within its time, whether the catalog is silent
or gives a byte a second. No request is sent twice, a commit least of all: pyiceberg repeats only
what was answered with 401 or 419, that is, refused before anything was done.

Files go through ours, whatever way the catalog names in its answers.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import requests
import urllib3
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.io import FileIO
from pyiceberg.typedef import EMPTY_DICT, Properties
from requests.adapters import HTTPAdapter

from upwell.store.lake import files
from upwell.store.lake.catalog import NAME, Access, Patience, catalog_faults, shown

_READ_BYTES = 65_536
_TOKENS = "v1/oauth/tokens"


def rest_catalog(access: Access, warehouse: str) -> RestCatalog:
    """The catalog at ``access.catalog``.

    Raises EnvironmentFault where it refuses us or has no such warehouse, Unavailable where it is
    away.
    """
    with catalog_faults("opening the catalog", shown(access.catalog)):
        catalog = _Catalog(access, warehouse)
        catalog.list_namespaces()  # else a warehouse that is not there would look like an empty one
        return catalog


class _Catalog(RestCatalog):
    """Inherits, because pyiceberg makes its own sessions and asks with the first at once."""

    def __init__(self, access: Access, warehouse: str) -> None:
        self._patience = access.patience
        properties = {"uri": access.catalog, "warehouse": warehouse}
        if access.access_key:
            properties["credential"] = f"{access.access_key}:{access.secret_key}"
            properties["oauth2-server-uri"] = f"{access.catalog.rstrip('/')}/{_TOKENS}"
        super().__init__(NAME, **properties)

    def _config_headers(self, session: requests.Session) -> None:
        super()._config_headers(session)  # the first that is done to every session
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Ending(self._patience))

    def _load_file_io(
        self,
        properties: Properties = EMPTY_DICT,
        location: str | None = None,  # noqa: ARG002 - ours knows where everything lies
    ) -> FileIO:
        return files.LakeFiles(properties)


class _Ending(HTTPAdapter):
    """Sends a request once, and reads its answer within the time that it has."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        super().__init__(max_retries=0)

    def send(  # type: ignore[override] # with the arguments that a session gives
        self, request: requests.PreparedRequest, **arguments: Any
    ) -> requests.Response:
        ends = time.monotonic() + self._patience.request_seconds
        timeout = (self._patience.connect_seconds, self._patience.request_seconds)
        response = super().send(request, **{**arguments, "stream": True, "timeout": timeout})
        try:
            response._content = b"".join(_parts(response, ends))  # noqa: SLF001 - as `requests` does
        except urllib3.exceptions.TimeoutError as error:
            raise requests.ReadTimeout(str(error), request=request) from error
        except urllib3.exceptions.HTTPError as error:
            raise requests.ConnectionError(str(error), request=request) from error
        finally:
            response.close()
        return response


def _parts(response: requests.Response, ends: float) -> Iterator[bytes]:
    while part := response.raw.read1(_READ_BYTES, decode_content=True):
        yield part
        if time.monotonic() > ends:
            raise requests.ReadTimeout("its answer did not end in time", request=response.request)
