"""What MySQL writes and MariaDB does not, by hand from its documents: no such server runs here."""

from __future__ import annotations

import struct

import pyarrow as pa
import pytest

from tests.sources.mysql.logs import (
    SERVER,
    Writer,
    event,
    format_event,
    gtid,
    image,
    orders_table,
    query,
    rows,
    table_map,
    xid,
)
from upwell.core.errors import GapError, IntegrityError
from upwell.core.protocols import LayoutChange, TableChanges, Truncation
from upwell.sources.mysql.binary_json import json_text
from upwell.sources.mysql.binlog import DecodedBatch, Decoder
from upwell.sources.mysql.followed import Followed, Looked
from upwell.sources.mysql.places import NOWHERE, Place, parse_position
from upwell.sources.mysql.tables import CapturedTable


def decoded(
    *events: bytes, now: CapturedTable | None = None, through: Place = NOWHERE
) -> DecodedBatch:
    table = orders_table()
    followed = {("shop", "orders"): Followed("shop.orders", table)}
    reading = Decoder(followed, Place(1, 4), look=lambda _: Looked(now or table, None, through))
    writer = Writer()
    for each in (format_event(), *events):
        writer.send(each)
    reading.feed(writer.sent)
    batch = reading.take()
    assert batch is not None
    return batch


def test_gtids_and_commit_times_are_of_microseconds() -> None:
    batch = decoded(
        gtid(7, committed_at_us=1_700_000_000_123_456),
        query("BEGIN"),
        table_map(),
        rows(30, image(1, "a", 1), extra=b"\0\1"),
        xid(500),
    )
    assert batch.transactions.committed_at_us.tolist() == [1_700_000_000_123_456]
    assert parse_position(batch.position) == (Place(1, 500), f"{SERVER}:7")


def test_a_statement_behind_a_gtid_is_all_of_a_transaction() -> None:
    batch = decoded(gtid(1), query("TRUNCATE orders", end=300), gtid(2), query("flush x", end=400))
    assert [type(change) for change in batch.changes] == [Truncation]
    assert batch.position.startswith("0000000001:00000000000000000400")


def test_a_table_made_of_a_query_is_one_transaction() -> None:
    batch = decoded(
        gtid(1),
        query("BEGIN"),
        query("CREATE TABLE `orders` (`id` int) START TRANSACTION"),
        table_map(),
        rows(30, image(1, "a", 1), extra=b""),
        xid(500),
        through=Place(1, 600),
    )
    (change,) = batch.changes
    assert isinstance(change, LayoutChange)
    assert change.why == "it was made anew"
    assert len(batch.transactions) == 1


def test_compressed_transactions() -> None:
    inner = [query("BEGIN"), table_map(), rows(30, image(1, "z", 5), extra=b""), xid(0)]
    plain = b"".join(_without_checksum(each) for each in inner)
    packed = pa.Codec("zstd").compress(plain, asbytes=True)
    for data, kind in ((packed, b"\x02\x01\x00"), (plain, b"\x02\x03\xfc\xff\x00")):
        size = b"\x03\x03\xfc" + struct.pack("<H", len(plain))
        payload = event(40, kind + size + b"\0" + data, end=900)
        (change,) = decoded(gtid(1), payload).changes
        assert isinstance(change, TableChanges)
        assert change.rows.to_pylist() == [{"id": 1, "name": "z", "n": 5}]
    for wrong in (b"", b"\x02\x01\x00\x00" + packed, b"\x02\x01\x00\x03\x01\x05\x00" + packed):
        with pytest.raises(IntegrityError):
            decoded(gtid(1), event(40, wrong, end=900))


def _without_checksum(made: bytes) -> bytes:
    body = bytearray(made)
    struct.pack_into("<I", body, 9, len(body))
    return bytes(body)


def test_json_that_was_logged_in_part_leads_to_reading_anew() -> None:
    batch = decoded(
        gtid(1),
        query("BEGIN"),
        table_map(),
        event(39, bytes([9, 0, 0, 0, 0, 0, 1, 0, 2, 0])),
        xid(500),
    )
    (change,) = batch.changes
    assert isinstance(change, LayoutChange)
    assert "PARTIAL_JSON" in change.why


