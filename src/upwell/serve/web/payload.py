"""What a page and the API receive: the numbers of one view at one version, ready for JSON.

Instants are milliseconds since 1970 UTC. Decimals are written digit for digit. ``change`` is
relative (0.05 = five per cent more) and absent where there is nothing to compare with.
"""

from __future__ import annotations

import msgspec

from upwell.serve.web.metrics import Number as Value


class Number(msgspec.Struct, frozen=True, kw_only=True, tag="number", tag_field="kind"):
    """One value over the whole window."""

    metric: str
    value: Value | None
    previous: Value | None = None
    change: float | None = None


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """One layer of a timeline. ``rank`` is stable for a value while the process lives."""

    key: str | None  # token of the dimension's value; None: everything else together
    label: str
    rank: int
    values: list[Value | None]


class Timeline(msgspec.Struct, frozen=True, kw_only=True, tag="timeline", tag_field="kind"):
    """A metric over time, split by a dimension. Every bucket is there, empty ones too.

    ``asked`` is the grain that the dashboard names, where that had too many points. ``is_running``:
    the last bucket ends after now.
    """

    metric: str
    by: str | None
    grain: str
    asked: str | None = None
    is_running: bool
    buckets_ms: list[int]
    totals: list[Value | None]
    series: list[Series]


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """One value of a dimension. ``share`` is its part of the whole, where parts make a whole."""

    key: str | None  # token; None: everything else together
    label: str
    rank: int
    value: Value | None
    share: float | None = None
    previous: Value | None = None
    change: float | None = None
    selected: bool = False


class Bars(msgspec.Struct, frozen=True, kw_only=True, tag="bars", tag_field="kind"):
    """The values of a dimension, greatest first. ``left_out`` values did not fit."""

    metric: str
    by: str
    rows: list[Bar]
    left_out: int = 0


class WindowTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Which time the numbers speak of; ends are exclusive.

    ``last_day_ms`` is when the last business day of the window begins; ``is_running`` where that is
    today. The previous window is absent where nothing is compared, and for ``all``; of ``all``,
    ``is_empty`` says that nothing has happened yet, so that the window is today, and
    ``rows_left_out`` how many rows count in no period: without a time, before 1990 or after now.
    """

    starts_ms: int
    ends_ms: int
    last_day_ms: int
    is_running: bool
    previous_starts_ms: int | None = None
    previous_ends_ms: int | None = None
    is_empty: bool = False
    rows_left_out: int = 0


class ActiveFilter(msgspec.Struct, frozen=True, kw_only=True):
    """One chosen value of one filter."""

    dimension: str
    key: str
    label: str


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """A view's numbers. ``tiles`` stand in the order of the dashboard's file."""

    dashboard: str
    version: int
    period: str
    zone: str
    window: WindowTimes
    filters: list[ActiveFilter]
    tiles: list[Number | Timeline | Bars]


_encoder = msgspec.json.Encoder(decimal_format="number")


def to_json(payload: Payload) -> bytes:
    """The payload as JSON; decimals as numbers with all their digits."""
    return _encoder.encode(payload)
