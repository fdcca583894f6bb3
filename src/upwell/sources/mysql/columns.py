"""One column of many values at a time: bytes of the log to Arrow arrays.

Values lie scattered in one buffer; fixed-width types are one gather, variable ones one Arrow
``take`` over the buffer itself. The arrays own their bytes. Nothing is lost silently: a value that
the stored type cannot hold is NULL *and* refused with its text. A value that no server writes is an
``IntegrityError``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from upwell.core.protocols import Bools, Int64s
from upwell.sources.mysql import decimals, moments
from upwell.sources.mysql.binary_json import json_text
from upwell.sources.mysql.datatypes import DataType, Kind
from upwell.sources.mysql.decoded import (
    Decoded,
    of_address,
    of_day,
    of_labels,
    of_moment,
    of_text,
    whole,
)
from upwell.sources.mysql.images import Values
from upwell.sources.mysql.moments import Parts
from upwell.sources.mysql.views import LittleViews
from upwell.sources.mysql.wires import Wire
from upwell.sources.postgres.frames import corrupt
from upwell.sources.postgres.views import array_of

_OLD_TIME, _OLD_DATETIME, _OLD_TIMESTAMP = 11, 12, 7
_DATETIME_ZERO = 0x80_0000_0000
_YEAR_ZERO = 1900

_Reader = Callable[[LittleViews, Values, DataType, Wire], Decoded]


def decode(views: LittleViews, values: Values, kind: DataType, wire: Wire) -> Decoded:
    """The column's values as ``kind.arrow``."""
    if not values.present.any():
        return whole(pa.nulls(len(values.present), kind.arrow))
    return _READERS[kind.kind](views, values, kind, wire)


def _int(views: LittleViews, values: Values, kind: DataType, wire: Wire) -> Decoded:
    width, starts = wire.width, values.starts
    numbers: npt.NDArray[Any]
    if width == 1:
        numbers = views.bytes[starts]
    elif width == 3:
        numbers = views.u4[starts] & 0xFFFFFF
        if kind.is_signed:
            numbers = ((numbers ^ 0x800000).astype(np.int32)) - 0x800000
    else:
        numbers = {2: views.u2, 4: views.u4, 8: views.u8}[width][starts]
    native = np.dtype(kind.arrow.to_pandas_dtype())
    return whole(array_of(numbers.astype(native), kind.arrow, values.present))


def _float(views: LittleViews, values: Values, kind: DataType, wire: Wire) -> Decoded:
    numbers = views.f4[values.starts] if wire.width == 4 else views.f8[values.starts]
    native = np.float32 if wire.width == 4 else np.float64
    return whole(array_of(numbers.astype(native), kind.arrow, values.present))


def _decimal(views: LittleViews, values: Values, kind: DataType, _wire: Wire) -> Decoded:
    read = decimals.decimals if kind.kind is Kind.DECIMAL else decimals.written
    return whole(read(views, values.starts, values.present, kind.precision, kind.scale))


def _year(views: LittleViews, values: Values, kind: DataType, _wire: Wire) -> Decoded:
    numbers = views.bytes[values.starts].astype(np.int16)
    years = np.where(numbers == 0, 0, numbers + _YEAR_ZERO).astype(np.int16)
    return whole(array_of(years, kind.arrow, values.present))


def _date(views: LittleViews, values: Values, _kind: DataType, _wire: Wire) -> Decoded:
    packed = (views.u4[values.starts] & 0xFFFFFF).astype(np.int64)
    return of_day(packed >> 9, packed >> 5 & 15, packed & 31, values.present)


def _datetime(views: LittleViews, values: Values, kind: DataType, wire: Wire) -> Decoded:
    if wire.code == _OLD_DATETIME:
        packed = views.i8[values.starts].astype(np.int64)
        day, clock = packed // 1_000_000, packed % 1_000_000
        parts = Parts(
            day // 10_000,
            day // 100 % 100,
            day % 100,
            clock // 10_000,
            clock // 100 % 100,
            clock % 100,
            np.zeros(len(packed), np.int64),
        )
        return of_moment(parts, values.present, kind)
    packed = views.big_number(values.starts, 5) - _DATETIME_ZERO
    if (packed[values.present] < 0).any():
        corrupt("a datetime below zero")
    day, clock = packed >> 17, packed & 0x1FFFF
    months = day >> 5
    parts = Parts(
        months // 13,
        months % 13,
        day & 31,
        clock >> 12,
        clock >> 6 & 63,
        clock & 63,
        _microseconds(views, values.starts + 5, wire),
    )
    return of_moment(parts, values.present, kind)


def _timestamp(views: LittleViews, values: Values, kind: DataType, wire: Wire) -> Decoded:
    if wire.code == _OLD_TIMESTAMP:
        seconds = views.u4[values.starts].astype(np.int64)
        fraction = np.zeros(len(seconds), np.int64)
    else:
        seconds = views.big_number(values.starts, 4)
        fraction = _microseconds(views, values.starts + 4, wire)
    refused = values.present & (seconds == 0)
    found = np.where(refused, 0, seconds * 1_000_000 + fraction)
    array = array_of(found, kind.arrow, values.present & ~refused)
    if not refused.any():
        return whole(array)
    none = np.zeros(len(seconds), np.int64)
    zero = Parts(none, none, none, none, none, none, none)
    return Decoded(array, refused, zero.texts(refused, kind.precision))


