"""An Iceberg REST catalog over that of a lake in a folder: a double, and only for reading.

Programs on the JVM read a SQLite catalog only with a driver for it, which need not be at hand; all
of them speak REST. It answers what a reader asks: configuration, namespaces, tables, one table.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError

from tests.interop.readers import catalog_of_folder

_CONFIG = {"defaults": {"rest-metrics-reporting-enabled": "false"}, "overrides": {}}


@contextmanager
def serving(lake: Path) -> Iterator[str]:
    """The address at which the lake's tables can be found, on loopback, as long as it lasts."""
    catalog = catalog_of_folder(lake)

    class Handler(_Handler):
        tables = catalog

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        catalog.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    tables: Catalog

    def do_GET(self) -> None:
        path = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        try:
            self._answer(200, self._found(path))
        except NoSuchTableError as error:
            self._refuse(404, "NoSuchTableException", str(error))
        except NoSuchNamespaceError as error:
            self._refuse(404, "NoSuchNamespaceException", str(error))
        except LookupError:
            self._refuse(404, "NoSuchEndpointException", self.path)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self._refuse(403, "ForbiddenException", "this catalog is only for reading")

    do_DELETE = do_POST  # noqa: N815 - as http.server names it

    def _found(self, path: list[str]) -> dict[str, Any]:
        match path:
            case ["v1", "config"]:
                return _CONFIG
            case ["v1", "namespaces"]:
                return {"namespaces": [list(each) for each in self.tables.list_namespaces()]}
            case ["v1", "namespaces", name]:
                return {
                    "namespace": [name],
                    "properties": self.tables.load_namespace_properties(name),
                }
            case ["v1", "namespaces", name, "tables"]:
                listed = self.tables.list_tables(name)
                return {"identifiers": [{"namespace": [name], "name": each[-1]} for each in listed]}
            case ["v1", "namespaces", name, "tables", table]:
                found = self.tables.load_table((name, table))
                return {
                    "metadata-location": found.metadata_location,
                    "metadata": json.loads(found.metadata.model_dump_json()),
                    "config": {},
                }
            case _:
                raise LookupError(path)

    def _refuse(self, code: int, kind: str, message: str) -> None:
        self._answer(code, {"error": {"code": code, "type": kind, "message": message}})

    def _answer(self, code: int, told: dict[str, Any]) -> None:
        body = json.dumps(told).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing: what went wrong, whoever asked tells."""
