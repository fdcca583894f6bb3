"""Tables that change while they are followed, and while nobody looks."""

from __future__ import annotations

import pyarrow as pa
import pytest

from tests.sources.mysql.conftest import Database, seldom
from tests.sources.mysql.replica import Replica
from upwell.core.errors import LayoutChangedError

pytestmark = pytest.mark.mariadb

ORDERS = "shop.orders"


def orders(database: Database) -> Replica:
    database.run(
        "create table orders (id int primary key, name varchar(10), state enum('new','paid'))",
        "insert into orders values (1, 'a', 'new'), (2, 'b', 'paid')",
    )
    replica = database.replica("orders")
    replica.copy()
    return replica


def settle(replica: Replica) -> None:
    """Follow to the end; what must be read anew is."""
    replica.catch_up()
    replica.copy()
    replica.catch_up()
    replica.check()


ADDING = {
    "a column, empty": "alter table orders add column note text",
    "a column with a default": "alter table orders add column n int not null default 7",
    "a text with a default": "alter table orders add column t varchar(9) default 'it''s'",
    "a decimal with a default": "alter table orders add column d decimal(9,2) not null default 1.5",
    "a date with a default": "alter table orders add column d date not null default '2024-02-29'",
    "a column that may not be empty": "alter table orders add column n bigint not null",
    "a wider varchar": "alter table orders modify name varchar(300)",
    "another label": "alter table orders modify state enum('new','paid','sent')",
    "an index": "alter table orders add index (name)",
    "an index of its own": "create index i on orders (name)",
    "several": "alter table orders add column x int, add column y int default 3, add index (x)",
    "in comments": "/* a */ alter /*!50000 online */ table `orders` -- x\n add `z` int default 1",
    "a default alone": "alter table orders alter column name set default 'x'",
    "nothing, but rewritten": "alter table orders engine = InnoDB",
    "a table that is there": "create table if not exists orders (id int primary key, q int)",
}


@pytest.mark.parametrize("statement", ADDING.values(), ids=ADDING)
def test_what_changes_no_stored_value_is_taken_up_without_reading_anew(
    database: Database, statement: str
) -> None:
    database.run("set sql_mode = ''")
    replica = orders(database)
    database.run(
        "insert into orders (id, name) values (3, 'c')",
        statement,
        "insert into orders (id, name, state) values (4, 'd', 'paid')",
        "update orders set name = 'e' where id = 1",
    )
    replica.catch_up()
    assert replica.whys == []
    replica.check()


REREAD = {
    "a column dropped": "alter table orders drop column name",
    "a column renamed": "alter table orders rename column name to title",
    "a column changed": "alter table orders change name title varchar(10)",
    "another type": "alter table orders modify name text",
    "a type cut": "alter table orders modify name varchar(1)",
    "signs": "alter table orders modify id int unsigned",
    "labels in another order": "alter table orders modify state enum('paid','new')",
    "another place": "alter table orders modify name varchar(10) after state",
    "a column between": "alter table orders add column n int after id",
    "another character set": "alter table orders convert to character set latin1",
    "another key": "alter table orders drop primary key, add primary key (id, name)",
    "a moment in every row": "alter table orders add column t datetime default current_timestamp",
    "a number in every row": "alter table orders add column n int unique auto_increment first",
    "a computed value": "alter table orders add column n int as (id + 1) stored",
    "made anew": "create or replace table orders (id int primary key, name varchar(10), state"
    " enum('new','paid'))",
    "swapped": "rename table orders to o2, o1 to orders",
    "swapped by alter": "alter table o1 rename to orders",
}

#: Those that the ordinary suite tries.
OFTEN = ("a column dropped", "a column between", "a moment in every row", "swapped", "made anew")


