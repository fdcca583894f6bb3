"""Chains of images: what ended what, what was filled from where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from upwell.core.protocols import Operation
from upwell.ingest.images import STAYS, Images, Touched, chain_images, log_rows, net_change

I, U, D = Operation.INSERT, Operation.UPDATE, Operation.DELETE  # noqa: E741 - as short as a chain


def images(
    before: Sequence[tuple[int, str]],
    after: Sequence[tuple[int, str | None]],
    operations: Sequence[Operation],
    unchanged: Mapping[str, Sequence[bool]] | None = None,
) -> Images:
    """Chains of one column ``note``; each image is its row and its note."""
    table_before, table_after = (
        pa.table({"note": pa.array([note for _, note in each], pa.string())})
        for each in (before, after)
    )
    rows_before, rows_after = (
        np.array([row for row, _ in each], np.int64) for each in (before, after)
    )
    marks = {name: np.array(mask) for name, mask in (unchanged or {}).items()}
    touched = Touched(table_before, rows_before, rows_after)
    return chain_images(touched, table_after, np.array(operations, np.int8), marks)


def log(found: Images) -> list[tuple[int, int, str | None]]:
    rows = log_rows(found)
    notes = rows.rows.column("note").to_pylist()
    return list(zip(rows.change.tolist(), rows.weight.tolist(), notes, strict=True))


def delta(found: Images) -> dict[str, int]:
    rows = net_change(found).to_pydict()
    return dict(zip(rows["note"], rows["_weight"], strict=True))


def test_an_image_ends_with_the_next_change_of_its_row_alone() -> None:
    found = images([(7, "old")], [(3, "a"), (7, "b"), (3, "c"), (7, "d")], [I, U, U, U])
    assert found.ended_by.tolist() == [1, 2, 3, STAYS, STAYS]
    assert log(found) == [
        (0, 1, "a"),
        (1, -1, "old"),
        (1, 1, "b"),
        (2, -1, "a"),
        (2, 1, "c"),
        (3, -1, "b"),
        (3, 1, "d"),
    ]
    assert delta(found) == {"old": -1, "c": 1, "d": 1}


def test_a_deleted_row_made_anew_ends_once_and_begins_once() -> None:
    found = images([(0, "old")], [(0, None), (0, "new")], [D, I])
    assert log(found) == [(0, -1, "old"), (1, 1, "new")]
    assert delta(found) == {"old": -1, "new": 1}


def test_what_comes_and_goes_within_a_batch_stands_in_the_log_alone() -> None:
    found = images([], [(0, "a"), (0, None)], [I, D])
    assert log(found) == [(0, 1, "a"), (1, -1, "a")]
    assert delta(found) == {}


def test_a_change_that_changes_nothing_has_no_delta() -> None:
    found = images([(0, "same")], [(0, "same")], [U])
    assert log(found) == [(0, -1, "same"), (0, 1, "same")]
    assert delta(found) == {}


def test_all_images_of_before_end_with_the_first_change_of_their_row() -> None:
    found = images([(0, "target"), (1, "other"), (0, "own")], [(1, "x"), (0, "moved")], [U, U])
    assert found.ended_by.tolist() == [1, 0, 1, STAYS, STAYS]
    assert delta(found) == {"target": -1, "own": -1, "other": -1, "x": 1, "moved": 1}


def test_what_was_not_sent_is_as_it_last_was_in_its_own_row() -> None:
    found = images(
        [(0, "zero"), (1, "one")],
        [(0, None), (1, "sent"), (0, None), (1, None)],
        [U, U, U, U],
        {"note": [True, False, True, True]},
    )
    notes = found.rows.column("note").to_pylist()
    assert notes == ["zero", "one", "zero", "sent", "zero", "sent"]
    assert not len(found.unfilled)


def test_what_was_not_sent_is_filled_from_the_last_of_several_images_of_before() -> None:
    found = images([(0, "target"), (0, "own")], [(0, None)], [U], {"note": [True]})
    assert found.rows.column("note").to_pylist()[-1] == "own"


def test_what_nobody_knows_is_said_and_not_taken_from_another_row() -> None:
    found = images(
        [(0, "zero")],
        [(1, None), (0, None), (1, "now"), (1, None), (2, None)],
        [U, U, U, U, D],
        {"note": [True, True, False, True, True]},
    )
    assert found.unfilled.tolist() == [0]
    assert found.rows.column("note").to_pylist() == ["zero", None, "zero", "now", "now", None]


def test_a_value_that_was_null_is_known() -> None:
    found = images([(0, "old")], [(0, None), (0, None)], [U, U], {"note": [False, True]})
    assert found.rows.column("note").to_pylist() == ["old", None, None]
    assert not len(found.unfilled)


def test_nothing_is_known_of_a_row_behind_its_end() -> None:
    """Where a change was refused, what follows it in the same batch may leave values out."""
    found = images(
        [(0, "old")],
        [(0, None), (0, None), (0, "new"), (0, None)],
        [D, U, U, U],
        {"note": [False, True, False, True]},
    )
    assert found.unfilled.tolist() == [1]
    assert found.rows.column("note").to_pylist() == ["old", None, None, "new", "new"]


def test_a_change_is_unfilled_if_one_of_several_columns_is() -> None:
    after = pa.table({"one": pa.array([None, "a"]), "two": pa.array(["b", None])})
    known = pa.table({"one": pa.array([], pa.string()), "two": pa.array([], pa.string())})
    nobody, rows = np.empty(0, np.int64), np.array([0, 1])
    marks = {"one": np.array([True, False]), "two": np.array([False, True])}
    touched = Touched(known, nobody, rows)
    found = chain_images(touched, after, np.array([U, U], np.int8), marks)
    assert found.unfilled.tolist() == [0, 1]
