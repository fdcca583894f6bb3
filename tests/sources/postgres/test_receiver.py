"""The receiver drains the server while nobody polls, within bounds, and reports our position."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable, Iterator

import pytest

from upwell.core.errors import Unavailable
from upwell.sources.postgres import receiver as receiving
from upwell.sources.postgres.receiver import Receiver


class Line:
    """A channel over a socket pair; the test holds the server's end."""

    def __init__(self) -> None:
        self.server, self._ours = socket.socketpair()
        self._ours.setblocking(False)

    def fileno(self) -> int:
        return self._ours.fileno()

    def query(
        self, sql: str, *, timeout_seconds: float | None = None
    ) -> list[dict[str, str | None]]:
        raise NotImplementedError

    def start_copy(self, sql: str, *, timeout_seconds: float | None = None) -> None:
        raise NotImplementedError

    def receive(self) -> bytes:
        try:
            data = self._ours.recv(1 << 16)
        except BlockingIOError:
            return b""
        if not data:
            raise Unavailable("connection_lost", "gone")
        return data

    def send(self, payload: bytes, *, timeout_seconds: float = 0) -> None:  # noqa: ARG002 - the pair takes it at once
        self._ours.sendall(payload)

    def cancel(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self._ours.close()
        self.server.close()

    def status(self) -> tuple[int, bool]:
        """The next status: the flushed position, and whether a reply is asked for."""
        self.server.settimeout(5)
        message = self.server.recv(34, socket.MSG_WAITALL)
        _, _, flushed, _, _, reply = struct.unpack(">cQQQqB", message)
        return flushed, bool(reply)


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def receiver(line: Line) -> Iterator[Receiver]:
    made = Receiver(line, 7, status_seconds=60, now_us=lambda: 0)
    yield made
    made.close()


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline


def test_what_arrives_is_given_in_order(line: Line, receiver: Receiver) -> None:
    line.server.sendall(b"one")
    receiver.wait(5)
    got = receiver.take(100)
    line.server.sendall(b"two")
    while len(got) < 6:
        receiver.wait(5)
        got += receiver.take(100)
    assert got == b"onetwo"
    assert receiver.take(100) == b""


def test_a_full_queue_stops_the_server_until_it_is_emptied(
    line: Line, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "QUEUE_BYTES", 1 << 18)
    line.server.setblocking(False)
    sent = 0
    while select.select([], [line.server], [], 0.3)[1]:
        sent += line.server.send(bytes(1 << 16))
        assert sent < 1 << 23, "the server was never stopped"
    got = 0
    while got < sent:
        receiver.wait(5)
        got += len(receiver.take(1 << 30))
    assert got == sent


def test_acknowledgements_go_out_and_never_back(line: Line, receiver: Receiver) -> None:
    receiver.acknowledge(50)
    assert line.status() == (50, False)
    receiver.acknowledge(20)
    assert line.status() == (50, False)
    receiver.report(reply=True)
    assert line.status() == (50, True)


def test_many_acknowledgements_become_few_statuses(line: Line, receiver: Receiver) -> None:
    for lsn in range(10, 10_000):
        receiver.acknowledge(lsn)
    seen = [line.status()[0]]
    while seen[-1] < 9_999:
        seen.append(line.status()[0])
    assert len(seen) < 100


def test_closing_tells_the_server_what_was_acknowledged_last(line: Line) -> None:
    receiver = Receiver(line, 7, status_seconds=60, now_us=lambda: 0)
    receiver.acknowledge(50)
    assert line.status() == (50, False)
    receiver.acknowledge(60)
    with line.server.dup() as server:
        receiver.close()
        server.settimeout(5)
        last = server.recv(34, socket.MSG_WAITALL)
    assert struct.unpack(">cQQQqB", last)[2] == 60


def test_a_status_goes_out_though_nobody_polls(line: Line) -> None:
    receiver = Receiver(line, 7, status_seconds=0.05, now_us=lambda: 0)
    assert [line.status() for _ in range(3)] == [(7, False)] * 3
    receiver.close()


def test_closing_twice_and_calling_after_it_do_no_harm(line: Line) -> None:
    receiver = Receiver(line, 7, status_seconds=60, now_us=lambda: 0)
    receiver.close()
    receiver.close()
    receiver.report(reply=True)
    receiver.acknowledge(99)


def test_a_lost_connection_is_told_after_what_came_before_it(
    line: Line, receiver: Receiver
) -> None:
    line.server.sendall(b"last words")
    line.server.shutdown(socket.SHUT_WR)
    eventually(lambda: receiver.failure is not None)
    assert receiver.take(100) == b"last words"
    assert isinstance(receiver.failure, Unavailable)
    receiver.wait(60)  # returns at once


def test_a_silent_server_is_asked_for_an_answer_and_then_given_up(line: Line) -> None:
    receiver = Receiver(line, 7, status_seconds=60, silence_seconds=0.4, now_us=lambda: 0)
    assert line.status() == (7, True)
    line.server.sendall(b"here I am")
    assert line.status() == (7, True)
    eventually(lambda: receiver.failure is not None)
    assert isinstance(receiver.failure, Unavailable)
    assert receiver.failure.code == "connection_silent"
    receiver.close()


def test_a_server_that_we_do_not_listen_to_is_not_given_up(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "QUEUE_BYTES", 4)
    receiver = Receiver(line, 7, status_seconds=0.05, silence_seconds=0.2, now_us=lambda: 0)
    line.server.sendall(b"enough")
    assert [line.status() for _ in range(20)] == [(7, False)] * 20  # a second
    assert receiver.failure is None
    assert receiver.take(100) == b"enough"
    eventually(lambda: receiver.failure is not None)
    receiver.close()


def test_many_small_reads_fill_the_queue_too(
    line: Line, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them costs far more memory than its bytes."""
    monkeypatch.setattr(receiving, "_QUEUE_READS", 10)
    for _ in range(10):
        line.server.sendall(b"x")
        eventually(lambda: select.select([line], [], [], 0)[0] == [])
    line.server.sendall(b"y")
    assert not receiver._is_nudged
    assert receiver.take(100) == b"x" * 10
    receiver.wait(5)
    assert receiver.take(100) == b"y"
