"""A table changed in the source is told before a row that our copies do not fit, and those rows are
left out.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from upwell.core.errors import EnvironmentFault, UsageError
from upwell.core.protocols import LayoutChange, SourceBatch, SourceTable, TableChanges
from upwell.sources.postgres.stream import PostgresStream

from .conftest import Database
from .test_stream import changes_of, gather, layouts_of

pytestmark = pytest.mark.postgres

TABLE = (
    "create table a (id int primary key, code text not null, n int, note varchar(20));"
    "insert into a values (1, 'a', 1, 'old')"
)
ROW = "insert into a (id, code) values (2, 'b')"
#: What our rows did not see → what is said of it.
DRIFTS = {
    "dropped": ("alter table a drop n", "column n was dropped"),
    "renamed": ("alter table a rename n to m", "column n was renamed to m"),
    "swapped": (
        (
            "alter table a rename n to x; alter table a rename note to n;"
            "alter table a rename x to note"
        ),
        "column n was renamed to note",
    ),
    "made anew": ("alter table a drop note, add note varchar(20)", "column note was dropped"),
    "added with a default of each row": (
        "alter table a add m float8 default random()",
        "column m was added with a value in every row",
    ),
    "added as identity": (
        "alter table a add m int generated always as identity",
        "column m was added with a value in every row",
    ),
    "added with a constant and rewritten": (
        "alter table a add m int default 7; vacuum full a",
        "column m was added with a value in every row",
    ),
    "added with a constant, and another column dropped": (
        "alter table a add m int default 7, drop n",
        "column n was dropped",
    ),
    "retyped": ("alter table a alter n type bigint", "column n has another type"),
    "computed anew": ("alter table a alter n type int using n * 100", "n has another type"),
    "cut": ("alter table a alter note type varchar(2) using left(note, 2)", "note has another"),
    "another key": (
        "alter table a drop constraint a_pkey, add primary key (id, code)",
        "its key was (id) and is (id, code)",
    ),
}
#: Columns added with a constant → what it is in a row that was there before.
FILLS: dict[str, tuple[str, dict[str, object]]] = {
    "a number": ("alter table a add m int default 7", {"m": 7}),
    "a text": ("alter table a add m text not null default 'it''s, \"so\"'", {"m": 'it\'s, "so"'}),
    "a constant and then another default": (
        "alter table a add m int default 7; alter table a alter m set default 8",
        {"m": 7},
    ),
    "several, and one empty": (
        "alter table a add m int default 7, add o text; alter table a add p bool default true",
        {"m": 7, "p": True},
    ),
    "an array, as text": ("alter table a add m int[] default '{1,2}'", {"m": "{1,2}"}),
    "NULL": ("alter table a add m int default null", {}),
}
#: What leaves the rows there were as they are.
HARMLESS = [
    "alter table a add m int",
    "alter table a add m int; alter table a alter m set default 7",
    "create domain counted as int; alter table a add m counted",
    "create type mood as enum ('good', 'bad'); alter table a add m mood",
    "alter table a alter note type varchar(50)",
    "alter table a alter note type text",
    "alter table a alter n set default 5",
    "alter table a alter n set not null",
    "truncate a; alter table a add m int",
    "vacuum full a",
    "analyze a",
]


def is_news(database: Database, table: SourceTable) -> bool:
    """Whether something has become of a table since."""
    return bool(database.sources[-1].look([table]).changes)


def assert_only_later_rows(
    database: Database, stream: PostgresStream, batches: list[SourceBatch]
) -> None:
    """Nothing came of what reading the table anew brings, and what happens now comes."""
    assert changes_of(batches) == []
    database.run("insert into a (id, code) values (9, 'later')")
    batches = gather(stream, database)
    assert layouts_of(batches) == []
    assert [row["id"] for row in rows_of(batches)] == [9]


def rows_of(batches: list[SourceBatch]) -> list[dict[str, object]]:
    return [
        row
        for change in changes_of(batches)
        if isinstance(change, TableChanges)
        for row in change.rows.to_pylist()
    ]


@pytest.mark.parametrize(("change", "how"), DRIFTS.values(), ids=DRIFTS)
def test_a_change_that_old_rows_did_not_see_is_told_before_its_first_row(
    database_18: Database, change: str, how: str
) -> None:
    database_18.run(TABLE)
    stream = database_18.stream(database_18.start("a"))
    for statement in change.split("; "):
        database_18.run(statement)
    database_18.run(ROW)
    batches = gather(stream, database_18)
    (told,) = layouts_of(batches)
    assert how in told.why
    assert told.fills is None
    assert told.unfit is None
    assert not is_news(database_18, told.now)
    (batch,) = (batch for batch in batches if told in batch.changes)
    assert batch.changes[0] is told
    assert_only_later_rows(database_18, stream, batches)


@pytest.mark.parametrize(("change", "how"), DRIFTS.values(), ids=DRIFTS)
def test_a_change_while_nothing_was_followed_is_the_next_streams_first_batch(
    database_18: Database, change: str, how: str
) -> None:
    database_18.run(TABLE)
    position = database_18.start("a")
    known = database_18.tables()
    source = database_18.sources[-1]
    source.stream(position, known).close()
    for statement in change.split("; "):
        database_18.run(statement)
    looked = source.look(known)
    batch = source.stream(position, known).poll(10)
    assert batch is not None
    (told,) = batch.changes
    assert isinstance(told, LayoutChange)
    assert how in told.why
    assert not is_news(database_18, told.now)
    assert told.now.schema == looked.tables["shop.a"].schema
    assert (looked.changes["shop.a"].why, batch.changes[1:]) == (told.why, ())
    assert batch.position == position


@pytest.mark.parametrize(("change", "filled"), FILLS.values(), ids=FILLS)
def test_a_column_added_with_a_constant_is_filled_in_in_all_rows_of_before(
    database: Database, change: str, filled: dict[str, object]
) -> None:
    database.run(TABLE)
    stream = database.stream(database.start("a"))
    database.run("insert into a values (3, 'c', 3, 'before')")
    database.run(change)
    database.run("insert into a (id, code) values (2, 'b'); update a set n = 0 where id = 3")
    batches = gather(stream, database)
    told, *more = layouts_of(batches)
    assert told.why == ""
    assert not is_news(database, (more or [told])[-1].now)
    assert (told.fills.to_pylist() if told.fills else [{}]) == [filled]
    assert [each.fills for each in more] == [None] * len(more)
    before, _, updated = rows_of(batches)
    assert before.items() >= filled.items()
    assert updated.items() >= filled.items()


@pytest.mark.parametrize("change", HARMLESS)
def test_a_change_that_leaves_old_rows_as_they_are_flows_on(
    database: Database, change: str
) -> None:
    database.run(TABLE)
    position = database.start("a")
    known = database.tables()
    stream = database.stream(position)
    for statement in change.split("; "):
        database.run(statement)
    database.run("update a set n = 0 where n is null; insert into a values (2, 'b', 2)")
    batches = gather(stream, database)
    assert rows_of(batches)[-1]["id"] == 2
    stream.close()
    for told in (layouts_of(batches), database.sources[-1].look(known).changes.values()):
        for each in told:
            assert (each.why, each.fills, each.unfit) == ("", None, None)
            assert not is_news(database, each.now)


@pytest.mark.parametrize(
    ("there", "back"),
    [
        ("alter table a rename note to old", "alter table a rename old to note"),
        ("alter table a drop note, add note int", "alter table a alter note type varchar(20)"),
        (
            "alter table a rename n to x; alter table a rename m to n; alter table a rename x to m",
            "alter table a rename n to x; alter table a rename m to n; alter table a rename x to m",
        ),
    ],
)
def test_rows_of_a_layout_that_came_and_went_are_left_out_and_the_table_is_read_anew(
    database: Database, there: str, back: str
) -> None:
    database.run(f"{TABLE}; alter table a add m int")
    stream = database.stream(database.start("a"))
    database.run(f"{there}; insert into a (id, code, n) values (2, 'b', 5); {back}")
    batches = gather(stream, database)
    assert any(told.why for told in layouts_of(batches))
    assert_only_later_rows(database, stream, batches)


@pytest.mark.parametrize(
    "change",
    [
        "alter table a drop n",
        "alter table a drop note, add note varchar(20)",
        "alter table a alter n type int using n * 100",
        "alter table a alter note type varchar(2) using left(note, 2)",
        "alter table a rename n to x; alter table a add n int",
        "alter table a rename n to m",
        "alter table a alter n type bigint",
        "alter table a drop n, add n int",
        "alter table a drop constraint a_pkey, add primary key (code)",
    ],
)
def test_rows_that_came_before_a_change_are_left_out_where_the_table_is_read_anew(
    database: Database, change: str
) -> None:
    """Reading it anew brings what they did, as it is now."""
    database.run(TABLE)
    position = database.start("a")
    stream = database.stream(position)
    database.run("insert into a values (2, 'b', 5, 'before'); update a set n = 6 where id = 1")
    database.run(change)
    database.run("insert into a (id, code) values (3, 'after')")
    batches = gather(stream, database)
    (told,) = layouts_of(batches)
    assert told.why
    assert_only_later_rows(database, stream, batches)
    stream.close()
    again = database.sources[-1].stream(position, [told.now])  # as after a crash
    batches = gather(again, database)
    assert layouts_of(batches) == []
    assert [row["id"] for row in rows_of(batches)] == [9]


def test_all_rows_of_a_table_that_is_not_read_anew_come_under_their_own_layouts(
    database: Database,
) -> None:
    database.run(TABLE)
    position = database.start("a")
    kept = [replace(each, is_kept=True) for each in database.tables()]
    stream = database.sources[-1].stream(position, kept)
    database.run("insert into a values (2, 'b', 5, 'before'); alter table a drop n, add m int")
    database.run("insert into a values (3, 'c', 'after', 6); alter table a alter m type text")
    database.run("insert into a values (4, 'd', 'last', '7')")
    batches = gather(stream, database)
    assert layouts_of(batches)[0].why == "column n was dropped"
    assert rows_of(batches) == [
        {"id": 2, "code": "b", "n": 5, "note": "before"},
        {"id": 3, "code": "c", "note": "after", "m": 6},
        {"id": 4, "code": "d", "note": "last", "m": "7"},
    ]


def test_a_truncation_under_a_layout_that_is_no_more_is_left_out(database: Database) -> None:
    database.run(TABLE)
    stream = database.stream(database.start("a"))
    database.run("truncate a; insert into a values (2, 'b', 5, 'x'); alter table a drop n")
    batches = gather(stream, database)
    assert [told.why for told in layouts_of(batches)] == ["column n was dropped"]
    assert changes_of(batches) == []


def test_an_added_column_is_told_once_and_its_log_can_be_read_again(database: Database) -> None:
    database.run(TABLE)
    position = database.start("a")
    known, source = database.tables(), database.sources[-1]
    stream = source.stream(position, known)
    database.run("insert into a values (3, 'c', 3, 'before'); alter table a add m int")
    database.run(f"{ROW}; insert into a (id, code) values (5, 'e')")
    first = gather(stream, database)
    (told,) = layouts_of(first)
    assert (told.why, told.fills) == ("", None)
    stream.close()
    for states, news in ((known, [told]), ([told.now], [])):
        stream = source.stream(position, states)
        again = gather(stream, database)
        assert layouts_of(again) == news
        assert rows_of(again) == rows_of(first)
        stream.close()
    stream = source.stream(position, [told.now])
    gather(stream, database)
    database.run("alter table a drop m; insert into a (id, code) values (4, 'd')")
    (told,) = layouts_of(gather(stream, database))
    assert told.why == "column m was dropped"


def test_a_table_dropped_and_made_anew_is_another_one(database: Database) -> None:
    database.run(TABLE)
    position = database.start("a")
    known, source = database.tables(), database.sources[-1]
    database.run(f"drop table a; {TABLE}")
    assert source.look(known).changes["shop.a"].why == "another table took its name"
    assert source.follow_only(database.tables()) == ["shop.a"]
    batch = source.stream(position, known).poll(10)
    assert batch is not None
    (told,) = batch.changes
    assert isinstance(told, LayoutChange)
    assert told.why == "another table took its name"
    assert not is_news(database, told.now)


def test_a_table_that_is_gone_is_told_to_be_unfit(database: Database) -> None:
    database.run(f"{TABLE}; create table b (id int primary key)")
    position = database.start("a", "b")
    known, source = database.tables(), database.sources[-1]
    database.run("drop table a")
    looked = source.look(known)
    assert [*looked.tables] == ["shop.b"]
    assert isinstance(looked.unfit["shop.a"], UsageError)
    stream = source.stream(position, known)
    database.run("insert into b values (1)")
    batches = gather(stream, database)
    (told,) = layouts_of(batches)
    assert looked.changes["shop.a"].unfit is looked.unfit["shop.a"]
    assert told.unfit is not None
    assert (told.unfit.code, told.now) == ("table_unknown", known[0])
    assert rows_of(batches) == [{"id": 1}]


def test_a_key_dropped_while_following_is_unfit_with_the_way_back(database: Database) -> None:
    database.run(f"{TABLE}; create table b (id int primary key)")
    position = database.start("a", "b")
    known = database.tables()
    stream = database.sources[-1].stream(position, known)
    database.run("alter table a drop constraint a_pkey; insert into a values (2, 'b', 2, 'x')")
    database.run("insert into b values (1); insert into a values (3, 'c', 3, 'x')")
    batches = gather(stream, database)
    (told,) = layouts_of(batches)
    assert isinstance(told.unfit, EnvironmentFault)
    assert told.unfit.code == "table_without_key"
    assert told.why == told.unfit.what
    assert "PRIMARY KEY" in told.unfit.next_step
    assert rows_of(batches) == [{"id": 1}]
    stream.close()
    database.run("alter table a add primary key (id)")
    assert database.sources[-1].look(known).unfit == {}
    batches = gather(database.sources[-1].stream(position, known), database)
    assert [each.why for each in layouts_of(batches)] == ["its layout changed"]


def test_a_table_out_of_the_publication_for_a_time_is_read_anew(database: Database) -> None:
    database.run(f"{TABLE}; create table b (id int primary key)")
    position = database.start("a", "b")
    known, source = database.tables(), database.sources[-1]
    database.run(f"alter publication {database.slot} set table b")
    database.run("insert into a values (2, 'b', 2, 'missed'); insert into b values (1)")
    batch = source.stream(position, known).poll(10)
    assert batch is not None
    (told,) = batch.changes
    assert isinstance(told, LayoutChange)
    assert told.table == "shop.a"
    assert told.why == "it was out of the publication for a time"
    source.close()
    assert source.follow_only(known) == ["shop.a"]
    assert source.follow_only(known) == []
    stream = source.stream(position, known)
    database.run("insert into a values (3, 'c', 3, 'seen')")
    batches = gather(stream, database)
    assert layouts_of(batches) == []
    assert [row["id"] for row in rows_of(batches)] == [1, 3]


def test_only_what_is_asked_for_is_followed(database: Database) -> None:
    database.run(f"{TABLE}; create table b (id int primary key)")
    position = database.start("a", "b")
    source, tables = database.sources[-1], {each.name: each for each in database.tables()}
    assert source.follow_only([tables["shop.b"]]) == []
    assert published_tables(database) == ["b"]
    stream = source.stream(position, [tables["shop.b"]])
    database.run(f"{ROW}; insert into b values (1)")
    assert rows_of(gather(stream, database)) == [{"id": 1}]
    assert source.follow_only([]) == []
    assert published_tables(database) == []
    assert source.follow_only(list(tables.values())) == ["shop.a", "shop.b"]


def published_tables(database: Database) -> list[str]:
    query = "select tablename from pg_publication_tables where pubname = %s order by 1"
    rows = database.connection.execute(query, [database.slot]).fetchall()
    return [name for (name,) in rows]


def test_a_log_that_leaves_values_out_is_told(database: Database) -> None:
    database.run("create table a (id int primary key, t text); create table b (id int primary key)")
    database.run("alter table b replica identity full")
    source = database.source("a", "b")
    assert list(source.look().leave_values_out) == ["shop.a"]
    source.close()
