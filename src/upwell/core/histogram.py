"""Latencies as counts in logarithmic buckets: add millions, merge minutes, read any quantile.

Bucket ``i`` counts the values in ``(EDGES_MS[i - 1], EDGES_MS[i]]``; edges stand eight to a
doubling, from 1 ms to 2**22 ms (70 minutes). A quantile is answered with the one point of its
bucket that is relatively nearest to both edges, which bounds the error by ``RELATIVE_ERROR``
(DDSketch: Masson, Rim and Lee, VLDB 2019, section 2). Values up to 1 ms share the first bucket and
read as 1 ms; values beyond the last edge are counted, and read as the last edge.

Invariant: counts are whole and not negative, and merging gives exactly what adding all the values
to one histogram would have given, in whatever order. NaN and broken encodings are refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BUCKETS_PER_DOUBLING = 8
DOUBLINGS = 22

_RATIO = 2.0 ** (1 / BUCKETS_PER_DOUBLING)

#: Upper edges of all buckets but the last, which has none.
EDGES_MS: npt.NDArray[np.float64] = np.exp2(
    np.arange(DOUBLINGS * BUCKETS_PER_DOUBLING + 1) / BUCKETS_PER_DOUBLING
)
SMALLEST_MS = float(EDGES_MS[0])
LARGEST_MS = float(EDGES_MS[-1])

#: How far a quantile may lie from the true one, where that is between ``SMALLEST_MS`` and
#: ``LARGEST_MS``.
RELATIVE_ERROR = (_RATIO - 1) / (_RATIO + 1)  # 4.3 %

_BUCKETS = len(EDGES_MS) + 1
_LAYOUT = 1  # first number of an encoding; another layout of buckets takes another number


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """How many values fell into each bucket. Immutable: ``add`` and ``merge`` give a new one."""

    counts: npt.NDArray[np.int64]

    @classmethod
    def empty(cls) -> Histogram:
        """No values yet."""
        return _frozen(np.zeros(_BUCKETS, np.int64))

    @classmethod
    def decode(cls, encoded: Sequence[int]) -> Histogram:
        """The histogram that ``encode`` wrote. Raises ValueError if no histogram encodes so."""
        if not encoded or encoded[0] != _LAYOUT or len(encoded) % 2 == 0:
            raise ValueError(f"not a histogram of layout {_LAYOUT}: {encoded!r:.80}")
        buckets, counts = encoded[1::2], encoded[2::2]
        ascending = all(a < b for a, b in zip((-1, *buckets), (*buckets, _BUCKETS), strict=True))
        if not ascending or any(count <= 0 for count in counts):
            raise ValueError(f"buckets out of order or counts not positive: {encoded!r:.80}")
        dense = np.zeros(_BUCKETS, np.int64)
        dense[list(buckets)] = list(counts)
        return _frozen(dense)

    def add(self, values_ms: npt.ArrayLike) -> Histogram:
        """This histogram and the given latencies (milliseconds, any shape).

        Negative latencies, which clocks of two machines can produce, count as the smallest.
        Raises ValueError for NaN.
        """
        values = np.asarray(values_ms, np.float64).ravel()
        if np.isnan(values).any():
            raise ValueError("a latency cannot be NaN")
        buckets = np.searchsorted(EDGES_MS, values, side="left")
        return _frozen(self.counts + np.bincount(buckets, minlength=_BUCKETS))

    def merge(self, other: Histogram) -> Histogram:
        """The histogram of the values of both."""
        return _frozen(self.counts + other.counts)

    @property
    def count(self) -> int:
        """How many values were added."""
        return int(self.counts.sum())

    def quantile(self, q: float) -> float | None:
        """The value, in milliseconds, that a share ``q`` (0 to 1) of all values does not exceed.

        None while empty. Within ``RELATIVE_ERROR`` of the smallest such value that was added.
        Raises ValueError for ``q`` outside 0 to 1.
        """
        bounds = self.bounds(q)
        if bounds is None:
            return None
        low, high = bounds
        if low == 0:
            return SMALLEST_MS
        return LARGEST_MS if math.isinf(high) else 2 * low * high / (low + high)

    def bounds(self, q: float) -> tuple[float, float] | None:
        """Between which edges the true quantile lies: above the first, at most the second.

        The last bucket ends at infinity. None while empty; raises ValueError as ``quantile`` does.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"a quantile lies between 0 and 1, not at {q}")
        reached = np.cumsum(self.counts)
        if reached[-1] == 0:
            return None
        rank = max(1, math.ceil(q * int(reached[-1])))
        bucket = int(np.searchsorted(reached, rank, side="left"))
        low = float(EDGES_MS[bucket - 1]) if bucket > 0 else 0.0
        high = float(EDGES_MS[bucket]) if bucket < len(EDGES_MS) else math.inf
        return low, high

    def encode(self) -> list[int]:
        """The layout's number, then bucket and count of each bucket that is not empty."""
        filled = np.flatnonzero(self.counts)
        pairs = np.stack([filled, self.counts[filled]], axis=1)
        return [_LAYOUT, *pairs.ravel().tolist()]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        return bool(np.array_equal(self.counts, other.counts))

    def __hash__(self) -> int:
        return hash(self.counts.tobytes())


def _frozen(counts: npt.NDArray[np.int64]) -> Histogram:
    counts.flags.writeable = False
    return Histogram(counts)
