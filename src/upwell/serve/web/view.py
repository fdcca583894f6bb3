"""A view: what one viewer asked for, as a value two viewers can share.

The same question always becomes the same value (choices defaulted, filters sorted), because the
value is the key under which a view is computed once for all who look at it. In an address, and as
the key of a row, a dimension's value is a *token*: its text, ``~`` for NULL, and one more ``~`` in
front of a text that begins with one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from upwell.core.errors import UsageError
from upwell.project.values import Dashboard, Project
from upwell.serve.web.metrics import unknown

_NULL_TOKEN = "~"  # noqa: S105 - a mark in an address, no secret
_FILTER_VALUES_MAX = 100
_VALUE_LENGTH_MAX = 500


@dataclass(frozen=True, slots=True)
class Filter:
    """Only rows whose ``dimension`` is one of ``values``; None stands for NULL."""

    dimension: str
    values: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class View:
    """A dashboard over one period, filtered."""

    dashboard: str
    period: str
    filters: tuple[Filter, ...] = ()

    def filter(self, dimension: str) -> Filter | None:
        """The filter on ``dimension``, if there is one."""
        return next((each for each in self.filters if each.dimension == dimension), None)


def token(value: str | None) -> str:
    """How a dimension's value stands in an address."""
    if value is None:
        return _NULL_TOKEN
    return _NULL_TOKEN + value if value.startswith(_NULL_TOKEN) else value


def value_of(text: str) -> str | None:
    """The dimension's value that a token stands for."""
    if text == _NULL_TOKEN:
        return None
    return text[1:] if text.startswith(_NULL_TOKEN) else text


def find_dashboard(project: Project, name: str) -> Dashboard:
    """The dashboard called ``name``. Raises UsageError with the nearest name there is."""
    board = project.dashboards.get(name)
    if board is None:
        fault = unknown("dashboard", name, project.dashboards, where="")
        raise UsageError("unknown_dashboard", fault.what, next_step=fault.next_step)
    return board


def read_view(project: Project, name: str, query: Sequence[tuple[str, str]]) -> View:
    """The view that an address asks for.

    ``query`` holds ``period`` at most once and any number of filters, ``<dimension>=<token>``.
    Raises UsageError for anything the dashboard does not offer.
    """
    board = find_dashboard(project, name)
    period = board.period.default
    chosen: dict[str, set[str | None]] = {}
    for key, text in query:
        if key == "period":
            period = _one_of(text, board.period.choices, "period", name)
        else:
            _one_of(key, board.filters, "filter", name)
            chosen.setdefault(key, set()).add(value_of(_bounded(key, text)))
    if any(len(values) > _FILTER_VALUES_MAX for values in chosen.values()):
        raise UsageError("too_many_values", f"at most {_FILTER_VALUES_MAX} values a filter")
    filters = (
        Filter(dimension, tuple(sorted(values, key=lambda value: (value is not None, value or ""))))
        for dimension, values in sorted(chosen.items())
    )
    return View(name, period, tuple(filters))


def _one_of(text: str, offered: Sequence[str], kind: str, board: str) -> str:
    if text in offered:
        return text
    expected = ", ".join(offered) or "none"
    raise UsageError(
        f"unknown_{kind}",
        f"dashboard {board} has no {kind} {text[:_VALUE_LENGTH_MAX]!r}",
        next_step=f"expected one of: {expected}",
    )


def _bounded(key: str, text: str) -> str:
    if len(text) <= _VALUE_LENGTH_MAX and "\0" not in text:
        return text
    raise UsageError("bad_value", f"the value of filter {key} is too long or holds a NUL character")
