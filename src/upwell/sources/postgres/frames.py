"""Protocol messages in a buffer: where each begins and ends, found by columns of bytes.

A message is one type byte, a big-endian length that counts itself, and the payload. Data arrives
in CopyData messages (type ``d``). Following the lengths from message to message costs a Python
step for each; instead every place that looks like a message is listed with NumPy, and only where
the chain of lengths leaves that list is a step taken by hand. The result is the chain itself, never
a guess. Refuses lengths that cannot be (``IntegrityError``).

No byte is looked at twice for a message that is still coming: ``Frames.needs`` says how much has to
be there before another look can find more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from upwell.core.errors import IntegrityError

Bytes = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]

#: Bytes that must follow the filled part of a buffer, so that wide reads stay inside.
PADDING_BYTES = 16

_COPY_DATA = ord("d")
_HEADER_BYTES = 5
#: The server builds a message in memory that it allots at once, of which it allows itself 1 GiB.
_LARGEST_LENGTH = (1 << 30) + 4
#: Errors, notices and the like are short.
_LARGEST_CONTROL_LENGTH = 1 << 20
_LONG_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Frames:
    """The whole CopyData messages of a stretch of a buffer.

    ``starts`` and ``ends`` delimit the payloads. ``next`` is where the first message begins that
    is incomplete or, where ``is_control``, is not CopyData; the buffer must be filled up to
    ``needs`` before more can be found.
    """

    starts: Int64s
    ends: Int64s
    next: int
    needs: int
    is_control: bool


def corrupt(what: str) -> NoReturn:
    """The stream is not what the protocol says: stop before anything wrong is stored."""
    raise IntegrityError(
        "stream_malformed",
        f"the replication stream is malformed: {what}",
        next_step="connect directly to the database, not through a proxy; then run again",
    )


def split(
    buffer: Bytes, start: int, filled: int, openings: tuple[int, ...], *, passed: bytes = b""
) -> Frames:
    """The CopyData messages in ``buffer[start:filled]``, up to the first control message.

    Control messages whose letter is in ``passed`` are passed over. ``openings`` are the 16-bit
    words that payloads usually begin with: a hint that makes the search fast, without influence on
    the result.
    """
    runs: list[Int64s] = []
    single, position = _long_ones(buffer, start, filled)
    places = _candidates(buffer, position, filled, openings)
    follow = places + 1 + _lengths(buffer, places)
    breaks = np.flatnonzero(follow[:-1] != places[1:])
    breaks = np.append(breaks, len(places) - 1)
    is_control = has_passed = False
    while position + _HEADER_BYTES <= filled:
        index = int(np.searchsorted(places, position))
        if index < len(places) and places[index] == position:
            last = int(breaks[np.searchsorted(breaks, index)])
            if follow[last] > filled:  # the run's last message has not wholly arrived
                last -= 1
                if last < index:
                    break
            _flush(single, runs)
            runs.append(places[index : last + 1])
            position = int(follow[last])
            continue
        is_data = buffer[position] == _COPY_DATA
        if not is_data and buffer[position] not in passed:
            is_control = True
            break
        end = _end(buffer, position)
        if end > filled:
            break
        if is_data:
            single.append(position)
        has_passed |= not is_data
        position = end
    _flush(single, runs)
    starts = np.concatenate(runs) if runs else np.empty(0, np.int64)
    if has_passed:
        ends = starts + 1 + _lengths(buffer, starts)
    else:
        ends = np.append(starts[1:], position) if len(starts) else starts
    has_header = position + _HEADER_BYTES <= filled
    needs = _end(buffer, position) if has_header else position + _HEADER_BYTES
    return Frames(starts + _HEADER_BYTES, ends, position, needs, is_control)


def control(buffer: Bytes, position: int, filled: int) -> tuple[str, bytes, int] | None:
    """Type, payload and end of the control message at ``position``; None if still incomplete."""
    end = _end(buffer, position)
    if end > filled:
        return None
    payload = buffer[position + _HEADER_BYTES : end].tobytes()
    return chr(buffer[position]), payload, end


def _long_ones(buffer: Bytes, start: int, filled: int) -> tuple[list[int], int]:
    """The whole messages of a mebibyte or more that ``start`` begins with, and where they end.

    To list the places in one that look like a message takes some times its memory.
    """
    found: list[int] = []
    position = start
    while position + _HEADER_BYTES <= filled and buffer[position] == _COPY_DATA:
        end = _end(buffer, position)
        if end - position < _LONG_BYTES or end > filled:
            break
        found.append(position)
        position = end
    return found, position


def _candidates(buffer: Bytes, start: int, filled: int, openings: tuple[int, ...]) -> Int64s:
    """Places with a ``d``, a length below 16 MiB, and a payload that begins as most do."""
    if filled - start < _HEADER_BYTES + 2:
        return np.empty(0, np.int64)
    stretch = buffer[start : filled - _HEADER_BYTES - 1]
    mask = stretch == _COPY_DATA
    mask &= buffer[start + 1 : filled - _HEADER_BYTES] == 0
    places = np.flatnonzero(mask) + start
    words = buffer[places + _HEADER_BYTES].astype(np.uint16) << 8 | buffer[places + 6]
    likely = np.zeros(len(places), np.bool_)
    for opening in openings:
        likely |= words == opening
    # A length of four or more always moves the chain forward.
    likely &= _lengths(buffer, places) >= 4
    return places[likely]


def _lengths(buffer: Bytes, places: Int64s) -> Int64s:
    lengths = buffer[places + 1].astype(np.int64) << 24
    lengths |= buffer[places + 2].astype(np.int64) << 16
    lengths |= buffer[places + 3].astype(np.int64) << 8
    lengths |= buffer[places + 4]
    return lengths


def _end(buffer: Bytes, position: int) -> int:
    """Where the message at ``position`` ends, by its own word."""
    length = int.from_bytes(buffer[position + 1 : position + _HEADER_BYTES].tobytes(), "big")
    is_data = buffer[position] == _COPY_DATA
    if not 4 <= length <= (_LARGEST_LENGTH if is_data else _LARGEST_CONTROL_LENGTH):
        corrupt(f"a message claims {length} bytes")
    return position + 1 + length


def _flush(single: list[int], runs: list[Int64s]) -> None:
    if single:
        runs.append(np.array(single, np.int64))
        single.clear()
