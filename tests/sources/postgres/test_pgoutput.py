"""The decoder alone: real streams cut anywhere, and streams that lie."""

from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Callable

import pytest

from upwell.core.errors import IntegrityError
from upwell.core.protocols import TableChanges
from upwell.sources.postgres.catalog import Catalog, read_catalog
from upwell.sources.postgres.datatypes import data_type
from upwell.sources.postgres.pgoutput import PART_BYTES, DecodedBatch, Decoder
from upwell.sources.postgres.tables import CapturedColumn, CapturedTable

from .conftest import Database
from .recording import frame, keepalive, log_data, peeked

pytestmark = pytest.mark.postgres


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

    def read(binary: bool) -> tuple[bytes, Catalog]:
        catalog = read_catalog(database.connection, "shop", ["a", "b"])
        return b"".join(map(log_data, peeked(database, binary=binary))), catalog

    return read


def decode(
    stream: bytes,
    catalog: Catalog,
    *,
    steps: list[int] | None = None,
    part_bytes: int = PART_BYTES,
) -> list[DecodedBatch]:
    """Everything the decoder gives, fed at once or in pieces that end at ``steps``."""
    decoder = Decoder(catalog.tables, {}, 0, part_bytes=part_bytes)
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


@pytest.mark.parametrize("binary", [True, False])
def test_a_transaction_too_large_to_be_held_comes_in_parts(
    recorded: Callable[[bool], tuple[bytes, Catalog]], binary: bool
) -> None:
    stream, catalog = recorded(binary)
    whole = decode(stream, catalog)
    times = [at for batch in whole for at in batch.transactions.committed_at_us.tolist()]
    chance = random.Random(5)
    for part_bytes in (1, 100, 1_000, 5_000):
        steps = sorted(chance.sample(range(len(stream)), 300))
        batches = decode(stream, catalog, steps=steps, part_bytes=part_bytes)
        assert any(batch.goes_on for batch in batches)
        assert not batches[-1].goes_on
        assert rows_of(batches) == rows_of(whole)
        lsn, given = 0, list[int]()
        for before, batch in itertools.pairwise([None, *batches]):
            assert batch is not None
            at = batch.transactions.committed_at_us.tolist()
            goes_on_here = before is not None and before.goes_on
            assert not goes_on_here or at[0] == given[-1]
            given += at[goes_on_here:]
            assert (batch.lsn == lsn) == batch.goes_on
            lsn = batch.lsn
        assert given == times
        assert lsn == whole[-1].lsn


def test_how_far_the_server_has_read_does_not_count_within_a_transaction_in_parts(
    recorded: Callable[[bool], tuple[bytes, Catalog]],
) -> None:
    stream, catalog = recorded(True)
    decoder = Decoder(catalog.tables, {}, 0, part_bytes=1)
    decoder.feed(stream[: stream.index(b"C" + bytes(1), 100)])
    part = decoder.take()
    assert part is not None
    assert part.goes_on
    assert decoder.is_within
    assert decoder.pending_bytes < len(part.changes) + 100
    decoder.feed(keepalive(1 << 40))
    assert decoder.progress == 0
    assert decoder.take() is None


def test_a_transaction_in_parts_may_be_committed_right_where_everything_before_it_ended(
    recorded: Callable[[bool], tuple[bytes, Catalog]],
) -> None:
    """Its commit's record begins where the record before ends, be it another's commit or not."""
    stream, catalog = recorded(True)
    begin = stream.index(b"B", 25)
    announced = int.from_bytes(stream[begin + 1 : begin + 9], "big")
    commit = stream.index(b"C" + bytes(1), 100)
    decoder = Decoder(catalog.tables, {}, 0, part_bytes=1)
    decoder.feed(keepalive(announced))
    assert decoder.progress == announced
    decoder.feed(stream[:commit])
    batches = [decoder.take()]
    decoder.feed(stream[commit:])
    batches += iter(decoder.take, None)
    assert batches[0] is not None
    assert batches[0].goes_on
    assert rows_of([each for each in batches if each]) == rows_of(decode(stream, catalog))
    decoder = Decoder(catalog.tables, {}, 0, part_bytes=1)
    decoder.feed(keepalive(announced + 1))
    decoder.feed(stream[:commit])
    with pytest.raises(IntegrityError, match="out of order"):
        decoder.take()


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
    decoder = Decoder(catalog.tables, {}, 0, batch_bytes=1)
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
            if payload[25:26] in b"OYM":
                continue  # these have room behind what is read
            damaged = [frame(each) for each in frames]
            damaged[index] = frame(changed)
            with pytest.raises(IntegrityError):
                decode(b"".join(damaged), catalog)


