"""Who is who when keys move."""

from __future__ import annotations

from upwell.ingest.lineage import Lineages, trace_lineages

A, B, C = range(3)


def starts(found: Lineages) -> dict[int, int]:
    """Key → the lineage whose image before the batch is found under it."""
    keys = found.start_keys.tolist()
    assert len(keys) == len(set(keys))
    return dict(zip(keys, found.start_lineages.tolist(), strict=True))


def test_a_row_keeps_its_lineage_under_its_new_key() -> None:
    found = trace_lineages([A, B, B], {1: A})
    assert found.of_change.tolist() == [0, 0, 0]


def test_rows_that_change_places_keep_their_own_lineages() -> None:
    found = trace_lineages([C, A, B], {0: A, 1: B, 2: C})
    assert found.of_change.tolist() == [0, 1, 0]
    assert starts(found) == {A: 0, C: 0, B: 1}


def test_a_new_row_under_a_key_left_behind_is_another_row_and_was_not_there_before() -> None:
    found = trace_lineages([B, A], {0: A})
    assert found.of_change.tolist() == [0, 1]
    assert starts(found) == {A: 0, B: 0}


def test_a_row_that_moved_on_leaves_its_old_key_to_others() -> None:
    found = trace_lineages([A, B, A], {1: A})
    assert found.of_change.tolist() == [0, 0, 1]


def test_a_new_row_after_a_refused_move_is_not_mixed_up_with_the_row_that_moved() -> None:
    found = trace_lineages([B, A, B], {0: A})  # a → b refused, a made anew, b mended
    assert found.of_change.tolist() == [0, 1, 0]


def test_what_stood_under_the_key_that_a_row_moves_to_ends_with_the_move() -> None:
    assert starts(trace_lineages([B], {0: A})) == {A: 0, B: 0}
