"""Unaligned looks at one byte buffer, low byte first as MySQL writes most numbers.

``big`` looks at the same bytes high byte first, as decimals and times are written, and makes Arrow
arrays of byte strings.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from upwell.core.protocols import Int64s
from upwell.sources.postgres.frames import PADDING_BYTES, Bytes
from upwell.sources.postgres.views import Views


class LittleViews:
    """The buffer must end in ``PADDING_BYTES`` spare bytes."""

    __slots__ = ("big", "bytes", "f4", "f8", "i2", "i4", "i8", "u2", "u4", "u8")

    def __init__(self, buffer: Bytes) -> None:
        self.bytes = buffer
        self.big = Views(buffer)
        self.i2 = _strided(buffer, "<i2")
        self.u2 = _strided(buffer, "<u2")
        self.i4 = _strided(buffer, "<i4")
        self.u4 = _strided(buffer, "<u4")
        self.i8 = _strided(buffer, "<i8")
        self.u8 = _strided(buffer, "<u8")
        self.f4 = _strided(buffer, "<f4")
        self.f8 = _strided(buffer, "<f8")

    def big_number(self, places: Int64s, width: int) -> Int64s:
        """Unsigned numbers of one to eight bytes, high byte first."""
        numbers = np.zeros(len(places), np.int64)
        for shift in range(width):
            numbers = numbers << 8 | self.bytes[places + shift]
        return numbers


def padded(parts: list[bytes]) -> Bytes:
    """The parts one behind the other, with room for wide looks behind them."""
    return np.frombuffer(b"".join([*parts, bytes(PADDING_BYTES)]), np.uint8)


def _strided(buffer: Bytes, dtype: str) -> npt.NDArray[Any]:
    width = np.dtype(dtype).itemsize
    return np.ndarray((len(buffer) - width + 1,), dtype, buffer=buffer.data, strides=(1,))
