# ruff: noqa: E501 - one value after the other is easier to compare than to wrap
"""Every value of every type comes out as the source has it, in copy and stream alike."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import psycopg
import pytest

from upwell.core.errors import IntegrityError
from upwell.core.position import Position
from upwell.core.protocols import RefusedRows, TableChanges
from upwell.demo.server import Server
from upwell.sources.postgres import stream as streaming
from upwell.sources.postgres.checksum import row_checksums, wal_position
from upwell.sources.postgres.replication import drop_slot, start_replication

from .conftest import Database
from .replica import Replica, copied, reached

pytestmark = pytest.mark.postgres

#: Types with a binary form for us, then those that turn the whole stream to text.
BINARY_COLUMNS = """
    b bool, i2 int2, i4 int4, i8 int8, o oid, f4 float4, f8 float8,
    n12 numeric(12,2), n22 numeric(2,2), n18 numeric(18,1), n38 numeric(38,10), n50 numeric(50,3),
    n numeric, t text, v varchar(40), c char(5), nm name, j json, jb jsonb, d date, ts timestamp,
    tz timestamptz, u uuid, by bytea, e mood, do_ price, big text
"""
TEXT_COLUMNS = """
    ia int[], ta text[], iv interval, ip inet, tm time, mo money, pt point, bt bit(3), host inet,
    net cidr, bits varbit, span int4range, spans int4multirange, words tsvector, way path,
    mac macaddr, place pg_lsn, tmz timetz, pair whole, day_span daterange, xs price[]
"""
TYPES = """
    create type mood as enum ('sad', 'ok', 'häppy');
    create domain amount as numeric(10,4);
    create domain price as amount check (value >= 0);
    create type whole as (a int, "b c" text);
"""
ROWS = [
    (
        "1, true, 32767, 2147483647, 9223372036854775807, 4294967295, 3.4028235e38, "
        "1.7976931348623157e308, 9999999999.99, 0.99, 99999999999999999.9, "
        "9999999999999999999999999999.9999999999, 12345678901234567890123456789012345678901234567.123, "
        "0.000000000000000000000000000001, 'héllo wörld ☃ 𝄞', repeat('x', 40), 'abc', 'name', "
        '\'{"a": [1,2, {"b":null}]}\', \'{"ü":"☃","a":1.50}\', \'2026-02-28\', '
        "'2026-02-28 23:59:59.999999', '2026-02-28 23:59:59.999999+03', "
        "'12345678-1234-5678-1234-567812345678', '\\x00ff01', 'häppy', 12.3456, repeat('B', 9000)"
    ),
    (
        "2, false, -32768, -2147483648, -9223372036854775808, 0, 'NaN', 'NaN', -9999999999.99, -0.99, "
        "-99999999999999999.9, -9999999999999999999999999999.9999999999, -0.001, 'NaN', '', '', '', '', "
        "'1', '1', 'infinity', 'infinity', 'infinity', '00000000-0000-0000-0000-000000000000', '', "
        "'sad', 0, ''"
    ),
    (
        "3, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, "
        "null, null, null, null, null, null, null, null, null, null, null, null"
    ),
    (
        "4, true, 0, 0, 0, 1, '-Infinity', 'Infinity', 0.00, 0.00, 0.1, 0.0000000001, 0.000, "
        "'-Infinity', E'a\\tb\\n\\\\N', 'exactly12byt', 'abcde', 'N', '\"s\"', 'null', '-infinity', "
        "'-infinity', '-infinity', 'ffffffff-ffff-ffff-ffff-ffffffffffff', decode(repeat('7a', 5000), "
        "'hex'), 'ok', 999999.9999, repeat('ü', 100000)"
    ),
    (
        "5, false, 1, -1, 10000, 2, '-0', '-0', -0.01, 0.10, -0.1, -1, 10000.000, 1000000, "
        "'thirteenbytes', 'Tab', '  a', 'x', '[]', '[]', '0044-03-15 BC', '0044-03-15 00:00:00 BC', "
        "'0044-03-15 00:00:00+00 BC', null, '\\x64', null, 0.0001, 'd'"
    ),
    (
        "6, true, 100, 25600, 1684275200, 100, 0.1, 0.1, 10000.00, 0.01, 10000.0, 100000000, 1, "
        "1234567890123456.1234567890123456, 'end d', 'd', 'd', 'd', '{}', '{}', '0001-01-01', "
        "'0001-01-01 00:00:00', '9999-12-31 23:59:59.5+00', null, null, null, null, null"
    ),
    (
        "7, true, 1, 1, 1, 1, 1e-45, 5e-324, 0.10, 0.10, 1.0, 12345678901234567890.0123456789, "
        "-1234.5, 99999999999999999999, 'del', null, null, null, null, null, '5874897-12-31', "
        "'12026-01-01 00:00:00', '1969-12-31 23:59:59.999999+00', null, null, null, null, repeat('V', 9000)"
    ),
    (
        "8, true, 1, 1, 1, 1, 1, 1, 1, 0.5, 1, 1, 1, -0.00000000000000001, '1', '1', '1', '1', '1', '1', "
        "'1970-01-01', '1970-01-01', '1970-01-01', null, null, null, null, null"
    ),
]
OTHER_ROWS = [
    (
        ", '{1,2,NULL,-3}', '{\"a b\",\"\",NULL,\"NULL\"}', '1 year 2 days -03:04:05.6', '10.0.0.1/8', "
        "'23:59:59.999999', '-12.34', '(1,2)', '101', '::1', '10.0.0.0/8', '1011', '[1,5)', "
        "'{[1,3),[5,)}', 'a:1 b:2A', '[(0,0),(1,1.5)]', '08:00:2b:01:02:03', '16/B374D848', "
        "'24:00:00-03:30', row(1, 'x, \"y\"'), '[2026-01-01,infinity)', '{1.5,NULL}'"
    ),
    ", null" * 21,
]
CHANGES = """
    begin;
    update z set t = 'toast kept', b = not b where id in (1, 4);
    update z set v = 'before the big one', big = repeat('W', 30000) where id = 5;
    commit;
    update z set v = 'after the big one' where id = 5;
    update z set id = 60, n12 = n12 + 1 where id = 6;
    update z set id = id + 100 where id in (1, 60);
    update z set v = 'again' where id = 101;
    delete from z where id = 7;
    insert into z (id, t) values (7, 're-inserted');
    delete from z where id in (3, 7);
    insert into z (id, big) values (9, repeat('new', 5000));
    update z set t = 'x' where id = 9;
    begin; insert into z (id) values (10); rollback;
