"""A table changed in the source ends the stream before a row that our copies do not fit."""

from __future__ import annotations

import pytest

from upwell.core.errors import GapError
from upwell.core.protocols import TableChanges
from upwell.sources.postgres.drift import READ_ANEW

from .conftest import Database
from .replica import error_of
from .test_stream import changes_of, gather

pytestmark = pytest.mark.postgres

TABLE = (
    "create table a (id int primary key, code text not null, n int, note varchar(20));"
    "insert into a values (1, 'a', 1, 'old')"
)
ROW = "insert into a (id, code) values (2, 'b')"
DRIFTS = {
    "dropped": ("alter table a drop n", "column n was dropped"),
    "renamed": ("alter table a rename n to m", "column n was dropped or renamed"),
    "swapped": (
        (
            "alter table a rename n to x; alter table a rename note to n;"
            "alter table a rename x to note"
        ),
        "column n was dropped or renamed",
    ),
    "made anew": ("alter table a drop note, add note varchar(20)", "column note was dropped"),
    "added with a default": ("alter table a add m int default 7", "column m was added"),
    "added with a default of each row": (
        "alter table a add m float8 default random()",
        "column m was added",
    ),
    "added as identity": (
        "alter table a add m int generated always as identity",
        "column m was added",
    ),
    "retyped": ("alter table a alter n type bigint", "column n has another type"),
    "cut": ("alter table a alter note type varchar(2) using left(note, 2)", "note has another"),
    "another key": (
        "alter table a drop constraint a_pkey, add primary key (id, code)",
        "its key was (id) and is (id, code)",
    ),
}


@pytest.mark.parametrize(("change", "how"), DRIFTS.values(), ids=DRIFTS)
def test_a_change_that_old_rows_did_not_see_is_a_gap_before_its_first_row(
    database_18: Database, change: str, how: str
) -> None:
    database_18.run(TABLE)
    stream = database_18.source("a").stream(database_18.start("a"))
    database_18.run(change)
    database_18.run(ROW)
    error = error_of(lambda: gather(stream, database_18))
    assert (type(error), error.code) == (GapError, "layout_changed")
    assert how in error.what
    assert READ_ANEW in error.next_step


@pytest.mark.parametrize(
    "change",
    [
        "alter table a add m int",
        "alter table a add m int; alter table a alter m set default 7",
        "alter table a alter note type varchar(50)",
        "alter table a alter note type text",
        "truncate a; alter table a add m int",
    ],
)
def test_a_change_that_leaves_old_rows_as_they_are_flows_on(
    database: Database, change: str
) -> None:
    database.run(TABLE)
    stream = database.source("a").stream(database.start("a"))
    database.run(change)
    database.run(ROW)
    (added,) = [
        each for each in changes_of(gather(stream, database)) if isinstance(each, TableChanges)
    ]
    assert added.rows.column("id").to_pylist() == [2]


def test_a_rename_taken_back_is_a_gap_where_rows_came_between(database: Database) -> None:
    database.run(TABLE)
    stream = database.source("a").stream(database.start("a"))
    database.run(f"alter table a rename n to m; {ROW}; alter table a rename m to n")
    assert error_of(lambda: gather(stream, database)).code == "layout_changed"


def test_a_change_while_nothing_was_followed_is_a_gap_at_the_next_stream(
    database: Database,
) -> None:
    database.run(TABLE)
    position = database.start("a")
    source = database.source("a")
    source.stream(position).close()
    database.run("alter table a drop n")
    error = error_of(lambda: source.stream(position))
    assert (type(error), error.code) == (GapError, "layout_changed")


def test_an_added_column_is_known_from_then_on_and_its_log_can_be_read_again(
    database: Database,
) -> None:
    database.run(TABLE)
    position = database.start("a")
    source = database.source("a")
    stream = source.stream(position)
    database.run("insert into a values (3, 'c', 3, 'before'); alter table a add m int")
    database.run(ROW)
    first = changes_of(gather(stream, database))
    stream.close()
    stream = source.stream(position)
    again = changes_of(gather(stream, database))
    assert [change.schema for change in again] == [change.schema for change in first]
    assert len(first) == 2
    database.run("alter table a drop m; insert into a (id, code) values (4, 'd')")
    assert error_of(lambda: gather(stream, database)).code == "layout_changed"
