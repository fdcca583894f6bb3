"""MySQL's binary JSON as the text its server prints.

The form of MySQL 5.7 and newer (sql/json_binary.h of its source): a type byte, then for objects and
arrays a count, a size, and entries that hold small values themselves and point to larger ones.
MariaDB has no such type. Every offset is checked before it is followed, and no more is read than
the value has bytes: values that point to one another again and again are none of a server's.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator

import numpy as np

from upwell.sources.mysql.decimals import written
from upwell.sources.mysql.views import LittleViews, padded
from upwell.sources.mysql.wires import decimal_bytes
from upwell.sources.postgres.frames import corrupt

_SMALL_OBJECT, _LARGE_OBJECT, _SMALL_ARRAY, _LARGE_ARRAY, _LITERAL = range(5)
_INT16, _UINT16, _INT32, _UINT32, _INT64, _UINT64, _DOUBLE, _STRING = range(5, 13)
_OPAQUE = 15
_LITERALS = {0: "null", 1: "true", 2: "false"}
_NUMBERS = {
    _INT16: "<h",
    _UINT16: "<H",
    _INT32: "<i",
    _UINT32: "<I",
    _INT64: "<q",
    _UINT64: "<Q",
}
_DEEPEST = 110  # the server allows 100
_NEWDECIMAL, _DATE, _TIME, _DATETIME, _TIMESTAMP = 246, 10, 11, 12, 7


def json_text(value: bytes) -> str:
    """The value's text. Raises ``IntegrityError`` for bytes that are no JSON."""
    if not value:
        return "null"  # as the server reads a value that was never set
    try:
        return _value(_Value(value), value[0], 1, 0)
    except (LookupError, struct.error, ValueError):
        corrupt("a JSON value that is none")


class _Value:
    """The bytes, and how many more may be read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._left = len(data)

    def slice(self, at: int, size: int) -> bytes:
        """Some of the bytes. Raises ``IndexError`` where they are not there."""
        piece = self.data[at : at + size]
        if len(piece) != size or at < 0:
            raise IndexError
        return piece

    def text(self, at: int, size: int) -> str:
        """A text. Raises ``ValueError`` for more than there can be."""
        self.spend(size)
        return self.slice(at, size).decode()

    def spend(self, size: int) -> None:
        """Raises ``ValueError`` where more is read than there is."""
        self._left -= size
        if self._left < 0:
            raise ValueError(size)


def _value(value: _Value, kind: int, at: int, depth: int) -> str:
    data = value.data
    value.spend(1)
    if depth > _DEEPEST:
        corrupt("a JSON value deeper than there can be")
    if kind in (_SMALL_OBJECT, _LARGE_OBJECT, _SMALL_ARRAY, _LARGE_ARRAY):
        return _container(value, kind, at, depth)
    if kind == _LITERAL:
        return _LITERALS[data[at]]
    if kind in _NUMBERS:
        return str(struct.unpack_from(_NUMBERS[kind], data, at)[0])
    if kind == _DOUBLE:
        return _double(struct.unpack_from("<d", data, at)[0])
    if kind == _STRING:
        size, begin = _size(data, at)
        return _quoted(value.text(begin, size))
    if kind == _OPAQUE:
        size, begin = _size(data, at + 1)
        return _opaque(data[at], value.slice(begin, size))
    raise ValueError(kind)


def _container(value: _Value, kind: int, at: int, depth: int) -> str:
    is_large = kind in (_LARGE_OBJECT, _LARGE_ARRAY)
    width = 4 if is_large else 2
    count = int.from_bytes(value.slice(at, width), "little")
    size = int.from_bytes(value.slice(at + width, width), "little")
    is_object = kind in (_SMALL_OBJECT, _LARGE_OBJECT)
    entries = at + 2 * width + count * (width + 2 if is_object else 0)
    if size > len(value.data) - at or entries + count * (width + 1) > at + size:
        raise ValueError(kind)
    texts = _entries(value, at, entries, count, depth, is_large=is_large)
    if not is_object:
        return f"[{', '.join(texts)}]"
    keys = (_key(value, at, at + 2 * width + index * (width + 2), width) for index in range(count))
    pairs = zip(keys, texts, strict=True)
    return "{" + ", ".join(f"{key}: {text}" for key, text in pairs) + "}"


def _entries(
    value: _Value, base: int, at: int, count: int, depth: int, *, is_large: bool
) -> Iterator[str]:
    width = 4 if is_large else 2
    inlined = (_LITERAL, _INT16, _UINT16, *((_INT32, _UINT32) if is_large else ()))
    for place in range(at, at + count * (width + 1), width + 1):
        kind = value.data[place]
        if kind in inlined:
            yield _value(value, kind, place + 1, depth + 1)
        else:
            offset = int.from_bytes(value.slice(place + 1, width), "little")
            yield _value(value, kind, base + offset, depth + 1)


def _key(value: _Value, base: int, place: int, width: int) -> str:
    offset = int.from_bytes(value.slice(place, width), "little")
    size = int.from_bytes(value.slice(place + width, 2), "little")
    return _quoted(value.text(base + offset, size))


def _size(data: bytes, at: int) -> tuple[int, int]:
    """A length of seven bits a byte, and where it ends."""
    size = 0
    for place in range(5):
        byte = data[at + place]
        size |= (byte & 0x7F) << 7 * place
        if byte < 128:
            return size, at + place + 1
    raise ValueError(size)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _double(value: float) -> str:
    """The shortest text that reads back the same, with a point or an exponent."""
    text = repr(value)
    if "e" in text:
        mantissa, _, exponent = text.partition("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return text


def _opaque(kind: int, data: bytes) -> str:
    """A value of SQL inside of JSON."""
    if kind == _NEWDECIMAL:
        return _decimal(data)
    if kind in (_DATE, _TIME, _DATETIME, _TIMESTAMP) and len(data) == 8:
        return f'"{_moment(kind, int.from_bytes(data, "little", signed=True))}"'
    return f'"base64:type{kind}:{base64.b64encode(data).decode()}"'


def _decimal(data: bytes) -> str:
    precision, scale = data[0], data[1]
    if (
        not 0 < precision <= 65
        or scale > precision
        or decimal_bytes(precision, scale) + 2 != len(data)
    ):
        raise ValueError(precision)
    views = LittleViews(padded([data]))
    place, present = np.array([2]), np.array([True])
    return str(written(views, place, present, precision, scale)[0].as_py())


def _moment(kind: int, packed: int) -> str:
    sign, size = ("-" if packed < 0 else ""), abs(packed)
    microsecond, clock = size & 0xFFFFFF, size >> 24
    second, minute = clock & 63, clock >> 6 & 63
    if kind == _TIME:
        return f"{sign}{clock >> 12 & 0x3FF:02d}:{minute:02d}:{second:02d}.{microsecond:06d}"
    day = clock >> 17
    months = day >> 5
    text = f"{months // 13:04d}-{months % 13:02d}-{day & 31:02d}"
    if kind == _DATE:
        return text
    return f"{text} {clock >> 12 & 31:02d}:{minute:02d}:{second:02d}.{microsecond:06d}"
