"""One column of many values at a time: wire bytes to Arrow arrays.

Values lie scattered in one byte buffer; a column is given by where each value starts and how long
it is. Fixed-width types are one strided gather, variable-width ones one Arrow ``take`` over the
buffer itself. The arrays own their bytes, so the buffer may be reused at once.

Nothing is lost silently: a value that the stored type cannot hold becomes NULL *and* a ``Refusal``
with its text. A value of impossible length is an ``IntegrityError``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from upwell.core.protocols import Bools, Int64s, Refusal
from upwell.sources.postgres import numerics, texts
from upwell.sources.postgres.datatypes import DataType, Kind
from upwell.sources.postgres.frames import Bytes, corrupt
from upwell.sources.postgres.views import Views, array_of, validity
from upwell.sources.postgres.wal import EARLIEST_DAYS, EARLIEST_US, EPOCH_DAYS, EPOCH_US

NULL, UNCHANGED, TEXT, BINARY = (ord(letter) for letter in "nutb")

_INT32_MAX, _INT64_MAX = np.iinfo(np.int32).max, np.iinfo(np.int64).max
_DAY_US = 86_400_000_000
_INT32_MIN, _INT64_MIN = np.iinfo(np.int32).min, np.iinfo(np.int64).min


class BinaryUnsupportedError(Exception):
    """A binary value of a type we read only as text: ask the server for text, then try again."""


@dataclass(frozen=True, slots=True)
class Values:
    """Where a column's values lie: kind (``n``, ``u``, ``t``, ``b``), start and length of each."""

    kinds: Bytes
    starts: Int64s
    lengths: Int64s

    def where(self, rows: Bools | Int64s) -> Values:
        """The values of some rows."""
        return Values(self.kinds[rows], self.starts[rows], self.lengths[rows])

    def or_else(self, rows: Int64s, other: Values) -> Values:
        """With the values of ``rows`` replaced by ``other``'s."""
        kinds, starts, lengths = self.kinds.copy(), self.starts.copy(), self.lengths.copy()
        kinds[rows], starts[rows], lengths[rows] = other.kinds, other.starts, other.lengths
        return Values(kinds, starts, lengths)


@dataclass(frozen=True, slots=True)
class Decoded:
    """A column: its values, and those it cannot hold (NULL in ``array``)."""

    array: pa.Array
    refusal: Refusal | None = None


def decode(views: Views, values: Values, data_type: DataType) -> Decoded:
    """The column's values as ``data_type.arrow``. NULL and unchanged values are NULL."""
    is_binary = values.kinds == BINARY
    is_text = values.kinds == TEXT
    if not is_text.any():
        return _decode_binary(views, values, data_type, is_binary)
    found = _strings(views, values.starts, values.lengths, is_text)
    array, refused = texts.parse(found.array, data_type)
    refusal = _united(found.refusal, _refusal(data_type, refused, found.array))
    decoded = Decoded(array, refusal)
    if not is_binary.any():
        return decoded
    return _merged(_decode_binary(views, values, data_type, is_binary), decoded, is_binary)


def _decode_binary(views: Views, values: Values, data_type: DataType, present: Bools) -> Decoded:
    if not present.any():
        return Decoded(pa.nulls(len(present), data_type.arrow))
    width, read = _READERS.get(data_type.kind, (0, _unreadable))
    if width and (values.lengths[present] != width).any():
        corrupt(f"a {data_type.stored} value that is not {width} bytes long")
    return read(views, values, data_type, present)


def _merged(binary: Decoded, text: Decoded, is_binary: Bools) -> Decoded:
    """One column of values that came in both forms: no server sends this, yet it may."""
    chunks = pa.chunked_array([binary.array, text.array])
    count = len(is_binary)
    order = np.arange(count) + np.where(is_binary, 0, count)
    array = chunks.take(pa.array(order)).combine_chunks()
    return Decoded(array, _united(binary.refusal, text.refusal))


