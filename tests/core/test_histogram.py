"""Histograms against the values they stand for."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from upwell.core.histogram import LARGEST_MS, RELATIVE_ERROR, SMALLEST_MS, Histogram

Values = npt.NDArray[np.float64]

measurable = arrays(
    np.float64, st.integers(1, 200), elements=st.floats(SMALLEST_MS, LARGEST_MS, exclude_min=True)
)
any_values = arrays(
    np.float64, st.integers(0, 100), elements=st.floats(allow_nan=False, allow_infinity=True)
)
shares = st.floats(0, 1)


def true_quantile(values: Values, q: float) -> float:
    """The smallest value that a share ``q`` of all values does not exceed."""
    return float(np.sort(values)[max(1, math.ceil(q * len(values))) - 1])


@given(measurable, shares)
def test_a_quantile_is_within_the_stated_error_of_the_true_one(values: Values, q: float) -> None:
    found = Histogram.empty().add(values).quantile(q)
    assert found is not None
    true = true_quantile(values, q)
    assert abs(found - true) <= RELATIVE_ERROR * true * (1 + 1e-9)


def test_the_stated_error_is_below_five_percent() -> None:
    assert RELATIVE_ERROR < 0.05


@given(measurable, shares)
def test_bounds_hold_the_true_quantile(values: Values, q: float) -> None:
    bounds = Histogram.empty().add(values).bounds(q)
    assert bounds is not None
    low, high = bounds
    assert low < true_quantile(values, q) <= high


@given(measurable, shares, shares)
def test_quantiles_never_fall_as_the_share_grows(values: Values, q: float, r: float) -> None:
    histogram = Histogram.empty().add(values)
    low, high = histogram.quantile(min(q, r)), histogram.quantile(max(q, r))
    assert low is not None
    assert high is not None
    assert low <= high


@given(any_values, any_values, any_values)
def test_merging_in_any_order_is_adding_all(a: Values, b: Values, c: Values) -> None:
    x, y, z = (Histogram.empty().add(values) for values in (a, b, c))
    together = Histogram.empty().add(np.concatenate([a, b, c]))
    assert x.merge(y).merge(z) == together
    assert z.merge(y.merge(x)) == together
    assert x.merge(Histogram.empty()) == x
    assert hash(x.merge(y)) == hash(y.merge(x))


@given(any_values)
def test_every_value_is_counted(values: Values) -> None:
    assert Histogram.empty().add(values).count == len(values)


@given(any_values)
def test_decoding_gives_back_what_was_encoded(values: Values) -> None:
    histogram = Histogram.empty().add(values)
    encoded = histogram.encode()
    assert all(type(number) is int for number in encoded)
    assert Histogram.decode(encoded) == histogram


def test_an_encoding_is_as_long_as_its_buckets_are_many_not_its_values() -> None:
    assert len(Histogram.empty().add(np.full(1_000_000, 250.0)).encode()) == 3
    assert len(Histogram.empty().encode()) == 1


@pytest.mark.parametrize(
    "encoded", [[], [2], [1, 3], [1, 3, 0], [1, 3, -1], [1, 3, 1, 3, 1], [1, 4, 1, 3, 1],
                [1, -1, 1], [1, 999, 1]],
)  # fmt: skip
def test_what_no_histogram_encodes_to_is_refused(encoded: list[int]) -> None:
    with pytest.raises(ValueError, match=r"histogram|out of order"):
        Histogram.decode(encoded)


def test_an_empty_histogram_has_no_quantile() -> None:
    assert Histogram.empty().quantile(0.5) is None
    assert Histogram.empty().bounds(0.5) is None


def test_what_is_too_small_or_too_large_to_tell_reads_as_the_nearest_edge() -> None:
    outside = Histogram.empty().add([-5.0, 0.0, 0.5, 1.0])
    assert outside.quantile(1) == SMALLEST_MS
    beyond = Histogram.empty().add([LARGEST_MS * 2, math.inf])
    assert beyond.quantile(0) == LARGEST_MS
    assert beyond.bounds(0) == (LARGEST_MS, math.inf)


def test_nan_is_refused_and_adds_nothing() -> None:
    with pytest.raises(ValueError, match="NaN"):
        Histogram.empty().add([1.0, math.nan])


@pytest.mark.parametrize("q", [-0.01, 1.01, math.nan])
def test_a_share_outside_0_to_1_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Histogram.empty().add([1.0]).quantile(q)


def test_a_histogram_cannot_be_changed_in_place() -> None:
    histogram = Histogram.empty()
    with pytest.raises(ValueError, match="read-only"):
        histogram.counts[0] = 1
    histogram.add([5.0])
    assert histogram.count == 0
