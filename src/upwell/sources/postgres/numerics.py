"""PostgreSQL's binary ``numeric``: many values at once, to DECIMAL or to exact text.

A numeric on the wire is a count of base-10000 digits, the weight of the first, a sign, the number
of decimals to show, and the digits. A column is evaluated digit place by digit place (Horner's
scheme), for all rows together, in one 64-bit word or, beyond 18 digits, in two.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from upwell.core.protocols import Bools, Int64s
from upwell.sources.postgres.frames import corrupt
from upwell.sources.postgres.views import Views, array_of, validity

_NEGATIVE = 0x4000
_NAN, _INFINITY, _MINUS_INFINITY = 0xC000, 0xD000, 0xF000
_SPECIAL = {_NAN: "NaN", _INFINITY: "Infinity", _MINUS_INFINITY: "-Infinity"}
_DIGITS_IN_A_WORD = 18  # always below 2^63
#: A few bytes may stand for a number of 147,000 digits. So many digits that are not on the wire
#: themselves, nearly all of them zeros, are written for a column in one go, and no more.
_MOST_PADDING = 64 << 20
_USUAL_PADDING = 1000
_LOW_HALF = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)

_LARGEST_DIGIT = 9999
_DIGIT_TOO_LARGE = "a numeric with a digit beyond 9999"

Words = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Numerics:
    """The parts of a column of numerics; those of absent values mean nothing."""

    views: Views
    digits_at: Int64s  # place of the first digit
    count: Int64s
    weight: Int64s
    sign: Int64s
    shown: Int64s  # decimals to show
    present: Bools

    @property
    def is_special(self) -> Bools:
        """NaN and the infinities."""
        return self.present & (self.sign >= _NAN)

    def digit(self, weight: int) -> Int64s:
        """The base-10000 digit of ``weight`` in each row, 0 where there is none."""
        index = self.weight - weight
        has = self.present & (index >= 0) & (index < self.count)
        places = np.where(has, self.digits_at + 2 * index, 0)
        digits = np.where(has, self.views.u2[places], 0).astype(np.int64)
        if (digits > _LARGEST_DIGIT).any():
            corrupt(_DIGIT_TOO_LARGE)
        return digits

    @property
    def padding(self) -> Int64s:
        """How many digits a text has that are not on the wire; 0 where those are not many."""
        finite = self.present & ~self.is_special
        more = 4 * np.maximum(self.weight + 1, 0) + self.shown - 4 * self.count
        return np.where(finite & (more > _USUAL_PADDING), more, 0)


def read(views: Views, starts: Int64s, lengths: Int64s, present: Bools) -> Numerics:
    """Take numerics apart. Raises ``IntegrityError`` for one whose parts contradict each other."""
    heads = np.where(present, starts, 0)
    count, weight, sign, shown = (
        np.where(present, view[heads + shift], 0).astype(np.int64)
        for view, shift in ((views.i2, 0), (views.i2, 2), (views.u2, 4), (views.u2, 6))
    )
    if (present & ((count < 0) | (lengths != 8 + 2 * count))).any():
        corrupt("a numeric whose length is not that of its digits")
    if (present & ~np.isin(sign, (0, _NEGATIVE, *_SPECIAL))).any() or (shown > 0x3FFF).any():
        corrupt("a numeric of unknown sign or scale")
    return Numerics(views, heads + 8, count, weight, sign, shown, present)


def decimals(parts: Numerics, precision: int, scale: int) -> tuple[pa.Array, Bools]:
    """The column as DECIMAL(precision, scale), and which values that cannot hold (NULL there)."""
    top = (precision - scale + 3) // 4 - 1
    bottom = -((scale + 3) // 4)
    last = parts.weight - parts.count + 1  # weight of the last digit
    has_digits = parts.count > 0
    too_wide = has_digits & ((parts.weight > top) | (last < bottom))
    refused = parts.is_special | (parts.present & too_wide)
    fits = parts.present & ~refused
    inside = Numerics(
        parts.views, parts.digits_at, parts.count, parts.weight, parts.sign, parts.shown, fits
    )
    highest = int(parts.weight[fits & has_digits].max(initial=bottom))
    is_wide = precision > _DIGITS_IN_A_WORD
    low = np.zeros(len(fits), np.uint64)
    high = np.zeros(len(fits), np.uint64)
    for weight in range(highest, bottom - 1, -1):
        digit = inside.digit(weight)
        if weight == top and (precision - scale) % 4:
            refused |= digit >= 10 ** ((precision - scale) % 4)
        factor = 10_000
        if weight == bottom and scale % 4:
            factor = 10 ** (scale % 4)
            digit, rest = np.divmod(digit, 10_000 // factor)
            refused |= rest != 0
        if is_wide:
            high, low = _multiply_add(high, low, factor, digit)
        else:
            low = low * np.uint64(factor) + digit.astype(np.uint64)
    negative = parts.sign == _NEGATIVE
    words = np.empty((len(fits), 2), np.uint64)
    words[:, 0] = np.where(negative, ~low + np.uint64(1), low)
    words[:, 1] = np.where(negative, ~high + (low == 0).astype(np.uint64), high)
    return array_of(words, pa.decimal128(precision, scale), parts.present & ~refused), refused


def written(parts: Numerics) -> tuple[pa.Array, Bools]:
    """The column as the text the server prints, and which would fill the memory (NULL there).

    Numbers below 10^16 with at most 16 decimals are written by columns; the rare others singly.
    """
    last = parts.weight - parts.count + 1
    is_usual = parts.present & ~parts.is_special & (parts.shown <= 16)
    is_usual &= (parts.count == 0) | ((parts.weight <= 3) & (last >= -4))
    whole = _evaluate(parts, range(3, -1, -1))
    fraction = _evaluate(parts, range(-1, -5, -1))
    texts = pc.cast(pa.array(whole), pa.string())
    minus = pa.array(np.where(parts.sign == _NEGATIVE, "-", "").astype(object), pa.string())
    for shown in np.unique(parts.shown[is_usual & (parts.shown > 0)]).tolist():
        rows = is_usual & (parts.shown == shown)
        decimal_places = pc.cast(pa.array(fraction // 10 ** (16 - shown)), pa.string())
        padded = pc.utf8_lpad(decimal_places, shown, "0")
        joined = pc.binary_join_element_wise(texts, padded, ".")
        texts = pc.if_else(pa.array(rows), joined, texts)
    texts = pc.binary_join_element_wise(minus, texts, "")
    padding = np.where(is_usual, 0, parts.padding)
    refused = (np.cumsum(padding) > _MOST_PADDING) & (padding > 0)
    is_single = parts.present & ~is_usual & ~refused
    if is_single.any():
        rows = np.flatnonzero(is_single).tolist()
        singly = pa.array([_written_singly(parts, row) for row in rows], pa.string())
        texts = pc.replace_with_mask(texts, pa.array(is_single), singly)
    kept = parts.present & ~refused
    buffers = [validity(kept), *texts.buffers()[1:]]
    return pa.Array.from_buffers(pa.string(), len(texts), buffers), refused


def in_short(parts: Numerics, row: int) -> str:
    """One value as ``written`` has it, or with its power of ten where that would be very long."""
    if not parts.padding[row]:
        return _written_singly(parts, row)
    count = int(parts.count[row])
    digits = "".join(_digits(parts, row)).lstrip("0") or "0"
    sign = "-" if parts.sign[row] == _NEGATIVE else ""
    return f"{sign}{digits}e{4 * (int(parts.weight[row]) - count + 1) if count else 0}"


def _evaluate(parts: Numerics, weights: range) -> Int64s:
    value = np.zeros(len(parts.present), np.int64)
    for weight in weights:
        value = value * 10_000 + parts.digit(weight)
    return value


def _multiply_add(high: Words, low: Words, factor: int, digit: Int64s) -> tuple[Words, Words]:
    """``(high, low) * factor + digit`` in 128 bits."""
    times = np.uint64(factor)
    lower = (low & _LOW_HALF) * times + digit.astype(np.uint64)
    upper = (low >> _HALF) * times + (lower >> _HALF)
    return high * times + (upper >> _HALF), (upper << _HALF) | (lower & _LOW_HALF)


def _written_singly(parts: Numerics, row: int) -> str:
    sign = int(parts.sign[row])
    if sign in _SPECIAL:
        return _SPECIAL[sign]
    weight, shown = int(parts.weight[row]), int(parts.shown[row])
    digits = _digits(parts, row)
    before = "".join(digits[: max(weight + 1, 0)]).ljust(4 * (weight + 1), "0")
    behind = "0000" * min(-weight - 1, shown) + "".join(digits[max(weight + 1, 0) :])
    fraction = "." + behind[:shown].ljust(shown, "0") if shown else ""
    return ("-" if sign == _NEGATIVE else "") + (before.lstrip("0") or "0") + fraction


def _digits(parts: Numerics, row: int) -> list[str]:
    """The base-10000 digits that are on the wire."""
    count, place = int(parts.count[row]), int(parts.digits_at[row])
    digits = struct.unpack_from(f">{count}H", parts.views.bytes.data, place)
    if max(digits, default=0) > _LARGEST_DIGIT:
        corrupt(_DIGIT_TOO_LARGE)
    return [f"{digit:04d}" for digit in digits]