def test_a_log_that_says_it_lacks_changes_is_a_gap() -> None:
    with pytest.raises(GapError, match="lacks changes"):
        decoded(gtid(1), event(26, b"\1\0\0", end=500))


def test_an_offset_beyond_four_gigabytes_goes_on_counting() -> None:
    table = orders_table()
    followed = {("shop", "orders"): Followed("shop.orders", table)}
    reading = Decoder(followed, Place(1, 0xFFFF_F000), look=lambda _: Looked(table, None, NOWHERE))
    writer = Writer()
    for each in (gtid(1), query("BEGIN", end=0xFFFF_FF00), xid(0x100)):
        writer.send(each)
    reading.feed(writer.sent)
    assert reading.place == Place(1, 0x1_0000_0100)


def small(
    *entries: tuple[int, bytes], is_object: bool = False, keys: tuple[str, ...] = ()
) -> bytes:
    """A container of values that stand behind its entries."""
    count = len(entries)
    head = 4 + count * (4 if is_object else 0) + count * 3
    at = head + sum(len(key.encode()) for key in keys)
    key_part, key_data, entry_part, data = b"", b"", b"", b""
    key_at = head
    for key in keys:
        key_part += struct.pack("<HH", key_at, len(key.encode()))
        key_data += key.encode()
        key_at += len(key.encode())
    for kind, value in entries:
        if kind in (4, 5, 6):
            entry_part += bytes([kind]) + value.ljust(2, b"\0")
        else:
            entry_part += bytes([kind]) + struct.pack("<H", at + len(data))
            data += value
    body = key_part + entry_part + key_data + data
    return struct.pack("<HH", count, 4 + len(body)) + body


JSON = {
    "null": b"\x04\x00",
    "true": b"\x04\x01",
    "false": b"\x04\x02",
    "-5": b"\x05" + struct.pack("<h", -5),
    "40000": b"\x06" + struct.pack("<H", 40000),
    "-70000": b"\x07" + struct.pack("<i", -70000),
    "4000000000": b"\x08" + struct.pack("<I", 4_000_000_000),
    "-9223372036854775808": b"\x09" + struct.pack("<q", -(2**63)),
    "18446744073709551615": b"\x0a" + struct.pack("<Q", 2**64 - 1),
    "1.5": b"\x0b" + struct.pack("<d", 1.5),
    "3.0": b"\x0b" + struct.pack("<d", 3.0),
    '"aé\\"\\n"': b"\x0c\x05" + 'aé"\n'.encode(),
    "[]": b"\x02" + small(),
    "{}": b"\x00" + small(is_object=True),
    '[1, "two", null, [true]]': b"\x02"
    + small((5, b"\1\0"), (12, b"\3two"), (4, b"\0"), (2, small((4, b"\1")))),
    '{"a": 1, "bb": {"c": 2.5}}': b"\x00"
    + small(
        (5, b"\1\0"),
        (0, small((11, struct.pack("<d", 2.5)), is_object=True, keys=("c",))),
        is_object=True,
        keys=("a", "bb"),
    ),
    "12.50": b"\x0f\xf6\x04\x04\x02\x8c\x32",
    '"2024-02-29"': b"\x0f\x0a\x08" + struct.pack("<q", ((2024 * 13 + 2) << 5 | 29) << 17 << 24),
    '"2024-02-29 12:34:56.000007"': b"\x0f\x0c\x08"
    + struct.pack("<q", (((2024 * 13 + 2) << 5 | 29) << 17 | 12 << 12 | 34 << 6 | 56) << 24 | 7),
    '"-01:02:03.000000"': b"\x0f\x0b\x08" + struct.pack("<q", -((1 << 12 | 2 << 6 | 3) << 24)),
    '"base64:type15:YWI="': b"\x0f\x0f\x02ab",
}


@pytest.mark.parametrize("text", JSON)
def test_binary_json(text: str) -> None:
    assert json_text(JSON[text]) == text
