"""Two histories are one up to the first end that differs; a position behind it stops."""

from __future__ import annotations

import pytest

from upwell.core.errors import LOG_PARTED, EnvironmentFault, IntegrityError
from upwell.core.position import Position
from upwell.sources.postgres.timeline import Line, line_of, require_same, require_system
from upwell.sources.postgres.wal import position_of

FIRST = Line("7", 1)
SECOND = Line("7", 2, ((1, 0x5000),))
THIRD = Line("7", 3, ((1, 0x5000), (2, 0x8000)))
SISTER = Line("7", 3, ((1, 0x3000),))
OTHER_SECOND = Line("7", 2, ((1, 0x4000),))


@pytest.mark.parametrize(
    ("known", "found", "shared"),
    [
        (FIRST, FIRST, None),
        (FIRST, SECOND, 0x5000),
        (SECOND, FIRST, 0x5000),
        (FIRST, THIRD, 0x5000),
        (SECOND, THIRD, 0x8000),
        (SECOND, SISTER, 0x3000),
        (THIRD, SISTER, 0x3000),
        (SECOND, OTHER_SECOND, 0x4000),
        (Line("7"), THIRD, None),
    ],
)
def test_lines_are_one_up_to_the_first_end_that_differs(
    known: Line, found: Line, shared: int | None
) -> None:
    assert known.shared_with(found) == shared
    assert found.shared_with(known) == shared


@pytest.mark.parametrize("line", [FIRST, SECOND, THIRD, Line("7")])
def test_a_line_is_read_as_it_was_stored(line: Line) -> None:
    assert line_of(str(line)) == line


def test_what_an_older_upwell_stored_is_the_system_alone() -> None:
    succession = require_same(line_of("7"), SECOND, 0x9000, position_of(0x8000), "shop")
    assert succession is not None
    assert succession.identity == str(SECOND)
    assert succession.what == ""  # nobody knows of another one before


@pytest.mark.parametrize(
    ("known", "found", "end", "read_to", "is_lacking"),
    [
        (FIRST, FIRST, 0x5000, 0x5000, False),
        (FIRST, FIRST, 0x5000, 0x5100, True),  # a backup put back
        (FIRST, FIRST, 0x6000, 0x6018, False),  # behind a page's header there is nothing yet
        (FIRST, SECOND, 0x9000, 0x5000, False),
        (FIRST, SECOND, 0x9000, 0x5100, True),
        (SECOND, FIRST, 0x9000, 0x5100, True),  # the old primary is back
        (Line("7"), SECOND, 0x5000, 0x5100, True),
    ],
)
def test_a_server_that_lacks_what_was_read_is_refused_with_the_range(
    known: Line, found: Line, end: int, read_to: int, *, is_lacking: bool
) -> None:
    position = position_of(read_to)
    if not is_lacking:
        require_same(known, found, end, position, "shop")
        return
    with pytest.raises(IntegrityError) as refused:
        require_same(known, found, end, position, "shop")
    assert refused.value.code == LOG_PARTED
    assert f"from {position_of(0x5000)} to {position}" in refused.value.what
    assert "upwell resync" in refused.value.next_step


def test_another_cluster_is_another_database() -> None:
    with pytest.raises(EnvironmentFault, match="system 8, expected 7"):
        require_system(FIRST, Line("8", 1), "shop", source="shop", anew="resync")


def test_the_same_server_is_nothing_new() -> None:
    assert require_same(SECOND, SECOND, 0x9000, Position(position_of(0x8000)), "shop") is None
