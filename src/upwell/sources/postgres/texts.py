"""One column of many values as the server prints them, to Arrow arrays.

The session pins the spelling (ISO dates in UTC, hex bytea, shortest exact floats), and Arrow's own
parsers read nearly everything by columns. What they do not know (infinity, years before Christ or
past 9999) is rare and read singly.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upwell.core.protocols import Bools
from upwell.sources.postgres.datatypes import DataType, Kind
from upwell.sources.postgres.frames import Bytes, corrupt
from upwell.sources.postgres.views import array_of, validity

_DAY_US = 86_400_000_000
_INFINITE_DAYS, _INFINITE_US = 2**31 - 1, 2**63 - 1
_UNUSUAL_DATE = re.compile(
    r"(\d{4,7})-(\d\d)-(\d\d)(?: (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?)?(?:\+00)?( BC)?"
)
#: So many are turned into bytes at a time: what lies between takes no more memory for more.
_BLOCK_DIGITS = 1 << 20
_HEX = np.full(256, 255, np.uint8)
_HEX[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16, dtype=np.uint8)


def parse(strings: pa.Array, data_type: DataType) -> tuple[pa.Array, Bools]:
    """The column as ``data_type.arrow``, and which values it cannot hold (NULL there).

    Raises ``IntegrityError`` for a text that is no value of its type.
    """
    read = _PARSERS.get(data_type.kind)
    if read is None:
        return strings, np.zeros(len(strings), np.bool_)
    try:
        return read(strings, data_type)
    except (pa.ArrowInvalid, ValueError):  # whose words repeat the value, which may be private
        corrupt(f"a text that is no {data_type.stored}")


_Parser = Callable[[pa.Array, DataType], tuple[pa.Array, Bools]]


def _cast(strings: pa.Array, data_type: DataType) -> tuple[pa.Array, Bools]:
    return pc.cast(strings, data_type.arrow), np.zeros(len(strings), np.bool_)


def _bool(strings: pa.Array, _type: DataType) -> tuple[pa.Array, Bools]:
    if not pc.all(pc.is_in(strings, pa.array(["t", "f", None], strings.type))).as_py():
        raise ValueError("neither t nor f")
    return pc.equal(strings, "t"), np.zeros(len(strings), np.bool_)


def _decimal(strings: pa.Array, data_type: DataType) -> tuple[pa.Array, Bools]:
    """NaN and the infinities have no place in a DECIMAL."""
    refused = _mask(pc.is_in(strings, pa.array(["NaN", "Infinity", "-Infinity"], strings.type)))
    kept = pc.if_else(pa.array(refused), pa.scalar(None, strings.type), strings)
    return pc.cast(kept, data_type.arrow), refused


def _date(strings: pa.Array, data_type: DataType) -> tuple[pa.Array, Bools]:
    usual = _mask(pc.equal(pc.binary_length(strings), 10))
    dates = pc.cast(_only(strings, usual), pa.date32()).cast(pa.int32())
    return _with_unusual(strings, usual, dates, data_type)


def _timestamp(strings: pa.Array, data_type: DataType) -> tuple[pa.Array, Bools]:
    """``2024-02-29 23:59:59.5``, with ``+00`` behind it where there is a time zone."""
    bare = strings
    if data_type.kind is Kind.TIMESTAMPTZ:
        is_usual = pc.ends_with(strings, "+00")
        bare = pc.if_else(is_usual, pc.utf8_slice_codeunits(strings, 0, -3), strings)
    usual = _mask(pc.match_substring_regex(bare, r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?$"))
    moments = pc.cast(_only(bare, usual), pa.timestamp("us")).cast(pa.int64())
    return _with_unusual(strings, usual, moments, data_type)


def _with_unusual(
    strings: pa.Array, usual: Bools, numbers: pa.Array, data_type: DataType
) -> tuple[pa.Array, Bools]:
    """Fill in what Arrow's parsers did not know."""
    present = _mask(pc.is_valid(strings))
    values = np.asarray(pc.fill_null(numbers, 0)).astype(np.int64)
    refused = np.zeros(len(strings), np.bool_)
    is_date = data_type.kind is Kind.DATE
    infinite = _INFINITE_DAYS if is_date else _INFINITE_US
    for row in np.flatnonzero(present & ~usual).tolist():
        text = strings[row].as_py()
        if text in ("infinity", "-infinity"):
            values[row] = infinite if text == "infinity" else -infinite
            continue
        value = _days_or_microseconds(text, is_date=is_date)
        refused[row] = not -infinite < value < infinite
        values[row] = 0 if refused[row] else value
    native = values.astype(np.int32) if is_date else values
    return array_of(native, data_type.arrow, present & ~refused), refused