@pytest.mark.parametrize("statement", seldom(REREAD, *OFTEN))
def test_after_any_other_change_the_table_is_read_anew(database: Database, statement: str) -> None:
    statement = REREAD[statement]
    database.run("create table o1 (id int primary key, name varchar(10), state enum('new','paid'))")
    database.run("insert into o1 values (1, 'other', 'paid'), (8, 'other', 'new')")
    replica = orders(database)
    database.run("insert into orders (id, name) values (3, 'c')")
    if statement.startswith("alter table o1"):
        database.run("drop table orders")
    database.run(statement, "update orders set state = 'paid'", "delete from orders where id = 2")
    settle(replica)
    assert len(replica.whys) == 1


@pytest.mark.parametrize("statement", seldom(REREAD, *OFTEN))
def test_what_happened_while_nobody_looked_is_the_first_thing_a_stream_gives(
    database: Database, statement: str
) -> None:
    statement = REREAD[statement]
    database.run("create table o1 (id int primary key, name varchar(10), state enum('new','paid'))")
    replica = orders(database)
    replica.stream.close()
    database.run("insert into orders (id, name) values (3, 'c')")
    if statement.startswith("alter table o1"):
        database.run("drop table orders")
    database.run(statement, "update orders set state = 'paid'", "delete from orders where id = 2")
    replica.reopen()
    settle(replica)
    assert len(replica.whys) == 1


def take_opening(replica: Replica) -> None:
    """Take what comes first, and lose the connection there: the log before is read once more."""
    position = replica.position
    batch = replica.stream.poll(10.0)
    assert batch is not None
    assert batch.changes
    replica.apply(batch)
    assert replica.position == position
    replica.reopen()


def test_columns_added_fill_the_rows_before_them_after_another_stop_too(database: Database) -> None:
    replica = orders(database)
    replica.stream.close()
    database.run(
        "insert into orders (id, name) values (3, 'c')",
        "alter table orders add column x int default 5",
        "alter table orders add column y varchar(5) not null default 'yy'",
    )
    replica.reopen()
    take_opening(replica)
    replica.catch_up()
    assert replica.whys == []
    replica.check()


@pytest.mark.parametrize("case", ["a moment in every row", "a computed value", "another place"])
def test_rows_from_before_a_table_is_read_anew_are_left_out_after_another_stop_too(
    database: Database, case: str
) -> None:
    replica = orders(database)
    replica.stream.close()
    database.run("insert into orders (id, name) values (3, 'c')", REREAD[case])
    replica.reopen()
    take_opening(replica)
    replica.catch_up()
    assert len(replica.whys) == 1
    assert replica.tables[ORDERS].rows == {}
    settle(replica)


def test_rows_whose_missing_value_nobody_can_tell_have_their_table_read_anew(
    database: Database,
) -> None:
    replica = orders(database)
    replica.stream.close()
    database.run(
        "insert into orders (id, name) values (3, 'c')",
        "alter table orders add column t datetime default current_timestamp",
    )
    (replica.tables[ORDERS].table,) = database.source("orders").look().tables.values()
    replica.reopen()  # as a table that is followed from a place before it was first looked at
    settle(replica)
    assert replica.whys == ["its rows in the log are of another layout"]


def test_columns_added_while_nobody_looked_fill_the_rows_before_them(database: Database) -> None:
    replica = orders(database)
    replica.stream.close()
    database.run(
        "insert into orders (id, name) values (3, 'c')",
        "alter table orders add column x int default 5",
        "insert into orders (id, name) values (4, 'd')",
        "alter table orders add column y varchar(5) not null default 'yy'",
        "update orders set x = 6 where id = 3",
    )
    replica.reopen()
    replica.catch_up()
    assert replica.whys == []
    replica.check()


def test_a_column_added_dropped_and_added_again_is_read_anew(database: Database) -> None:
    """The catalogue has one column of that name, the log two."""
    replica = orders(database)
    replica.stream.close()
    database.run(
        "alter table orders add column x int default 5",
        "insert into orders (id, name, x) values (3, 'c', 9)",
        "alter table orders drop column x",
        "alter table orders add column x int default 1",
    )
    replica.reopen()
    settle(replica)
    assert len(replica.whys) == 1


