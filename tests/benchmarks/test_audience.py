"""Latencies from what the feed said of versions and what viewers saw of them."""

from __future__ import annotations

import numpy as np

from benchmarks.audience import Commits


def commits(**committed_at_us: list[int]) -> Commits:
    found = Commits()
    for name, moments in committed_at_us.items():
        found.versions.append(int(name.removeprefix("v")))
        found.committed_at_us.append(np.array(moments, np.int64))
    return found


def test_a_transaction_is_seen_with_the_first_event_of_its_version_or_a_later_one() -> None:
    found = commits(v2=[1_000_000], v3=[1_100_000, 1_200_000], v4=[1_300_000])
    seen = [(1, 0.9), (3, 1.5), (4, 1.6)]
    assert found.latencies_ms(seen).round(6).tolist() == [500, 400, 300, 300]


def test_what_the_first_event_already_showed_and_what_no_event_showed_do_not_count() -> None:
    found = commits(v1=[1_000_000], v5=[2_000_000], v6=[3_000_000])
    assert found.latencies_ms([(1, 5.0), (5, 6.0)]).tolist() == [4000]


def test_a_version_shown_twice_counts_when_it_was_shown_first() -> None:
    assert commits(v2=[0]).latencies_ms([(1, 0.1), (2, 1.0), (2, 9.0)]).tolist() == [1000]