def _united(one: Refusal | None, other: Refusal | None) -> Refusal | None:
    """Both, of different rows, under the reason of the first."""
    if one is None or other is None:
        return one or other
    raw = np.empty(len(one.rows), object)
    raw[one.rows], raw[other.rows] = list(one.raw), list(other.raw)
    rows = one.rows | other.rows
    return Refusal(one.reason, rows, raw[rows].tolist())


def _refusal(data_type: DataType, refused: Bools, strings: pa.Array) -> Refusal | None:
    if not refused.any():
        return None
    raw = strings.filter(pa.array(refused)).to_pylist()
    return Refusal(f"{data_type.stored} cannot hold this value", refused, raw)


def _strings(views: Views, starts: Int64s, lengths: Int64s, present: Bools) -> Decoded:
    """Texts. A database holds what no encoding allows where it was written by older servers or by
    functions that look at bytes only; the server hands it on unseen.
    """
    try:
        return Decoded(views.strings(starts, lengths, present))
    except UnicodeError:
        raw = views.binaries(starts, lengths, present).to_pylist()
    refused = np.array([value is not None and not _is_utf8(value) for value in raw], np.bool_)
    reason = "it is no text of the database's encoding"
    refusal = Refusal(reason, refused, [_escaped(raw[row]) for row in np.flatnonzero(refused)])
    return Decoded(views.strings(starts, lengths, present & ~refused), refusal)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _escaped(value: bytes) -> str:
    r"""What can be read as it is; every other byte as ``\xe9``."""
    return value.decode(errors="backslashreplace")


# ── one reader a kind ────────────────────────────────────────────────────────────────────────────

_Reader = Callable[[Views, Values, DataType, Bools], Decoded]


def _unreadable(_views: Views, _values: Values, data_type: DataType, _present: Bools) -> Decoded:
    raise BinaryUnsupportedError(data_type.stored)


def _fixed(view: str, native: npt.DTypeLike) -> _Reader:
    """A reader for numbers that Arrow holds as they are, byte order apart."""

    def read(views: Views, values: Values, data_type: DataType, present: Bools) -> Decoded:
        gathered = getattr(views, view)[values.starts]
        return Decoded(array_of(gathered.astype(native), data_type.arrow, present))

    return read


def _float(view: str, native: npt.DTypeLike) -> _Reader:
    """A reader for floating point; every NaN becomes the one that text can say.

    To PostgreSQL all are equal and print alike, DuckDB shows the sign of one (``-nan``).
    """

    def read(views: Views, values: Values, data_type: DataType, present: Bools) -> Decoded:
        gathered = getattr(views, view)[values.starts].astype(native)
        gathered[np.isnan(gathered)] = np.nan
        return Decoded(array_of(gathered, data_type.arrow, present))

    return read


def _bool(views: Views, values: Values, data_type: DataType, present: Bools) -> Decoded:
    bits = np.packbits(views.bytes[values.starts] != 0, bitorder="little")
    buffers = [validity(present), pa.py_buffer(bits)]
    return Decoded(pa.Array.from_buffers(data_type.arrow, len(present), buffers))


def _text(views: Views, values: Values, _type: DataType, present: Bools) -> Decoded:
    return _strings(views, values.starts, values.lengths, present)


def _jsonb(views: Views, values: Values, _type: DataType, present: Bools) -> Decoded:
    """A version byte, then text."""
    if (values.lengths[present] < 1).any() or (views.bytes[values.starts[present]] != 1).any():
        corrupt("a jsonb value of an unknown version")
    return _strings(views, values.starts + 1, values.lengths - 1, present)


def _bytea(views: Views, values: Values, _type: DataType, present: Bools) -> Decoded:
    return Decoded(views.binaries(values.starts, values.lengths, present))


def _uuid(views: Views, values: Values, data_type: DataType, present: Bools) -> Decoded:
    halves = np.empty((len(present), 2), ">i8")
    halves[:, 0] = views.i8[values.starts]
    halves[:, 1] = views.i8[values.starts + 8]
    storage = array_of(halves, pa.binary(16), present)
    return Decoded(pa.ExtensionArray.from_storage(data_type.arrow, storage))


