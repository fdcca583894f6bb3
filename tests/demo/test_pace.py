"""The simulator's clock: no drift, no rush, and a stop that interrupts waiting."""

from __future__ import annotations

import os
import signal
import threading
import time
from itertools import pairwise

import pytest

from upwell.demo.pace import Pace, StopSignal


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_orders_are_due_at_the_rate_however_long_each_takes() -> None:
    clock = Clock()
    pace = Pace(10, seed=1, clock=clock)
    for number in range(1_000):
        due = pace.next_order()
        assert number / 10 <= due - 100 < (number + 1) / 10
        clock.seconds = max(clock.seconds, due) + 0.03


def test_the_moments_within_the_plan_are_uneven() -> None:
    pace = Pace(1, seed=1, clock=Clock())
    due = [pace.next_order() for _ in range(20)]
    gaps = [later - earlier for earlier, later in pairwise(due)]
    assert max(gaps) - min(gaps) > 0.5


def test_time_lost_is_not_made_up_in_a_rush() -> None:
    clock = Clock()
    pace = Pace(10, seed=1, clock=clock)
    pace.next_order()
    clock.seconds += 60  # the database was away
    late = [pace.next_order() for _ in range(20)]
    assert sum(due <= clock.seconds for due in late) <= 2
    assert late[-1] == pytest.approx(clock.seconds + 2, abs=0.3)


def test_being_late_by_less_than_a_second_is_made_up() -> None:
    clock = Clock()
    pace = Pace(10, seed=1, clock=clock)
    clock.seconds += 0.9
    due = [pace.next_order() for _ in range(20)]
    assert due[-1] < 100 + 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_wait_at_once(number: signal.Signals) -> None:
    with StopSignal() as stop:
        assert not stop.wait(0)
        timer = threading.Timer(0.05, os.kill, (os.getpid(), number))
        timer.start()
        begin = time.monotonic()
        assert stop.wait(30)
        assert time.monotonic() - begin < 10
        assert stop.wait(30)  # stays stopped
        timer.join()


def test_handlers_are_as_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopSignal():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
