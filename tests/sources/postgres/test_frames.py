"""Finding messages by columns gives exactly the chain that following lengths one by one gives."""

from __future__ import annotations

import itertools
import struct
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upwell.core.errors import IntegrityError
from upwell.sources.postgres import frames
from upwell.sources.postgres.frames import PADDING_BYTES

OPENING = ord("w") << 8
#: Payloads that look like messages themselves, to lead the search astray.
payloads = st.one_of(
    st.binary(max_size=40),
    st.binary(max_size=8).map(lambda tail: b"w\0" + tail),
    st.just(b"w\0d\0\0\0\5w\0d\0\0\0\4w"),
    st.integers(0, 30).map(lambda size: b"d\0\0\0" + bytes([size]) + b"w\0ddd"),
)


def one_by_one(data: bytes, passed: bytes) -> tuple[list[tuple[int, int]], int, bool]:
    """Payloads, the place behind them, and whether a control message stands there."""
    found: list[tuple[int, int]] = []
    at = 0
    while at + 5 <= len(data):
        if data[at] != ord("d") and data[at] not in passed:
            return found, at, True
        end = at + 1 + struct.unpack_from(">I", data, at + 1)[0]
        if end > len(data):
            break
        if data[at] == ord("d"):
            found.append((at + 5, end))
        at = end
    return found, at, False


@given(
    contents=st.lists(payloads, max_size=30),
    control=st.booleans(),
    passed=st.sampled_from([b"", b"S", b"NS"]),
    cut=st.integers(0, 60),
    before=st.binary(max_size=5),
    long_bytes=st.sampled_from([10, 30, 1 << 20]),
)
def test_columns_and_steps_find_the_same_messages(
    *,
    contents: list[bytes],
    control: bool,
    passed: bytes,
    cut: int,
    before: bytes,
    long_bytes: int,
) -> None:
    """Whatever counts as a long message."""
    letters = itertools.cycle(b"ddd" + passed[:1])
    messages = [
        bytes([letter]) + struct.pack(">I", len(each) + 4) + each
        for letter, each in zip(letters, contents, strict=False)
    ]
    data = b"".join(messages) + (b"E\0\0\0\4" if control else b"")
    data = data[: max(0, len(data) - cut)]
    buffer = np.frombuffer(before + data + bytes(PADDING_BYTES), np.uint8)
    start = len(before)
    with mock.patch.object(frames, "_LONG_BYTES", long_bytes):
        found = frames.split(buffer, start, start + len(data), (OPENING,), passed=passed)
    expected, position, is_control = one_by_one(data, passed)
    assert list(zip(found.starts - start, found.ends - start, strict=True)) == expected
    assert (found.next - start, found.is_control) == (position, is_control)
    head = data[position + 1 : position + 5]
    claimed = int.from_bytes(head, "big") + 1 if len(head) == 4 else 5
    assert found.needs - start == position + claimed


@given(data=st.binary(max_size=200), is_data=st.booleans())
def test_any_bytes_end_in_messages_or_in_a_refusal(data: bytes, is_data: bool) -> None:
    data = b"d\0\0\0" + data if is_data else data
    buffer = np.frombuffer(data + bytes(PADDING_BYTES), np.uint8)
    try:
        found = frames.split(buffer, 0, len(data), (OPENING,))
    except IntegrityError:
        return
    assert found.next <= len(data)
    assert (found.starts <= found.ends).all()


def test_a_message_longer_than_the_search_expects_is_found() -> None:
    big = 17 << 20
    contents = [b"w\0" + bytes(20), bytes(big), b"w\0" + bytes(30)]
    data = b"".join(b"d" + struct.pack(">I", len(each) + 4) + each for each in contents)
    buffer = np.frombuffer(data + bytes(PADDING_BYTES), np.uint8)
    found = frames.split(buffer, 0, len(data), (OPENING,))
    assert (found.ends - found.starts).tolist() == [22, big, 32]


@pytest.mark.parametrize(
    ("letter", "length"),
    [
        *itertools.product((b"d", b"N", b"E"), (0, 3, (1 << 30) + 5, 0x7FFFFFFF, 0xFFFFFFFF)),
        (b"E", 1 << 21),
    ],
)
def test_a_length_that_cannot_be_is_refused(letter: bytes, length: int) -> None:
    data = letter + struct.pack(">I", length) + bytes(40)
    with pytest.raises(IntegrityError):
        frames.split(np.frombuffer(data, np.uint8), 0, 40, (OPENING,))