def _date(views: Views, values: Values, data_type: DataType, present: Bools) -> Decoded:
    days = views.i4[values.starts].astype(np.int64)
    shifted = days + EPOCH_DAYS
    is_late, is_early = days == _INT32_MAX, days == _INT32_MIN
    refused = present & (shifted >= _INT32_MAX) & ~is_late
    refused |= present & (days < EARLIEST_DAYS) & ~is_early
    shifted[is_late], shifted[is_early] = _INT32_MAX, -_INT32_MAX
    array = array_of(shifted.astype(np.int32), data_type.arrow, present & ~refused)
    if not refused.any():
        return Decoded(array)
    return Decoded(array, _refusal(data_type, refused, _day_texts(days)))


def _timestamp(views: Views, values: Values, data_type: DataType, present: Bools) -> Decoded:
    moments = views.i8[values.starts].astype(np.int64)
    is_late, is_early = moments == _INT64_MAX, moments == _INT64_MIN
    refused = present & (moments >= _INT64_MAX - EPOCH_US) & ~is_late
    refused |= present & (moments < EARLIEST_US) & ~is_early
    shifted = np.where(is_late | is_early | refused, 0, moments) + EPOCH_US
    shifted[is_late], shifted[is_early] = _INT64_MAX, -_INT64_MAX
    array = array_of(shifted, data_type.arrow, present & ~refused)
    if not refused.any():
        return Decoded(array)
    days, within = np.divmod(moments, _DAY_US)
    clocks = pa.array(within).cast(pa.time64("us")).cast(pa.string())
    clocks = pc.utf8_rtrim(pc.utf8_rtrim(clocks, "0"), ".")
    written = pc.binary_join_element_wise(_day_texts(days), clocks, " ")
    if data_type.kind is Kind.TIMESTAMPTZ:
        written = pc.binary_join_element_wise(written, "+00", "")
    return Decoded(array, _refusal(data_type, refused, written))


def _day_texts(days: Int64s) -> pa.Array:
    """Days since 2000-01-01 as the server prints those too late to be stored."""
    return pa.array(np.datetime_as_string(np.datetime64("2000-01-01") + days).astype(object))


def _decimal(views: Views, values: Values, data_type: DataType, present: Bools) -> Decoded:
    parts = numerics.read(views, values.starts, values.lengths, present)
    array, refused = numerics.decimals(parts, data_type.precision, data_type.scale)
    return Decoded(array, _refusal_of_numerics(data_type, refused, parts))


def _numeric(views: Views, values: Values, data_type: DataType, present: Bools) -> Decoded:
    parts = numerics.read(views, values.starts, values.lengths, present)
    array, refused = numerics.written(parts)
    return Decoded(array, _refusal_of_numerics(data_type, refused, parts))


def _refusal_of_numerics(
    data_type: DataType, refused: Bools, parts: numerics.Numerics
) -> Refusal | None:
    if not refused.any():
        return None
    raw = [numerics.in_short(parts, row) for row in np.flatnonzero(refused).tolist()]
    return Refusal(f"{data_type.stored} cannot hold this value", refused, raw)


#: Kind → (bytes of a value, 0 where they vary; reader).
_READERS: dict[Kind, tuple[int, _Reader]] = {
    Kind.BOOL: (1, _bool),
    Kind.INT2: (2, _fixed("i2", np.int16)),
    Kind.INT4: (4, _fixed("i4", np.int32)),
    Kind.INT8: (8, _fixed("i8", np.int64)),
    Kind.OID: (4, _fixed("u4", np.uint32)),
    Kind.FLOAT4: (4, _float("f4", np.float32)),
    Kind.FLOAT8: (8, _float("f8", np.float64)),
    Kind.DECIMAL: (0, _decimal),
    Kind.NUMERIC: (0, _numeric),
    Kind.TEXT: (0, _text),
    Kind.JSONB: (0, _jsonb),
    Kind.DATE: (4, _date),
    Kind.TIMESTAMP: (8, _timestamp),
    Kind.TIMESTAMPTZ: (8, _timestamp),
    Kind.UUID: (16, _uuid),
    Kind.BYTEA: (0, _bytea),
}
