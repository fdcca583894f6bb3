"""Places in the server's binary log, as positions that sort in reading order.

A place is the number of a log file and an offset in it. A position is both with leading zeros, so
that text sorts as places do, and behind it the GTID of the last transaction before, where it is
known: with that the server can say whether the log there is still the one that was read.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from upwell.core.errors import IntegrityError
from upwell.core.position import Position

#: The first event of a log file begins here, behind the file's four magic bytes.
FIRST_OFFSET = 4
#: The protocol asks for a file from an offset of 32 bits.
LAST_OFFSET_TO_ASK = 0xFFFF_FFFF

_POSITION = re.compile(r"(\d{10}):(\d{20})(?: (\S+))?")


class Place(NamedTuple):
    """File and offset; compares in reading order."""

    file: int
    offset: int


#: Before every place.
NOWHERE = Place(0, 0)


def position_of(place: Place, gtid: str = "") -> Position:
    """``0000000003:00000000000000000342 0-1-7``."""
    text = f"{place.file:010d}:{place.offset:020d}"
    return Position(f"{text} {gtid}" if gtid else text)


def parse_position(position: Position) -> tuple[Place, str]:
    """The place, and the GTID or an empty text. Raises ``IntegrityError`` for any other text."""
    match = _POSITION.fullmatch(position)
    if match is None:
        raise IntegrityError(
            "position_unknown",
            f"{position!r} is no position in a binary log",
            next_step="the state is of another kind of source: `upwell rebuild`",
        )
    return Place(int(match[1]), int(match[2])), match[3] or ""


def number_of(file_name: str) -> int:
    """``binlog.000003`` → 3. Raises ``ValueError`` for a name without a number."""
    return int(file_name.rpartition(".")[2])
