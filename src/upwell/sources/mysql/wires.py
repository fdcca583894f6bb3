"""How the values of a row lie in the log, by what an event says of its table.

An event that maps a table gives each column a type and a few bytes about it: enough to know where
every value ends, not what it means.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from upwell.sources.mysql.datatypes import DataType
from upwell.sources.postgres.frames import corrupt

_FIXED = {1: 1, 2: 2, 3: 4, 4: 4, 5: 8, 7: 4, 8: 8, 9: 3, 10: 3, 11: 3, 12: 8, 13: 1, 14: 3}
#: Times with digits after the second: bytes before those.
_FRACTIONAL = {17: 4, 18: 5, 19: 3}
_BIT, _VARCHAR, _NEWDECIMAL, _ENUM, _SET, _STRING, _VAR_STRING = 16, 15, 246, 247, 248, 254, 253
#: Of one byte that says how many bytes a length takes.
_COUNTED = (245, 249, 250, 251, 252, 255)
_BYTES_OF_DIGITS = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)
_TWO_BYTES = (_BIT, _VARCHAR, _NEWDECIMAL, _ENUM, _SET, _STRING, _VAR_STRING)
_ONE_BYTE = (4, 5, *_COUNTED, *_FRACTIONAL)


@dataclass(frozen=True, slots=True)
class Wire:
    """One column: bytes of a value, or of the length before it where ``width`` is 0."""

    code: int
    width: int
    prefix: int = 0
    digits: int = 0  # precision of a decimal, digits after the second of a time
    scale: int = 0


@dataclass(frozen=True, slots=True)
class TableMap:
    """What an event says of a table; good until the next one of its number."""

    database: str
    table: str
    wires: tuple[Wire, ...]


def parse_table_map(body: bytes) -> TableMap:
    """The body behind number and flags. Raises ``IntegrityError`` for a malformed one."""
    try:
        return _parsed(body)
    except (IndexError, struct.error, UnicodeDecodeError):
        corrupt("an event that maps a table ends too early")


def fits(wires: tuple[Wire, ...], types: tuple[DataType, ...]) -> bool:
    """Whether rows that lie so are of these types, which may be more than there are in the row."""
    if len(wires) > len(types):
        return False
    return all(
        wire.code in kind.codes
        and (wire.code != _NEWDECIMAL or (wire.digits, wire.scale) == (kind.precision, kind.scale))
        and (wire.code not in _FRACTIONAL or wire.digits == kind.precision)
        for wire, kind in zip(wires, types, strict=False)
    )


def decimal_bytes(precision: int, scale: int) -> int:
    """How long a packed decimal is."""
    whole, rest = divmod(precision - scale, 9)
    decimals, decimal_rest = divmod(scale, 9)
    return 4 * (whole + decimals) + _BYTES_OF_DIGITS[rest] + _BYTES_OF_DIGITS[decimal_rest]


def _parsed(body: bytes) -> TableMap:
    database, at = _name(body, 0)
    table, at = _name(body, at)
    count, at = length_encoded(body, at)
    codes = body[at : at + count]
    if len(codes) != count or count > 4096:
        corrupt("a table of more columns than there can be")
    metadata_bytes, at = length_encoded(body, at + count)
    metadata = body[at : at + metadata_bytes]
    if at + metadata_bytes + (count + 7) // 8 > len(body):
        corrupt("an event that maps a table ends too early")
    wires: list[Wire] = []
    place = 0
    for code in codes:
        size = 2 if code in _TWO_BYTES else 1 if code in _ONE_BYTE else 0
        wires.append(_wire(code, metadata[place : place + size], size))
        place += size
    if place != metadata_bytes:
        corrupt("a table whose columns are described otherwise than they are")
    return TableMap(database, table, tuple(wires))


def _wire(code: int, metadata: bytes, size: int) -> Wire:
    if len(metadata) != size:
        raise IndexError
    if code in _FIXED:
        return Wire(code, _FIXED[code])
    if code in _FRACTIONAL:
        if metadata[0] > 6:
            corrupt("a time of more digits than there can be")
        return Wire(code, _FRACTIONAL[code] + (metadata[0] + 1) // 2, digits=metadata[0])
    if code == _BIT:
        width = metadata[1] + (metadata[0] > 0)
        if not 1 <= width <= 8:
            corrupt("a number of more bits than there can be")
        return Wire(code, width)
    if code == _NEWDECIMAL:
        precision, scale = metadata
        if not (0 < precision <= 65 and scale <= min(precision, 38)):
            corrupt("a decimal of more digits than there can be")
        return Wire(code, decimal_bytes(precision, scale), digits=precision, scale=scale)
    if code in (_VARCHAR, _VAR_STRING):
        return Wire(code, 0, 1 if int.from_bytes(metadata, "little") < 256 else 2)
    if code in _COUNTED:
        if not 1 <= metadata[0] <= 4:
            corrupt("a value whose length has more bytes than it can")
        return Wire(code, 0, metadata[0])
    if code not in (_STRING, _ENUM, _SET):
        corrupt(f"a column of the unknown type {code}")
    return _in_a_string(metadata)


def _in_a_string(metadata: bytes) -> Wire:
    """Enumerations hide in strings, and strings longer than 255 bytes in the kind's spare bits."""
    kind, size = metadata
    longest = size
    if kind & 0x30 != 0x30:
        longest = size | ((kind & 0x30) ^ 0x30) << 4
        kind |= 0x30
    if kind in (_ENUM, _SET):
        if size not in ((1, 2) if kind == _ENUM else (1, 2, 3, 4, 8)):
            corrupt("a label of unknown size")
        return Wire(kind, size)
    if kind != _STRING:
        corrupt(f"a column of the unknown type {kind}")
    return Wire(kind, 0, 1 if longest < 256 else 2)


def length_encoded(body: bytes, at: int) -> tuple[int, int]:
    """MySQL's number of one, three, four or nine bytes, and where it ends."""
    first = body[at]
    if first < 251:
        return first, at + 1
    width = {252: 2, 253: 3, 254: 8}.get(first)
    if width is None or at + 1 + width > len(body):
        raise IndexError
    return int.from_bytes(body[at + 1 : at + 1 + width], "little"), at + 1 + width


def _name(body: bytes, at: int) -> tuple[str, int]:
    size = body[at]
    name = body[at + 1 : at + 1 + size]
    if len(name) != size or body[at + 1 + size] != 0:
        raise IndexError
    return name.decode(), at + size + 2
