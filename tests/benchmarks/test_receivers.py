"""Rows counted in a stream that comes in blocks of any size."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.receivers import BlockCounter


@given(st.text("ab", max_size=60), st.lists(st.integers(1, 9), max_size=40))
def test_blocks_of_any_size_hold_as_many_occurrences_as_the_whole(
    text: str, sizes: list[int]
) -> None:
    data = text.replace("b", "I12345N.").encode()
    counter = BlockCounter(b"I12345N.")
    for size in (*sizes, len(data)):
        counter.add(data[:size])
        data = data[size:]
    assert counter.found == text.count("b")
