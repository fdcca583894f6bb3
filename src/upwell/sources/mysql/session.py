"""Connections to the server, and what its refusals mean for a user.

Every session prints values the same way (the decoders and the checksums rely on it), gets texts as
they are stored, never waits long for a lock, and changes nothing. Names are quoted as in
standard SQL, so that ``core.sql`` is the one door here too. Passwords never appear in an error.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from upwell.core.errors import EnvironmentFault, Unavailable, UpwellError
from upwell.sources.mysql.url import Address, tls_context

Row = tuple[Any, ...]

_SETTINGS = (
    "SET SESSION sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES', time_zone = '+00:00',"
    " lock_wait_timeout = 5, innodb_lock_wait_timeout = 5, net_write_timeout = 3600,"
    " wait_timeout = 28800, group_concat_max_len = 1048576"
)
_DENIED = 1045
_READ_SECONDS = 60
_KEEPALIVES = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 30_000}
_WRITE_SECONDS = 30
#: What brings a source back whose log no longer serves.
START_ANEW = "`upwell resync` reads the source's tables anew and goes on from there"

#: The server's or client's error number → kind, code, next step.
_FAULTS: dict[int, tuple[type[UpwellError], str, str]] = {
    1044: (EnvironmentFault, "no_right", "grant the user SELECT on this database"),
    1045: (EnvironmentFault, "password_wrong", "correct user and password in the URL"),
    1698: (EnvironmentFault, "password_wrong", "correct user and password in the URL"),
    1049: (EnvironmentFault, "database_or_role_unknown", "correct the database in the URL"),
    1130: (EnvironmentFault, "host_not_allowed", "CREATE USER … @ this host, and grant its rights"),
    1142: (EnvironmentFault, "no_right", "grant the user SELECT on this table"),
    1227: (
        EnvironmentFault,
        "no_replication_right",
        "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO the user in the URL",
    ),
    1040: (Unavailable, "connections_exhausted", "raise max_connections, or end idle clients"),
    1203: (Unavailable, "connections_exhausted", "raise max_user_connections for this user"),
    1205: (Unavailable, "source_locked", "something holds a lock on the table; it is tried again"),
    1213: (Unavailable, "source_locked", "something holds a lock on the table; it is tried again"),
    1129: (EnvironmentFault, "host_blocked", "FLUSH HOSTS there; this host failed too often"),
    2026: (EnvironmentFault, "no_tls", "set ssl-mode=PREFERRED in the URL, or turn on TLS there"),
    2059: (EnvironmentFault, "authentication_unknown", "use another plugin for this user"),
}
_NOT_MYSQL = "correct host and port in the URL: what answers there is no MySQL or MariaDB server"
_AWAY = "check that the database runs and can be reached from here"


class Session:
    """An ordinary autocommit session of one thread. Errors of the server leave it as ours."""

    def __init__(self, address: Address, *, read_seconds: int = _READ_SECONDS) -> None:
        pymysql = client()
        self.address = address
        context = tls_context(address)
        with translated("connect to the source database", address):
            self.raw = pymysql.connections.Connection(
                host=address.host,
                user=address.user or None,
                password=address.password.encode(),
                database=address.database,
                charset="utf8mb4",
                autocommit=True,
                read_timeout=read_seconds,
                write_timeout=_WRITE_SECONDS,
                program_name="upwell",
                ssl=context,
                ssl_disabled=address.ssl_mode == "DISABLED" or None,
                defer_connect=True,
            )
            # Of our own making: the library's is neither closed when refused nor kept alive.
            connected = _socket(address)
            self.raw._secure = bool(address.socket)  # noqa: SLF001 - nobody listens on a file
            try:
                self.raw.connect(connected)
            except BaseException:
                connected.close()
                raise
        try:
            self.run(_SETTINGS)
        except BaseException:
            self.close()
            raise

    def run(self, statement: str) -> None:
        """A statement without rows."""
        self.rows(statement)

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[Row]:
        """All rows of a query whose ``%s`` are bound to ``values``."""
        with translated("query the source database", self.address), self.raw.cursor() as cursor:
            cursor.execute(statement, list(values) or None)
            return list(cursor.fetchall())

    def named_rows(self, statement: str) -> list[dict[str, Any]]:
        """As ``rows``, by column names in lower case: for SHOW, whose columns differ by server."""
        with translated("query the source database", self.address), self.raw.cursor() as cursor:
            cursor.execute(statement)
            names = [column[0].lower() for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def row(self, statement: str, values: Sequence[object] = ()) -> Row:
        """The first row of a query that always has one."""
        return self.rows(statement, values)[0]

    def close(self) -> None:
        self.raw._force_close()  # noqa: SLF001 - without a word: the server may be gone already


def _socket(address: Address) -> socket.socket:
    if address.socket:
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connected.settimeout(address.connect_timeout)
            connected.connect(address.socket)
        except BaseException:
            connected.close()
            raise
        return connected
    where = (address.host, address.port)
    connected = socket.create_connection(where, address.connect_timeout)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVES.items():
        if hasattr(socket, option):
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return connected


@contextmanager
def session(address: Address) -> Iterator[Session]:
    """A session for one piece of work."""
    opened = Session(address)
    try:
        yield opened
    finally:
        opened.close()


def client() -> Any:
    """The client library. Raises ``EnvironmentFault`` where it is not installed."""
    try:
        import pymysql  # noqa: PLC0415 - an optional extra
        import pymysql.connections  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise EnvironmentFault(
            "mysql_not_installed",
            "sources of type mysql need the client library pymysql",
            next_step="pip install 'upwell[mysql]'",
        ) from error
    return pymysql


@contextmanager
def translated(operation: str, address: Address) -> Iterator[None]:
    """Turn the client library's errors into ours."""
    error_type = client().err.MySQLError
    try:
        yield
    except error_type as error:
        number = error.args[0] if error.args and isinstance(error.args[0], int) else 0
        message = str(error.args[1]) if len(error.args) > 1 else str(error)
        raise fault(operation, number, message, address) from error
    except ssl.SSLError as error:
        raise _of_tls(operation, error, address) from error
    except (OSError, EOFError) as error:
        raise fault(operation, 2013, str(error), address) from error
    except (IndexError, ValueError, AssertionError) as error:  # a handshake of something else
        what = f"could not {operation}: an answer that is not of the protocol"
        raise EnvironmentFault(
            "not_mysql", what, where=str(address), next_step=_NOT_MYSQL
        ) from error
    except RuntimeError as error:  # an authentication that needs a package of the extra
        what = f"could not {operation}: {error}"
        step = "pip install 'upwell[mysql]', or connect with TLS"
        raise EnvironmentFault(
            "authentication_unknown", what, where=str(address), next_step=step
        ) from error