def _days_or_microseconds(text: str, *, is_date: bool) -> int:
    match = _UNUSUAL_DATE.fullmatch(text)
    if match is None:
        raise ValueError(text)
    year = int(match[1]) if match[8] is None else 1 - int(match[1])
    month, day = int(match[2]), int(match[3])
    days = _days_from_civil(year, month, day)
    next_month = _days_from_civil(year + month // 12, month % 12 + 1, 1)
    if not (1 <= month <= 12 and day >= 1 and days < next_month):
        raise ValueError(text)
    if is_date:
        return days
    hour, minute, second = int(match[4]), int(match[5]), int(match[6])
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError(text)
    seconds = (hour * 60 + minute) * 60 + second
    return days * _DAY_US + seconds * 1_000_000 + int((match[7] or "").ljust(6, "0"))


def _days_from_civil(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 in the Gregorian calendar, any year, counted from March."""
    year -= month <= 2
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return (
        era * 146_097
        + year_of_era * 365
        + year_of_era // 4
        - year_of_era // 100
        + (day_of_year - 719_468)
    )


def _uuid(strings: pa.Array, data_type: DataType) -> tuple[pa.Array, Bools]:
    present = _mask(pc.is_valid(strings))
    digits = pc.fill_null(pc.replace_substring(strings, "-", ""), "0" * 32)
    if not pc.all(pc.equal(pc.binary_length(digits), 32)).as_py():
        raise ValueError("a uuid of wrong length")
    storage = array_of(_unhex(digits).reshape(-1, 16), pa.binary(16), present)
    uuids = pa.ExtensionArray.from_storage(data_type.arrow, storage)
    return uuids, np.zeros(len(strings), np.bool_)


def _bytea(strings: pa.Array, _type: DataType) -> tuple[pa.Array, Bools]:
    r"""``\x`` and two hexadecimal digits a byte."""
    present = _mask(pc.is_valid(strings))
    if not pc.all(pc.starts_with(strings, "\\x")).as_py() and present.any():
        raise ValueError("a bytea without \\x")
    digits = pc.fill_null(pc.utf8_slice_codeunits(strings, 2), "")
    lengths = np.asarray(pc.binary_length(digits))
    if (lengths % 2).any():
        raise ValueError("a bytea with half a byte")
    data = _unhex(digits)
    is_wide = len(data) > np.iinfo(np.int32).max
    offsets = np.zeros(len(digits) + 1, np.int64 if is_wide else np.int32)
    np.cumsum(lengths // 2, out=offsets[1:])
    buffers = [validity(present), pa.py_buffer(offsets), pa.py_buffer(data)]
    kind = pa.large_binary() if is_wide else pa.binary()
    binaries = pa.Array.from_buffers(kind, len(digits), buffers)
    return binaries, np.zeros(len(strings), np.bool_)


def _unhex(digits: pa.Array) -> Bytes:
    """All hexadecimal digits of a column, two to a byte, as one run."""
    joined = pa.concat_arrays([digits])
    _, offsets_buffer, data = joined.buffers()
    width = np.int64 if pa.types.is_large_string(joined.type) else np.int32
    offsets = np.frombuffer(offsets_buffer, width)
    first, last = int(offsets[joined.offset]), int(offsets[joined.offset + len(joined)])
    written = np.frombuffer(data, np.uint8)[first:last] if data is not None else _HEX[:0]
    found = np.empty(len(written) // 2, np.uint8)
    for block in range(0, len(written), _BLOCK_DIGITS):
        nibbles = _HEX[written[block : block + _BLOCK_DIGITS]]
        if (nibbles == 255).any():
            raise ValueError("not a hexadecimal digit")
        found[block // 2 :][: len(nibbles) // 2] = nibbles[0::2] << 4 | nibbles[1::2]
    return found


def _only(strings: pa.Array, rows: Bools) -> pa.Array:
    return pc.if_else(pa.array(rows), strings, pa.scalar(None, strings.type))


def _mask(booleans: pa.Array) -> Bools:
    """Arrow booleans to NumPy; NULL is False."""
    mask: Bools = np.asarray(pc.fill_null(booleans, False))
    return mask


_PARSERS: dict[Kind, _Parser] = {
    Kind.BOOL: _bool,
    Kind.INT2: _cast,
    Kind.INT4: _cast,
    Kind.INT8: _cast,
    Kind.OID: _cast,
    Kind.FLOAT4: _cast,
    Kind.FLOAT8: _cast,
    Kind.DECIMAL: _decimal,
    Kind.DATE: _date,
    Kind.TIMESTAMP: _timestamp,
    Kind.TIMESTAMPTZ: _timestamp,
    Kind.UUID: _uuid,
    Kind.BYTEA: _bytea,
}
