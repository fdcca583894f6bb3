"""Bytes that no server sends: the right values, or an error of ours, and nothing else."""

from __future__ import annotations

import random
import struct
import zlib

import pytest

from tests.sources.mysql.logs import Writer, orders_table, whole_log
from upwell.core.errors import IntegrityError, UpwellError
from upwell.core.protocols import TableChanges
from upwell.sources.mysql.binary_json import json_text
from upwell.sources.mysql.binlog import Decoder
from upwell.sources.mysql.copyout import CopyDecoder
from upwell.sources.mysql.datatypes import data_type
from upwell.sources.mysql.followed import Followed, Looked
from upwell.sources.mysql.places import NOWHERE, Place
from upwell.sources.mysql.statements import read_statement


def decoder() -> Decoder:
    table = orders_table()
    followed = {(table.database, table.table): Followed(table.name, table)}
    return Decoder(followed, Place(1, 4), look=lambda _: Looked(table, None, NOWHERE))


def rows_of(data: bytes, size: int = 1 << 16) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    reading = decoder()
    for at in range(0, len(data), size):
        reading.feed(data[at : at + size])
        batch = reading.take()
        for change in batch.changes if batch else ():
            if isinstance(change, TableChanges):  # else it is to be read anew
                found += change.rows.to_pylist()
    return found


EXPECTED = rows_of(whole_log())


def test_the_log_itself_is_read() -> None:
    assert [row["id"] for row in EXPECTED] == [1, 2, 3, 1, 2]
    assert EXPECTED[0] == {"id": 1, "name": "eins", "n": 10}
    assert EXPECTED[1] == {"id": 2, "name": None, "n": None}


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64, 1000])
def test_bytes_may_be_cut_anywhere(size: int) -> None:
    assert rows_of(whole_log(), size) == EXPECTED


def test_a_log_that_ends_anywhere_gives_whole_transactions_alone() -> None:
    log = whole_log()
    for end in range(len(log)):
        rows = rows_of(log[:end])
        assert rows in ([], EXPECTED[:3], EXPECTED[:4], EXPECTED)


@pytest.mark.parametrize("seed", range(30))
def test_flipped_bytes_behind_a_checksum_are_noticed(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(30):
        damaged = bytearray(whole_log())
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        try:
            rows = rows_of(bytes(damaged))
        except UpwellError:
            continue
        assert rows == EXPECTED[: len(rows)]


@pytest.mark.parametrize("seed", range(40))
def test_events_that_are_wrong_with_a_right_checksum_raise_errors_of_ours(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(40):
        events = whole_log(as_events=True)
        index = chance.randrange(len(events))
        event = bytearray(events[index])
        for _ in range(chance.randrange(1, 6)):
            way = chance.randrange(3)
            if way == 0 and len(event) > 19:
                event[chance.randrange(19, len(event))] = chance.randrange(256)
            elif way == 1 and len(event) > 25:
                del event[chance.randrange(19, len(event)) :]
            else:
                event[4] = chance.choice([*range(45), *range(160, 173)])
        struct.pack_into("<I", event, 9, len(event) + 4)
        writer = Writer()
        for number, each in enumerate(events):
            writer.send(bytes(event) if number == index else each)
        try:
            rows_of(writer.sent)
        except UpwellError:
            continue


@pytest.mark.parametrize("seed", range(10))
def test_noise_is_no_log(seed: int) -> None:
    noise = random.Random(seed).randbytes(5000)
    try:
        assert rows_of(noise) == []
    except UpwellError:
        return


def test_a_length_that_cannot_be_is_refused_before_it_is_believed() -> None:
    writer = Writer()
    for event in whole_log(as_events=True):
        writer.send(event.replace(b"\x04drei", b"\xffdrei"))  # a text longer than its event
    with pytest.raises(IntegrityError, match="malformed"):
        rows_of(writer.sent)


def test_a_compressed_event_that_claims_too_much_is_refused() -> None:
    from upwell.sources.mysql.events import uncompressed  # noqa: PLC0415

    bomb = zlib.compress(bytes(10_000_000))
    assert len(uncompressed(b"\x84" + (10_000_000).to_bytes(4, "big") + bomb)) == 10_000_000
    for size in (5, 9_999_999, 10_000_001, 2**32 - 1):
        with pytest.raises(IntegrityError):
            uncompressed(b"\x84" + size.to_bytes(4, "big") + bomb)
    for wrong in (b"", b"\x84", b"\x00abc", b"\x81\x05junk", b"\x94\0\0\0\1" + bomb):
        with pytest.raises(IntegrityError):
            uncompressed(wrong)


@pytest.mark.parametrize("seed", range(20))
def test_rows_of_a_copy_that_are_wrong_raise_errors_of_ours(seed: int) -> None:
    chance = random.Random(seed)
    kinds = [data_type(words, "utf8mb4") for words in ("int(11)", "varchar(9)", "datetime(3)")]
    types = [kind for kind in kinds if kind is not None]
    row = b"\x011" + b"\x03abc" + b"\x172024-01-02 03:04:05.678"
    sent = b""
    for number in range(20):
        sent += len(row).to_bytes(3, "little") + bytes([number + 1]) + row
    sent += b"\x05\0\0\x15\xfe\0\0\2\0"
    for _ in range(50):
        damaged = bytearray(sent)
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        copying = CopyDecoder(["a", "b", "c"], types, 1)
        try:
            copying.feed(bytes(damaged))
        except UpwellError:
            continue
    copying = CopyDecoder(["a", "b", "c"], types, 1)
    copying.feed(sent)
    assert copying.is_done
    assert sum(batch.num_rows for batch in copying.batches) == 20


@pytest.mark.parametrize("seed", range(20))
def test_json_that_is_wrong_raises_errors_of_ours(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(300):
        kind = bytes([chance.choice([0, 1, 2, 3, 4, 5, 9, 11, 12, 15, 99])])
        try:
            json_text(kind + chance.randbytes(chance.randrange(40)))
        except IntegrityError:
            continue


@pytest.mark.parametrize("seed", range(10))
def test_statements_of_any_text_are_read_without_an_error(seed: int) -> None:
    chance = random.Random(seed)
    words = ["alter", "table", "drop", "create", "rename", "to", "truncate", "if", "exists"]
    pieces = [*words, "`", "' ", '"', "--", "/*", "*/", "/*!", ";", ",", ".", "(", "é", "\\", "\n"]
    for _ in range(500):
        text = "".join(
            chance.choice(pieces) + chance.choice(["", " "]) for _ in range(chance.randrange(30))
        )
        read_statement(text, "shop")
