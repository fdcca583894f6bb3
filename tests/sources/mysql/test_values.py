"""Values of every type: the log, a copy and the source's own word for them agree."""

from __future__ import annotations

import datetime as dt
import math
import struct
import uuid
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from tests.sources.mysql.conftest import Database, seldom
from tests.sources.mysql.replica import Kept, Replica
from upwell.sources.mysql.charsets import _MULTIPLE, _SINGLE

pytestmark = pytest.mark.mariadb

Day, Moment = dt.date, dt.datetime

#: Type → (value in SQL, as Python has it), …
CASES: dict[str, list[tuple[str, Any]]] = {
    "tinyint": [("-128", -128), ("127", 127), ("0", 0)],
    "tinyint unsigned": [("255", 255), ("0", 0)],
    "smallint": [("-32768", -32768), ("32767", 32767)],
    "smallint unsigned": [("65535", 65535)],
    "mediumint": [("-8388608", -8388608), ("8388607", 8388607), ("-1", -1)],
    "mediumint unsigned": [("16777215", 16777215)],
    "int": [("-2147483648", -(2**31)), ("2147483647", 2**31 - 1)],
    "int unsigned": [("4294967295", 2**32 - 1)],
    "int(5) zerofill": [("42", 42)],
    "bigint": [("-9223372036854775808", -(2**63)), ("9223372036854775807", 2**63 - 1)],
    "bigint unsigned": [("18446744073709551615", 2**64 - 1)],
    "bit(1)": [("b'1'", True), ("b'0'", False)],
    "bit(10)": [("b'1000000001'", 513)],
    "bit(64)": [("b'" + "1" * 64 + "'", 2**64 - 1)],
    "decimal(10,2)": [("-12345678.90", Decimal("-12345678.90")), ("0.01", Decimal("0.01"))],
    "decimal(5,0)": [("99999", Decimal(99999)), ("-1", Decimal(-1))],
    "decimal(4,4)": [("-0.9999", Decimal("-0.9999")), ("0", Decimal("0.0000"))],
    "decimal(19,9)": [("-1234567890.123456789", Decimal("-1234567890.123456789"))],
    "decimal(38,10)": [
        ("-1234567890123456789012345678.0123456789",) * 2,
        ("0.0000000001", Decimal("0.0000000001")),
    ],
    "decimal(38,38)": [("-0." + "123456789" * 4 + "12", Decimal("-0." + "123456789" * 4 + "12"))],
    "decimal(65,30)": [
        ("-" + "12345" * 7 + "." + "67890" * 6, "-" + "12345" * 7 + "." + "67890" * 6),
        ("0", "0." + "0" * 30),
        ("-0.5", "-0.5" + "0" * 29),
    ],
    "decimal(65,0)": [("9" * 65, "9" * 65), ("-7", "-7")],
    "float": [("0.1", struct.unpack("f", struct.pack("f", 0.1))[0]), ("-1.5", -1.5)],
    "float unsigned": [("16777217", 16777216.0)],
    "double": [("0.1", 0.1), ("-123456.789", -123456.789), ("3", 3.0)],
    "double(10,2)": [("3.14159", 3.14)],
    "year": [("2024", 2024), ("0", 0), ("1901", 1901), ("2155", 2155)],
    "date": [("'2024-02-29'", Day(2024, 2, 29)), ("'1000-01-01'", Day(1000, 1, 1))],
    "datetime": [("'9999-12-31 23:59:59'", Moment(9999, 12, 31, 23, 59, 59))],
    "datetime(1)": [("'2024-02-29 23:59:59.9'", Moment(2024, 2, 29, 23, 59, 59, 900_000))],
    "datetime(3)": [("'1000-01-01 00:00:00.001'", Moment(1000, 1, 1, 0, 0, 0, 1000))],
    "datetime(6)": [("'1969-12-31 23:59:59.999999'", Moment(1969, 12, 31, 23, 59, 59, 999_999))],
    "timestamp null": [
        ("'1970-01-01 00:00:01'", Moment(1970, 1, 1, 0, 0, 1, tzinfo=dt.UTC)),
        ("'2038-01-19 03:14:07'", Moment(2038, 1, 19, 3, 14, 7, tzinfo=dt.UTC)),
    ],
    "timestamp(6) null": [
        (
            "'2024-06-30 12:00:00.123456'",
            Moment(2024, 6, 30, 12, 0, 0, 123_456, tzinfo=dt.UTC),
        )
    ],
    "time": [("'-838:59:59'", "-838:59:59"), ("'00:00:00'", "00:00:00"), ("'5:6:7'", "05:06:07")],
    "time(1)": [("'-00:00:00.1'", "-00:00:00.1"), ("'838:59:58.9'", "838:59:58.9")],
    "time(3)": [("'-12:34:56.789'", "-12:34:56.789")],
    "time(6)": [("'-00:00:01.000001'", "-00:00:01.000001"), ("'1:2:3.04'", "01:02:03.040000")],
    "enum('a','it''s','back\\\\slash','é','new\\nline','comma,')": [
        ("'a'", "a"),
        ("'it''s'", "it's"),
        ("'back\\\\slash'", "back\\slash"),
        ("'é'", "é"),
        ("'new\\nline'", "new\nline"),
        ("'comma,'", "comma,"),
    ],
    "set('x','y','ü','w')": [("'x,ü'", "x,ü"), ("''", ""), ("'x,y,ü,w'", "x,y,ü,w")],
    "char(5)": [("'ab  '", "ab"), ("''", ""), ("'日本語'", "日本語")],
    "char(200)": [("'ü'", "ü")],
    "varchar(20)": [("'ab  '", "ab  "), ("'😀'", "😀"), ("'a\\0b'", "a\0b")],
    "varchar(300)": [("repeat('é', 300)", "é" * 300)],
    "tinytext": [("repeat('x', 255)", "x" * 255)],
    "text": [("repeat('y', 300)", "y" * 300)],
    "mediumtext": [("repeat('é', 40000)", "é" * 40000)],
    "longtext": [("'z'", "z")],
    "json": [("'{\"a\": [1, null]}'", '{"a": [1, null]}')],
    "binary(5)": [("'ab'", b"ab\0\0\0"), ("x'00ff000000'", b"\0\xff\0\0\0")],
    "binary(255)": [("'q'", b"q" + bytes(254))],
    "varbinary(10)": [("x'00ff00'", b"\0\xff\0"), ("''", b"")],
    "varbinary(1000)": [("repeat('a', 700)", b"a" * 700)],
    "tinyblob": [("x'ff'", b"\xff")],
    "blob": [("repeat(x'80', 1000)", b"\x80" * 1000)],
    "mediumblob": [("repeat(x'81', 70000)", b"\x81" * 70000)],
    "longblob": [("x'00'", b"\0")],
    "geometry": [("point(1, 2)", bytes(4) + b"\1\1\0\0\0" + struct.pack("<dd", 1, 2))],
    "point": [("point(0, 0)", bytes(4) + b"\1\1\0\0\0" + bytes(16))],
    "uuid": [
        (f"'{value}'", uuid.UUID(value))
        for value in (
            "123e4567-e89b-12d3-a456-426655440000",
            "123e4567-e89b-42d3-a456-426655440000",
            "018f4567-e89b-72d3-a456-426655440000",
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
        )
    ],
    "inet4": [("'192.168.0.1'", "192.168.0.1"), ("'0.0.0.1'", "0.0.0.1"), ("'1.2.3.0'", "1.2.3.0")],
    "inet6": [
        (f"'{value}'", value)
        for value in (
            "::",
            "::1",
            "::ffff:1.2.3.4",
            "::1.2.3.4",
            "2001:db8::",
            "2001:db8::1:0:0:1",
            "1:0:0:2::3",
            "1::2:3:0:0:4",
            "fe80::1:0:2",
            "::0.2.0.3",
            "1:2:3:4:5:6:7:8",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "::1:0:1:0:1:0:1",
            "1:2:3:4:5:6:7::",
            "::ffff:0.0.0.0",
            "::0.1.0.0",
            "::102",
        )
    ],
}
CASES["decimal(38,10)"][0] = (
    "-1234567890123456789012345678.0123456789",
    Decimal("-1234567890123456789012345678.0123456789"),
)


