"""A server that speaks just enough of PostgreSQL's protocol to do harm with it, and a bad line.

Both live on loopback, in threads of their own, and end with their ``with`` block.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

from .recording import frame

Kind = Literal["close", "stall", "rubbish", "trickle"]

RUBBISH = bytes(range(1, 256)) * 8
_AUTHENTICATED = frame(bytes(4), b"R")
_READY = frame(b"I", b"Z")
GREETING = (
    _AUTHENTICATED
    + b"".join(
        frame(name + b"\0" + value + b"\0", b"S")
        for name, value in ((b"server_version", b"18.0"), (b"client_encoding", b"UTF8"))
    )
    + frame(struct.pack(">II", 1, 2), b"K")
    + _READY
)
COPY_BOTH = frame(b"\0\0\0", b"W")
COPY_OUT = frame(b"\1\0\1\0\1", b"H")


def answer(**row: bytes) -> bytes:
    """A statement's one row."""
    described = [name.encode() + struct.pack(">xIHIHiH", 0, 0, 25, 0xFFFF, -1, 0) for name in row]
    values = [struct.pack(">I", len(value)) + value for value in row.values()]
    count = struct.pack(">H", len(row))
    return (
        frame(count + b"".join(described), b"T")
        + frame(count + b"".join(values), b"D")
        + frame(b"SELECT 1\0", b"C")
        + _READY
    )


def error(message: bytes) -> bytes:
    return frame(b"SERROR\0CXX000\0M" + message + b"\0\0", b"E")


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens once the server has sent ``after`` bytes: the rest goes another way."""

    kind: Kind
    after: int


@dataclass
class FakeServer:
    """Sends ``greeting`` to whoever connects, then for each statement the next of ``answers``.

    The sum of what it sends is subject to ``fault``. With ``answers_tls`` the request for TLS is
    answered with these bytes (none: not at all), and otherwise with N.
    """

    greeting: bytes = GREETING
    answers: Sequence[bytes] = ()
    fault: Fault | None = None
    answers_tls: bytes = b"N"
    goes_on: Callable[[], bytes] | None = None
    """Asked for more, again and again, once all answers are given."""
    sent: int = 0
    cancels: int = 0
    _open: list[socket.socket] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)
    _is_over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over.set()
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join()

    @property
    def url(self) -> str:
        return f"postgresql://u@127.0.0.1:{self._listener.getsockname()[1]}/d?connect_timeout=2"

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=target, args=arguments))
        self._threads[-1].start()

    def _accept(self) -> None:
        while not self._is_over.is_set():
            try:
                line, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(line)
            self._start(self._serve, line)

    def _serve(self, line: socket.socket) -> None:
        with contextlib.suppress(OSError, _OverError):
            while (request := _startup(line)) != b"start":
                if request == b"cancel":
                    self.cancels += 1
                    line.close()
                    return
                self._send(line, self.answers_tls)
            self._send(line, self.greeting)
            for each in self.answers:
                if not _statement(line):
                    return
                self._send(line, each)
            while self.goes_on is not None:
                self._send(line, self.goes_on())
            while line.recv(1 << 16):
                pass

    def _send(self, line: socket.socket, data: bytes) -> None:
        left = len(data) if self.fault is None else max(0, self.fault.after - self.sent)
        line.sendall(data[:left])
        self.sent += min(left, len(data))
        if self.fault is None or left >= len(data):
            return
        if self.fault.kind == "rubbish":
            line.sendall(RUBBISH)
        if self.fault.kind in ("stall", "rubbish"):
            self._is_over.wait()
        for byte in data[left:] if self.fault.kind == "trickle" else b"":
            line.sendall(bytes([byte]))
            if self._is_over.wait(1):
                break
        line.close()
        raise _OverError


class _OverError(Exception):
    pass


def _startup(line: socket.socket) -> bytes:
    """Which of the messages without a letter came."""
    length = int.from_bytes(_exactly(line, 4), "big")
    code = int.from_bytes(_exactly(line, length - 4)[:4], "big")
    return {80877103: b"tls", 80877104: b"gss", 80877102: b"cancel"}.get(code, b"start")


def _statement(line: socket.socket) -> bool:
    """Read up to the end of a statement; whether there is one."""
    while (head := _exactly(line, 5)) and head[:1] not in b"QS":
        _exactly(line, int.from_bytes(head[1:], "big") - 4)
        if head[:1] == b"X":
            return False
    _exactly(line, int.from_bytes(head[1:], "big") - 4)
    return True


def _exactly(line: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = line.recv(count - len(data))
        if not more:
            raise _OverError
        data += more
    return data


class Proxy:
    """A line to a server that can be made to do badly while it runs.

    ``swallows``: both ends look alive, and what they say goes nowhere, nor that they end. A line
    that has swallowed once is dead for good. ``holds``: what the server says is not read, so that
    nothing more comes from it; ``holds_behind`` so many bytes it begins to. ``breathes``: what it
    says comes a byte at a time, so many seconds apart. ``break_lines`` resets all connections.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._is_over = threading.Event()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self.swallows = False
        self.holds = False
        self.holds_behind: int | None = None
        self.carried = 0  # from the server
        self.breathes = 0.0
        self.accepted = 0
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.break_lines()
        for thread in self._threads:
            thread.join()

    def break_lines(self) -> None:
        pairs, self._pairs = self._pairs, []
        for line in (line for pair in pairs for line in pair):
            with contextlib.suppress(OSError):
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                line.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._is_over.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            server = socket.create_connection(("127.0.0.1", self._port))
            self._pairs.append((client, server))
            self._threads.append(threading.Thread(target=self._carry, args=(client, server)))
            self._threads[-1].start()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        """Both ways, until either end closes."""
        with contextlib.suppress(OSError), client, server:
            while not self._is_over.is_set():
                if self.swallows:
                    self._is_over.wait()
                listening = [client] if self.holds else [client, server]
                for line in select.select(listening, [], [], 0.05)[0]:
                    data = line.recv(1 << 16)
                    if not data:
                        return
                    if line is client:
                        server.sendall(data)
                        continue
                    self.carried += len(data)
                    if self.holds_behind is not None:
                        self.holds |= self.carried >= self.holds_behind
                    if self.breathes:
                        self._breathe(client, data)
                    else:
                        client.sendall(data)

    def _breathe(self, client: socket.socket, data: bytes) -> None:
        for byte in data:
            client.sendall(bytes([byte]))
            if not self.breathes or self._is_over.wait(self.breathes):
                return


def eventually(holds: Callable[[], bool], *, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        threading.Event().wait(0.01)
