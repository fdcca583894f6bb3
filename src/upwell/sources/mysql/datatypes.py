"""MySQL's types: how each is written in the log, what Arrow makes of it, and how it is stored.

A type is known by the catalogue's words for it (``int(10) unsigned``, ``enum('a','b')``) and, for
texts, the character set. A type we do not know has none here, and a table with one cannot be
followed: the log would not say where its values end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

import pyarrow as pa

from upwell.sources.mysql.charsets import is_known

_LARGEST_PRECISION = 38
_WORDS = re.compile(r"(\w+)(?:\((.*)\))?(.*)", re.DOTALL)
_ESCAPES = {"0": "\0", "n": "\n", "r": "\r", "t": "\t", "Z": "\x1a"}


class Kind(Enum):
    """How a value is read."""

    INT = auto()
    FLOAT = auto()
    DOUBLE = auto()
    DECIMAL = auto()  # fits DECIMAL
    NUMERIC = auto()  # wider, kept as text
    YEAR = auto()
    DATE = auto()
    TIME = auto()  # up to 838 hours, either sign: text as the server prints it
    DATETIME = auto()
    TIMESTAMP = auto()
    TEXT = auto()
    BINARY = auto()  # of fixed length, filled with zeros
    BLOB = auto()
    BIT = auto()
    BOOL = auto()  # bit(1)
    ENUM = auto()
    SET = auto()
    JSON = auto()  # MySQL's binary form; MariaDB's json is a text
    GEOMETRY = auto()  # four bytes of SRID, then WKB
    UUID = auto()
    INET4 = auto()
    INET6 = auto()


@dataclass(frozen=True, slots=True)
class DataType:
    """One column's type. ``codes``: the types by which the log may call it."""

    kind: Kind
    stored: str
    arrow: pa.DataType
    codes: frozenset[int]
    precision: int = 0  # of DECIMAL; digits after the second of times
    scale: int = 0
    length: int = 0  # bytes of BINARY, UUID, INET
    is_signed: bool = True
    charset: str = ""
    labels: tuple[str, ...] = ()


_INTEGERS = {
    "tinyint": (1, "TINYINT", pa.int8(), pa.uint8()),
    "smallint": (2, "SMALLINT", pa.int16(), pa.uint16()),
    "mediumint": (9, "INTEGER", pa.int32(), pa.uint32()),
    "int": (3, "INTEGER", pa.int32(), pa.uint32()),
    "bigint": (8, "BIGINT", pa.int64(), pa.uint64()),
}
_BLOBS = ("tinyblob", "blob", "mediumblob", "longblob")
_TEXTS = ("tinytext", "text", "mediumtext", "longtext")
_GEOMETRIES = frozenset(
    (
        "geometry",
        "point",
        "linestring",
        "polygon",
        "multipoint",
        "multilinestring",
        "multipolygon",
        "geometrycollection",
        "geomcollection",
    )
)
_IN_ROWS = frozenset((254,))
_IN_BLOBS = frozenset((249, 250, 251, 252))
_IN_VARCHAR = frozenset((15, 253))


def data_type(words: str, charset: str) -> DataType | None:
    """What we make of a type in the catalogue's words; None for one we do not read."""
    match = _WORDS.fullmatch(words)
    if match is None or "COMPRESSED" in words.rpartition(")")[2]:
        return None
    name, arguments, rest = match[1].lower(), match[2] or "", match[3].lower()
    if name in _INTEGERS:
        return _integer(name, is_signed="unsigned" not in rest)
    if name in ("decimal", "numeric"):
        return _decimal(arguments)
    if name in ("char", "varchar", "enum", "set", *_TEXTS):
        return _text(name, arguments, charset)
    if name in ("binary", "varbinary", *_BLOBS):
        return _bytes(name, arguments)
    if name in ("date", "time", "datetime", "timestamp", "year"):
        return _time(name, arguments)
    if name in _GEOMETRIES:
        return DataType(Kind.GEOMETRY, "BLOB", pa.binary(), frozenset((255, *_IN_BLOBS)))
    return _other(name, arguments)