def copied(replica: Replica, name: str) -> Kept:
    """The table as a copy has it, without what the stream gave."""
    kept = Kept(replica.tables[name].table)
    copy = replica.source.copy()
    for part in copy.plan(kept.table, 1 << 20).parts:
        read = copy.read(kept.table, part)
        for batch in read.rows:
            kept.rows.update({kept.key_of(row): row for row in batch.to_pylist()})
        for refused in read.refused:
            kept.refused += [(refused.reason, raw) for raw in refused.raw]
    copy.close()
    return kept


def test_values_of_every_type_are_the_same_from_the_log_from_a_copy_and_at_the_source(
    database: Database,
) -> None:
    columns = {words: f"c{number}" for number, words in enumerate(CASES)}
    defined = ", ".join(f"{name} {words}" for words, name in columns.items())
    database.run("set sql_mode = ''", f"create table t (id int primary key, {defined})")
    replica = database.replica("t")
    most = max(map(len, CASES.values()))
    expected: list[dict[str, Any]] = []
    for number in range(most):
        row = {
            name: CASES[words][number] if number < len(CASES[words]) else ("null", None)
            for words, name in columns.items()
        }
        values = ", ".join(value for value, _ in row.values())
        database.run(f"insert into t values ({number}, {values})")
        expected.append({"id": number} | {name: value for name, (_, value) in row.items()})
    replica.catch_up()
    found = [replica.tables["shop.t"].rows[number,] for number in range(most)]
    for words, name in columns.items():
        assert [row[name] for row in found] == [row[name] for row in expected], words
    assert copied(replica, "shop.t").rows == replica.tables["shop.t"].rows
    types = {field.name: field.type for field in replica.table("shop.t").schema}
    for batch in replica.batches:
        for change in batch.changes:
            assert {each.name: each.type for each in change.rows.schema} == types  # type: ignore[union-attr]
    replica.check()


