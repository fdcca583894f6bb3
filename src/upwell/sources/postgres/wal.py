"""Log positions and clocks of PostgreSQL, between its numbers and our text.

A position is an LSN as ``%08X/%08X``: zero-padded, so that text order is log order.
"""

from __future__ import annotations

import re

import numpy as np

from upwell.core.errors import UsageError
from upwell.core.position import Position
from upwell.core.protocols import Int64s

#: PostgreSQL counts time from 2000-01-01, we from 1970-01-01, both in UTC.
EPOCH_DAYS = 10_957
EPOCH_US = EPOCH_DAYS * 86_400_000_000
#: The first day that PostgreSQL knows (in 4714 BC), in its own count.
EARLIEST_DAYS = -2_451_545
EARLIEST_US = EARLIEST_DAYS * 86_400_000_000
#: No clock that we take commits from shows a year before 1970 or after 9999.
LATEST_COMMIT_US = 253_402_300_800_000_000 - EPOCH_US

_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")
_DIGITS = np.frombuffer(b"0123456789ABCDEF", np.uint8)
_DIGIT_SHIFTS = np.arange(60, -1, -4)
_PAGE_BYTES = 8192
_LONGEST_PAGE_HEADER_BYTES = 40


def position_of(lsn: int) -> Position:
    """An LSN as a position."""
    return Position(f"{lsn >> 32:08X}/{lsn & 0xFFFFFFFF:08X}")


def positions_of(lsns: Int64s) -> tuple[Position, ...]:
    """Many LSNs as positions: sources commit tens of thousands of transactions a second."""
    digits = _DIGITS[lsns[:, np.newaxis] >> _DIGIT_SHIFTS & 15]
    texts = np.insert(digits, 8, ord("/"), axis=1).view("S17")
    return tuple(texts.ravel().astype(str).tolist())


def lsn_of(text: str) -> int:
    """The LSN in a position or in PostgreSQL's own spelling; ``UsageError`` if it is none."""
    match = _LSN.fullmatch(text)
    if match is None:
        raise UsageError(
            "position_not_postgres",
            f"{text!r} is not a position in a PostgreSQL log",
            next_step="positions of other sources do not fit here; take a new snapshot",
        )
    return int(match[1], 16) << 32 | int(match[2], 16)


def timeline_of(file: str) -> int:
    """The timeline in the name of a log file, its first eight hexadecimal digits."""
    if not re.fullmatch("[0-9A-F]{24}", file):
        raise UsageError(
            "log_file_not_postgres",
            f"{file!r} is not the name of a PostgreSQL log file",
            next_step="connect directly to the database, not through a proxy",
        )
    return int(file[:8], 16)


def position_before(lsn: int) -> Position:
    """The position of whoever has read everything before ``lsn``: see ``is_reached``."""
    in_page = lsn % _PAGE_BYTES
    return position_of(lsn - in_page if in_page <= _LONGEST_PAGE_HEADER_BYTES else lsn)


def is_reached(lsn: int, progress: int) -> bool:
    """Whether a reader at ``progress`` has read everything before ``lsn``.

    A position just behind a page header says nothing that the end of the page before does not.
    """
    return position_of(progress) >= position_before(lsn)
