"""A snapshot on its way into the store: read ahead by a thread, first and again."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import pytest

from upwell.core.errors import Unavailable
from upwell.ingest.load import read_ahead


def test_parts_come_in_order_and_all_of_them() -> None:
    assert list(read_ahead(iter(range(100)))) == list(range(100))


def test_what_reading_raises_is_raised_behind_the_parts_before_it() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise Unavailable("connection_lost", "the connection was lost")

    parts = read_ahead(broken())
    assert next(parts) == 1
    with pytest.raises(Unavailable, match="the connection was lost"):
        next(parts)


def test_only_a_few_parts_are_read_ahead_of_the_one_in_use() -> None:
    taken: list[int] = []
    is_waiting = threading.Event()

    def noted() -> Iterator[int]:
        for number in itertools.count():
            taken.append(number)
            if number == 3:  # one in use, two ready, one in hand
                is_waiting.set()
            yield number

    parts = read_ahead(noted())
    assert next(parts) == 0
    assert is_waiting.wait(10)
    parts.close()
    assert len(taken) <= 7  # closing takes out what was ready; each may let one more in


def test_closing_early_leaves_no_thread_behind() -> None:
    before = set(threading.enumerate())
    parts = read_ahead(itertools.count())
    next(parts)
    parts.close()
    assert set(threading.enumerate()) == before
