"""MySQL's packed decimals: many values at once, to DECIMAL or to exact text.

Nine digits take four bytes, fewer take fewer; the first bit is the sign, inverted, and a negative
number has all bits inverted. A column is evaluated group by group for all rows together, in one
64-bit word or, beyond 18 digits, in two.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from upwell.core.protocols import Bools, Int64s
from upwell.sources.mysql.views import LittleViews
from upwell.sources.postgres.frames import corrupt
from upwell.sources.postgres.views import array_of, validity

_BYTES_OF_DIGITS = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)
_DIGITS_IN_A_WORD = 18
_LOW_HALF = np.uint64(0xFFFF_FFFF)
_HALF = np.uint64(32)

Words = npt.NDArray[np.uint64]


def decimals(
    views: LittleViews, starts: Int64s, present: Bools, precision: int, scale: int
) -> pa.Array:
    """The column as DECIMAL(precision, scale)."""
    places = np.where(present, starts, 0)
    negative = present & (views.bytes[places] & 0x80 == 0)
    low, high = np.zeros(len(places), np.uint64), np.zeros(len(places), np.uint64)
    for _, digits, numbers in _groups(views, places, present, precision, scale):
        if precision > _DIGITS_IN_A_WORD:
            high, low = _multiply_add(high, low, 10**digits, numbers)
        else:
            low = low * np.uint64(10**digits) + numbers.astype(np.uint64)
    words = np.empty((len(places), 2), np.uint64)
    words[:, 0] = np.where(negative, ~low + np.uint64(1), low)
    words[:, 1] = np.where(negative, ~high + (low == 0).astype(np.uint64), high)
    return array_of(words, pa.decimal128(precision, scale), present)


def written(
    views: LittleViews, starts: Int64s, present: Bools, precision: int, scale: int
) -> pa.Array:
    """The column as the text the server prints: all decimals, no leading zeros."""
    places = np.where(present, starts, 0)
    whole: list[pa.Array] = []
    decimal_places: list[pa.Array] = []
    is_zero = np.ones(len(places), np.bool_)
    for is_whole, digits, numbers in _groups(views, places, present, precision, scale):
        is_zero &= numbers == 0
        text = pc.utf8_lpad(pc.cast(pa.array(numbers), pa.string()), digits, "0")
        (whole if is_whole else decimal_places).append(text)
    negative = present & (views.bytes[places] & 0x80 == 0) & ~is_zero
    digits_before = pc.utf8_ltrim(_joined(whole, len(places)), "0")
    shown = pc.if_else(pc.equal(digits_before, ""), "0", digits_before)
    if scale:
        shown = pc.binary_join_element_wise(shown, _joined(decimal_places, len(places)), ".")
    minus = pc.if_else(pa.array(negative), "-", "")
    texts = pc.binary_join_element_wise(minus, shown, "")
    buffers = [validity(present), *texts.buffers()[1:]]
    return pa.Array.from_buffers(pa.string(), len(texts), buffers)


def _groups(
    views: LittleViews, places: Int64s, present: Bools, precision: int, scale: int
) -> Iterator[tuple[bool, int, Int64s]]:
    """Groups of digits from the front: whether before the point, how many digits, the numbers."""
    mask = np.where(views.bytes[places] & 0x80 == 0, -1, 0).astype(np.int64)
    whole, rest = divmod(precision - scale, 9)
    decimal_groups, decimal_rest = divmod(scale, 9)
    sizes = [(True, rest)] if rest else []
    sizes += [(True, 9)] * whole + [(False, 9)] * decimal_groups
    sizes += [(False, decimal_rest)] if decimal_rest else []
    at = places
    for index, (is_whole, digits) in enumerate(sizes):
        width = _BYTES_OF_DIGITS[digits]
        numbers = views.big_number(at, width)
        if index == 0:
            numbers ^= 0x80 << 8 * (width - 1)
        numbers = (numbers ^ mask) & ((1 << 8 * width) - 1)
        numbers = np.where(present, numbers, 0)
        if (numbers >= 10**digits).any():
            corrupt("a decimal with more digits than its type has")
        yield is_whole, digits, numbers
        at = at + width


def _joined(parts: list[pa.Array], count: int) -> pa.Array:
    if not parts:
        return pa.array([""] * count, pa.string())
    return pc.binary_join_element_wise(*parts, "") if len(parts) > 1 else parts[0]


def _multiply_add(high: Words, low: Words, factor: int, numbers: Int64s) -> tuple[Words, Words]:
    """``(high, low) * factor + numbers`` in 128 bits; ``factor`` has at most 32."""
    times = np.uint64(factor)
    lower = (low & _LOW_HALF) * times + numbers.astype(np.uint64)
    upper = (low >> _HALF) * times + (lower >> _HALF)
    return high * times + (upper >> _HALF), (upper << _HALF) | (lower & _LOW_HALF)
