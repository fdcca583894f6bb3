"""When the next order is due, and when to stop: the clock side of the simulator."""

from __future__ import annotations

import select
import signal
import socket
from collections.abc import Callable
from random import Random
from types import FrameType, TracebackType
from typing import Self

_LONGEST_LAG_SECONDS = 1.0


class StopSignal:
    """SIGTERM and SIGINT as a state that can be waited on; the handlers go back on exit."""

    def __init__(self) -> None:
        self.is_set = False
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        self._wakeup_before = signal.set_wakeup_fd(self._wake.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # as signal.signal gave it
        signal.set_wakeup_fd(self._wakeup_before)
        self._wake.close()
        self._woken.close()

    def wait(self, seconds: float) -> bool:
        """Wait for a signal, ``seconds`` at most; whether there was one."""
        if not self.is_set and seconds > 0:
            select.select([self._woken], [], [], seconds)
        return self.is_set

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.is_set = True


class Pace:
    """When the next order is due. Even on the whole, uneven in detail, as customers are."""

    def __init__(self, rate: float, *, seed: int, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._random = Random(seed)
        self._clock = clock
        self._begin = clock()
        self._orders = 0

    def next_order(self) -> float:
        """The clock's time when the next order is due, which may have passed. Call once an order.

        More than a second late, the whole plan moves: lost time is not made up in a rush.
        """
        due = self._begin + (self._orders + self._random.random()) / self._rate
        self._orders += 1
        lag = self._clock() - due
        if lag > _LONGEST_LAG_SECONDS:
            self._begin += lag
        return due