def _time(views: LittleViews, values: Values, _kind: DataType, wire: Wire) -> Decoded:
    none = np.zeros(len(values.starts), np.int64)
    if wire.code == _OLD_TIME:
        packed = (views.u4[values.starts] & 0xFFFFFF).astype(np.int64)
        signed = (packed ^ 0x800000) - 0x800000
        negative, size = signed < 0, np.abs(signed)
        hour, minute, second, fraction = size // 10_000, size // 100 % 100, size % 100, none
    else:
        fraction_bytes = wire.width - 3
        signed = views.big_number(values.starts, wire.width) - (0x800000 << 8 * fraction_bytes)
        negative, size = signed < 0, np.abs(signed)
        clock = size >> 8 * fraction_bytes
        hour, minute, second = clock >> 12 & 0x3FF, clock >> 6 & 63, clock & 63
        fraction = size & ((1 << 8 * fraction_bytes) - 1)
        fraction = fraction // 10 if wire.digits % 2 else fraction
    if (minute[values.present] > 59).any() or (second[values.present] > 59).any():
        corrupt("a time with more than 59 minutes or seconds")
    texts = moments.times(negative, (hour, minute, second), fraction, wire.digits)
    return whole(_where(texts, values.present))


def _text(views: LittleViews, values: Values, kind: DataType, wire: Wire) -> Decoded:
    return of_text(_binaries(views, values, wire), kind)


def _blob(views: LittleViews, values: Values, _kind: DataType, wire: Wire) -> Decoded:
    return whole(_binaries(views, values, wire))


def _binary(views: LittleViews, values: Values, kind: DataType, _wire: Wire) -> Decoded:
    return whole(of_matrix(_matrix(views, values, kind), values.present))


def _uuid(views: LittleViews, values: Values, kind: DataType, _wire: Wire) -> Decoded:
    storage = array_of(_matrix(views, values, kind), pa.binary(16), values.present)
    return whole(pa.ExtensionArray.from_storage(kind.arrow, storage))


def _address(views: LittleViews, values: Values, kind: DataType, _wire: Wire) -> Decoded:
    return whole(of_address(_matrix(views, values, kind), values.present))


def _bit(views: LittleViews, values: Values, kind: DataType, wire: Wire) -> Decoded:
    numbers = views.big_number(values.starts, wire.width).astype(np.uint64)
    return whole(array_of(numbers, kind.arrow, values.present))


def _bool(views: LittleViews, values: Values, _kind: DataType, _wire: Wire) -> Decoded:
    return whole(pa.array(views.bytes[values.starts] != 0, mask=~values.present))


def _labels(views: LittleViews, values: Values, kind: DataType, wire: Wire) -> Decoded:
    numbers = np.zeros(len(values.starts), np.uint64)
    for place in range(wire.width):
        byte = views.bytes[values.starts + place].astype(np.uint64)
        numbers |= byte << np.uint64(8 * place)
    return of_labels(numbers, values.present, kind)


def _json(views: LittleViews, values: Values, _kind: DataType, wire: Wire) -> Decoded:
    texts = [
        None if value is None else json_text(value)
        for value in _binaries(views, values, wire).to_pylist()
    ]
    return whole(pa.array(texts, pa.string()))


def _binaries(views: LittleViews, values: Values, wire: Wire) -> pa.Array:
    if not wire.prefix:
        corrupt("bytes of a number where a text should be")
    return views.big.binaries(values.starts, values.lengths, values.present)


def _matrix(views: LittleViews, values: Values, kind: DataType) -> npt.NDArray[np.uint8]:
    """Values of fixed length, whose last zeros the log leaves out."""
    if (values.lengths > kind.length).any():
        corrupt("a value longer than its type")
    matrix = np.zeros((len(values.starts), kind.length), np.uint8)
    for place in range(kind.length):
        has = values.present & (values.lengths > place)
        matrix[has, place] = views.bytes[values.starts[has] + place]
    return matrix


def of_matrix(matrix: npt.NDArray[np.uint8], present: Bools) -> pa.Array:
    """A row of bytes each, as a column of byte strings."""
    width = matrix.shape[1]
    storage = array_of(matrix, pa.binary(width), present)
    return storage.cast(pa.binary())


def _microseconds(views: LittleViews, places: Int64s, wire: Wire) -> Int64s:
    """Behind the second stand as many bytes as hold the digits, two a byte."""
    width = (wire.digits + 1) // 2
    numbers = views.big_number(places, width) % 100**width  # of absent values it may be anything
    microseconds: Int64s = numbers * 100 ** (3 - width)
    return microseconds


def _where(texts: pa.Array, present: Bools) -> pa.Array:
    if present.all():
        return texts
    return texts.take(pa.array(np.arange(len(present)), mask=~present))


_READERS: dict[Kind, _Reader] = {
    Kind.INT: _int,
    Kind.FLOAT: _float,
    Kind.DOUBLE: _float,
    Kind.DECIMAL: _decimal,
    Kind.NUMERIC: _decimal,
    Kind.YEAR: _year,
    Kind.DATE: _date,
    Kind.TIME: _time,
    Kind.DATETIME: _datetime,
    Kind.TIMESTAMP: _timestamp,
    Kind.TEXT: _text,
    Kind.BINARY: _binary,
    Kind.BLOB: _blob,
    Kind.BIT: _bit,
    Kind.BOOL: _bool,
    Kind.ENUM: _labels,
    Kind.SET: _labels,
    Kind.JSON: _json,
    Kind.GEOMETRY: _blob,
    Kind.UUID: _uuid,
    Kind.INET4: _address,
    Kind.INET6: _address,
}