def test_an_open_transaction_gives_nothing_until_it_commits(
    recorded: Callable[[bool], tuple[bytes, Catalog]],
) -> None:
    stream, catalog = recorded(True)
    decoder = Decoder(catalog.tables, {}, 0)
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


def test_nothing_is_kept_of_signs_of_life() -> None:
    decoder = Decoder((), {}, 0)
    for lsn in range(1, 1000):
        decoder.feed(keepalive(lsn) + frame(b"\0\0\0\1channel\0said\0", b"A"))
        assert decoder.pending_bytes == 0
    decoder.feed(keepalive(1000)[:7])
    assert decoder.unfinished[1] == 7
    decoder.feed(keepalive(1000)[7:] + transaction(lsn=1100))
    batch = decoder.take()
    assert batch is not None
    assert (batch.lsn, decoder.pending_bytes) == (1100, 0)


def test_transactions_that_go_back_in_the_log_are_refused() -> None:
    begin = b"B" + struct.pack(">QqI", 100, 0, 1)
    commit = b"C" + struct.pack(">BQQq", 0, 100, 120, 0)
    decoder = Decoder((), {}, 120)
    decoder.feed(log_data(begin) + log_data(commit))
    with pytest.raises(IntegrityError, match="out of order"):
        decoder.take()


def transaction(*messages: bytes, lsn: int = 120, at: int = 0) -> bytes:
    begin = b"B" + struct.pack(">QqI", lsn - 20, 0, 1)
    commit = b"C" + struct.pack(">BQQq", 0, lsn - 20, lsn, at)
    return b"".join(map(log_data, (begin, *messages, commit)))


def test_a_transaction_from_before_a_position_already_announced_is_refused() -> None:
    """A keepalive moved our position: what is before it would not be sent again after a restart."""
    decoder = Decoder((), {}, 10)
    decoder.feed(transaction(lsn=120) + keepalive(500))
    assert decoder.take() is not None
    assert decoder.progress == 500
    decoder.feed(transaction(lsn=400))
    with pytest.raises(IntegrityError, match="out of order"):
        decoder.take()


@pytest.mark.parametrize("lsn", [1 << 63, (1 << 64) - 1])
def test_a_position_that_no_log_has_is_refused(lsn: int) -> None:
    with pytest.raises(IntegrityError):
        Decoder((), {}, 0).feed(keepalive(lsn))
    decoder = Decoder((), {}, 0)
    decoder.feed(transaction(lsn=(1 << 63) - 1) + transaction(lsn=lsn))
    with pytest.raises(IntegrityError, match="out of order"):
        decoder.take()


@pytest.mark.parametrize("at", [-(1 << 63), (1 << 63) - 1, -(10**15), 10**18])
def test_a_commit_at_a_time_that_no_clock_shows_is_refused(at: int) -> None:
    decoder = Decoder((), {}, 0)
    decoder.feed(transaction(at=at))
    with pytest.raises(IntegrityError, match="1970"):
        decoder.take()


def test_changes_of_a_table_that_was_never_announced_are_refused() -> None:
    """One that is announced was published by somebody else, and is passed over."""
    insert = b"I" + struct.pack(">IcH", 77, b"N", 0)
    truncate = b"T" + struct.pack(">IBI", 1, 0, 77)
    relation = b"R" + struct.pack(">I", 77) + b"public\0x\0d\0\0"
    for change in (insert, truncate):
        decoder = Decoder((), {}, 0)
        decoder.feed(transaction(change))
        with pytest.raises(IntegrityError, match="not announced"):
            decoder.take()
        decoder = Decoder((), {}, 0)
        decoder.feed(transaction(relation, change))
        batch = decoder.take()
        assert batch is not None
        assert list(batch.changes) == []


def captured_table() -> CapturedTable:
    columns = [
        CapturedColumn(
            name,
            data_type(oid, -1, {}),
            nullable=False,
            number=number,
            declared=(oid, -1),
            written_in=1,
            type_name="",
            filled_with=None,
            has_default=False,
        )
        for number, (name, oid) in enumerate((("id", 23), ("t", 25)), 1)
    ]
    return CapturedTable(7, "public", "m", "shop.m", tuple(columns), ("id",), 1)


