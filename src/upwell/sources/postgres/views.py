"""Unaligned big-endian looks at one byte buffer, and Arrow arrays made from them.

The buffer must end in ``frames.PADDING_BYTES`` spare bytes, so that a look at any place inside
stays inside. Arrays made here own their bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from upwell.core.protocols import Bools, Int64s
from upwell.sources.postgres.frames import Bytes, corrupt

_LARGEST_OFFSET = np.iinfo(np.int32).max


class Views:
    """The buffer as bytes and as numbers starting at any byte: ``views.i4[places]``."""

    __slots__ = ("bytes", "f4", "f8", "i2", "i4", "i8", "u2", "u4")

    def __init__(self, buffer: Bytes) -> None:
        self.bytes = buffer
        self.i2 = _strided(buffer, ">i2")
        self.u2 = _strided(buffer, ">u2")
        self.i4 = _strided(buffer, ">i4")
        self.u4 = _strided(buffer, ">u4")
        self.i8 = _strided(buffer, ">i8")
        self.f4 = _strided(buffer, ">f4")
        self.f8 = _strided(buffer, ">f8")

    def strings(self, starts: Int64s, lengths: Int64s, present: Bools) -> pa.Array:
        """Texts, checked to be UTF-8. Raises ``UnicodeError`` where one is not."""
        binaries = self.binaries(starts, lengths, present)
        is_wide = pa.types.is_large_binary(binaries.type)
        try:
            return binaries.cast(pa.large_string() if is_wide else pa.string())
        except pa.ArrowInvalid as error:
            raise UnicodeError("a text that is not UTF-8") from error

    def binaries(self, starts: Int64s, lengths: Int64s, present: Bools) -> pa.Array:
        """Byte strings, one for each row, in rising places of the buffer.

        The buffer itself serves as the data of an Arrow array whose elements are, in turn, a value
        and the gap behind it; ``take`` then copies the values alone.
        """
        count = len(starts)
        if count == 0:
            return pa.array([], pa.binary())
        is_wide = len(self.bytes) > _LARGEST_OFFSET
        offsets = np.empty(2 * count, np.int64)
        offsets[0::2] = starts
        offsets[1::2] = starts + np.where(present, lengths, 0)
        if (offsets[1:] < offsets[:-1]).any():
            corrupt("values that overlap")
        data = pa.py_buffer(self.bytes)
        kind = pa.large_binary() if is_wide else pa.binary()
        buffers = [None, pa.py_buffer(offsets if is_wide else offsets.astype(np.int32)), data]
        alternating = pa.Array.from_buffers(kind, 2 * count - 1, buffers)
        taken = alternating.take(pa.array(np.arange(0, 2 * count, 2)))
        if present.all():
            return taken
        buffers = [validity(present), *taken.buffers()[1:]]
        return pa.Array.from_buffers(kind, count, buffers)


def array_of(values: npt.NDArray[Any], kind: pa.DataType, present: Bools) -> pa.Array:
    """An Arrow array over fixed-width values, NULL where not ``present``."""
    data = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(kind, len(present), [validity(present), data])


def validity(present: Bools) -> pa.Buffer | None:
    """Arrow's bitmap of the values that are there; None where all are."""
    if present.all():
        return None
    return pa.py_buffer(np.packbits(present, bitorder="little"))


def _strided(buffer: Bytes, dtype: str) -> npt.NDArray[Any]:
    width = np.dtype(dtype).itemsize
    return np.ndarray((len(buffer) - width + 1,), dtype, buffer=buffer.data, strides=(1,))
