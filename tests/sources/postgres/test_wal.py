"""Log positions as numbers and as text."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from upwell.sources.postgres.wal import lsn_of, position_of, positions_of

lsns = st.integers(0, 2**63 - 1)


@given(st.lists(lsns))
def test_many_lsns_become_the_positions_that_each_becomes_alone(many: list[int]) -> None:
    assert positions_of(np.array(many, np.int64)) == tuple(position_of(lsn) for lsn in many)


@given(lsns, lsns)
def test_positions_sort_as_text_as_their_lsns_sort(one: int, other: int) -> None:
    assert (position_of(one) < position_of(other)) == (one < other)


@given(lsns)
def test_a_position_reads_back_as_its_lsn(lsn: int) -> None:
    assert lsn_of(position_of(lsn)) == lsn