def labels_of(arguments: str) -> tuple[str, ...]:
    """``'a','it''s'`` → (``a``, ``it's``), as the catalogue escapes them."""
    labels: list[str] = []
    for quoted in re.findall(r"'((?:[^'\\]|''|\\.)*)'", arguments, re.DOTALL):
        plain = re.sub(r"''|\\(.)", _unescaped, quoted, flags=re.DOTALL)
        labels.append(plain)
    return tuple(labels)


def _unescaped(match: re.Match[str]) -> str:
    letter: str | None = match[1]
    return "'" if letter is None else _ESCAPES.get(letter, letter)


def _integer(name: str, *, is_signed: bool) -> DataType:
    code, stored, signed, unsigned = _INTEGERS[name]
    return DataType(
        Kind.INT,
        stored if is_signed else f"U{stored}",
        signed if is_signed else unsigned,
        frozenset((code,)),
        is_signed=is_signed,
    )


def _decimal(arguments: str) -> DataType:
    precision, _, scale = arguments.partition(",")
    digits, decimals = int(precision or 10), int(scale or 0)
    if digits > _LARGEST_PRECISION:
        kind, stored, arrow = Kind.NUMERIC, "VARCHAR", pa.string()
    else:
        kind, stored = Kind.DECIMAL, f"DECIMAL({digits},{decimals})"
        arrow = pa.decimal128(digits, decimals)
    return DataType(kind, stored, arrow, frozenset((246,)), digits, decimals)


def _text(name: str, arguments: str, charset: str) -> DataType | None:
    if name in ("enum", "set"):
        kind = Kind.ENUM if name == "enum" else Kind.SET
        codes = frozenset((247,)) if kind is Kind.ENUM else frozenset((248,))
        return DataType(kind, "VARCHAR", pa.string(), codes, labels=labels_of(arguments))
    if not is_known(charset):
        return None
    codes = {"char": _IN_ROWS, "varchar": _IN_VARCHAR}.get(name, _IN_BLOBS)
    return DataType(Kind.TEXT, "VARCHAR", pa.string(), codes, charset=charset)


def _bytes(name: str, arguments: str) -> DataType:
    if name == "binary":
        return DataType(Kind.BINARY, "BLOB", pa.binary(), _IN_ROWS, length=int(arguments or 1))
    codes = _IN_VARCHAR if name == "varbinary" else _IN_BLOBS
    return DataType(Kind.BLOB, "BLOB", pa.binary(), codes)


def _time(name: str, arguments: str) -> DataType:
    if name == "year":
        return DataType(Kind.YEAR, "SMALLINT", pa.int16(), frozenset((13,)))
    if name == "date":
        return DataType(Kind.DATE, "DATE", pa.date32(), frozenset((10, 14)))
    digits = int(arguments or 0)
    if name == "time":
        return DataType(Kind.TIME, "VARCHAR", pa.string(), frozenset((11, 19)), digits)
    if name == "datetime":
        arrow = pa.timestamp("us")
        return DataType(Kind.DATETIME, "TIMESTAMP", arrow, frozenset((12, 18)), digits)
    arrow = pa.timestamp("us", "UTC")
    return DataType(Kind.TIMESTAMP, "TIMESTAMPTZ", arrow, frozenset((7, 17)), digits)


def _other(name: str, arguments: str) -> DataType | None:
    if name == "bit" and int(arguments or 1) == 1:
        return DataType(Kind.BOOL, "BOOLEAN", pa.bool_(), frozenset((16,)))
    if name == "bit":
        return DataType(Kind.BIT, "UBIGINT", pa.uint64(), frozenset((16,)))
    if name == "uuid":
        return DataType(Kind.UUID, "UUID", pa.uuid(), _IN_ROWS, length=16)
    if name == "inet4":
        return DataType(Kind.INET4, "VARCHAR", pa.string(), _IN_ROWS, length=4)
    if name == "inet6":
        return DataType(Kind.INET6, "VARCHAR", pa.string(), _IN_ROWS, length=16)
    if name == "json":
        return DataType(Kind.JSON, "VARCHAR", pa.string(), frozenset((245,)))
    plain = {"float": (Kind.FLOAT, "FLOAT", pa.float32(), 4)}
    plain["double"] = (Kind.DOUBLE, "DOUBLE", pa.float64(), 5)
    if name in plain:
        kind, stored, arrow, code = plain[name]
        return DataType(kind, stored, arrow, frozenset((code,)))
    return None
