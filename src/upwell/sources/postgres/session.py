"""Connections to the source database, and what its refusals mean for a user.

Every session prints values the same way (the decoder and the checksums rely on it), never waits
long for a lock or for an answer, and reads only unless it says otherwise. Passwords never appear in
an error, and no error is longer than can be read.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq.abc import PGconn

from upwell.core.errors import (
    EnvironmentFault,
    IntegrityError,
    Unavailable,
    UpwellError,
    UsageError,
)
from upwell.sources.postgres.certificates import objection

#: How values are printed, whatever the server's or the role's own settings are.
SPELLING = {
    "search_path": "pg_catalog",  # names of relations and types come with their schema
    "quote_all_identifiers": "off",
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "3",
}
_BEHAVIOUR = {
    "row_security": "off",  # an error instead of rows silently left out
    "statement_timeout": "60s",
    # Less than after which the server looks for deadlocks (a second): we give way before somebody
    # who alters a table, or its partitions, is ended on our account.
    "lock_timeout": "500ms",
    "idle_in_transaction_session_timeout": "0",
}
#: A little more than the server itself allows a statement: past it, nobody is there to answer.
ANSWER_SECONDS = 65.0
#: The same, for what is asked again a moment later.
_SHORT_ANSWER_SECONDS = 10.0
_LONGEST_MESSAGE = 2000
_Result = TypeVar("_Result")
_KEEPALIVES = {
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
_ALLOW_HOST = (
    "allow this host and role in pg_hba.conf; where that says hostssl, write sslmode=verify-full "
    "or require in the URL"
)
_TURN_ON_TLS = (
    "turn on TLS at the server (ssl = on); or, if nobody else is on the way there, write "
    "sslmode=disable in the URL"
)
_NAME_THE_HOST = (
    "write the name that the certificate bears as the host in the URL, or have the server's "
    "certificate issued for this one"
)
_NAME_THE_AUTHORITY = (
    "if this is the server that you mean: renew its certificate if it has expired, or name the "
    "authority of it in the URL, sslrootcert=/path/of/ca.crt"
)
_PROVE_THE_SERVER = (
    "the server does not prove by SCRAM over TLS that it knows the password: see that it is the "
    "one meant, has TLS on, and asks this role for scram-sha-256"
)
#: What a refused connection says, in any of its lines → code, next step.
_REFUSALS = (
    ("password authentication failed", "password_wrong", "correct user and password in the URL"),
    ("no password supplied", "password_missing", "put the password into the URL"),
    ("received invalid response", "not_postgresql", "correct host and port in the URL"),
    ("expected authentication request", "not_postgresql", "correct host and port in the URL"),
    ("invalid sslmode", "url_option_wrong", "correct sslmode in the URL"),
    ("invalid port number", "url_option_wrong", "correct the port in the URL"),
    ("unrecognized configuration parameter", "url_option_wrong", "correct options in the URL"),
    ("no pg_hba.conf entry", "host_not_allowed", _ALLOW_HOST),
    (
        "conversion between",
        "encoding_unknown",
        "move it to a database of encoding UTF8: the server cannot turn this one's texts into UTF8",
    ),
    ("does not support SSL", "no_tls", _TURN_ON_TLS),
    ("does not match host name", "certificate_of_another_host", _NAME_THE_HOST),
    (
        "root certificate file",
        "root_certificate_missing",
        "name the certificate of the server's authority in the URL: sslrootcert=/path/of/ca.crt",
    ),
    ("certificate verify failed", "certificate_refused", _NAME_THE_AUTHORITY),
    ("client certificate", "client_certificate", "correct sslcert and sslkey in the URL"),
    ("channel binding", "channel_binding", _PROVE_THE_SERVER),
    ("certificate", "certificate_refused", "correct sslrootcert or sslmode in the URL"),
    ("is not permitted to log in", "role_cannot_login", "ALTER ROLE … LOGIN"),
    ("could not translate host name", "host_unknown", "correct the host in the URL"),
    ("failed to resolve host", "host_unknown", "correct the host in the URL"),
    (
        "must be superuser or replication role",
        "no_replication_right",
        "as a superuser: ALTER ROLE … REPLICATION",
    ),
    (
        "permission denied to start WAL sender",
        "no_replication_right",
        "as a superuser: ALTER ROLE … REPLICATION",
    ),
)


def connection_text(
    url: str,
    *,
    replication: bool = False,
    application: str = "upwell",
    keeps_zone: bool = False,
) -> str:
    """The URL with our session settings added; ``keeps_zone`` leaves the server's time zone.

    Raises ``UsageError`` for a URL that is none.
    """
    _require_readable(url)
    try:
        given = conninfo_to_dict(url)
    except psycopg.Error as error:
        # Without its cause, which repeats the URL, password and all.
        raise _unreadable(str(error).strip()) from None
    settings = SPELLING | _BEHAVIOUR
    if keeps_zone:
        del settings["timezone"]
    if replication:
        settings["statement_timeout"] = "0"
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    ours: dict[str, str] = {
        "application_name": application,
        "client_encoding": "UTF8",
        "connect_timeout": str(given.get("connect_timeout", "10")),
        "options": f"{given.get('options') or ''} {options}".strip(),
    }
    if replication:
        ours["replication"] = "database"
        ours["gssencmode"] = str(given.get("gssencmode", "disable"))
    return make_conninfo(url, **{**_KEEPALIVES, **ours})


def _require_readable(url: str) -> None:
    """Refuse what the client library would read as something else than was meant."""
    if not url.strip():
        raise UsageError(
            "url_empty",
            "the source's URL is empty",
            next_step="if it comes from a variable, set that first: export SHOP_URL=postgresql://…",
        )
    authority, _, rest = url.partition("://")[2].partition("/")
    who, _, _ = authority.rpartition("@")
    if "@" in who or "?" in who or "@" in rest.partition("?")[0]:
        raise UsageError(
            "url_invalid",
            "the source's URL has an @, / or ? too many, as of a password that holds one",
            next_step="in user and password write @ as %40, / as %2F, : as %3A, ? as %3F, % as %25",
        )


def _unreadable(message: str) -> UsageError:
    """With what the client library says, unless that repeats a part which may hold a password."""
    said = "" if "@" in message else f": {message}"
    return UsageError(
        "url_invalid",
        f"the source's URL cannot be read{said}",
        next_step="write it as postgresql://user:password@host:5432/database",
    )


def address(url: str) -> str:
    """Host, port and database, for errors: never the password."""
    try:
        given: Mapping[str, object] = conninfo_to_dict(url)
    except psycopg.Error:
        return "the source's URL"
    host, port = given.get("host", "local socket"), given.get("port", "5432")
    return f"{host}:{port}/{given.get('dbname') or given.get('user') or ''}"


def database_of(url: str) -> str:
    """The database that a URL leads to. Raises ``UsageError`` for a URL that is none."""
    given = conninfo_to_dict(connection_text(url))
    return str(given.get("dbname") or given.get("user") or "postgres")


class BoundedConnection(psycopg.Connection):
    """A connection that waits so long for an answer and no longer, whatever the other end does.

    Past ``answer_seconds`` it is closed and an error of psycopg leaves it. ``wait`` is the one
    place in which psycopg waits, which is why this class inherits. Notifications are passed over.
    """

    answer_seconds: float = ANSWER_SECONDS

    def wait(
        self, gen: PQGen[_Result], interval: float = 0.1, timeout: float | None = None
    ) -> _Result:
        bound = self.answer_seconds if timeout is None else timeout
        until = time.monotonic() + bound
        try:
            relieved = _relieved(self.pgconn, gen)
            return super().wait(relieved, interval, None if bound == math.inf else bound)
        except psycopg.OperationalError:
            if time.monotonic() < until:
                raise
        self.close()
        raise psycopg.OperationalError(f"no answer within {bound:g} seconds")


def pass_over_notifications(connection: PGconn) -> None:
    """Nobody asked for any, and libpq keeps what is not taken."""
    while connection.notifies() is not None:
        pass


def _relieved(connection: PGconn, gen: PQGen[_Result]) -> PQGen[_Result]:
    """The same, passing over notifications while it waits: psycopg itself does so at its end."""
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            pass_over_notifications(connection)
            wanted = gen.send(ready)
    except StopIteration as end:
        result: _Result = end.value
        return result


def kept_connection(url: str, application: str) -> BoundedConnection:
    """A connection for short questions that are asked again and again; raises what psycopg does."""
    connection = BoundedConnection.connect(
        connection_text(url, application=application), autocommit=True
    )
    connection.answer_seconds = _SHORT_ANSWER_SECONDS
    return connection


@contextmanager
def session(
    url: str,
    *,
    read_only: bool = True,
    keeps_zone: bool = False,
    is_patient: bool = False,
) -> Iterator[psycopg.Connection]:
    """An ordinary autocommit session. Errors of the database leave it as ours.

    ``is_patient``: a statement may take any time.
    """
    text = connection_text(url, keeps_zone=keeps_zone)
    with translated("query the source database", url):
        connection = BoundedConnection.connect(text, autocommit=True)
        if is_patient:
            connection.answer_seconds = math.inf
        with connection:
            if read_only:
                connection.execute("SET default_transaction_read_only = on")
            yield connection


class Session:
    """A session for reading that stays open between two uses. Used by one thread at a time."""

    def __init__(self, url: str) -> None:
        self._url = url
        with translated("connect to the source database", url):
            self._connection = BoundedConnection.connect(connection_text(url), autocommit=True)
            self._connection.execute("SET default_transaction_read_only = on")

    @contextmanager
    def use(self) -> Iterator[psycopg.Connection]:
        """Its connection; errors of the database leave the block as ours."""
        with translated("query the source database", self._url):
            yield self._connection

    def close(self) -> None:
        self._connection.close()


@contextmanager
def translated(operation: str, url: str) -> Iterator[None]:
    """Turn psycopg's errors into ours."""
    try:
        yield
    except psycopg.Error as error:
        diagnosed = error.diag.sqlstate or getattr(error, "sqlstate", None) or ""
        message = error.diag.message_primary or str(error).strip()
        raise fault(operation, diagnosed, explained(message, url), address(url)) from error
    except ValueError as error:
        raise IntegrityError(
            "answer_malformed",
            f"could not {operation}: an answer cannot be read as what was asked for: "
            f"{_in_short(str(error))}",
            where=address(url),
            next_step="connect directly to the database, not through a proxy; then run again",
        ) from error


