"""The laws of change batches: an Abelian group with one normal form.

Two batches are the same when they give every row the same weight, which the tests count in plain
Python, apart from Arrow.
"""

from __future__ import annotations

import datetime as dt
import decimal
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upwell.core import batch

SCHEMA = pa.schema(
    [
        ("number", pa.int64()),
        ("name", pa.string()),
        ("amount", pa.decimal128(12, 2)),
        ("at", pa.timestamp("us", tz="UTC")),
        ("is_paid", pa.bool_()),
        ("day", pa.date32()),
    ]
)

# Few distinct values, so that rows collide; NULL among them everywhere.
_rows = st.fixed_dictionaries(
    {
        "number": st.sampled_from([None, -1, 0, 2**63 - 1]),
        "name": st.sampled_from([None, "", "a", "A", "é\n"]),
        "amount": st.sampled_from([None, decimal.Decimal("0.00"), decimal.Decimal("-9.99")]),
        "at": st.sampled_from([None, dt.datetime(2026, 3, 29, 1, tzinfo=dt.UTC)]),
        "is_paid": st.sampled_from([None, False, True]),
        "day": st.sampled_from([None, dt.date(2026, 3, 29)]),
    }
)


@st.composite
def batches(draw: st.DrawFn) -> pa.Table:
    """A change batch, mostly not consolidated."""
    rows = draw(st.lists(_rows, max_size=12))
    rows += draw(st.lists(st.sampled_from(rows), max_size=6)) if rows else []
    weights = draw(st.lists(st.integers(-3, 3), min_size=len(rows), max_size=len(rows)))
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    field = pa.field(batch.WEIGHT, pa.int64(), nullable=False)
    return table.append_column(field, pa.array(weights, pa.int64()))


def weights(changes: pa.Table) -> Counter[tuple[object, ...]]:
    """Row → weight, zero weights gone."""
    counted: Counter[tuple[object, ...]] = Counter()
    for row in changes.to_pylist():
        weight = row.pop(batch.WEIGHT)
        counted[tuple(row.items())] += weight
    return Counter({row: weight for row, weight in counted.items() if weight})


@given(batches(), batches(), batches())
def test_addition_is_associative_and_commutative(a: pa.Table, b: pa.Table, c: pa.Table) -> None:
    left = batch.add([batch.add([a, b]), c])
    right = batch.add([c, batch.add([b, a])])
    assert weights(left) == weights(right)
    assert weights(batch.consolidate(left)) == weights(batch.consolidate(right))


@given(batches())
def test_the_empty_batch_changes_nothing(a: pa.Table) -> None:
    assert weights(batch.add([a, batch.empty(SCHEMA)])) == weights(a)


@given(batches())
def test_a_batch_and_its_negation_cancel_out(a: pa.Table) -> None:
    nothing = batch.consolidate(batch.add([a, batch.negate(a)]))
    assert nothing.num_rows == 0
    assert nothing.schema == a.schema


@given(batches())
def test_negating_twice_is_nothing_done(a: pa.Table) -> None:
    assert batch.negate(batch.negate(a)).equals(a)


@given(batches(), batches())
def test_negation_spreads_over_addition(a: pa.Table, b: pa.Table) -> None:
    assert weights(batch.negate(batch.add([a, b]))) == weights(
        batch.add([batch.negate(a), batch.negate(b)])
    )


@given(batches())
def test_consolidating_keeps_every_weight(a: pa.Table) -> None:
    assert weights(batch.consolidate(a)) == weights(a)


@given(batches())
def test_a_consolidated_batch_has_each_row_once_and_no_zero(a: pa.Table) -> None:
    normal = batch.consolidate(a)
    assert normal.num_rows == len(weights(a))
    assert 0 not in normal.column(batch.WEIGHT).to_pylist()
    assert normal.schema == a.schema


@given(batches())
def test_consolidating_twice_is_consolidating_once(a: pa.Table) -> None:
    once = batch.consolidate(a)
    assert weights(batch.consolidate(once)) == weights(once)
    assert batch.consolidate(once).num_rows == once.num_rows


@given(batches(), batches())
def test_a_consolidated_batch_can_be_added_to_one_that_is_not(a: pa.Table, b: pa.Table) -> None:
    assert weights(batch.add([batch.consolidate(a), b])) == weights(batch.add([a, b]))


@given(batches(), batches())
def test_batches_that_mean_the_same_have_the_same_normal_form(a: pa.Table, b: pa.Table) -> None:
    detour = batch.consolidate(batch.add([a, b, batch.negate(b)]))
    order = [(name, "ascending") for name in SCHEMA.names]
    assert detour.sort_by(order).equals(batch.consolidate(a).sort_by(order))


@given(batches(), st.integers(-3, 3))
def test_rows_get_the_weight_they_are_given(a: pa.Table, weight: int) -> None:
    rows = a.drop_columns([batch.WEIGHT])
    weighted = batch.from_rows(rows, weight)
    assert weighted.drop_columns([batch.WEIGHT]).equals(rows)
    assert weighted.column(batch.WEIGHT).to_pylist() == [weight] * rows.num_rows
    assert batch.row_columns(weighted) == rows.column_names


def test_a_weight_that_cannot_be_negated_is_an_error_not_a_wrong_number() -> None:
    rows = pa.table({"a": [1]})
    with pytest.raises(pa.ArrowInvalid, match="overflow"):
        batch.negate(batch.from_rows(rows, -(2**63)))


def test_a_column_may_be_called_like_a_sum_of_weights() -> None:
    rows = pa.table({f"{batch.WEIGHT}_sum": [0, 0, 1]})
    normal = batch.consolidate(batch.from_rows(rows))
    assert weights(normal) == weights(batch.from_rows(rows))
    assert normal.num_rows == 2
