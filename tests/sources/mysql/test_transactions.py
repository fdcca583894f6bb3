"""Transactions of every shape in the log."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.sources.mysql.conftest import Database
from tests.sources.mysql.replica import Replica
from upwell.core.protocols import TableChanges

pytestmark = pytest.mark.mariadb

T = "shop.t"


def followed(database: Database, columns: str = "id int primary key, v longtext") -> Replica:
    database.run(f"create table t ({columns})", "create table other (id int primary key, n int)")
    replica = database.replica("t")
    replica.copy()
    return replica


def test_a_transaction_of_many_rows_is_one(database: Database) -> None:
    replica = followed(database)
    database.run("insert into t select seq, repeat('x', 100) from seq_1_to_200000")
    replica.catch_up()
    (batch,) = [batch for batch in replica.batches if batch.changes]
    (change,) = batch.changes
    assert isinstance(change, TableChanges)
    assert change.rows.num_rows == 200_000
    assert len(batch.transactions) == 1
    assert np.array_equal(change.rows.column("id").to_numpy(), np.arange(1, 200_001))
    replica.check()


@pytest.mark.torture
def test_rows_longer_than_a_packet(database: Database) -> None:
    """16 MiB is where a message no longer fits in one packet."""
    replica = followed(database)
    for number, size in enumerate((1, 16_777_000, 16_777_214, 16_777_215, 16_777_216, 40_000_000)):
        database.run(
            "begin",
            f"insert into t values ({number * 2}, repeat('é', {size} div 2))",
            f"insert into t values ({number * 2 + 1}, 'short')",
            "commit",
        )
    replica.catch_up()
    replica.check()
    replica.copy()
    replica.check()


def test_what_is_rolled_back_never_was(database: Database) -> None:
    database.run("create table plain (id int primary key) engine = MyISAM")
    replica = followed(database)
    database.run(
        "begin",
        "insert into t values (1, 'kept')",
        "savepoint a",
        "insert into t values (2, 'undone')",
        "insert into plain values (1)",
        "rollback to a",
        "insert into t values (3, 'kept')",
        "commit",
        "begin",
        "insert into t values (4, 'undone')",
        "insert into plain values (2)",
        "rollback",
        "begin",
        "insert into t values (5, 'undone')",
        "rollback",
        "insert into t values (6, 'kept')",
    )
    replica.catch_up()
    assert set(replica.tables[T].rows) == {(1,), (3,), (6,)}
    replica.check()


def test_savepoints_are_known_however_they_are_spelled(database: Database) -> None:
    database.run("create table plain (id int primary key auto_increment) engine = MyISAM")
    replica = followed(database)
    undone = ("insert into t values (2, 'undone')", "insert into plain values ()")
    for number, (savepoint, again) in enumerate(
        [("Before_Items", "before_items"), ("`a b`", "`a b`"), ("`c b`", "SAVEPOINT `C B`")]
    ):
        kept = (f"insert into t values ({number * 10 + 1}, 'kept')", f"savepoint {savepoint}")
        other = "savepoint `other b`"
        database.run("begin", *kept, *undone, other, f"rollback to {again}", "commit")
    replica.catch_up()
    assert not replica.whys
    assert set(replica.tables[T].rows) == {(1,), (11,), (21,)}
    replica.check()


def test_a_savepoint_from_before_the_first_row_leads_to_reading_anew(database: Database) -> None:
    database.run("create table plain (id int primary key auto_increment) engine = MyISAM")
    replica = followed(database)
    database.run(
        "begin",
        "savepoint a",
        "insert into t values (2, 'undone')",
        "insert into plain values ()",
        "rollback to a",
        "insert into t values (3, 'kept')",
        "commit",
    )
    replica.catch_up()
    if replica.whys:
        replica.copy()
    replica.check()


def test_inserts_updates_and_deletes_of_one_key_keep_their_order(database: Database) -> None:
    replica = followed(database)
    database.run(
        "begin",
        "insert into t values (1, 'a'), (2, 'b')",
        "update t set v = 'c'",
        "update t set id = id + 10",
        "delete from t where id = 11",
        "insert into t values (11, 'd')",
        "replace into t values (12, 'e')",
        "insert into t values (12, 'f') on duplicate key update v = 'g'",
        "commit",
        "delete from t where id = 11",
    )
    replica.catch_up()
    assert list(replica.tables[T].rows) == [(12,)]
    replica.check()


def test_a_table_made_of_a_query(database: Database) -> None:
    """One group of the log holds the definition and the rows."""
    replica = followed(database)
    database.run(
        "insert into other values (1, 1), (2, 2)",
        "create or replace table t (id int primary key, v longtext) as select id, 7 v from other",
        "insert into t values (3, 'x')",
    )
    replica.catch_up()
    replica.copy()
    replica.catch_up()
    replica.check()


def test_a_distributed_transaction_leads_to_reading_anew(database: Database) -> None:
    replica = followed(database)
    database.run(
        "xa start 'x'",
        "insert into t values (1, 'prepared')",
        "xa end 'x'",
        "xa prepare 'x'",
    )
    replica.catch_up()
    assert replica.whys == []
    assert not replica.tables[T].rows
    database.run("xa commit 'x'", "xa start 'z'", "insert into t values (2, 'p')", "xa end 'z'")
    database.run("xa prepare 'z'", "xa rollback 'z'")
    replica.catch_up()
    assert len(replica.whys) == 1
    replica.copy()
    replica.catch_up()
    replica.check()


def test_a_distributed_transaction_in_one_phase_is_an_ordinary_one(database: Database) -> None:
    replica = followed(database)
    database.run("xa start 'x'", "insert into t values (1, 'a')", "xa end 'x'")
    database.run("xa commit 'x' one phase")
    replica.catch_up()
    replica.copy()
    replica.catch_up()
    replica.check()


def test_a_session_that_logs_statements_leads_to_reading_anew(database: Database) -> None:
    replica = followed(database)
    database.run(
        "set session binlog_format = 'STATEMENT'",
        "insert into other values (1, 1)",
        "update other set n = 2",
    )
    replica.catch_up()
    assert replica.whys == []
    database.run("insert into t values (1, 'x')", "set session binlog_format = 'ROW'")
    replica.catch_up()
    assert len(replica.whys) == 1
    assert "binlog_format" in replica.whys[0]
    replica.copy()
    replica.catch_up()
    replica.check()


def test_a_file_that_was_loaded_as_a_statement_leads_to_reading_anew(
    database: Database, tmp_path: Path
) -> None:
    (tmp_path / "rows").write_text("1\ta\n2\tb\n")
    replica = followed(database)
    connection = database.server.connect(database.name, local_infile=True)
    with connection.cursor() as cursor:
        cursor.execute("set session binlog_format = 'STATEMENT'")
        cursor.execute(f"load data local infile '{tmp_path / 'rows'}' into table t")
    connection.close()
    replica.catch_up()
    assert len(replica.whys) == 1
    replica.copy()
    replica.catch_up()
    assert len(replica.tables[T].rows) == 2
    replica.check()


def test_a_session_that_logs_parts_of_rows_leads_to_reading_anew(database: Database) -> None:
    replica = followed(database, "id int primary key, v longtext, n int")
    database.run("insert into t values (1, 'x', 1)")
    replica.catch_up()
    database.run("set session binlog_row_image = 'MINIMAL'", "update t set n = 2")
    replica.catch_up()
    assert len(replica.whys) == 1
    assert "binlog_row_image" in replica.whys[0]
    replica.copy()
    replica.catch_up()
    replica.check()


def test_compressed_events(own_database: Database) -> None:
    own_database.run("set global log_bin_compress = 1", "set global log_bin_compress_min_len = 10")
    own_database.connection = own_database.server.connect(own_database.name)
    replica = followed(own_database)
    own_database.run(
        "insert into t select seq, repeat('compress me ', 20) from seq_1_to_2000",
        "update t set v = concat(v, id) where id < 100",
        "delete from t where id > 1900",
        f"alter table t add column a_rather_long_name_{'x' * 20} int default 5",
        "insert into t (id, v) values (5000, 'short')",
    )
    replica.catch_up()
    assert replica.whys == []
    replica.check()
    replica.close()


@pytest.mark.parametrize("size", ["256", "4096", "1048576"])
def test_events_of_other_sizes(own_database: Database, size: str) -> None:
    server = own_database.server
    server.stop()
    server.settings["binlog_row_event_max_size"] = size
    server.start()
    own_database.connection = server.connect(own_database.name)
    replica = followed(own_database, "id int primary key, n int, v varchar(50)")
    own_database.run(
        "insert into t select seq, if(seq % 3, seq, null), repeat('v', seq % 9) from seq_1_to_5000",
        "update t set n = n + 1, v = null where id % 2 = 0",
        "update t set id = id + 100000 where id % 7 = 0",
        "delete from t where id % 5 = 0",
    )
    replica.catch_up()
    replica.check()
    replica.close()


def test_a_log_without_checksums(own_database: Database) -> None:
    own_database.run("set global binlog_checksum = 'NONE'")
    replica = followed(own_database)
    own_database.run("insert into t values (1, 'a')")
    replica.catch_up()
    own_database.run("set global binlog_checksum = 'CRC32'", "insert into t values (2, 'b')")
    replica.catch_up()
    replica.check()
    replica.close()


def test_several_tables_in_one_transaction(database: Database) -> None:
    database.run(
        "create table a (id int primary key)",
        "create table b (id int primary key, n int)",
        "create table c (id int primary key)",
    )
    replica = database.replica("a", "b")
    database.run(
        "begin",
        "insert into a values (1)",
        "insert into b values (1, 1)",
        "insert into c values (1)",
        "insert into a values (2)",
        "update b set n = 2",
        "commit",
        "update a join b on a.id = b.id set a.id = 5, b.n = 3",
    )
    replica.catch_up()
    changed = [change for batch in replica.batches for change in batch.changes]
    assert {change.table for change in changed} == {"shop.a", "shop.b"}
    replica.check()


def test_the_times_of_commits_are_the_servers(database: Database) -> None:
    replica = followed(database)
    before = int(database.value("select floor(unix_timestamp(now(6)))"))
    database.run("insert into t values (1, 'a')")
    after = int(database.value("select ceil(unix_timestamp(now(6)))"))
    replica.catch_up()
    (batch,) = [batch for batch in replica.batches if batch.changes]
    (at_us,) = batch.transactions.committed_at_us.tolist()
    assert before * 1_000_000 <= at_us <= after * 1_000_000
