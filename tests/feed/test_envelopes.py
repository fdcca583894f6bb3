"""Every message comes out of its envelopes as it went in."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest

from upwell.core.batch import from_rows
from upwell.core.protocols import (
    FeedMessage,
    Heartbeat,
    SourceTime,
    TableDelta,
    TableSnapshot,
    VersionEnd,
)
from upwell.core.schema import Column, TableSchema
from upwell.core.sql import connect
from upwell.feed import envelopes
from upwell.feed.envelopes import SCHEMA, decode, encode

TYPES = {
    "small": "SMALLINT",
    "whole": "BIGINT",
    "money": "DECIMAL(38,10)",
    "real": "DOUBLE",
    "at": "TIMESTAMPTZ",
    "local": "TIMESTAMP",
    "day": "DATE",
    "text": "VARCHAR",
    "raw": "BLOB",
    "id": "UUID",
    "yes": "BOOLEAN",
    "counts": "BIGINT[]",
}
SHAPE = TableSchema(
    'shop."odd", name', tuple(Column(name, kind) for name, kind in TYPES.items()), ("whole",)
)
NOON = dt.datetime(2026, 3, 29, 12, tzinfo=dt.UTC)
ROW = {
    "small": -1,
    "whole": 2**63 - 1,
    "money": Decimal("-1234567890123456789012345678.0123456789"),
    "real": float("-inf"),
    "at": NOON,
    "local": NOON.replace(tzinfo=None),
    "day": NOON.date(),
    "text": "é\n\0\"'",
    "raw": b"\x00\xff",
    "id": str(UUID(int=1)),
    "yes": False,
    "counts": [1, None],
}


def stored(count: int) -> pa.Table:
    """Rows as the store gives them: one full, one of NULLs alone, ``count`` times."""
    connection = connect(zone="Europe/London")
    layout = ", ".join(f'"{name}" {kind}' for name, kind in TYPES.items())
    connection.execute(f"CREATE TABLE given ({layout})")
    marks = ", ".join("?" for _ in TYPES)
    connection.execute(f"INSERT INTO given VALUES ({marks})", list(ROW.values()))
    connection.execute(f"INSERT INTO given VALUES ({', '.join('NULL' for _ in TYPES)})")
    found = connection.execute(
        f"SELECT given.* FROM given CROSS JOIN range({int(count)})"
    ).to_arrow_table()
    connection.close()
    return found


TIMES = (SourceTime("shop", 2**53 + 1), SourceTime("é", 0))


@pytest.mark.parametrize(
    "message",
    [
        TableSnapshot(1, SHAPE, stored(1)),
        TableSnapshot(2**62, SHAPE, stored(0)),
        TableDelta(3, SHAPE.name, from_rows(stored(1), -2)),
        TableDelta(4, SHAPE.name, from_rows(stored(0))),
        VersionEnd(5, 2**53 + 1, TIMES, np.array([2**63 - 1, -(2**63)], np.int64)),
        VersionEnd(6, 0, (), np.empty(0, np.int64)),
        Heartbeat(7, TIMES, "the shop's database\nis away"),
        Heartbeat(8, ()),
    ],
    ids=lambda message: f"{type(message).__name__} {message.version}",
)
def test_a_message_comes_out_as_it_went_in(message: FeedMessage) -> None:
    sent = list(encode(message))
    assert all(envelope.schema == SCHEMA for envelope in sent)
    (found,) = decode(sent)
    assert_same(found, message)


def assert_same(found: FeedMessage, message: FeedMessage) -> None:
    assert type(found) is type(message)
    for name in message.__slots__:
        one, other = getattr(found, name), getattr(message, name)
        if isinstance(one, pa.Table):
            assert one.equals(other, check_metadata=True)
        elif isinstance(one, np.ndarray):
            assert one.dtype == other.dtype
            assert one.tolist() == other.tolist()
        else:
            assert one == other


def test_a_large_snapshot_travels_in_parts_and_arrives_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(envelopes, "PART_ROWS", 3)
    rows = stored(5)
    messages: list[FeedMessage] = [
        TableSnapshot(1, SHAPE, rows),
        TableSnapshot(1, SHAPE, rows.slice(0, 6)),
        Heartbeat(1, ()),
    ]
    sent = [envelope for message in messages for envelope in encode(message)]
    assert len(sent) == 4 + 2 + 1
    for found, message in zip(decode(sent), messages, strict=True):
        assert_same(found, message)


def test_an_envelope_of_an_unknown_kind_is_refused() -> None:
    (envelope,) = encode(Heartbeat(1, ()))
    other = envelope.set_column(1, SCHEMA.field("kind"), pa.array(["rumour"]))
    with pytest.raises(ValueError, match="rumour"):
        list(decode([other]))
