"""The replica equals what the feed said, whatever it said and in which order."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upwell.core.errors import IntegrityError
from upwell.core.protocols import TableDelta, TableSnapshot, VersionEnd
from upwell.core.schema import TableSchema
from upwell.serve.web.calendar import NO_BUCKET
from upwell.serve.web.replica import At, Replica

from .shop import (
    NOTHING_COMMITTED,
    SCHEMA,
    Row,
    batch,
    instant_us,
    make_project,
    table,
)

PROJECT = make_project()
AT = instant_us(2026, 11, 22, 12)
BAG = TableSchema(SCHEMA.name, SCHEMA.columns)
ONE: Row = (1, AT, "North", "Hats", 1, Decimal("9.99"))
TWO: Row = (2, AT, None, None, None, None)


def end(version: int) -> VersionEnd:
    return VersionEnd(version, AT, (), NOTHING_COMMITTED)


def rows_of(replica: Replica) -> Counter[Row]:
    with replica.reader() as (connection, _):
        found = connection.execute(
            "SELECT order_id, epoch_us(placed_at), region, category, units, net_amount "
            "FROM order_categories"
        ).fetchall()
    return Counter(found)


def follow(schema: TableSchema, rows: list[Row]) -> Replica:
    replica = Replica(PROJECT)
    replica.receive(TableSnapshot(1, schema, table(rows)))
    replica.receive(end(1))
    return replica


ROWS = st.tuples(
    st.integers(1, 3),
    st.sampled_from([None, AT, AT + 1]),
    st.sampled_from([None, "North"]),
    st.sampled_from([None, "Hats"]),
    st.just(1),
    st.sampled_from([None, Decimal("0.10")]),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(ROWS, max_size=8), st.lists(st.lists(ROWS, max_size=6), max_size=4))
def test_a_table_without_key_is_the_bag_of_rows_that_its_batches_add_up_to(
    start: list[Row], targets: list[list[Row]]
) -> None:
    replica = follow(BAG, start)
    held = Counter(start)
    for version, target in enumerate(targets, 2):
        wanted = Counter(target)
        delta = {row: wanted[row] - held[row] for row in wanted | held if wanted[row] != held[row]}
        replica.receive(TableDelta(version, BAG.name, batch(delta, list(delta.values()))))
        replica.receive(end(version))
        held = wanted
        assert rows_of(replica) == held
    replica.close()


def test_an_update_by_key_replaces_the_row_also_where_the_key_holds_null() -> None:
    replica = follow(SCHEMA, [ONE, TWO])
    new = (2, AT, "South", None, 5, Decimal("1.00"))
    replica.receive(TableDelta(2, SCHEMA.name, batch([TWO, new], [-1, 1])))
    assert replica.receive(end(2)) == {SCHEMA.name}
    assert rows_of(replica) == Counter([ONE, new])


def test_nothing_of_a_version_shows_before_its_end() -> None:
    replica = follow(SCHEMA, [ONE])
    with replica.reader() as (connection, version):
        assert replica.receive(TableDelta(2, SCHEMA.name, batch([TWO], [1]))) == frozenset()
        assert rows_of(replica) == Counter([ONE])
        replica.receive(end(2))
        assert rows_of(replica) == Counter([ONE, TWO])
        seen = connection.execute("SELECT count(*) FROM order_categories").fetchone()
        assert (version, seen) == (1, (1,)), "a reader keeps the version it began with"


def test_a_change_that_does_not_fit_leaves_the_version_before() -> None:
    replica = follow(SCHEMA, [ONE])
    replica.receive(TableDelta(2, SCHEMA.name, batch([ONE, TWO], [-1, -1])))
    with pytest.raises(IntegrityError):
        replica.receive(end(2))
    assert replica.version == 1
    assert rows_of(replica) == Counter([ONE])


def test_a_snapshot_replaces_table_and_columns() -> None:
    replica = follow(SCHEMA, [ONE])
    fewer = TableSchema(SCHEMA.name, SCHEMA.columns[:3])
    replica.receive(TableSnapshot(7, fewer, table([TWO, TWO]).select(list(fewer.column_names))))
    replica.receive(end(7))
    assert replica.schema(SCHEMA.name) == fewer
    with replica.reader() as (connection, version):
        assert version == 7
        assert connection.execute("SELECT count(*) FROM order_categories").fetchone() == (2,)


def test_rows_know_their_business_day_and_hour_and_timeless_rows_none() -> None:
    late = instant_us(2026, 10, 25, 1, 30, fold=1)
    replica = follow(SCHEMA, [(1, late, None, None, 1, None), (2, None, None, None, 1, None)])
    at = At("placed_at")
    with replica.reader() as (connection, _):
        found = connection.execute(
            f"SELECT {at.instant}, {at.day}, {at.hour} FROM order_categories ORDER BY order_id"
        ).fetchall()
    hour = instant_us(2026, 10, 25, 1, fold=1)
    assert found == [(late, instant_us(2026, 10, 25), hour), (NO_BUCKET, NO_BUCKET, NO_BUCKET)]


def test_a_row_at_infinity_is_kept_and_in_no_bucket() -> None:
    rows = table([ONE])
    forever = pa.array([np.iinfo(np.int64).max], pa.timestamp("us", "UTC"))
    column = rows.schema.get_field_index("placed_at")
    rows = rows.set_column(column, rows.schema.field(column), forever)
    replica = Replica(PROJECT)
    replica.receive(TableSnapshot(1, SCHEMA, rows))
    replica.receive(end(1))
    with replica.reader() as (connection, _):
        day = connection.execute(f"SELECT {At('placed_at').day} FROM order_categories").fetchone()
    assert day == (NO_BUCKET,)


def test_rows_rewritten_again_and_again_do_not_fill_the_memory() -> None:
    many: list[Row] = [(number, AT, "North", "Hats", 1, None) for number in range(40_000)]
    replica = follow(SCHEMA, many)
    rewritten = batch([*many, *many], [-1] * len(many) + [1] * len(many))
    for version in range(2, 12):
        replica.receive(TableDelta(version, SCHEMA.name, rewritten))
        replica.receive(end(version))
    with replica.reader() as (connection, _):
        stored = connection.execute(
            "SELECT sum(count) FROM pragma_storage_info('order_categories') "
            "WHERE column_name = 'order_id' AND segment_type <> 'VALIDITY'"
        ).fetchone()
        live = connection.execute("SELECT count(*) FROM order_categories").fetchone()
    assert live == (len(many),)
    assert stored is not None
    assert stored[0] < 6 * len(many)
