"""Runs of several kinds, interleaved, so that what a machine does meanwhile meets all alike.

Each round runs every kind once, and each round begins with another kind. Kinds are compared round
by round, so that a ratio is of two runs near each other in time.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Run = TypeVar("Run")


@dataclass(frozen=True)
class Spread:
    """Median, least and greatest of some figures."""

    median: float
    least: float
    greatest: float

    def show(self, form: str = ",.0f") -> str:
        """``median (least–greatest)``, each in ``form``."""
        ends = f"{self.least:{form}}–{self.greatest:{form}}"
        return f"{self.median:{form}} ({ends})"


def spread(figures: Sequence[float]) -> Spread:
    """Needs at least one figure."""
    return Spread(statistics.median(figures), min(figures), max(figures))


class Series(Generic[Run]):
    """The runs of each kind, in the order of the rounds."""

    def __init__(self, kinds: Sequence[str], rounds: int) -> None:
        self.kinds = tuple(kinds)
        self.rounds = rounds
        self.runs: dict[str, list[Run]] = {kind: [] for kind in kinds}

    def measure(self, run: Callable[[str], Run]) -> None:
        """Call ``run`` for every kind in every round, telling progress on standard error."""
        for number in range(self.rounds):
            shift = number % len(self.kinds)
            for kind in (*self.kinds[shift:], *self.kinds[:shift]):
                begun = time.monotonic()
                self.runs[kind].append(run(kind))
                took = time.monotonic() - begun
                told = f"  round {number + 1} of {self.rounds}: {kind}, {took:.1f} s\n"
                sys.stderr.write(told)

    def spread(self, kind: str, figure: Callable[[Run], float]) -> Spread:
        """Over the runs of one kind."""
        return spread([figure(run) for run in self.runs[kind]])

    def ratio(self, kind: str, to: str, figure: Callable[[Run], float]) -> Spread:
        """``kind`` ÷ ``to``, round by round."""
        pairs = zip(self.runs[kind], self.runs[to], strict=True)
        return spread([figure(one) / figure(other) for one, other in pairs])


def verdict(ratio: Spread, least: float) -> str:
    """Whether the median reaches a budget."""
    return "reached" if ratio.median >= least else "missed"
