"""Binary numerics become exactly the decimal, or exactly the text, that they stand for."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upwell.core.errors import IntegrityError
from upwell.sources.postgres import numerics
from upwell.sources.postgres.frames import PADDING_BYTES
from upwell.sources.postgres.numerics import Numerics
from upwell.sources.postgres.views import Views

SPECIAL = {"NaN": 0xC000, "Infinity": 0xD000, "-Infinity": 0xF000}


def encoded(value: Decimal) -> bytes:
    """As PostgreSQL sends it (src/backend/utils/adt/numeric.c, numeric_send)."""
    if not value.is_finite():
        return struct.pack(">hhHH", 0, 0, SPECIAL[str(value)], 0)
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    shown = max(0, -exponent)
    whole = "".join(map(str, digits)) + "0" * max(0, exponent)
    whole = whole.rjust(shown + 1, "0")
    before, after = whole[: len(whole) - shown], whole[len(whole) - shown :]
    before = before.rjust(-(-len(before) // 4) * 4, "0")
    after = after.ljust(-(-len(after) // 4) * 4, "0")
    groups = [int((before + after)[at : at + 4]) for at in range(0, len(before + after), 4)]
    weight = len(before) // 4 - 1
    while groups and groups[0] == 0:
        groups, weight = groups[1:], weight - 1
    while groups and groups[-1] == 0:
        groups = groups[:-1]
    if not groups:
        weight, sign = 0, 0
    head = struct.pack(">hhHH", len(groups), weight, 0x4000 if sign else 0, shown)
    return head + struct.pack(f">{len(groups)}h", *groups)


def read(values: Sequence[Decimal | None]) -> Numerics:
    parts = [b"" if value is None else encoded(value) for value in values]
    lengths = np.array([len(part) for part in parts], np.int64)
    starts = np.cumsum(lengths) - lengths
    buffer = np.frombuffer(b"".join(parts) + bytes(PADDING_BYTES), np.uint8)
    present = np.array([value is not None for value in values], np.bool_)
    return numerics.read(Views(buffer), starts, lengths, present)


def exact(units: int, places: int) -> Decimal:
    """``units`` with the point moved: arithmetic would round to the context's 28 digits."""
    return Decimal(f"{units}E-{places}")


def printed(value: Decimal | None) -> str | None:
    if value is None:
        return None
    if not value.is_finite():
        return str(value)
    return format(value or abs(value), "f")


specials = st.sampled_from([Decimal("NaN"), Decimal("Infinity"), Decimal("-Infinity")])


@given(
    data=st.data(),
    precision=st.integers(1, 38),
)
def test_a_decimal_column_holds_every_value_exactly_and_refuses_the_others(
    data: st.DataObject, precision: int
) -> None:
    scale = data.draw(st.integers(0, precision))
    largest = 10**precision - 1
    fitting = st.integers(-largest, largest).map(lambda units: exact(units, scale))
    values = data.draw(st.lists(st.none() | fitting | specials, min_size=1, max_size=20))
    array, refused = numerics.decimals(read(values), precision, scale)
    array.validate(full=True)
    assert refused.tolist() == [value is not None and not value.is_finite() for value in values]
    expected = [value if value is not None and value.is_finite() else None for value in values]
    assert array.to_pylist() == expected


@given(
    units=st.integers(-(10**45), 10**45),
    places=st.integers(0, 12),
    precision=st.integers(1, 38),
    data=st.data(),
)
def test_a_value_out_of_range_is_refused_never_wrapped(
    units: int, places: int, precision: int, data: st.DataObject
) -> None:
    scale = data.draw(st.integers(0, precision))
    value = exact(units, places)
    array, refused = numerics.decimals(read([value]), precision, scale)
    in_units = Fraction(value) * 10**scale
    fits = in_units.denominator == 1 and abs(in_units) < 10**precision
    assert refused.tolist() == [not fits]
    assert array.to_pylist() == [value if fits else None]


@given(
    values=st.lists(
        st.none()
        | specials
        | st.builds(
            exact,
            st.integers(-(10**40), 10**40) | st.integers(-(10**9), 10**9),
            st.integers(0, 25),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_the_text_of_a_numeric_is_the_servers(values: list[Decimal | None]) -> None:
    texts, refused = numerics.written(read(values))
    assert texts.to_pylist() == [printed(value) for value in values]
    assert not refused.any()


@settings(max_examples=30, deadline=None)
@given(
    values=st.lists(
        st.builds(
            lambda units, exponent: Decimal(f"{units}E{exponent}"),
            st.integers(-(10**12), 10**12),
            st.integers(-16_000, 40_000),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_a_numeric_of_very_many_digits_is_written_out_or_in_short(values: list[Decimal]) -> None:
    parts = read(values)
    texts, _ = numerics.written(parts)
    assert texts.to_pylist() == [printed(value) for value in values]
    short = [Decimal(numerics.in_short(parts, row)) for row in range(len(values))]
    assert short == values


def test_digits_that_are_not_on_the_wire_do_not_fill_the_memory() -> None:
    """Ten bytes may stand for 131,072 digits: a column of those is written as far as is bounded."""
    many = 3000
    raw = (struct.pack(">hhHH", 1, 32767, 0, 0) + struct.pack(">H", 7)) * many
    buffer = np.frombuffer(raw + bytes(PADDING_BYTES), np.uint8)
    starts, lengths = np.arange(many) * 10, np.full(many, 10)
    parts = numerics.read(Views(buffer), starts, lengths, np.ones(many, np.bool_))
    texts, refused = numerics.written(parts)
    assert texts.nbytes < 70 << 20
    assert texts[0].as_py() == "7" + "0" * 131_068
    assert (np.asarray(texts.is_null()) == refused).all()
    assert 0 < refused.sum() < many
    assert numerics.in_short(parts, many - 1) == "7e131068"


@pytest.mark.parametrize(
    "raw",
    [
        struct.pack(">hhHH", 2, 0, 0, 0) + b"\0\1",
        struct.pack(">hhHH", -1, 0, 0, 0),
        struct.pack(">hhHH", 0, 0, 0x1234, 0),
        struct.pack(">hhHH", 1, 0, 0, 0) + struct.pack(">H", 10_000),
        struct.pack(">hhHH", 1, 9, 0, 0) + struct.pack(">H", 10_000),
        struct.pack(">hhHH", 1, 9, 0, 0) + struct.pack(">H", 0xFFFF),
    ],
)
def test_a_numeric_that_contradicts_itself_is_refused(raw: bytes) -> None:
    buffer = np.frombuffer(raw + bytes(PADDING_BYTES), np.uint8)
    starts, lengths = np.array([0]), np.array([len(raw)])
    with pytest.raises(IntegrityError):
        numerics.written(numerics.read(Views(buffer), starts, lengths, np.array([True])))