def test_a_table_dropped_and_made_again_alike_is_read_anew(database: Database) -> None:
    replica = orders(database)
    before = replica.tables[ORDERS].table
    replica.stream.close()
    database.run(
        "drop table orders",
        "create table orders (id int primary key, name varchar(10), state enum('new','paid'))",
        "insert into orders values (7, 'x', 'new')",
    )
    assert database.source("orders").look().tables[ORDERS] == before
    replica.reopen()
    settle(replica)
    assert replica.whys == ["it was made anew"]
    assert set(replica.tables[ORDERS].rows) == {(7,)}


def test_a_table_that_is_gone_is_told(database: Database) -> None:
    replica = orders(database)
    database.run("create table others (id int primary key)", "drop table orders")
    replica.catch_up()
    assert replica.unfit == ["table_unknown"]


def test_a_dropped_database_takes_its_tables_along(database: Database) -> None:
    other = f"{database.name}_2"
    database.run(f"create database {other}", f"create table {other}.t (id int primary key)")
    replica = database.replica(f"{other}.t")
    database.run(f"drop database {other}", "create table x (id int primary key)")
    replica.catch_up()
    assert replica.unfit == ["table_unknown"]


def test_a_truncation_empties_the_table(database: Database) -> None:
    replica = orders(database)
    database.run(
        "truncate orders",
        "insert into orders values (9, 'z', 'new')",
        f"truncate table `{database.name}` . `orders`",
        "insert into orders values (10, 'z', 'new')",
    )
    replica.catch_up()
    assert set(replica.tables[ORDERS].rows) == {(10,)}
    replica.check()


def test_a_partition_that_loses_its_rows_is_read_anew(database: Database) -> None:
    database.run(
        "create table orders (id int primary key, n int) partition by range (id)"
        " (partition a values less than (10), partition b values less than (20))",
        "insert into orders values (1, 1), (11, 11)",
    )
    replica = database.replica("orders")
    replica.copy()
    database.run("alter table orders truncate partition a")
    settle(replica)
    assert len(replica.whys) == 1


def test_a_statement_that_names_a_table_without_changing_it_is_nothing(database: Database) -> None:
    replica = orders(database)
    database.run(
        "create table o2 like orders",
        "create table o3 as select * from orders",
        "create view v as select * from orders",
        "drop view v",
        "drop table o2, o3",
        "create table `or``ders` (id int primary key) comment 'alter table orders drop name'",
        "analyze table orders",
        "create temporary table t1 as select * from orders",
        "drop temporary table t1",
    )
    replica.catch_up()
    assert replica.whys == []
    replica.check()


def test_a_part_of_a_changed_table_is_not_read(database: Database) -> None:
    replica = orders(database)
    table = replica.tables[ORDERS].table
    copy = replica.source.copy()
    (part,) = copy.plan(table, 1 << 20).parts
    database.run("alter table orders add column n int")
    assert sum(batch.num_rows for batch in copy.read(table, part).rows) == 2  # rows as they were
    database.run("alter table orders modify name text")
    for read in (
        lambda: copy.read(table, part),
        lambda: copy.plan(table, 1 << 20),
        lambda: copy.read_rows(table, pa.table({"id": pa.array([1], pa.int32())})),
    ):
        with pytest.raises(LayoutChangedError, match="another type"):
            read()
    database.run("drop table orders")
    with pytest.raises(LayoutChangedError):
        copy.read(table, part)
    copy.close()


def test_a_look_tells_what_has_become_of_known_tables(database: Database) -> None:
    replica = orders(database)
    known = [replica.tables[ORDERS].table]
    assert not replica.source.look(known).changes
    database.run("alter table orders add column n int default 3")
    (change,) = replica.source.look(known).changes.values()
    assert change.fills is not None
    assert change.fills.to_pydict() == {"n": [3]}
    database.run("alter table orders drop column name")
    (change,) = replica.source.look(known).changes.values()
    assert "name" in change.why
    database.run("drop table orders")
    (change,) = replica.source.look(known).changes.values()
    assert change.unfit is not None
