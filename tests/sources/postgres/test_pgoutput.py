"""The decoder alone: real streams cut anywhere, and streams that lie."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import psycopg
import pytest

from upwell.core.errors import IntegrityError, UpwellError
from upwell.core.protocols import TableChanges
from upwell.sources.postgres.catalog import Catalog, read_catalog
from upwell.sources.postgres.columns import BinaryUnsupportedError
from upwell.sources.postgres.pgoutput import DecodedBatch, Decoder

from .conftest import Database

pytestmark = pytest.mark.postgres


def frame(payload: bytes, letter: bytes = b"d") -> bytes:
    return letter + struct.pack(">I", len(payload) + 4) + payload


def log_data(message: bytes) -> bytes:
    return frame(b"w" + bytes(24) + message)


def keepalive(lsn: int, *, reply: bool = False) -> bytes:
    return frame(struct.pack(">cQqB", b"k", lsn, 0, reply))


@pytest.fixture
def recorded(database: Database) -> Callable[[bool], tuple[bytes, Catalog]]:
    """A stream of all kinds of messages, as the server sends it: binary or as text."""
    database.run(
        "create table a (id int primary key, n numeric(12,2), m numeric, t text, d date,"
        " ts timestamptz, u uuid, by bytea, b bool, f float8, big text);"
        "alter table a alter big set storage external;"
        "create table b (id bigint, part text, primary key (id, part));"
        "alter table b replica identity full;"
        f"create publication {database.slot} for table a, b"
    )
    database.run(f"select pg_create_logical_replication_slot('{database.slot}', 'pgoutput')")
    row = "i, i * 1.01, i / 7.0, 'row ' || i, date '2026-01-01' + i, now(), gen_random_uuid(), "
    row += "decode('00ff', 'hex'), i % 2 = 0, i / 3.0, repeat('b', 3000)"
    for statement in (
        f"insert into a select {row} from generate_series(1, 20) i",
        "insert into b select i, 'part' from generate_series(1, 20) i",
        "update a set t = null, b = null where id % 3 = 0",
        "update a set id = -id where id % 5 = 0",
        "update b set part = 'other' where id < 5",
        "delete from a where id = 7; delete from b where id = 7",
        "truncate b",
        "alter table b add extra text; insert into b values (1, 'x', 'y')",
    ):
        database.run(statement)

    return lambda binary: peeked(database, binary=binary)


def peeked(database: Database, *, binary: bool) -> tuple[bytes, Catalog]:
    """What the slot holds, framed as the server would send it."""
    cursor = psycopg.RawCursor(database.connection)
    rows = cursor.execute(
        "select data from pg_logical_slot_peek_binary_changes($1, null, null, "
        "'proto_version', '1', 'publication_names', $2, 'binary', $3)",
        [database.slot, database.slot, str(binary).lower()],
        binary=True,
    ).fetchall()
    catalog = read_catalog(database.connection, "shop", ["a", "b"])
    return b"".join(log_data(data) for (data,) in rows), catalog


def decode(
    stream: bytes, catalog: Catalog, *, steps: list[int] | None = None
) -> list[DecodedBatch]:
    """Everything the decoder gives, fed at once or in pieces that end at ``steps``."""
    decoder = Decoder(catalog.tables, catalog.aliases, 0)
    batches: list[DecodedBatch] = []
    at = 0
    for end in [*(steps or []), len(stream)]:
        decoder.feed(stream[at:end])
        at = end
        while (batch := decoder.take()) is not None:
            batches.append(batch)
    return batches


def rows_of(batches: list[DecodedBatch]) -> list[tuple[str, object]]:
    """Every change singly, in each table's order."""
    found: dict[str, list[tuple[str, object]]] = {}
    for batch in batches:
        for change in batch.changes:
            mine = found.setdefault(change.table, [])
            if isinstance(change, TableChanges):
                rows = change.rows.to_pylist()
                mine += [
                    (f"{change.table} {operation}", row)
                    for operation, row in zip(change.operations.tolist(), rows, strict=True)
                ]
            else:
                mine.append((f"{change.table} truncated", None))
    return [row for table in sorted(found) for row in found[table]]


@pytest.mark.parametrize("binary", [True, False])
def test_it_does_not_matter_where_the_bytes_are_cut(
    recorded: Callable[[bool], tuple[bytes, Catalog]], binary: bool
) -> None:
    stream, catalog = recorded(binary)
    whole = rows_of(decode(stream, catalog))
    assert len(whole) > 50
    chance = random.Random(3)
    for pieces in (1, 2, 5, 50, 400):
        steps = sorted(chance.sample(range(len(stream)), pieces))
        assert rows_of(decode(stream, catalog, steps=steps)) == whole


def test_binary_and_text_give_the_same_rows(
    recorded: Callable[[bool], tuple[bytes, Catalog]],
) -> None:
    as_binary, catalog = recorded(True)
    as_text, _ = recorded(False)
    assert rows_of(decode(as_binary, catalog)) == rows_of(decode(as_text, catalog))


def test_arrays_keep_their_values_when_the_decoder_goes_on(
    recorded: Callable[[bool], tuple[bytes, Catalog]],
) -> None:
    stream, catalog = recorded(True)
    decoder = Decoder(catalog.tables, catalog.aliases, 0, batch_bytes=1)
    decoder.feed(stream)
    batches: list[DecodedBatch] = []
    seen: list[str] = []
    while (batch := decoder.take()) is not None:
        batches.append(batch)
        seen.append(str(rows_of([batch])))
    decoder.feed(keepalive(1) * 20_000)
    assert len(batches) >= 8
    assert [str(rows_of([batch])) for batch in batches] == seen


