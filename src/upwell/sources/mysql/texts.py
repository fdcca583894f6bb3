"""One column of many values as the server prints them in a query's answer, to Arrow arrays.

Our sessions pin the spelling: times in UTC, texts in the character set they are stored in, floats
as doubles, labels and bits as numbers (see ``selected``). So every value comes out as it does from
the log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from upwell.core.protocols import Int64s
from upwell.core.sql import quote
from upwell.sources.mysql.datatypes import DataType, Kind
from upwell.sources.mysql.decoded import Decoded, of_day, of_labels, of_moment, of_text, whole
from upwell.sources.mysql.images import Values
from upwell.sources.mysql.moments import Parts
from upwell.sources.mysql.views import LittleViews, padded
from upwell.sources.postgres.frames import Bytes, corrupt
from upwell.sources.postgres.views import array_of

_HEX = np.full(256, 255, np.uint8)
_HEX[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16, dtype=np.uint8)
#: Where the digits of a UUID stand among its hyphens.
_DIGITS = [at for at in range(36) if at not in (8, 13, 18, 23)]

_Reader = Callable[[LittleViews, Values, DataType], Decoded]


def selected(name: str, kind: DataType) -> str:
    """The column in a SELECT, spelled so that nothing is lost."""
    if kind.kind is Kind.FLOAT:
        return f"{quote(name)} * 1e0"  # printed by itself it would have six digits
    if kind.kind in (Kind.ENUM, Kind.SET, Kind.BIT, Kind.BOOL):
        return f"{quote(name)} + 0"
    return quote(name)


def decode(views: LittleViews, values: Values, kind: DataType) -> Decoded:
    """The column's values as ``kind.arrow``. Raises ``IntegrityError`` for texts that are none."""
    if not values.present.any():
        return whole(pa.nulls(len(values.present), kind.arrow))
    try:
        return _READERS[kind.kind](views, values, kind)
    except (pa.ArrowInvalid, ValueError) as error:
        corrupt(f"a text that is no {kind.stored}: {error}")


def of_strings(strings: Sequence[str], kind: DataType) -> Decoded:
    """Single values as the server prints them."""
    coded = [text.encode() for text in strings]
    lengths = np.array([len(each) for each in coded], np.int64)
    starts = np.cumsum(lengths) - lengths
    present = np.ones(len(coded), np.bool_)
    return decode(LittleViews(padded(coded)), Values(starts, lengths, present), kind)


def _strings(views: LittleViews, values: Values) -> pa.Array:
    return views.big.strings(values.starts, values.lengths, values.present)


def _cast(views: LittleViews, values: Values, kind: DataType) -> Decoded:
    return whole(pc.cast(_strings(views, values), kind.arrow))


def _float(views: LittleViews, values: Values, _kind: DataType) -> Decoded:
    doubles = pc.cast(_strings(views, values), pa.float64())
    return whole(pc.cast(doubles, pa.float32(), safe=False))


def _as_it_is(views: LittleViews, values: Values, _kind: DataType) -> Decoded:
    return whole(_strings(views, values))


def _text(views: LittleViews, values: Values, kind: DataType) -> Decoded:
    return of_text(views.big.binaries(values.starts, values.lengths, values.present), kind)


def _blob(views: LittleViews, values: Values, _kind: DataType) -> Decoded:
    return whole(views.big.binaries(values.starts, values.lengths, values.present))


def _numbers(views: LittleViews, values: Values) -> npt.NDArray[np.uint64]:
    numbers = pc.cast(_strings(views, values), pa.uint64())
    return np.asarray(pc.fill_null(numbers, 0))


def _labels(views: LittleViews, values: Values, kind: DataType) -> Decoded:
    return of_labels(_numbers(views, values), values.present, kind)


def _bool(views: LittleViews, values: Values, _kind: DataType) -> Decoded:
    return whole(pa.array(_numbers(views, values) != 0, mask=~values.present))


def _date(views: LittleViews, values: Values, _kind: DataType) -> Decoded:
    parts = _parts(views, values, has_clock=False, digits=0)
    return of_day(parts.year, parts.month, parts.day, values.present)


def _moment(views: LittleViews, values: Values, kind: DataType) -> Decoded:
    parts = _parts(views, values, has_clock=True, digits=kind.precision)
    return of_moment(parts, values.present, kind)


def _parts(views: LittleViews, values: Values, *, has_clock: bool, digits: int) -> Parts:
    """``2024-02-29 23:59:59.50``: every part has its place."""
    size = (19 + (digits > 0) + digits) if has_clock else 10
    if (values.lengths[values.present] != size).any():
        raise ValueError("a time of another length")
    starts = np.where(values.present, values.starts, 0)

    def number(at: int, width: int) -> Int64s:
        found = np.zeros(len(starts), np.int64)
        for place in range(at, at + width):
            digit = views.bytes[starts + place].astype(np.int64) - ord("0")
            if ((digit < 0) | (digit > 9))[values.present].any():
                raise ValueError("a time with something else than digits")
            found = found * 10 + digit
        return found

    none = np.zeros(len(starts), np.int64)
    hour, minute, second = (number(at, 2) if has_clock else none for at in (11, 14, 17))
    fraction = number(20, digits) * 10 ** (6 - digits) if digits else none
    return Parts(number(0, 4), number(5, 2), number(8, 2), hour, minute, second, fraction)


def _uuid(views: LittleViews, values: Values, kind: DataType) -> Decoded:
    if (values.lengths[values.present] != 36).any():
        raise ValueError("a uuid of wrong length")
    starts = np.where(values.present, values.starts, 0)
    digits: Bytes = np.empty((len(starts), 32), np.uint8)
    for column, at in enumerate(_DIGITS):
        digits[:, column] = _HEX[views.bytes[starts + at]]
    if (digits[values.present] == 255).any():
        raise ValueError("not a hexadecimal digit")
    pairs = (digits[:, 0::2] << 4 | digits[:, 1::2]).astype(np.uint8)
    storage = array_of(pairs, pa.binary(16), values.present)
    return whole(pa.ExtensionArray.from_storage(kind.arrow, storage))


_READERS: dict[Kind, _Reader] = {
    Kind.INT: _cast,
    Kind.FLOAT: _float,
    Kind.DOUBLE: _cast,
    Kind.DECIMAL: _cast,
    Kind.NUMERIC: _as_it_is,
    Kind.YEAR: _cast,
    Kind.DATE: _date,
    Kind.TIME: _as_it_is,
    Kind.DATETIME: _moment,
    Kind.TIMESTAMP: _moment,
    Kind.TEXT: _text,
    Kind.BINARY: _blob,
    Kind.BLOB: _blob,
    Kind.BIT: _cast,
    Kind.BOOL: _bool,
    Kind.ENUM: _labels,
    Kind.SET: _labels,
    Kind.JSON: _as_it_is,
    Kind.GEOMETRY: _blob,
    Kind.UUID: _uuid,
    Kind.INET4: _as_it_is,
    Kind.INET6: _as_it_is,
}