def test_a_row_of_nulls_alone_and_rows_between(database: Database) -> None:
    columns = ", ".join(f"c{number} {words} null" for number, words in enumerate(list(CASES)[:20]))
    database.run(f"create table t (id int primary key, {columns})")
    replica = database.replica("t")
    database.run("insert into t (id) values (1), (2), (3)", "insert into t (id, c0) values (4, 5)")
    replica.catch_up()
    assert copied(replica, "shop.t").rows == replica.tables["shop.t"].rows
    replica.check()


def sql(value: float) -> str:
    """A literal that the server takes for a double, not for a decimal."""
    text = repr(value)
    return text if "e" in text else f"{text}e0"


def test_floats_keep_every_bit(database: Database) -> None:
    database.run("create table t (id int primary key, f float, d double)")
    replica = database.replica("t")
    doubles = [1e308, 5e-324, -1e-300, 0.1 + 0.2, 1e22, 1e21, 123456789012345680.0, math.pi]
    floats = [3.4028234663852886e38, 1e-45, 16777217.0, 1.17549435e-38, -0.1, math.e, 1e10, 0.3]
    with database.connection.cursor() as cursor:
        for number, (single, double) in enumerate(zip(floats, doubles, strict=True)):
            cursor.execute(f"insert into t values ({number}, {sql(single)}, {sql(double)})")
    replica.catch_up()
    streamed, read = replica.tables["shop.t"].rows, copied(replica, "shop.t").rows
    for number, (single, double) in enumerate(zip(floats, doubles, strict=True)):
        for row in (streamed[number,], read[number,]):
            assert struct.pack("d", row["d"]) == struct.pack("d", double)
            assert struct.pack("f", row["f"]) == struct.pack("f", single)


def test_days_that_are_none_are_refused_alike_from_the_log_and_from_a_copy(
    database: Database,
) -> None:
    database.run(
        "set sql_mode = 'ALLOW_INVALID_DATES'",
        "create table t (id int primary key, d date, m datetime(2), s timestamp(3) null)",
    )
    replica = database.replica("t")
    database.run(
        "insert into t values (1, '0000-00-00', null, null), (2, '2024-02-31', null, null),"
        " (3, '2024-00-10', null, null), (4, null, '0000-00-00 00:00:00', null),"
        " (5, null, '2023-02-29 01:02:03.45', null), (6, null, null, '0000-00-00 00:00:00'),"
        " (7, '2024-01-01', '2024-01-01 00:00:00', '2024-01-01 00:00:00')",
    )
    replica.catch_up()
    streamed, read = replica.tables["shop.t"], copied(replica, "shop.t")
    assert set(streamed.rows) == set(read.rows) == {(7,)}
    assert sorted(streamed.refused) == sorted(read.refused)
    assert sorted(raw for _, raw in read.refused) == [
        "0000-00-00",
        "0000-00-00 00:00:00.00",
        "0000-00-00 00:00:00.000",
        "2023-02-29 01:02:03.45",
        "2024-00-10",
        "2024-02-31",
    ]
    assert ("d: DATE cannot hold this value", "2024-02-31") in read.refused


SINGLE_BYTE = [*_SINGLE, "ascii"]
MULTI_BYTE = [*_MULTIPLE, "utf8mb3", "utf8mb4"]


