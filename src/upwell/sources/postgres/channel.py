"""A connection in which the server copies data to us: the log, or a table.

libpq opens every connection, so all of its ways to authenticate work. Where the bytes on the
socket are the protocol itself (no TLS, no GSS encryption), we then read them from the socket in
large blocks, which costs a fraction of libpq's call per message; where they are encrypted, libpq
reads, and its messages are framed again. Either way ``receive`` gives the same bytes, messages of
protocol version 3: CopyData, then CopyDone or an error, then ReadyForQuery.

A channel belongs to one thread at a time.
"""

from __future__ import annotations

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
from upwell.sources.postgres.session import address, connection_text, explained, fault

RECEIVE_BYTES = 256 << 10
_ANSWERED = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)
_COPYING = (pq.ExecStatus.COPY_OUT, pq.ExecStatus.COPY_BOTH)

Row = dict[str, str | None]


class Channel(Protocol):
    """See the module. ``query`` and ``start_copy`` only while nothing is being copied."""

    def fileno(self) -> int:
        """Readable when ``receive`` has something to give."""
        ...

    def query(self, sql: str, *, timeout_seconds: float | None = None) -> list[Row]:
        """A statement's rows as text; past the timeout it is cancelled (``Unavailable``)."""
        ...

    def start_copy(self, sql: str) -> None:
        """Run a statement that answers with copied data.

        The first data may come with the answer: ``receive`` once before waiting for more.
        """
        ...

    def receive(self) -> bytes:
        """What has arrived: bytes cut anywhere, none if nothing did. ``Unavailable`` if lost."""
        ...

    def send(self, payload: bytes) -> None:
        """One CopyData message to the server."""
        ...

    def close(self) -> None: ...


def open_channel(url: str, *, replication: bool, application: str = "upwell") -> Channel:
    """Connect, as a replication client or an ordinary one."""
    text = connection_text(url, replication=replication, application=application)
    where = address(url)
    given = conninfo_to_dict(text)
    hosts = 1 + str(given.get("host", "")).count(",")
    connection = pq.PGconn.connect_start(text.encode())
    if not _is_connected(connection, hosts * float(given["connect_timeout"] or 0)):
        message = connection.get_error_message() or "timeout expired"
        connection.finish()
        raise fault("connect to the source database", "", explained(message, url), where)
    connection.nonblocking = 1
    may_be_gss = given.get("gssencmode", "prefer") != "disable"
    if connection.ssl_in_use or (may_be_gss and not connection.host.startswith(b"/")):
        return _LibraryChannel(connection, where)
    return _SocketChannel(connection, where)


def _is_connected(connection: pq.abc.PGconn, timeout_seconds: float) -> bool:
    """Wait for a connection to be there. libpq's own waiting would hold up every thread."""
    deadline = time.monotonic() + timeout_seconds if timeout_seconds else None
    while connection.status != pq.ConnStatus.BAD:
        match connection.connect_poll():
            case pq.PollingStatus.READING:
                events = select.POLLIN
            case pq.PollingStatus.WRITING:
                events = select.POLLOUT
            case _:
                break
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not _await(connection.socket, events, left):
            return False
    return connection.status == pq.ConnStatus.OK


def await_readable(channel: Channel, timeout_seconds: float | None = None) -> bool:
    """Wait until ``receive`` has something; False after the timeout."""
    return _await(channel.fileno(), select.POLLIN, timeout_seconds)