"""


def create(database: Database, identity: str, *, with_text: bool) -> None:
    columns = f"{BINARY_COLUMNS}, {TEXT_COLUMNS}" if with_text else BINARY_COLUMNS
    database.run(f"{TYPES} create table z (id bigint primary key, {columns});")
    database.run("alter table z alter big set storage external")
    database.run(f"alter table z replica identity {identity}")


def insert(database: Database, *, with_text: bool) -> None:
    for number, row in enumerate(ROWS):
        other = OTHER_ROWS[number % 2] if with_text else ""
        database.run(f"insert into z values ({row}{other})")


def printed(value: object) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    return "" if value is None else str(value)


def copy_of_z(database: Database) -> Replica:
    """What a copy of the table holds; nothing of it is refused."""
    database.source("z")
    (table,) = database.tables()
    refused: list[RefusedRows] = []
    copied(database.copy(), table, refused)
    assert refused == []
    replica = Replica()
    replica.load(database.copy(), table)
    return replica


def source_checksum(database: Database) -> tuple[int, int]:
    return row_checksums(database.url, "shop", ["z"])["shop.z"]


@pytest.mark.parametrize("with_text", [False, True], ids=["binary", "text"])
@pytest.mark.parametrize("identity", ["default", "full"])
def test_the_stream_gives_what_the_source_has(
    database: Database, identity: str, with_text: bool
) -> None:
    create(database, identity, with_text=with_text)
    position = database.start("z")
    insert(database, with_text=with_text)
    database.run("begin; update z set t = t where id = 2; commit")
    replica = Replica()
    stream = database.stream(position)
    replica.follow(stream, reached(wal_position(database.url)))
    assert replica.checksum("shop.z") == source_checksum(database)
    for statement in CHANGES.split(";\n"):
        database.run(statement)
    replica.follow(stream, reached(wal_position(database.url)))
    assert replica.checksum("shop.z") == source_checksum(database)
    assert replica.refused == []


@pytest.mark.parametrize("with_text", [False, True], ids=["binary", "text"])
def test_the_copy_gives_what_the_source_has(database: Database, with_text: bool) -> None:
    create(database, "default", with_text=with_text)
    insert(database, with_text=with_text)
    replica = copy_of_z(database)
    assert replica.checksum("shop.z") == source_checksum(database)


def test_text_and_numbers_are_stored_as_the_source_prints_them(database: Database) -> None:
    create(database, "default", with_text=True)
    insert(database, with_text=True)
    replica = copy_of_z(database)
    for name in ("n", "n50", "n38", "c", "j", "jb", "e", "do_", "ia", "iv", "ip", "tm", "mo", "u"):
        mine = [row.column(name)[0].as_py() for row in replica.rows["shop.z"].values()]
        theirs = [
            row[0]
            for row in database.connection.execute(
                f"select format('%s', {name}) from z order by id".encode()
            )
        ]
        assert [printed(value) for value in mine] == theirs, name


def test_checksums_tell_apart_what_differs_in_one_value(database_18: Database) -> None:
    create(database_18, "default", with_text=False)
    insert(database_18, with_text=False)
    seen = {source_checksum(database_18)}
    for number, change in enumerate(
        ("f8 = 0 where id = 5", "t = null where id = 2", "v = 'T', c = 'ab' where id = 5")
    ):
        database_18.run(f"update z set {change}")
        seen.add(source_checksum(database_18))
        assert len(seen) == number + 2, change


@pytest.mark.parametrize("with_text", [False, True], ids=["binary", "text"])
def test_what_a_decimal_cannot_hold_is_refused_by_name_and_never_lost(
    database: Database, with_text: bool
) -> None:
    extra = ", tags text[]" if with_text else ""
    database.run(f"create table m (id int primary key, price numeric(8,2){extra})")
    position = database.start("m")
    database.run("insert into m values (1, 1.25), (2, 'NaN')")
    replica = Replica()
    stream = database.stream(position)
    (batch,) = (
        batch
        for batch in replica.follow(stream, reached(wal_position(database.url)))
        if batch.changes
    )
    (change,) = batch.changes
    assert isinstance(change, TableChanges)
    assert change.rows.column("price").to_pylist() == [Decimal("1.25"), None]
    (refusal,) = change.refusals
    assert refusal.rows.tolist() == [False, True]
    assert list(refusal.raw) == ["NaN"]
    assert "price" in refusal.reason


@pytest.mark.parametrize("with_text", [False, True], ids=["binary", "text"])
def test_times_beyond_what_is_stored_are_refused(database_18: Database, with_text: bool) -> None:
    extra = ", tags text[]" if with_text else ""
    database_18.run(f"create table m (id int primary key, at timestamp, tz timestamptz{extra})")
    stream = database_18.stream(database_18.start("m"))
    database_18.run(
        "insert into m values (1, '294276-12-31 23:59:59', 'infinity'), (2, '294246-01-01', null),"
        "(3, '4713-01-01 BC', '294276-12-31')"
    )
    replica = Replica()
    (change,) = (
        change
        for batch in replica.follow(stream, reached(wal_position(database_18.url)))
        for change in batch.changes
    )
    assert isinstance(change, TableChanges)
    refused = {refusal.reason.partition(":")[0]: refusal.rows for refusal in change.refusals}
    assert refused["at"].tolist() == [True, False, False]
    assert refused["tz"].tolist() == [False, False, True]


def test_a_database_of_another_encoding_is_captured_in_utf8(postgres_server: Server) -> None:
    name = "latin"
    with psycopg.connect(postgres_server.url, autocommit=True) as admin:
        admin.execute("create database latin encoding 'LATIN1' locale 'C' template template0")
        latin = Database(postgres_server, name, psycopg.connect(postgres_server.url_of(name)))
        latin.connection.autocommit = True
        create(latin, "default", with_text=False)
        position = latin.start("z")
        latin.run("insert into z (id, t, e, jb, big) values (1, 'é', 'häppy', '\"ü\"', 'ß')")
        replica = Replica()
        replica.follow(latin.stream(position), reached(wal_position(latin.url)))
        assert replica.checksum("shop.z") == source_checksum(latin)
        assert copy_of_z(latin).checksum("shop.z") == source_checksum(latin)
        latin.close()
        drop_slot(latin.connection, latin.slot)
        latin.connection.close()
        admin.execute("drop database latin with (force)")


def test_a_copy_sets_rows_apart_that_cannot_be_stored(database_18: Database) -> None:
    database_18.run("create table m (id int primary key, price numeric(8,2), day timestamp)")
    database_18.run("insert into m values (1, 1.25), (2, 'NaN'), (3, 2.5)")
    database_18.source("m")
    (table,) = database_18.tables()
    refusals: list[RefusedRows] = []
    rows = [row for b in copied(database_18.copy(), table, refusals) for row in b.to_pylist()]
    assert [row["id"] for row in rows] == [1, 3]
    (refused,) = refusals
    assert refused.rows.column("id").to_pylist() == [2]
    assert list(refused.raw) == ["NaN"]
    assert "price" in refused.reason


def test_a_type_that_appears_in_mid_stream_turns_the_stream_to_text(database: Database) -> None:
    database.run("create table m (id int primary key, note text)")
    position: Position = database.start("m")
    stream = database.stream(position)
    replica = Replica()
    database.run("insert into m values (1, 'binary')")
    replica.follow(stream, reached(wal_position(database.url)))
    database.run("alter table m add span interval; insert into m values (2, 'text', '1 day')")
    replica.follow(stream, reached(wal_position(database.url)))
    row = replica.rows["shop.m"][2,]
    assert row.to_pylist() == [{"id": 2, "note": "text", "span": "1 day"}]


def test_a_server_that_sends_binary_though_text_was_asked_for_is_refused(
    database_18: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking again and again would be no answer."""
    database_18.run("create table m (id int primary key, span interval)")
    position = database_18.start("m")

    def always_binary(*arguments: Any, binary: bool) -> None:
        assert not binary
        start_replication(*arguments, binary=True)

    monkeypatch.setattr(streaming, "start_replication", always_binary)
    stream = database_18.stream(position)
    database_18.run("insert into m values (1, '1 day')")
    with pytest.raises(IntegrityError, match="asked for as text"):
        Replica().follow(stream, reached(wal_position(database_18.url)))
