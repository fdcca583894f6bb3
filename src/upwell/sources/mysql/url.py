"""Where a server is and who we are there: ``mysql://user:password@host:3306/database?ssl-mode=…``.

Only options named here are taken. No error repeats the URL: it may hold a password.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from upwell.core.errors import EnvironmentFault, UsageError

_PORT = 3306
_MODES = ("DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")
_OPTIONS = ("ssl-mode", "ssl-ca", "ssl-cert", "ssl-key", "socket", "connect-timeout")
_FORM = "write it as mysql://user:password@host:3306/database"


@dataclass(frozen=True, slots=True)
class Address:
    """A server, a database in it, and how to get there. Its ``repr`` has no password."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str
    socket: str = ""
    ssl_mode: str = "PREFERRED"
    ssl_ca: str = ""
    ssl_cert: str = ""
    ssl_key: str = ""
    connect_timeout: int = 10

    def __str__(self) -> str:
        where = self.socket or f"{self.host}:{self.port}"
        return f"{where}/{self.database}"


def parse_url(url: str) -> Address:
    """Raises ``UsageError`` for a URL that is none, or has an option we do not know."""
    if not url.strip():
        raise UsageError(
            "url_empty",
            "the source's URL is empty",
            next_step="if it comes from a variable, set that first: export SHOP_URL=mysql://…",
        )
    authority = url.partition("://")[2].partition("/")[0]
    rest = url.partition("://")[2].partition("/")[2].partition("?")[0]
    if "@" in authority.rpartition("@")[0] or "@" in rest:
        raise UsageError(
            "url_invalid",
            "the source's URL has an @, / or ? too many, as of a password that holds one",
            next_step="in user and password write @ as %40, / as %2F, : as %3A, ? as %3F, % as %25",
        )
    try:
        parts = urlsplit(url)
        port = parts.port or _PORT
    except ValueError:
        raise _unreadable("its port is no number") from None
    if parts.scheme not in ("mysql", "mariadb"):
        raise _unreadable("it does not begin with mysql:// or mariadb://")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in options:
        if name not in _OPTIONS:
            raise _option_wrong(f"there is no option {name}", f"there are: {', '.join(_OPTIONS)}")
    mode = options.get("ssl-mode", "PREFERRED").upper()
    if mode not in _MODES:
        raise _option_wrong("ssl-mode has another value", f"write one of {', '.join(_MODES)}")
    database = unquote(parts.path.lstrip("/"))
    if not database or not (parts.hostname or options.get("socket")):
        raise _unreadable("it names no host or no database")
    return Address(
        host=parts.hostname or "localhost",
        port=port,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=database,
        socket=options.get("socket", ""),
        ssl_mode=mode,
        ssl_ca=options.get("ssl-ca", ""),
        ssl_cert=options.get("ssl-cert", ""),
        ssl_key=options.get("ssl-key", ""),
        connect_timeout=_seconds(options),
    )


def tls_context(address: Address) -> ssl.SSLContext | None:
    """What the connection must be encrypted with; None where it need not be.

    ``PREFERRED`` and ``REQUIRED`` encrypt without asking who answers, as the server's own clients
    do; a CA that is named is always asked.
    """
    is_verifying = address.ssl_mode in ("VERIFY_CA", "VERIFY_IDENTITY") or bool(address.ssl_ca)
    if address.ssl_mode == "DISABLED" or (address.ssl_mode == "PREFERRED" and not is_verifying):
        return None
    try:
        context = ssl.create_default_context(cafile=address.ssl_ca or None)
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # servers make certificates that are not
        context.check_hostname = address.ssl_mode == "VERIFY_IDENTITY"
        if not is_verifying:
            context.verify_mode = ssl.CERT_NONE
        if address.ssl_cert:
            context.load_cert_chain(address.ssl_cert, address.ssl_key or None)
    except (OSError, ssl.SSLError) as error:
        raise EnvironmentFault(
            "certificate_unreadable",
            f"a certificate or key of the source's URL cannot be read: {error}",
            where=str(address),
            next_step="correct ssl-ca, ssl-cert and ssl-key in the URL",
        ) from error
    return context


def _seconds(options: Mapping[str, str]) -> int:
    try:
        return max(1, int(options.get("connect-timeout", "10")))
    except ValueError:
        raise _option_wrong("connect-timeout is no number", "write it in seconds") from None


def _unreadable(why: str) -> UsageError:
    return UsageError("url_invalid", f"the source's URL cannot be read: {why}", next_step=_FORM)


def _option_wrong(what: str, next_step: str) -> UsageError:
    return UsageError("url_option_wrong", f"the source's URL: {what}", next_step=next_step)
