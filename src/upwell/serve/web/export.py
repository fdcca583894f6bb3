"""A view's numbers as CSV, one row a number, for spreadsheets and scripts.

Text that a spreadsheet would take for a formula gets an apostrophe in front: the names of
categories come from the shop's database, and a customer may have had a say in them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

from upwell.serve.web.metrics import Number as Value
from upwell.serve.web.payload import Bars, Number, Payload, Timeline

_COLUMNS = (
    "metric",
    "starts_at",
    "grain",
    "dimension",
    "category",
    "value",
    "share",
    "previous",
    "change",
)
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")

_Cell = str | Value | None


def to_csv(payload: Payload) -> bytes:
    """The payload as CSV in UTF-8, with a header; times in the business zone with their offset."""
    zone = ZoneInfo(payload.zone)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(_COLUMNS)
    starts_at = _time(payload.window.starts_ms, zone)
    for tile in payload.tiles:
        if isinstance(tile, Number):
            writer.writerow(
                [tile.metric, starts_at, "", "", "", tile.value, "", tile.previous, tile.change]
            )
        elif isinstance(tile, Timeline):
            writer.writerows(_timeline_rows(tile, zone))
        else:
            writer.writerows(_bars_rows(tile, starts_at))
    return text.getvalue().encode()


def file_name(payload: Payload) -> str:
    """A name that says what is in the file and until when."""
    ends = datetime.fromtimestamp(payload.window.ends_ms / 1000, ZoneInfo(payload.zone))
    return f"{payload.dashboard}_{payload.period}_{ends:%Y-%m-%dT%H%M}.csv"


def _timeline_rows(tile: Timeline, zone: ZoneInfo) -> Iterator[list[_Cell]]:
    times = [_time(bucket, zone) for bucket in tile.buckets_ms]
    for series in tile.series:
        for time, value in zip(times, series.values, strict=True):
            yield [
                tile.metric,
                time,
                tile.grain,
                tile.by,
                _text(series.label),
                value,
                None,
                None,
                None,
            ]


def _bars_rows(tile: Bars, starts_at: str) -> Iterator[list[_Cell]]:
    for row in tile.rows:
        yield [
            tile.metric,
            starts_at,
            "",
            tile.by,
            _text(row.label),
            row.value,
            row.share,
            row.previous,
            row.change,
        ]


def _time(milliseconds: int, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, zone).isoformat(timespec="seconds")


def _text(value: str) -> str:
    return f"'{value}" if value.startswith(_FORMULA_STARTS) else value