class _LibraryChannel:
    """libpq reads; each of its messages is framed as it was on the wire."""

    def __init__(self, connection: pq.abc.PGconn, where: str) -> None:
        self._connection = connection
        self._where = where

    def fileno(self) -> int:
        return self._connection.socket

    def query(self, sql: str, *, timeout_seconds: float | None = None) -> list[Row]:
        return _query(self._connection, sql, self._where, timeout_seconds)

    def start_copy(self, sql: str) -> None:
        self._connection.send_query(sql.encode())
        result = _next_result(self._connection, self._where, None)
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
        except psycopg.Error as error:
            raise _lost(self._where, str(error)) from error
        return b"".join(parts)

    def send(self, payload: bytes) -> None:
        try:
            self._connection.put_copy_data(payload)
            while self._connection.flush() == 1:
                _await(self.fileno(), select.POLLIN | select.POLLOUT, None)
                self._connection.consume_input()
        except psycopg.Error as error:
            raise _lost(self._where, str(error)) from error

    def close(self) -> None:
        self._connection.finish()

    def _next_message(self) -> bytes | None:
        """A message that libpq has read, framed; None if there is none whole."""
        count, data = self._connection.get_copy_data(1)
        if count == 0:
            return None
        return _framed(b"d", bytes(data)) if count > 0 else self._end_of_copy()

    def _end_of_copy(self) -> bytes:
        """How the copy ended, as the server would have framed it."""
        end = _framed(b"c", b"")
        while (result := self._connection.get_result()) is not None:
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

    def __init__(self, connection: pq.abc.PGconn, where: str) -> None:
        self._connection = connection
        self._where = where
        self._socket = socket.socket(fileno=os.dup(connection.socket))
        self._socket.setblocking(False)
        self._received = b""

    def fileno(self) -> int:
        return self._socket.fileno()

    def query(self, sql: str, *, timeout_seconds: float | None = None) -> list[Row]:
        return _query(self._connection, sql, self._where, timeout_seconds)

    def start_copy(self, sql: str) -> None:
        self._write(_framed(b"Q", sql.encode() + b"\0"))
        answer = b""
        while True:
            while len(answer) < 5 or len(answer) < 1 + int.from_bytes(answer[1:5], "big"):
                _await(self.fileno(), select.POLLIN, None)
                answer += self.receive()
            end = 1 + int.from_bytes(answer[1:5], "big")
            letter, payload, answer = answer[:1], answer[5:end], answer[end:]
            if letter in (b"H", b"W"):  # copying out, copying both ways
                self._received = answer
                return
            if letter == b"E":
                fields = {part[:1]: part[1:] for part in payload.split(b"\0")}
                state, said = (
                    fields.get(key, b"").decode(errors="replace") for key in (b"C", b"M")
                )
                raise fault("copy from the source database", state, said, self._where)

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

    def send(self, payload: bytes) -> None:
        self._write(_framed(b"d", payload))

    def close(self) -> None:
        self._socket.close()
        self._connection.finish()

    def _write(self, message: bytes) -> None:
        while message:
            try:
                message = message[self._socket.send(message) :]
            except BlockingIOError:
                _await(self.fileno(), select.POLLOUT, None)
            except OSError as error:
                raise _lost(self._where, str(error)) from error


# ── libpq ────────────────────────────────────────────────────────────────────────────────────────


def _query(
    connection: pq.abc.PGconn, sql: str, where: str, timeout_seconds: float | None
) -> list[Row]:
    connection.send_query(sql.encode())
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    rows: list[Row] = []
    failure: UpwellError | None = None
    while (result := _next_result(connection, where, deadline)) is not None:
        if result.status not in _ANSWERED:
            failure = _refused(connection, result, where)
            continue
        names = [(result.fname(column) or b"").decode() for column in range(result.nfields)]
        for row in range(result.ntuples):
            values = (result.get_value(row, column) for column in range(result.nfields))
            texts = (None if value is None else value.decode() for value in values)
            rows.append(dict(zip(names, texts, strict=True)))
    if failure is not None:
        raise failure
    return rows


def _next_result(
    connection: pq.abc.PGconn, where: str, deadline: float | None
) -> pq.abc.PGresult | None:
    try:
        while connection.flush() == 1:
            _await(connection.socket, select.POLLOUT, None)
        while connection.is_busy():
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not _await(connection.socket, select.POLLIN, left):
                connection.get_cancel().cancel()
                raise Unavailable(
                    "source_slow",
                    "the source database did not answer in time; the statement was cancelled",
                    where=where,
                    next_step="look for long open transactions there; then try again",
                )
            connection.consume_input()
        return connection.get_result()
    except psycopg.Error as error:
        raise _lost(where, str(error)) from error


def _refused(connection: pq.abc.PGconn, result: pq.abc.PGresult | None, where: str) -> UpwellError:
    state, said = b"", connection.get_error_message().encode()
    if result is not None:
        state = result.error_field(pq.DiagnosticField.SQLSTATE) or b""
        said = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or said
    return fault("use the source database", state.decode(), said.decode(errors="replace"), where)


def _lost(where: str, why: str) -> Unavailable:
    return Unavailable(
        "connection_lost",
        f"the connection to the source database was lost: {' '.join(why.split())}",
        where=where,
        next_step="check that the database runs and can be reached from here",
    )


def _await(descriptor: int, events: int, timeout_seconds: float | None) -> bool:
    poller = select.poll()
    poller.register(descriptor, events)
    return bool(poller.poll(None if timeout_seconds is None else timeout_seconds * 1000))


def _framed(letter: bytes, payload: bytes) -> bytes:
    return letter + struct.pack(">I", len(payload) + 4) + payload