def relation_of(*columns: tuple[bytes, int]) -> bytes:
    parts = [b"\1" + name + b"\0" + struct.pack(">Ii", oid, -1) for name, oid in columns]
    head = b"R" + struct.pack(">I", 7) + b"public\0m\0d" + struct.pack(">H", len(columns))
    return head + b"".join(parts)


def tuple_of(*values: bytes) -> bytes:
    return struct.pack(">H", len(values)) + b"".join(values)


def valued(value: bytes, kind: bytes = b"b") -> bytes:
    return kind + struct.pack(">I", len(value)) + value


LAYOUT = relation_of((b"id", 23), (b"t", 25))


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"IN" + tuple_of(b"n", b"n"), "without its key"),
        (b"IN" + tuple_of(b"u", b"n"), "without its key"),
        (b"UN" + tuple_of(b"u", b"n"), "without its key"),
        (b"UK" + tuple_of(b"n", b"n") + b"N" + tuple_of(valued(bytes(4)), b"n"), "its key"),
        (b"DK" + tuple_of(b"n", b"n"), "without its key"),
        (b"IN" + tuple_of(valued(bytes(3)), b"n"), "4 bytes"),
        (b"IN" + tuple_of(valued(bytes(4))), "number of columns"),
        (b"IN" + tuple_of(), "number of columns"),
        (b"IN" + struct.pack(">H", 0xFFFF), "number of columns"),
        (b"IN" + tuple_of(valued(bytes(4)), b"t" + struct.pack(">I", 0xFFFFFFFF)), "longer"),
        (b"IN" + tuple_of(valued(b"1e5", b"t"), b"n"), "INTEGER"),
        (b"IX" + tuple_of(valued(bytes(4)), b"n"), "unknown kind"),
    ],
)
def test_a_row_that_lies_is_refused(message: bytes, why: str) -> None:
    decoder = Decoder((captured_table(),), {}, 0)
    decoder.feed(transaction(LAYOUT, message[:1] + struct.pack(">I", 7) + message[1:]))
    with pytest.raises(IntegrityError, match=why):
        decoder.take()


def test_a_text_that_is_none_is_set_apart() -> None:
    row = tuple_of(valued(bytes(4)), valued(b"\xff\xfe"))
    decoder = Decoder((captured_table(),), {}, 0)
    decoder.feed(transaction(LAYOUT, b"I" + struct.pack(">Ic", 7, b"N") + row))
    batch = decoder.take()
    assert batch is not None
    (change,) = batch.changes
    assert isinstance(change, TableChanges)
    assert [list(refusal.raw) for refusal in change.refusals] == [["\\xff\\xfe"]]


@pytest.mark.parametrize(
    "relation",
    [
        LAYOUT[:-1],
        LAYOUT + b"\0",
        LAYOUT.replace(b"id", b"\xff\xff"),
        relation_of((b"id", 23), (b"id", 23)),
        relation_of(*[(b"c%d" % number, 23) for number in range(1601)], (b"id", 23)),
        relation_of(*[(b"c%d" % number, 23) for number in range(0xFFFE)], (b"id", 23)),
    ],
)
def test_a_layout_that_lies_is_refused(relation: bytes) -> None:
    decoder = Decoder((captured_table(),), {}, 0)
    decoder.feed(transaction(relation))
    with pytest.raises(IntegrityError, match="layout"):
        decoder.take()


def test_rows_of_a_layout_without_its_key_are_left_out() -> None:
    decoder = Decoder((captured_table(),), {}, 0)
    decoder.feed(transaction(relation_of(), b"I" + struct.pack(">Ic", 7, b"N") + tuple_of()))
    batch = decoder.take()
    assert batch is not None
    assert list(batch.changes) == []


def test_a_layout_outside_a_transaction_is_refused() -> None:
    decoder = Decoder((captured_table(),), {}, 0)
    decoder.feed(log_data(LAYOUT) + transaction())
    with pytest.raises(IntegrityError, match="outside"):
        decoder.take()


def test_a_table_of_as_many_columns_as_a_table_can_have_is_read() -> None:
    names = [(b"c%d" % number, 23) for number in range(1599)]
    row = tuple_of(*[valued(struct.pack(">i", number)) for number in range(1600)])
    decoder = Decoder((captured_table(),), {}, 0)
    insert = b"I" + struct.pack(">Ic", 7, b"N") + row
    decoder.feed(transaction(relation_of(*names, (b"id", 23)), *[insert] * 20))
    batch = decoder.take()
    assert batch is not None
    (change,) = batch.changes
    assert isinstance(change, TableChanges)
    assert [column[7].as_py() for column in change.rows.columns] == list(range(1600))


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
