"""Errors: one shape, and the kind alone decides the exit code and whether to try again."""

from __future__ import annotations

import pytest

from upwell.core.errors import (
    EnvironmentFault,
    Exit,
    GapError,
    IntegrityError,
    ProjectError,
    Unavailable,
    UpwellError,
    UsageError,
)


@pytest.mark.parametrize(
    ("kind", "exit_code", "retry"),
    [
        (UsageError, 2, False),
        (ProjectError, 2, False),
        (EnvironmentFault, 3, False),
        (Unavailable, 3, True),
        (GapError, 3, False),
        (IntegrityError, 3, False),
    ],
)
def test_the_kind_decides_exit_code_and_retry(
    kind: type[UpwellError], exit_code: int, retry: bool
) -> None:
    error = kind("code", "what")
    assert (int(error.exit), error.retry) == (exit_code, retry)


def test_every_kind_is_caught_as_an_error_of_ours() -> None:
    kinds = (UsageError, ProjectError, EnvironmentFault, Unavailable, GapError, IntegrityError)
    assert all(issubclass(kind, UpwellError) for kind in kinds)


def test_an_error_is_written_as_what_where_and_next() -> None:
    error = UsageError("bad", "it does not fit", where="f.yaml:3", next_step="make it fit")
    assert str(error) == "it does not fit\n  where: f.yaml:3\n  next:  make it fit"
    assert error.as_dict() == {
        "code": "bad",
        "what": "it does not fit",
        "where": "f.yaml:3",
        "next": "make it fit",
    }


def test_parts_that_are_not_there_are_not_written() -> None:
    assert str(UsageError("bad", "it does not fit")) == "it does not fit"
    assert UsageError("bad", "it does not fit").as_dict()["where"] == ""


def test_exit_codes_are_those_of_the_command_line() -> None:
    assert [(each.name, int(each)) for each in Exit] == [
        ("DONE", 0),
        ("NO", 1),
        ("USAGE", 2),
        ("ENVIRONMENT", 3),
    ]
