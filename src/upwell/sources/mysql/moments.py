"""Days and moments from their parts, by columns; what is no day of the calendar is told apart.

MySQL knows days that no calendar has: ``0000-00-00``, ``2024-02-00``, and with ALLOW_INVALID_DATES
``2024-02-31``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upwell.core.protocols import Bools, Int64s

DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Parts:
    """A moment taken apart, for each row."""

    year: Int64s
    month: Int64s
    day: Int64s
    hour: Int64s
    minute: Int64s
    second: Int64s
    microsecond: Int64s

    def texts(self, rows: Bools, digits: int) -> list[str]:
        """``2024-02-31 00:00:00`` of some rows; ``digits`` after the second, -1: days alone."""
        listed = [
            part[rows].tolist()
            for part in (
                self.year,
                self.month,
                self.day,
                self.hour,
                self.minute,
                self.second,
                self.microsecond,
            )
        ]
        return [_text(*parts, digits=digits) for parts in zip(*listed, strict=True)]


def days(year: Int64s, month: Int64s, day: Int64s) -> tuple[Int64s, Bools]:
    """Days since 1970-01-01, and which are real days; years 1 to 9999."""
    is_month = (month >= 1) & (month <= 12)
    months = (year - 1970) * 12 + np.where(is_month, month, 1) - 1
    begin = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    end = (months + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    found = begin + day - 1
    return found, is_month & (day >= 1) & (found < end) & (year >= 1) & (year <= 9999)


def moments(parts: Parts) -> tuple[Int64s, Bools]:
    """Microseconds since 1970, and which are real moments."""
    day, is_real = days(parts.year, parts.month, parts.day)
    is_real = is_real & (parts.hour < 24) & (parts.minute < 60) & (parts.second < 60)
    seconds = (parts.hour * 60 + parts.minute) * 60 + parts.second
    return day * DAY_US + seconds * 1_000_000 + parts.microsecond, is_real


def times(
    negative: Bools, clock: tuple[Int64s, Int64s, Int64s], fraction: Int64s, digits: int
) -> pa.Array:
    """``-12:34:56.789``, as the server prints a TIME; ``fraction`` has ``digits`` digits."""
    texts = pc.binary_join_element_wise(
        *(pc.utf8_lpad(pc.cast(pa.array(part), pa.string()), 2, "0") for part in clock),
        ":",
    )
    if digits:
        padded = pc.utf8_lpad(pc.cast(pa.array(fraction), pa.string()), digits, "0")
        texts = pc.binary_join_element_wise(texts, padded, ".")
    return pc.binary_join_element_wise(pc.if_else(pa.array(negative), "-", ""), texts, "")


def _text(*parts: int, digits: int) -> str:
    year, month, day, hour, minute, second, microsecond = parts
    text = f"{year:04d}-{month:02d}-{day:02d}"
    if digits < 0:
        return text
    text += f" {hour:02d}:{minute:02d}:{second:02d}"
    return f"{text}.{microsecond:06d}"[: len(text) + 1 + digits] if digits else text
