"""Bytes in the order they came, until they are used."""

from __future__ import annotations

import numpy as np

from upwell.sources.postgres.frames import PADDING_BYTES, Bytes

_KEPT_BYTES = 64 << 20


class ByteBuffer:
    """A growing buffer that is filled at its end and emptied from its front.

    ``bytes`` always has ``PADDING_BYTES`` more than ``filled``, so that wide reads stay inside.
    """

    __slots__ = ("bytes", "filled")

    def __init__(self) -> None:
        self.bytes: Bytes = np.zeros(1 << 16, np.uint8)
        self.filled = 0

    def append(self, data: bytes) -> None:
        end = self.filled + len(data)
        if end + PADDING_BYTES > len(self.bytes):
            grown = np.zeros(max(2 * len(self.bytes), end + PADDING_BYTES), np.uint8)
            grown[: self.filled] = self.bytes[: self.filled]
            self.bytes = grown
        self.bytes[self.filled : end] = np.frombuffer(data, np.uint8)
        self.filled = end

    def drop(self, count: int) -> None:
        """Forget the first ``count`` bytes; give back the memory of an exceptional amount."""
        if count == 0:
            return
        rest = self.bytes[count : self.filled].copy()
        self.filled = len(rest)
        if len(self.bytes) > _KEPT_BYTES and 4 * self.filled < len(self.bytes):
            self.bytes = np.zeros(max(_KEPT_BYTES // 4, 2 * self.filled + PADDING_BYTES), np.uint8)
        self.bytes[: self.filled] = rest