@pytest.mark.parametrize("charset", seldom(SINGLE_BYTE, "ascii", "latin1", "cp1251"))
def test_every_letter_of_a_small_character_set(database: Database, charset: str) -> None:
    database.run(f"create table t (id int primary key, v varchar(9), c char(9)) charset {charset}")
    replica = database.replica("t")
    letters = range(128 if charset == "ascii" else 256)
    values = ", ".join(f"({n}, _{charset} x'{n:02x}', _{charset} x'41{n:02x}42')" for n in letters)
    database.run(f"insert into t values {values}")
    replica.catch_up()
    assert copied(replica, "shop.t").rows == replica.tables["shop.t"].rows
    said = dict(database.rows("select id, convert(v using utf8mb4) from t"))
    found = {row["id"]: row["v"] for row in replica.tables["shop.t"].rows.values()}
    assert {n: (found[n], said[n]) for n in said if found[n] != said[n]} == {}


@pytest.mark.parametrize("charset", seldom(MULTI_BYTE, "utf8mb4", "gbk", "utf16"))
def test_texts_of_large_character_sets(database: Database, charset: str) -> None:
    """Every letter of Unicode's first plane that the server can write in the set."""
    if not database.rows(f"show character set where charset = '{charset}'"):
        pytest.skip(f"this server does not know {charset}")
    database.run(f"create table t (id int primary key, v varchar(9)) charset {charset}")
    letters = [n for n in range(1, 0xFFFD) if not 0xD800 <= n < 0xE000]
    letters += [0x1F600] if charset in ("utf8mb4", "utf16", "utf16le", "utf32") else []
    database.run("set sql_mode = ''")
    replica = database.replica("t")
    for at in range(0, len(letters), 8000):
        values = ", ".join(
            f"({n}, convert(_utf32 x'{n:08x}' using {charset}))" for n in letters[at : at + 8000]
        )
        database.run(f"insert into t values {values}")
    replica.catch_up()
    assert copied(replica, "shop.t").rows == replica.tables["shop.t"].rows
    said = dict(database.rows("select id, convert(v using utf8mb4) from t"))
    found = {row["id"]: row["v"] for row in replica.tables["shop.t"].rows.values()}
    different = {hex(n): (found.get(n), said[n]) for n in said if found.get(n) != said[n]}
    if charset == "ujis":  # private letters, which no table of Unicode has a form for: refused
        assert all(found_as is None for found_as, _ in different.values())
        different = {n: pair for n, pair in different.items() if not "\ue000" <= pair[1] < "\uf900"}
    assert different == {}


def test_a_text_of_the_columns_own_character_set_in_a_table_of_another(database: Database) -> None:
    database.run(
        "create table t (id int primary key, a varchar(5) charset latin1, b text charset ucs2,"
        " c varchar(5) charset utf8mb3, d varchar(5) charset binary)"
    )
    replica = database.replica("t")
    database.run("insert into t values (1, 'é€', 'é€', 'é€', 'é')")
    replica.catch_up()
    (row,) = replica.tables["shop.t"].rows.values()
    assert row == {"id": 1, "a": "é€", "b": "é€", "c": "é€", "d": "é".encode()}
    replica.check()


def test_keys_of_several_types_move(database: Database) -> None:
    database.run(
        "create table t (a varchar(10), b datetime(6), c decimal(9,3), n int, primary key (a,b,c))"
    )
    replica = database.replica("t")
    database.run(
        "insert into t values ('x', '2024-01-01', 1.5, 1), ('y', '2024-01-01', 1.5, 2)",
        "update t set a = 'X' where n = 1",  # the same key to the server
        "update t set c = c + 1, n = n + 10",
        "delete from t where n = 12",
    )
    replica.catch_up()
    (row,) = replica.tables["shop.t"].rows.values()
    assert (row["a"], row["c"], row["n"]) == ("X", Decimal("2.500"), 11)
    replica.check()


def test_generated_columns(database: Database) -> None:
    """Stored ones are rows' own values; virtual ones are left out."""
    database.run(
        "create table t (id int primary key, a int, v int as (a+1) virtual, s int as (a+2) stored,"
        " z int)"
    )
    replica = database.replica("t")
    database.run("insert into t (id, a, z) values (1, 10, 5)", "update t set a = 20")
    replica.catch_up()
    (row,) = replica.tables["shop.t"].rows.values()
    assert row == {"id": 1, "a": 20, "s": 22, "z": 5}
    replica.copy()
    replica.check()


def test_empty_batches_of_arrow_are_of_the_right_types(database: Database) -> None:
    database.run("create table t (id int primary key)")
    replica = database.replica("t")
    replica.copy()
    assert replica.table("shop.t").schema == pa.schema([("id", pa.int32())])