@pytest.mark.parametrize("binary", [True, False])
def test_a_stream_with_flipped_bits_is_refused_or_read_but_never_crashes(
    recorded: Callable[[bool], tuple[bytes, Catalog]], binary: bool
) -> None:
    stream, catalog = recorded(binary)
    chance = random.Random(5)
    refused = 0
    for _ in range(400):
        damaged = bytearray(stream)
        for _ in range(chance.choice((1, 1, 1, 5, 50))):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        try:
            for batch in decode(bytes(damaged), catalog):
                for change in batch.changes:
                    if isinstance(change, TableChanges):
                        change.rows.validate(full=True)
        except (UpwellError, BinaryUnsupportedError) as error:
            refused += isinstance(error, IntegrityError)
    assert refused > 50


@pytest.mark.parametrize("binary", [True, False])
def test_a_message_cut_short_or_drawn_out_is_refused(
    recorded: Callable[[bool], tuple[bytes, Catalog]], binary: bool
) -> None:
    """Every message in turn loses or gains a few bytes; its frame says so, its content does not."""
    stream, catalog = recorded(binary)
    frames, at = [], 0
    while at < len(stream):
        end = at + 1 + int.from_bytes(stream[at + 1 : at + 5], "big")
        frames.append(stream[at + 5 : end])
        at = end
    chance = random.Random(7)
    for index in chance.sample(range(len(frames)), min(60, len(frames))):
        payload = frames[index]
        for changed in (payload[: -chance.randint(1, 8)], payload + b"\0\0\0"):
            if payload[25:26] in b"BCOYM":
                continue  # these have room behind what is read
            damaged = [frame(each) for each in frames]
            damaged[index] = frame(changed)
            with pytest.raises(IntegrityError):
                decode(b"".join(damaged), catalog)


def test_an_open_transaction_gives_nothing_until_it_commits(
    recorded: Callable[[bool], tuple[bytes, Catalog]],
) -> None:
    stream, catalog = recorded(True)
    decoder = Decoder(catalog.tables, catalog.aliases, 0)
    commit = stream.index(b"C" + bytes(1), 100)
    decoder.feed(stream[:commit])
    assert decoder.take() is None
    assert decoder.pending_bytes == commit


def test_how_far_the_server_has_read_counts_only_once_all_before_it_is_given() -> None:
    begin = b"B" + struct.pack(">QqI", 100, 0, 1)
    commit = b"C" + struct.pack(">BQQq", 0, 100, 120, 0)
    decoder = Decoder((), {}, 10)
    decoder.feed(keepalive(50))
    assert decoder.progress == 50
    decoder.feed(log_data(begin) + log_data(commit) + keepalive(200, reply=True))
    assert decoder.progress == 50
    assert decoder.is_reply_wanted()
    assert not decoder.is_reply_wanted()
    assert decoder.take() is not None
    assert decoder.progress == 200


def test_transactions_that_go_back_in_the_log_are_refused() -> None:
    begin = b"B" + struct.pack(">QqI", 100, 0, 1)
    commit = b"C" + struct.pack(">BQQq", 0, 100, 120, 0)
    decoder = Decoder((), {}, 120)
    decoder.feed(log_data(begin) + log_data(commit))
    with pytest.raises(IntegrityError, match="out of order"):
        decoder.take()


@pytest.mark.parametrize(
    "stream",
    [
        b"x\0\0\0\0",
        b"d\0\0\0\3",
        b"d\xff\xff\xff\xff",
        frame(b"?" * 40),
        frame(b"w"),
        log_data(b"Z" * 40),
        log_data(b"I" + bytes(20)) + log_data(b"C" + bytes(25)),
        log_data(b"C" + bytes(25)),
    ],
)
def test_nonsense_is_refused(stream: bytes) -> None:
    decoder = Decoder((), {}, 0)

    def read() -> None:
        decoder.feed(stream)
        decoder.take()

    with pytest.raises(IntegrityError):
        read()


def test_notices_in_between_are_skipped_and_an_error_ends_the_stream() -> None:
    error = frame(b"SERROR\0C57P01\0Mgoing down\0\0", b"E")
    decoder = Decoder((), {}, 0)
    decoder.feed(frame(b"SNOTICE\0\0", b"N") + keepalive(7) + frame(b"x\0y\0", b"S") + error)
    assert decoder.progress == 7
    assert decoder.ended is not None
    assert (decoder.ended.sqlstate, decoder.ended.message) == ("57P01", "going down")


def test_a_big_frame_among_small_ones_is_found(
    recorded: Callable[[bool], tuple[bytes, Catalog]], database: Database
) -> None:
    database.run("insert into a (id, big) values (1000, repeat('g', 17 * 1024 * 1024))")
    database.run("insert into a (id, big) values (1001, 'small')")
    rows = rows_of(decode(*recorded(True)))
    sizes = [len(row["big"]) for _, row in rows if isinstance(row, dict) and row.get("id") == 1000]
    assert sizes == [17 * 1024 * 1024]
    assert any(isinstance(row, dict) and row.get("id") == 1001 for _, row in rows)
