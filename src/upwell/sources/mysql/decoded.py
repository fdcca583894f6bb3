"""A decoded column, and the kinds that the log and a query's answer share."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from upwell.core.protocols import Bools, Int64s
from upwell.sources.mysql.charsets import decoded as text_decoded
from upwell.sources.mysql.datatypes import DataType, Kind
from upwell.sources.mysql.moments import Parts, days, moments
from upwell.sources.postgres.frames import corrupt
from upwell.sources.postgres.views import array_of


@dataclass(frozen=True, slots=True)
class Decoded:
    """A column: its values, and which of them it cannot hold (NULL there), each as text."""

    array: pa.Array
    refused: Bools
    raw: list[str]


def whole(array: pa.Array) -> Decoded:
    """A column that holds all its values."""
    return Decoded(array, np.zeros(len(array), np.bool_), [])


def of_text(binaries: pa.Array, kind: DataType) -> Decoded:
    """Texts in the column's character set."""
    strings, refused = text_decoded(binaries, kind.charset)
    if not refused.any():
        return whole(strings)
    raw = [value.hex() for value in binaries.filter(pa.array(refused)).to_pylist()]
    return Decoded(strings, refused, raw)


def of_day(year: Int64s, month: Int64s, day: Int64s, present: Bools) -> Decoded:
    """A DATE."""
    found, is_real = days(year, month, day)
    refused = present & ~is_real
    kept = np.where(is_real, found, 0).astype(np.int32)
    array = array_of(kept, pa.date32(), present & ~refused)
    if not refused.any():
        return whole(array)
    none = np.zeros(len(year), np.int64)
    parts = Parts(year, month, day, none, none, none, none)
    return Decoded(array, refused, parts.texts(refused, -1))


def of_moment(parts: Parts, present: Bools, kind: DataType) -> Decoded:
    """A DATETIME, or a TIMESTAMP in UTC."""
    found, is_real = moments(parts)
    refused = present & ~is_real
    array = array_of(np.where(is_real, found, 0), kind.arrow, present & ~refused)
    if not refused.any():
        return whole(array)
    return Decoded(array, refused, parts.texts(refused, kind.precision))


def of_labels(numbers: npt.NDArray[np.uint64], present: Bools, kind: DataType) -> Decoded:
    """An ENUM's number of a label (0: an empty text), or a SET's bits."""
    codes, places = np.unique(np.where(present, numbers, 0), return_inverse=True)
    labels = kind.labels
    texts: list[str] = []
    for code in codes.tolist():
        if kind.kind is Kind.ENUM:
            if code > len(labels):
                corrupt("an enum with the number of no label")
            texts.append(labels[code - 1] if code else "")
        else:
            if code >> len(labels):
                corrupt("a set with a bit of no label")
            texts.append(",".join(each for bit, each in enumerate(labels) if code >> bit & 1))
    return whole(pa.array(texts, pa.string()).take(pa.array(places, mask=~present)))


def of_address(matrix: npt.NDArray[np.uint8], present: Bools) -> pa.Array:
    """INET4 or INET6 as the server prints it, from four or sixteen bytes a row."""
    values, places = np.unique(matrix, axis=0, return_inverse=True)
    show = _inet4 if matrix.shape[1] == 4 else _inet6
    texts = pa.array([show(row.tobytes()) for row in values], pa.string())
    return texts.take(pa.array(places.reshape(-1), mask=~present))


def _inet4(value: bytes) -> str:
    return str(ipaddress.IPv4Address(value))


def _inet6(value: bytes) -> str:
    """As the server prints it: the first longest run of zeros is left out, be it one alone, and the
    last four bytes are IPv4 where the first ten or twelve are zero.
    """
    if value[:12] == bytes(10) + b"\xff\xff":
        return f"::ffff:{ipaddress.IPv4Address(value[12:])}"
    if value[:12] == bytes(12) and value[12:14] != bytes(2):
        return f"::{ipaddress.IPv4Address(value[12:])}"
    groups = [f"{value[at] << 8 | value[at + 1]:x}" for at in range(0, 16, 2)]
    begin, size = _longest_zeros(groups)
    if not size:
        return ":".join(groups)
    return f"{':'.join(groups[:begin])}::{':'.join(groups[begin + size :])}"


def _longest_zeros(groups: list[str]) -> tuple[int, int]:
    best, at = (0, 0), 0
    while at < len(groups):
        end = at
        while end < len(groups) and groups[end] == "0":
            end += 1
        if end - at > best[1]:
            best = (at, end - at)
        at = max(end, at + 1)
    return best
