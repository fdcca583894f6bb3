"""The gate in front of every route: who may ask, how, and what a browser may do with the answer.

Until there is access control, only this machine is served. That is more than binding loopback: any
web page may send its visitors' browsers to ``http://127.0.0.1:8321``, under a name of its own
(DNS rebinding) or from a frame, so the Host header must name loopback and our own port, and
requests that another site's page makes are refused. No CORS header is ever sent.
"""

from __future__ import annotations

import ipaddress
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from upwell.serve.web.problem import problem

_METHODS = ("GET", "HEAD")

#: Everything a page needs comes from this origin; nothing is inline, nothing may frame it.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_SECURITY_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}


class Guard:
    """ASGI middleware: refuses what is not ours to answer, and seals every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = _refusal(scope)
        await (refusal or self._app)(scope, receive, send_sealed)


def is_our_host(host: str, port: int | None) -> bool:
    """Does a Host header name this machine's loopback, and ``port`` where that is known?"""
    name, colon, given = host.rpartition(":")
    if not colon or host.endswith("]"):
        name, given = host, "80"
    if not given.isascii() or not given.isdigit() or (port is not None and int(given) != port):
        return False
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


def _refusal(scope: Scope) -> ASGIApp | None:
    headers = Headers(scope=scope)
    server = scope.get("server")
    port = int(server[1]) if server else None  # some servers give it as text
    host = headers.get("host", "")
    if not is_our_host(host, port):
        return problem(
            HTTPStatus.MISDIRECTED_REQUEST,
            "foreign_host",
            f"this server does not answer for the host {host[:200]!r}",
            f"open http://localhost:{port}/ or http://127.0.0.1:{port}/ on this machine",
        )
    if scope["method"] not in _METHODS:
        return problem(
            HTTPStatus.METHOD_NOT_ALLOWED,
            "method_not_allowed",
            f"{scope['method'][:20]} is not allowed: everything here is read only",
            "use GET",
            headers={"allow": ", ".join(_METHODS)},
        )
    is_navigation = headers.get("sec-fetch-mode") == "navigate"
    if headers.get("sec-fetch-site", "none") not in {"none", "same-origin"} and not is_navigation:
        return problem(
            HTTPStatus.FORBIDDEN,
            "foreign_site",
            "another site's page may not read from this server",
            "open the dashboard itself",
        )
    return None
