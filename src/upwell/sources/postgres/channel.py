"""A connection in which the server copies data to us: the log, or a table.

libpq opens every connection, so all of its ways to authenticate work. Where the bytes on the
socket are the protocol itself (no TLS, no GSS encryption), we then read them from the socket in
large blocks, which costs a fraction of libpq's call per message; where they are encrypted, libpq
reads, and its messages are framed again. Either way ``receive`` gives the same bytes, messages of
protocol version 3: CopyData, then CopyDone or an error, then ReadyForQuery.

A channel belongs to one thread at a time.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import time
from typing import Protocol

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from upwell.core.errors import Unavailable, UpwellError
from upwell.sources.postgres.frames import corrupt
from upwell.sources.postgres.session import (
    BoundedConnection,
    address,
    connection_text,
    fault,
    pass_over_notifications,
    translated,
)

RECEIVE_BYTES = 256 << 10
#: A server that takes nothing from us for so long is gone.
SEND_SECONDS = 10.0
_CANCEL_SECONDS = 5.0
_LONGEST_ANSWER_BYTES = 1 << 20
_ANSWERED = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)
_COPYING = (pq.ExecStatus.COPY_OUT, pq.ExecStatus.COPY_BOTH)

Row = dict[str, str | None]


class Channel(Protocol):
    """See the module. ``query`` and ``start_copy`` only while nothing is being copied."""

    def fileno(self) -> int:
        """Readable when ``receive`` has something to give."""
        ...

    def query(self, sql: str, *, timeout_seconds: float | None = None) -> list[Row]:
        """A statement's rows as text; past the timeout it is cancelled (``Unavailable``).

        Without one, a statement may take as long as the server lets any take.
        """
        ...

    def start_copy(self, sql: str, *, timeout_seconds: float | None = None) -> None:
        """Run a statement that answers with copied data, which has to begin within the timeout.

        The first data may come with the answer: ``receive`` once before waiting for more.
        """
        ...

    def receive(self) -> bytes:
        """What has arrived: bytes cut anywhere, none if nothing did. ``Unavailable`` if lost."""
        ...

    def send(self, payload: bytes, *, timeout_seconds: float = SEND_SECONDS) -> None:
        """One CopyData message to the server; ``Unavailable`` if it is not taken in time."""
        ...

    def cancel(self) -> None:
        """Have the server end the statement that it is at; whether it does is not waited for."""
        ...

    def close(self) -> None: ...


def open_channel(url: str, *, replication: bool, application: str = "upwell") -> Channel:
    """Connect, as a replication client or an ordinary one."""
    text = connection_text(url, replication=replication, application=application)
    where = address(url)
    with translated("connect to the source database", url):
        connection = BoundedConnection.connect(text, autocommit=True)
    may_be_gss = conninfo_to_dict(text).get("gssencmode", "prefer") != "disable"
    library = connection.pgconn
    if library.ssl_in_use or (may_be_gss and not library.host.startswith(b"/")):
        return _LibraryChannel(connection, where)
    return _SocketChannel(connection, where)


def await_data(channel: Channel, deadline: float) -> None:
    """Wait until ``receive`` has more of what is copied; ``Unavailable`` past the (monotonic)
    deadline, also where things come all the time and never to an end.
    """
    if time.monotonic() >= deadline or not await_readable(channel, _left(deadline)):
        raise Unavailable(
            "source_slow",
            "the source database did not come to the end of what it copies in time",
            next_step="check that the database runs and can be reached from here",
        )


def await_readable(channel: Channel, timeout_seconds: float | None = None) -> bool:
    """Wait until ``receive`` has something; False after the timeout."""
    return _await(channel.fileno(), select.POLLIN, timeout_seconds)


class _LibraryChannel:
    """libpq reads; each of its messages is framed as it was on the wire."""

    def __init__(self, owner: BoundedConnection, where: str) -> None:
        self._owner = owner
        self._connection = owner.pgconn
        self._where = where

    def fileno(self) -> int:
        return self._connection.socket

    def query(self, sql: str, *, timeout_seconds: float | None = None) -> list[Row]:
        return _query(self._owner, sql, self._where, timeout_seconds)

    def start_copy(self, sql: str, *, timeout_seconds: float | None = None) -> None:
        deadline = time.monotonic() + (timeout_seconds or self._owner.answer_seconds)
        result = _first_result(self._owner, sql, self._where, deadline)
        if result is None or result.status not in _COPYING:
            raise _refused(self._connection, result, self._where)

    def receive(self) -> bytes:
        """Many messages at once: each may have been encrypted, and so be read, on its own."""
        parts: list[bytes] = []
        size, before = 0, -1
        try:
            while before < size < RECEIVE_BYTES:
                before = size
                self._connection.consume_input()
                while (message := self._next_message()) is not None:
                    parts.append(message)
                    size += len(message)
                    if message[:1] != b"d":
                        return b"".join(parts)
                pass_over_notifications(self._connection)
        except psycopg.Error as error:
            raise _lost(self._where, str(error)) from error
        return b"".join(parts)

    def send(self, payload: bytes, *, timeout_seconds: float = SEND_SECONDS) -> None:
        deadline = time.monotonic() + timeout_seconds
        try:
            self._connection.put_copy_data(payload)
            while self._connection.flush() == 1:
                if time.monotonic() >= deadline:
                    raise _lost(self._where, _TAKES_NOTHING)
                _await(self.fileno(), select.POLLIN | select.POLLOUT, _left(deadline))
                self._connection.consume_input()
        except psycopg.Error as error:
            raise _lost(self._where, str(error)) from error

    def cancel(self) -> None:
        _cancel(self._owner)

    def close(self) -> None:
        self._owner.close()

    def _next_message(self) -> bytes | None:
        """A message that libpq has read, framed; None if there is none whole."""
        count, data = self._connection.get_copy_data(1)
        if count == 0:
            return None
        return _framed(b"d", bytes(data)) if count > 0 else self._end_of_copy()

    def _end_of_copy(self) -> bytes:
        """How the copy ended, as the server would have framed it."""
        end = _framed(b"c", b"")
        deadline = time.monotonic() + self._owner.answer_seconds
        while (result := _next_result(self._owner, self._where, deadline)) is not None:
            if result.status == pq.ExecStatus.COMMAND_OK:
                end += _framed(b"C", (result.command_status or b"") + b"\0")
            if result.status == pq.ExecStatus.FATAL_ERROR:
                state = result.error_field(pq.DiagnosticField.SQLSTATE) or b""
                said = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"no message"
                end = _framed(b"E", b"C" + state + b"\0M" + said + b"\0\0")
            if result.status == pq.ExecStatus.COPY_IN:  # our half of a two-way copy stays open
                break
        return end + _framed(b"Z", b"I")


class _SocketChannel:
    """libpq connects and asks; copied data is read from its socket directly.

    While a connection is idle libpq holds back no bytes, so its socket can be shared with it in
    turns: a statement through libpq, a copy without it.
    """

    def __init__(self, owner: BoundedConnection, where: str) -> None:
        self._owner = owner
        self._where = where
        self._socket = socket.socket(fileno=os.dup(owner.pgconn.socket))
        self._socket.setblocking(False)
        self._received = b""

    def fileno(self) -> int:
        return self._socket.fileno()

    def query(self, sql: str, *, timeout_seconds: float | None = None) -> list[Row]:
        return _query(self._owner, sql, self._where, timeout_seconds)

    def start_copy(self, sql: str, *, timeout_seconds: float | None = None) -> None:
        deadline = time.monotonic() + (timeout_seconds or self._owner.answer_seconds)
        self._write(_framed(b"Q", sql.encode() + b"\0"), SEND_SECONDS)
        answer = bytearray()
        while True:
            while (end := _end_of_message(answer)) > len(answer):
                if time.monotonic() >= deadline:
                    raise _cancelled(self._owner, self._where)
                if _await(self.fileno(), select.POLLIN, _left(deadline)):
                    answer += self.receive()
            letter, payload = bytes(answer[:1]), bytes(answer[5:end])
            del answer[:end]
            if letter in (b"H", b"W"):  # copying out, copying both ways
                self._received = bytes(answer)
                return
            if letter == b"E":
                fields = {part[:1]: part[1:] for part in payload.split(b"\0")}
                state, said = (
                    fields.get(key, b"").decode(errors="replace") for key in (b"C", b"M")
                )
                raise fault("copy from the source database", state, said, self._where)
            if letter not in b"NSA":
                corrupt("an answer of another kind where copying should begin")
            if time.monotonic() >= deadline:
                raise _cancelled(self._owner, self._where)

    def receive(self) -> bytes:
        if self._received:
            received, self._received = self._received, b""
            return received
        try:
            received = self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise _lost(self._where, str(error)) from error
        if not received:
            raise _lost(self._where, "the server closed the connection")
        return received

    def send(self, payload: bytes, *, timeout_seconds: float = SEND_SECONDS) -> None:
        self._write(_framed(b"d", payload), timeout_seconds)

    def cancel(self) -> None:
        _cancel(self._owner)

    def close(self) -> None:
        self._socket.close()
        self._owner.close()

    def _write(self, message: bytes, timeout_seconds: float) -> None:
        deadline = time.monotonic() + timeout_seconds
        while message:
            try:
                message = message[self._socket.send(message) :]
            except BlockingIOError:
                if not _await(self.fileno(), select.POLLOUT, _left(deadline)):
                    raise _lost(self._where, _TAKES_NOTHING) from None
            except OSError as error:
                raise _lost(self._where, str(error)) from error


# ── libpq ────────────────────────────────────────────────────────────────────────────────────────


def _query(
    owner: BoundedConnection, sql: str, where: str, timeout_seconds: float | None
) -> list[Row]:
    deadline = time.monotonic() + (timeout_seconds or owner.answer_seconds)
    rows: list[Row] = []
    failure: UpwellError | None = None
    result = _first_result(owner, sql, where, deadline)
    while result is not None:
        if result.status in _ANSWERED:
            rows += _rows(result)
        elif result.status in _COPYING:
            corrupt("copied data where an answer should be")
        else:
            failure = _refused(owner.pgconn, result, where)
        result = _next_result(owner, where, deadline)
    if failure is not None:
        raise failure
    return rows


def _rows(result: pq.abc.PGresult) -> list[Row]:
    columns = range(result.nfields)
    try:
        names = [(result.fname(column) or b"").decode() for column in columns]
        return [
            {
                name: None if (value := result.get_value(row, column)) is None else value.decode()
                for column, name in enumerate(names)
            }
            for row in range(result.ntuples)
        ]
    except UnicodeDecodeError:
        corrupt("an answer that is not UTF-8")


def _first_result(
    owner: BoundedConnection, sql: str, where: str, deadline: float
) -> pq.abc.PGresult | None:
    try:
        owner.pgconn.send_query(sql.encode())
    except psycopg.Error as error:
        raise _lost(where, str(error)) from error
    return _next_result(owner, where, deadline)


def _next_result(owner: BoundedConnection, where: str, deadline: float) -> pq.abc.PGresult | None:
    """The next result of what was sent; past the deadline the statement is cancelled."""
    connection = owner.pgconn
    try:
        while connection.flush() == 1 or connection.is_busy():
            if time.monotonic() >= deadline:
                raise _cancelled(owner, where)
            events = select.POLLIN | (select.POLLOUT if connection.flush() == 1 else 0)
            if _await(connection.socket, events, _left(deadline)):
                connection.consume_input()
                pass_over_notifications(connection)
        return connection.get_result()
    except psycopg.Error as error:
        raise _lost(where, str(error)) from error


def _cancel(owner: BoundedConnection) -> None:
    with contextlib.suppress(psycopg.Error):
        owner.cancel_safe(timeout=_CANCEL_SECONDS)


def _refused(connection: pq.abc.PGconn, result: pq.abc.PGresult | None, where: str) -> UpwellError:
    state, said = b"", connection.get_error_message().encode()
    if result is not None:
        state = result.error_field(pq.DiagnosticField.SQLSTATE) or b""
        said = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or said
    sqlstate, message = state.decode(errors="replace"), said.decode(errors="replace")
    return fault("use the source database", sqlstate, message, where)


_TAKES_NOTHING = "the server takes nothing from us any more"


def _cancelled(owner: BoundedConnection, where: str) -> Unavailable:
    _cancel(owner)
    return Unavailable(
        "source_slow",
        "the source database did not answer in time; the statement was cancelled",
        where=where,
        next_step="look for long open transactions there; then try again",
    )


def _lost(where: str, why: str) -> Unavailable:
    return Unavailable(
        "connection_lost",
        f"the connection to the source database was lost: {' '.join(why.split())}",
        where=where,
        next_step="check that the database runs and can be reached from here",
    )


def _end_of_message(answer: bytearray) -> int:
    """Where the first message ends, or how much is needed to know that."""
    if len(answer) < 5:
        return 5
    length = int.from_bytes(answer[1:5], "big")
    if not 4 <= length <= _LONGEST_ANSWER_BYTES:
        corrupt(f"a message claims {length} bytes")
    return 1 + length


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _await(descriptor: int, events: int, timeout_seconds: float | None) -> bool:
    poller = select.poll()
    poller.register(descriptor, events)
    return bool(poller.poll(None if timeout_seconds is None else timeout_seconds * 1000))


def _framed(letter: bytes, payload: bytes) -> bytes:
    return letter + struct.pack(">I", len(payload) + 4) + payload