def fault(operation: str, number: int, message: str, address: Address) -> UpwellError:
    """Our error for an error number and message of the server or the client library."""
    said = f"could not {operation}: {_one_line(message)}"
    where = str(address)
    if "certificate" in message.lower():
        step = "correct ssl-ca or ssl-mode in the URL"
        return EnvironmentFault("certificate_refused", said, where=where, next_step=step)
    if "insecure transport" in message.lower():
        step = "set ssl-mode=REQUIRED in the URL, or VERIFY_CA with ssl-ca"
        return EnvironmentFault("tls_required", said, where=where, next_step=step)
    if "Name or service not known" in message or "Temporary failure in name" in message:
        step = "correct the host in the URL"
        return EnvironmentFault("host_unknown", said, where=where, next_step=step)
    if number in _FAULTS:
        kind, code, step = _FAULTS[number]
        if number == _DENIED and address.ssl_mode == "DISABLED":
            step += ", or set ssl-mode=REQUIRED: a server that asks for TLS says the same"
        return kind(code, said, where=where, next_step=step)
    if number >= 2000 or number in (0, 1053, 1152, 1153, 1158, 1159, 1160, 1161, 1317, 1927, 1969):
        return Unavailable("source_unavailable", said, where=where, next_step=_AWAY)
    step = "see the server's log; this should not happen with these rights and versions"
    return EnvironmentFault("source_refused", f"{said} ({number})", where=where, next_step=step)


def _of_tls(operation: str, error: ssl.SSLError, address: Address) -> UpwellError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return fault(operation, 2026, f"certificate refused: {error.verify_message}", address)
    return fault(operation, 2013, str(error), address)


def _one_line(message: str) -> str:
    return " | ".join(line.strip() for line in message.splitlines() if line.strip())
