"""A text that the server would not print for a type is refused, never read as something near."""

from __future__ import annotations

import pyarrow as pa
import pytest

from upwell.core.errors import IntegrityError
from upwell.sources.postgres import texts
from upwell.sources.postgres.datatypes import data_type

BOOL, INT8, BYTEA, DATE, TIMESTAMP, TIMESTAMPTZ, UUID = 16, 20, 17, 1082, 1114, 1184, 2950


@pytest.mark.parametrize(
    ("oid", "text"),
    [
        (BOOL, "true"),
        (BOOL, ""),
        (INT8, "9223372036854775808"),
        (INT8, "1.0"),
        (BYTEA, "00"),
        (BYTEA, "\\x0"),
        (BYTEA, "\\x0g"),
        (DATE, "0044-13-01 BC"),
        (DATE, "0044-02-30 BC"),
        (DATE, "0044-00-10 BC"),
        (DATE, "12026-01-00"),
        (DATE, "2026-02-30"),
        (DATE, "tomorrow"),
        (TIMESTAMP, "0044-03-15 24:00:01 BC"),
        (TIMESTAMP, "12026-01-01 00:60:00"),
        (TIMESTAMPTZ, "12026-01-01 00:00:60+00"),
        (TIMESTAMPTZ, "2026-01-01 00:00:00+02"),
        (UUID, "12345678-1234"),
        (UUID, "z" * 32),
    ],
)
def test_a_text_that_is_no_value_is_refused(oid: int, text: str) -> None:
    with pytest.raises(IntegrityError):
        texts.parse(pa.array([None, text]), data_type(oid, -1, {}))


@pytest.mark.parametrize(
    ("oid", "text"),
    [
        (DATE, "9999999-01-01"),
        (DATE, "9999999-01-01 BC"),
        (TIMESTAMP, "9999999-01-01 00:00:00"),
        (TIMESTAMP, "9999999-01-01 00:00:00 BC"),
    ],
)
def test_a_time_beyond_what_is_stored_is_set_apart(oid: int, text: str) -> None:
    array, refused = texts.parse(pa.array([text]), data_type(oid, -1, {}))
    assert refused.tolist() == [True]
    assert array.null_count == 1


def test_the_last_day_of_a_month_is_a_day() -> None:
    days = ["0045-02-29 BC", "12023-12-31", "12024-02-29", "0001-12-31 BC", "10000-01-01"]
    array, refused = texts.parse(pa.array(days), data_type(DATE, -1, {}))
    assert not refused.any()
    assert array.null_count == 0
