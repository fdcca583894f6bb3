"""Tables cut into parts and read beside the stream."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.sources.mysql.conftest import Database
from upwell.core.errors import Unavailable
from upwell.core.protocols import SourceTable, TableChanges
from upwell.sources.mysql.copy import MySQLCopy
from upwell.sources.mysql.server import meet
from upwell.sources.mysql.session import session
from upwell.sources.mysql.url import parse_url

pytestmark = pytest.mark.mariadb

#: Key → how rows 1 to 2000 get theirs.
KEYS = {
    "id int": "seq",
    "id int unsigned": "seq * 2000000",
    "id bigint": "cast(seq as signed) * 1000003 - 1000000000",
    "id bigint unsigned": "18446744073709551615 - seq",
    "id varchar(20)": "concat('k''', seq % 10, '-', seq)",
    "id varchar(20) charset latin1": "concat('é', seq)",
    "id char(36)": "uuid()",
    "id uuid": "uuid()",
    "id binary(16)": "unhex(md5(seq))",
    "id varbinary(20)": "unhex(md5(seq))",
    "id decimal(20,3)": "seq / 7",
    "id datetime(6)": "'2024-01-01' + interval seq second",
    "id timestamp(3)": "'2024-01-01' + interval seq second",
    "id date": "'2024-01-01' + interval seq day",
    "id double": "seq / 7",
    "id float": "seq / 8",
    "id time(2)": "sec_to_time(cast(seq as signed) - 500)",
    "id bit(20)": "seq",
    "id inet6": "concat('::', hex(seq))",
}
PAIRS = {
    "a int, id int": "seq % 3, seq",
    "a varchar(9), id datetime(3)": "seq % 3, '2024-01-01' + interval seq second",
    "a enum('x','y','z'), id int": "seq % 3 + 1, seq",
    "a set('x','y'), id int": "seq % 3, seq",
    "a int, b varchar(9), id decimal(9,2)": "seq % 2, seq % 3, seq / 4",
}


def table_of(database: Database, *columns: str, key: str = "id") -> SourceTable:
    database.run(f"create table t ({', '.join(columns)}, primary key ({key}))")
    return database.source("t").look().tables["shop.t"]


def read_parts(database: Database, table: SourceTable, part_bytes: int) -> list[list[Any]]:
    """The rows of each part."""
    copy = database.sources[-1].copy()
    parts = copy.plan(table, part_bytes).parts
    read = [copy.read(table, part) for part in parts]
    copy.close()
    return [[row for batch in part.rows for row in batch.to_pylist()] for part in read]


@pytest.mark.parametrize("column", KEYS)
def test_parts_hold_every_row_once_whatever_the_key(database: Database, column: str) -> None:
    table = table_of(database, column, "v varchar(100)")
    database.run(
        f"insert into t select {KEYS[column]}, repeat('v', 50) from seq_1_to_2000",
        "analyze table t",
    )
    parts = read_parts(database, table, 20_000)
    assert len(parts) > 3
    assert max(map(len, parts)) < 1000
    rows = [row["id"] for part in parts for row in part]
    assert len(rows) == 2000
    assert len(set(rows)) == 2000
    wanted = [parts[0][0]["id"], parts[-1][-1]["id"]]
    arrow = pa.array(wanted, type_of(database, table, "id"))
    copy = database.sources[-1].copy()
    found = copy.read_rows(table, pa.table({"id": arrow}))
    assert {row["id"] for batch in found.rows for row in batch.to_pylist()} == set(wanted)
    copy.close()


def type_of(database: Database, table: SourceTable, column: str) -> pa.DataType:
    return next(batches(database, table)).schema.field(column).type


def batches(database: Database, table: SourceTable) -> Iterator[pa.RecordBatch]:
    copy = database.sources[-1].copy()
    for part in copy.plan(table, 1 << 30).parts:
        yield from copy.read(table, part).rows
    copy.close()


@pytest.mark.parametrize("columns", PAIRS)
def test_keys_of_several_columns(database: Database, columns: str) -> None:
    names = [column.split()[0] for column in columns.split(", ") if " " in column]
    table = table_of(database, columns, "v varchar(100)", key=", ".join(names))
    database.run(
        f"insert into t select {PAIRS[columns]}, repeat('v', 50) from seq_1_to_2000",
        "analyze table t",
    )
    parts = read_parts(database, table, 20_000)
    assert len(parts) > 3
    keys = [tuple(row[name] for name in names) for part in parts for row in part]
    assert len(keys) == len(set(keys)) == 2000
    some = keys[::333]
    wanted = {
        name: pa.array([key[at] for key in some], type_of(database, table, name))
        for at, name in enumerate(names)
    }
    copy = database.sources[-1].copy()
    found = copy.read_rows(table, pa.table(wanted))
    rows = [row for batch in found.rows for row in batch.to_pylist()]
    assert sorted(tuple(row[name] for name in names) for row in rows) == sorted(some)
    copy.close()


def test_numbers_far_apart_do_not_make_parts_of_nothing(database: Database) -> None:
    table = table_of(database, "id bigint", "v varchar(100)")
    database.run(
        "insert into t select seq, repeat('v', 50) from seq_1_to_2000",
        "insert into t values (9223372036854775807, 'far'), (-9223372036854775808, 'far')",
        "analyze table t",
    )
    parts = read_parts(database, table, 20_000)
    assert sum(map(len, parts)) == 2002
    assert len(parts) < 20


def test_an_empty_table_is_one_part(database: Database) -> None:
    for column in ("id int", "id varchar(9)"):
        table = table_of(database, column)
        assert read_parts(database, table, 1000) == [[]]
        database.run("drop table t")


def test_a_key_with_quotes_and_backslashes(database: Database) -> None:
    table = table_of(database, "id varchar(20)", "v int")
    keys = ["it's", "back\\slash", "semi;colon", "dash--", '"double"', "%s", "nul\0", "", "ü"]
    with database.connection.cursor() as cursor:
        cursor.executemany("insert into t values (%s, 1)", [(key,) for key in keys])
    copy = database.sources[-1].copy()
    found = copy.read_rows(table, pa.table({"id": pa.array(keys)}))
    assert {row["id"] for batch in found.rows for row in batch.to_pylist()} == set(keys)
    copy.close()


def test_columns_with_odd_names(database: Database) -> None:
    database.run(
        'create table t (`i d` int primary key, `a"b` int, `select` int, `%s` int, `é` int)'
    )
    database.run("insert into t values (1, 2, 3, 4, 5)")
    replica = database.replica("t")
    replica.copy()
    database.run("insert into t values (6, 7, 8, 9, 10)")
    replica.catch_up()
    replica.check()


def test_many_keys_at_once(database: Database) -> None:
    table = table_of(database, "id int", "v int")
    database.run("insert into t select seq, seq from seq_1_to_5000")
    copy = database.sources[-1].copy()
    wanted = pa.table({"id": pa.array(range(0, 10_000, 2), pa.int32())})
    found = copy.read_rows(table, wanted)
    assert sum(batch.num_rows for batch in found.rows) == 2500
    copy.close()


def locking_copy(database: Database, seconds: float) -> MySQLCopy:
    """As on MySQL, whose snapshots do not tell their place."""
    address = parse_url(database.url)
    with session(address) as opened:
        server = meet(opened)
    return MySQLCopy(
        address, server, "shop", {"shop.t": "t"}, tells_snapshots=False, writers_seconds=seconds
    )


def test_where_snapshots_tell_no_place_open_writers_are_waited_for(database: Database) -> None:
    table = table_of(database, "id int", "v int")
    copy = locking_copy(database, 0.5)
    database.run("begin", "insert into t values (1, 1)")
    with pytest.raises(Unavailable, match="still open") as raised:
        copy.plan(table, 1000)
    assert raised.value.code == "table_being_written"
    assert "connections" in raised.value.what
    copy.close()
    patient = locking_copy(database, 20)
    database.connection.autocommit(False)
    planned = threading.Thread(target=lambda: found.append(patient.plan(table, 1000)))
    found: list[Any] = []
    planned.start()
    database.run("commit")
    planned.join(30)
    copied = patient.read(table, found[0].parts[0])
    assert [row for batch in copied.rows for row in batch.to_pylist()] == [{"id": 1, "v": 1}]
    patient.close()


def test_where_snapshots_tell_no_place_the_position_is_behind_all_rows(database: Database) -> None:
    database.run("create table t (id int primary key, v int)")
    replica = database.replica("t")
    table = replica.tables["shop.t"].table
    copy = locking_copy(database, 20)
    for number in range(20):
        database.run(f"insert into t values ({number}, {number})")
        (part,) = copy.plan(table, 1 << 20).parts
        copied = copy.read(table, part)
        assert sum(batch.num_rows for batch in copied.rows) == number + 1
        replica.reach(copied.position)
        assert len(replica.tables["shop.t"].rows) == number + 1
    copy.close()


def test_a_copys_place_is_exact(database: Database) -> None:
    """What a snapshot shows is what the stream had given up to its place, no more and no less."""
    database.run("create table t (id int primary key)")
    replica = database.replica("t")
    table = replica.tables["shop.t"].table
    stop = threading.Event()

    def write() -> None:
        connection = database.server.connect(database.name)
        number = 0
        while not stop.is_set():
            with connection.cursor() as cursor:
                cursor.execute(f"insert into t values ({number})")
            number += 1
        connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    copy = replica.source.copy()
    try:
        (part,) = copy.plan(table, 1 << 30).parts
        read = [copy.read(table, part) for _ in range(30)]
    finally:
        stop.set()
        writer.join()
    replica.catch_up()
    places = [
        (position, int(np.count_nonzero(change.transaction == index)))
        for batch in replica.batches
        for change in batch.changes
        if isinstance(change, TableChanges)
        for index, position in enumerate(batch.transactions.positions)
    ]
    for copied in read:
        given = sum(rows for position, rows in places if position[:31] <= copied.position)
        assert sum(batch.num_rows for batch in copied.rows) == given
    copy.close()


def test_copies_beside_a_busy_stream_settle_to_the_sources_rows(database: Database) -> None:
    database.run("create table t (id int primary key, v varchar(200), n int)")
    database.run("insert into t select seq, repeat('v', seq % 200), 0 from seq_1_to_20000")
    database.run("analyze table t")
    replica = database.replica("t")
    stop = threading.Event()

    def write() -> None:
        connection = database.server.connect(database.name)
        number = 0
        while not stop.is_set():
            number += 1
            with connection.cursor() as cursor:
                cursor.execute(f"update t set n = n + 1 where id % 97 = {number % 97}")
                cursor.execute(f"delete from t where id = {number * 7 % 20000}")
                cursor.execute(f"update t set id = id + 100000 where id = {number * 11 % 20000}")
                cursor.execute(f"replace into t values ({number * 13 % 20000}, 'new', {number})")
        connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        replica.copy(part_bytes=100_000)
    finally:
        stop.set()
        writer.join()
    replica.catch_up()
    replica.check()


def test_a_copy_goes_on_after_its_connection_was_lost(database: Database) -> None:
    table = table_of(database, "id int", "v int")
    database.run("insert into t values (1, 1)")
    copy = database.sources[-1].copy()
    (part,) = copy.plan(table, 1000).parts
    database.run(f"kill {copy._session().row('select connection_id()')[0]}")
    with pytest.raises(Unavailable):
        copy.read(table, part)
    assert sum(batch.num_rows for batch in copy.read(table, part).rows) == 1
    copy.close()


def test_parts_are_text_that_another_run_can_read(database: Database) -> None:
    table = table_of(database, "id int", "v int")
    database.run("insert into t values (1, 1)")
    copy = database.sources[-1].copy()
    assert all(json.loads(part) for part in copy.plan(table, 1000).parts)
    copy.close()