def explained(message: str, url: str) -> str:
    """What the client library said when it could not connect, with what it leaves out."""
    if "certificate verify failed" not in message:
        return message
    why = objection(url)
    return f"{message.rstrip()} ({why})" if why else message


def fault(operation: str, sqlstate: str, message: str, where: str) -> UpwellError:
    """Our error for what the server or the client library said."""
    message = _in_short(message)
    said = f"could not {operation}: {_one_line(message)}"
    if sqlstate == "42501" and "replication" not in message.lower():
        return EnvironmentFault(
            "no_right", said, where=where, next_step="grant the role this right, or name another"
        )
    for sign, code, next_step in _REFUSALS:
        if sign.lower() in message.lower():
            return EnvironmentFault(code, said, where=where, next_step=next_step)
    if "does not exist" in message and ("database" in message or "role" in message):
        next_step = "correct the database and role in the URL"
        return EnvironmentFault("database_or_role_unknown", said, where=where, next_step=next_step)
    if sqlstate in ("22P05", "22021"):  # bytes that mean nothing in the database's encoding
        next_step = "set right every text there that holds these bytes; then read the tables anew"
        return EnvironmentFault("text_untranslatable", said, where=where, next_step=next_step)
    if sqlstate == "55P03":
        next_step = "something holds a lock on the table; try again when it is done"
        return Unavailable("source_locked", said, where=where, next_step=next_step)
    if sqlstate == "55006":
        next_step = "stop the other engine; each project needs a slot of its own"
        return Unavailable("slot_active", said, where=where, next_step=next_step)
    if sqlstate == "53400":
        next_step = "raise max_replication_slots or max_wal_senders, or drop an unused slot"
        return EnvironmentFault("slots_exhausted", said, where=where, next_step=next_step)
    if sqlstate and sqlstate[:2] not in ("08", "53", "57", "58", "40"):
        next_step = "see the server's log; this should not happen with these rights and versions"
        return EnvironmentFault("source_refused", said, where=where, next_step=next_step)
    next_step = "check that the database runs and can be reached from here"
    return Unavailable("source_unavailable", said, where=where, next_step=next_step)


def _in_short(message: str) -> str:
    """Who is no server of ours may say anything at any length."""
    return message if len(message) <= _LONGEST_MESSAGE else f"{message[:_LONGEST_MESSAGE]} …"


def _one_line(message: str) -> str:
    return " | ".join(line.strip() for line in message.splitlines() if line.strip())
