"""A line to a server that can be disturbed, request by request.

It forwards bytes. What it knows of HTTP is only where a request begins, so that one ``Disturbance``
can be aimed at the requests whose first line holds some text, and be over after so many of them.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

_CHUNK = 65_536
_METHODS = (b"GET ", b"PUT ", b"POST ", b"HEAD ", b"DELETE ")
_REFUSAL = "HTTP/1.1 {} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Kind(Enum):
    """What happens to a request that is hit."""

    LATE = "the answer comes after `seconds`"
    SLOW = "the answer comes with `rate` bytes a second"
    RESET = "the connection is reset after `after` bytes of the answer"
    TRUNCATED = "the connection is closed after `after` bytes of the answer's body"
    FLIPPED = "one bit of byte `after` of the answer's body is another"
    BLACKHOLE = "nothing ever comes back, and nothing reaches the server"
    LOST = "the server does it, and the answer never comes"
    HELD = "the server gets it only after `release`"
    REFUSED = "the answer is `status`, and nothing reaches the server"


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What is done to the next ``times`` requests whose first line holds ``matching``."""

    kind: Kind
    matching: str = ""
    times: int = 1_000_000
    after: int = 0
    seconds: float = 0.0
    rate: int = 1_000
    status: int = 503


class Line:
    """The line between a client and one server. Use ``line_to``."""

    def __init__(self, server: str) -> None:
        parts = urlsplit(server)
        assert parts.hostname
        assert parts.port
        self._server = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._guard = threading.Lock()
        self._disturbance: Disturbance | None = None
        self._left = 0
        self._released = threading.Event()
        self._open: set[socket.socket] = set()
        self._is_closed = False
        #: The first line of each request so far, and how many were disturbed.
        self.requests: list[str] = []
        self.hits = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def disturb(self, disturbance: Disturbance) -> None:
        """From now on; what is under way goes on as it was."""
        with self._guard:
            self._disturbance, self._left, self.hits = disturbance, disturbance.times, 0
            self._released.clear()

    def calm(self) -> None:
        """Disturb no further requests. Those that are held stay so."""
        with self._guard:
            self._disturbance = None

    def release(self) -> None:
        """Let what is held go on to the server."""
        self._released.set()

    def close(self) -> None:
        self._is_closed = True
        self._released.set()
        self._listener.close()
        with self._guard:
            for each in self._open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
            except OSError:
                return
            with self._guard:
                self._open |= {client, server}
            connection = _Connection(self, client, server)
            for pump in (connection.forward, connection.answer):
                threading.Thread(target=pump, daemon=True).start()

    def forget(self, *ended: socket.socket) -> None:
        """These connections are over."""
        with self._guard:
            self._open -= set(ended)
        for each in ended:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RD)  # else it would stay open while somebody reads it
            each.close()

    def strike(self, first_line: str) -> Disturbance | None:
        """What is to happen to a request that begins."""
        with self._guard:
            self.requests.append(first_line)
            wanted = self._disturbance
            if wanted is None or not self._left or wanted.matching not in first_line:
                return None
            self._left -= 1
            self.hits += 1
            return wanted

    def await_release(self) -> None:
        self._released.wait()


class _Connection:
    """One connection: requests are pumped one way, answers the other."""

    def __init__(self, line: Line, client: socket.socket, server: socket.socket) -> None:
        self._line = line
        self._client = client
        self._server = server
        self._now: Disturbance | None = None
        self._answered = 0  # bytes of the answer so far
        self._body_at = -1  # where its body begins; -1: not known yet

    def forward(self) -> None:
        with suppress(OSError):
            while data := self._client.recv(_CHUNK):
                if data.startswith(_METHODS):
                    line = data.partition(b"\r\n")[0].decode("latin-1")
                    self._now, self._answered, self._body_at = self._line.strike(line), 0, -1
                match self._now.kind if self._now else None:
                    case Kind.BLACKHOLE:
                        continue
                    case Kind.REFUSED if self._now:
                        self._client.sendall(_REFUSAL.format(self._now.status).encode())
                        self._client.shutdown(socket.SHUT_WR)
                        while self._client.recv(_CHUNK):
                            pass
                        break
                    case Kind.HELD:
                        self._line.await_release()
                self._server.sendall(data)
            if self._now is None or self._now.kind is not Kind.HELD:  # else the server gives up
                self._server.shutdown(socket.SHUT_WR)

    def answer(self) -> None:
        with suppress(OSError):
            while data := self._server.recv(_CHUNK):
                if not self._pass_on(data):
                    break
        self._line.forget(self._client, self._server)

    def _pass_on(self, data: bytes) -> bool:
        """Send what came from the server; False where that was the end of the connection."""
        start, self._answered = self._answered, self._answered + len(data)
        if self._body_at < 0 and (found := data.find(b"\r\n\r\n")) >= 0:
            self._body_at = start + found + 4
        disturbance = self._now
        match disturbance.kind if disturbance else None:
            case Kind.LOST:
                _reset(self._client)
                return False
            case Kind.RESET if disturbance and self._answered > disturbance.after:
                self._client.sendall(data[: disturbance.after - start])
                _reset(self._client)
                return False
            case Kind.TRUNCATED if disturbance and self._body_at >= 0:
                ends = self._body_at + disturbance.after
                if self._answered > ends:
                    self._client.sendall(data[: ends - start])
                    return False
            case Kind.FLIPPED if disturbance and self._body_at >= 0:
                at = self._body_at + disturbance.after - start
                if 0 <= at < len(data):
                    data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            case Kind.LATE if disturbance and start == 0:
                time.sleep(disturbance.seconds)
            case Kind.SLOW if disturbance:
                for at in range(0, len(data), _STEP):
                    time.sleep(_STEP / disturbance.rate)
                    self._client.sendall(data[at : at + _STEP])
                return True
        self._client.sendall(data)
        return True


_STEP = 10


def _reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextmanager
def line_to(server: str) -> Iterator[Line]:
    """A line to the server at this address, for as long as the block lasts."""
    line = Line(server)
    try:
        yield line
    finally:
        line.close()
