"""Texts in the character set they are stored in, to UTF-8, by columns.

The log and, in our sessions, query results have a column's own bytes, so both go through here and
cannot differ. Sets of one byte a letter are turned by a table, others by Python's codecs, once for
each different value. What a codec cannot read is given back as refused.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from upwell.core.protocols import Bools

_UTF8 = frozenset(("utf8", "utf8mb3", "utf8mb4", "ascii"))
#: Of one byte a letter → Python's codec, and where the server's table is another. Bytes that are no
#: letter come as the server shows them, a question mark (or its own mark, in tis620).
_SINGLE: dict[str, tuple[str, dict[int, str]]] = {
    "latin1": ("cp1252", {byte: chr(byte) for byte in (0x81, 0x8D, 0x8F, 0x90, 0x9D)}),
    "latin2": ("iso8859_2", {}),
    "latin5": ("iso8859_9", {}),
    "latin7": ("iso8859_13", {}),
    "cp1250": ("cp1250", {}),
    "cp1251": ("cp1251", {}),
    "cp1256": (
        "cp1256",
        dict.fromkeys((0x8A, 0x8F, 0x98, 0x9A, 0x9F, 0xAA, 0xC0, 0xFF), "?"),
    ),
    "cp1257": ("cp1257", {}),
    "cp850": ("cp850", {}),
    "cp852": ("cp852", {}),
    "cp866": ("cp866", {0xFC: "\u207f", 0xFD: "\xb2"}),
    "greek": (
        "iso8859_7",
        {0xA1: "\u02bd", 0xA2: "\u02bc", 0xA4: "?", 0xA5: "?", 0xAA: "?"},
    ),
    "hebrew": ("iso8859_8", {0xAF: "\u203e"}),
    "hp8": ("hp_roman8", {}),
    "koi8r": ("koi8_r", {}),
    "koi8u": ("koi8_u", {0x95: "\u2022"}),
    "macce": ("mac_latin2", {}),
    "macroman": ("mac_roman", {}),
    "tis620": (
        "tis_620",
        dict.fromkeys((0xA0, *range(0xDB, 0xDF), *range(0xFC, 0x100)), "\ufffd"),
    ),
}
#: Python's codec and one to try next. ``sjis`` has a letter that the server takes for a backslash.
_MULTIPLE = {
    "ucs2": ("utf_16_be",),
    "utf16": ("utf_16_be",),
    "utf16le": ("utf_16_le",),
    "utf32": ("utf_32_be",),
    "gbk": ("gbk",),
    "gb2312": ("gb2312",),
    "gb18030": ("gb18030",),
    "big5": ("big5", "cp950"),
    "sjis": ("shift_jis",),
    "cp932": ("cp932",),
    "ujis": ("euc_jp",),
    "euckr": ("cp949",),
}


def is_known(charset: str) -> bool:
    """Whether texts of this character set can be read."""
    return charset in _UTF8 or charset in _SINGLE or charset in _MULTIPLE


def decoded(binaries: pa.Array, charset: str) -> tuple[pa.Array, Bools]:
    """The texts, and which of them are none in this character set (NULL there)."""
    none = np.zeros(len(binaries), np.bool_)
    if charset in _UTF8:
        try:
            return binaries.cast(_text_type(binaries)), none
        except pa.ArrowInvalid:
            return _singly(binaries, charset)
    if charset in _SINGLE:
        return _by_table(binaries, charset), none
    return _singly(binaries, charset)


def _text_type(binaries: pa.Array) -> pa.DataType:
    return pa.large_string() if pa.types.is_large_binary(binaries.type) else pa.string()


def _by_table(binaries: pa.Array, charset: str) -> pa.Array:
    """Each byte is one to three of UTF-8: their places follow from a running sum."""
    texts = pa.concat_arrays([binaries.cast(pa.large_binary())])
    validity, offsets_buffer, data = texts.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int64)[: len(texts) + 1]
    first, last = int(offsets[0]), int(offsets[-1])
    source = np.frombuffer(data, np.uint8)[first:last] if data is not None else _NO_BYTES
    if not (source >= 128).any():
        return binaries.cast(_text_type(binaries))
    widths, units = _table(charset)
    ends = np.zeros(len(source) + 1, np.int64)
    np.cumsum(widths[source], out=ends[1:])
    target = np.empty(int(ends[-1]), np.uint8)
    for place in range(units.shape[1]):
        has = widths[source] > place
        target[ends[:-1][has] + place] = units[source[has], place]
    buffers = [validity, pa.py_buffer(ends[offsets - first]), pa.py_buffer(target)]
    strings = pa.Array.from_buffers(pa.large_string(), len(texts), buffers)
    return strings.cast(_text_type(binaries))


@cache
def _table(charset: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """For each byte: how many bytes of UTF-8, and which."""
    widths, units = np.zeros(256, np.int64), np.zeros((256, 3), np.uint8)
    codec, others = _SINGLE[charset]
    for byte in range(256):
        letter = bytes([byte]).decode(codec, "replace").replace("\ufffd", "?")
        encoded = others.get(byte, letter).encode()
        widths[byte] = len(encoded)
        units[byte, : len(encoded)] = list(encoded)
    return widths, units


def _singly(binaries: pa.Array, charset: str) -> tuple[pa.Array, Bools]:
    coded = binaries.dictionary_encode()
    texts = [_text(value, charset) for value in coded.dictionary.to_pylist()]
    letters = pa.array(texts, _text_type(binaries)).take(coded.indices)
    refused = np.asarray(pc.and_(pc.is_null(letters), pc.is_valid(binaries)))
    return letters, refused


def _text(value: bytes, charset: str) -> str | None:
    for codec in _MULTIPLE.get(charset, ("utf-8",)):
        try:
            text = value.decode(codec)
        except UnicodeDecodeError:
            continue
        return text.replace("＼", "\\") if charset == "sjis" else text
    return None


_NO_BYTES = np.empty(0, np.uint8)
