"""How long changes take from the commit in the source until a reader of the replica sees them.

One latency is counted for every source transaction of a version, for each board whose tables that
version changed, at the moment the version became visible. Counts go to a ``report`` in whole
histograms by minute; what could not be reported is kept and reported with the next.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping

from upwell.core.histogram import Histogram
from upwell.core.protocols import Int64s

MINUTE_US = 60_000_000

#: Takes a board, the minute (microseconds since 1970 UTC) and the latencies newly counted in it.
Report = Callable[[str, int, Histogram], None]


class Freshness:
    """Latencies by board since the process began. Safe to use from several threads."""

    def __init__(self, boards: Iterable[str]) -> None:
        self._totals = {board: Histogram.empty() for board in boards}
        self._unreported: dict[tuple[str, int], Histogram] = {}
        self._lock = threading.Lock()

    def count(self, boards: Iterable[str], committed_at_us: Int64s, visible_at_us: int) -> None:
        """Count the transactions of one version that ``boards`` show from now on."""
        if not len(committed_at_us):
            return
        latencies_ms = (visible_at_us - committed_at_us) / 1000
        minute_us = visible_at_us // MINUTE_US * MINUTE_US
        with self._lock:
            for board in boards:
                self._totals[board] = self._totals[board].add(latencies_ms)
                key = (board, minute_us)
                counted = self._unreported.get(key, Histogram.empty())
                self._unreported[key] = counted.add(latencies_ms)

    def totals(self) -> Mapping[str, Histogram]:
        """Everything counted so far, by board."""
        with self._lock:
            return dict(self._totals)

    def hand_over(self, report: Report) -> None:
        """Report what is new. Whatever ``report`` raises passes on, and nothing is lost."""
        with self._lock:
            new, self._unreported = self._unreported, {}
        while new:
            (board, minute_us), histogram = next(iter(new.items()))
            try:
                report(board, minute_us, histogram)
            except BaseException:
                self._take_back(new)
                raise
            del new[board, minute_us]

    def _take_back(self, new: Mapping[tuple[str, int], Histogram]) -> None:
        with self._lock:
            for key, histogram in new.items():
                self._unreported[key] = histogram.merge(
                    self._unreported.get(key, Histogram.empty())
                )
