"""Packets of the client protocol in a growing buffer.

A packet is three bytes of length, a number that counts up, and the payload. A payload of 16 MiB or
more comes in several packets, of which only the last is shorter; those are joined into bytes of
their own. All others stay where they lie, at a place counted from the connection's first byte.
"""

from __future__ import annotations

from dataclasses import dataclass

from upwell.sources.postgres.buffer import ByteBuffer
from upwell.sources.postgres.frames import corrupt

_LONGEST = 0xFFFFFF
_HEADER_BYTES = 4
#: No value is longer than the server's largest packet (1 GiB), and a row has a few of them.
_MOST_JOINED_BYTES = 4 << 30


#: Where a payload lies: from a start to an end of the stream, or of bytes of its own.
Packet = tuple[int, int, bytes | None]


@dataclass(frozen=True, slots=True)
class ServerNotice:
    """Why the server ended what it was sending: its error number (0: a regular end) and words."""

    number: int
    message: str


class Packets:
    """Bytes as they come, cut anywhere, to payloads. ``first`` is the first packet's number."""

    def __init__(self, first: int = 1) -> None:
        self.buffer = ByteBuffer()
        self.dropped = 0  # bytes before the buffer's first
        self._walked = 0
        self._number = first
        self._pieces: list[bytes] = []

    @property
    def held_bytes(self) -> int:
        return self.buffer.filled

    @property
    def walked(self) -> int:
        """Where the first byte lies that belongs to no whole packet."""
        return self.dropped + self._walked

    def feed(self, data: bytes) -> list[Packet]:
        """The payloads that are whole by now."""
        buffer = self.buffer
        buffer.append(data)
        filled, at, number = buffer.filled, self._walked, self._number
        view, dropped = buffer.bytes.data, self.dropped
        found: list[Packet] = []
        while at + _HEADER_BYTES <= filled:
            size = view[at] | view[at + 1] << 8 | view[at + 2] << 16
            end = at + _HEADER_BYTES + size
            if end > filled:
                break
            if view[at + 3] != number:
                corrupt("packets are missing")
            number = number + 1 & 0xFF
            if size == _LONGEST or self._pieces:
                self._join(bytes(view[at + _HEADER_BYTES : end]), found)
            else:
                found.append((dropped + at + _HEADER_BYTES, dropped + end, None))
            at = end
        self._walked, self._number = at, number
        return found

    def bytes_of(self, packet: Packet) -> memoryview:
        """The payload."""
        start, end, own = packet
        if own is not None:
            return memoryview(own)[start:end]
        first = self.dropped
        return self.buffer.bytes.data[start - first : end - first]

    def drop_walked(self) -> None:
        """Forget all whole packets: their places mean nothing any more."""
        self.drop_before(self.walked)

    def drop_before(self, place: int) -> None:
        """Forget what lies before a place among the whole packets."""
        count = place - self.dropped
        self.buffer.drop(count)
        self.dropped = place
        self._walked -= count

    def _join(self, piece: bytes, found: list[Packet]) -> None:
        self._pieces.append(piece)
        if sum(map(len, self._pieces)) > _MOST_JOINED_BYTES:
            corrupt("a message longer than there can be")
        if len(piece) < _LONGEST:
            joined = b"".join(self._pieces)
            self._pieces.clear()
            found.append((0, len(joined), joined))


def notice_of(payload: bytes) -> ServerNotice:
    """An error packet's number and message (``#`` and five letters of SQLSTATE before it)."""
    if len(payload) < 3:
        corrupt("an error without a number")
    message = payload[3:]
    if message.startswith(b"#"):
        message = message[6:]
    return ServerNotice(int.from_bytes(payload[1:3], "little"), message.decode("utf-8", "replace"))
