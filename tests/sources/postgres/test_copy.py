"""Tables are read in ranges of pages beside the stream; a table that is another one is not read."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import psycopg
import pyarrow as pa
import pytest

from upwell.core.errors import LayoutChangedError, Unavailable
from upwell.core.protocols import CopiedRows, SourceTable
from upwell.sources.postgres import completeness
from upwell.sources.postgres import copy as copying
from upwell.sources.postgres.checksum import row_checksums, wal_position
from upwell.sources.postgres.copy import PostgresCopy
from upwell.sources.postgres.tables import CapturedTable

from .conftest import Database
from .replica import Replica, copied, error_of, reached

pytestmark = pytest.mark.postgres

NOTES = """
    create table a (id int primary key, n int, note text, big text);
    alter table a alter big set storage external;
    insert into a select i, i, repeat('x', 200), repeat(md5(i::text), 100)
      from generate_series(0, 1999) i
"""


def read_all(copy: PostgresCopy, table: SourceTable) -> list[dict[str, object]]:
    return [row for batch in copied(copy, table) for row in batch.to_pylist()]


def rows_of(read: CopiedRows) -> list[dict[str, object]]:
    return [row for batch in read.rows for row in batch.to_pylist()]


def opened(database: Database, *tables: str) -> tuple[PostgresCopy, SourceTable]:
    """What reads these tables, and the first of them."""
    database.source(*tables)
    return database.copy(), database.tables()[0]


def change_at_random(database: Database, chance: random.Random) -> None:
    """Inserts, deletes, and updates that leave the long value as it is, renew it, move the key."""
    key, other = chance.randrange(2_000), chance.randrange(2_000, 6_000)
    database.run(
        chance.choice(
            [
                f"update a set n = -{key}, note = repeat('y', {key % 300}) where id = {key}",
                f"update a set big = repeat('z', 3000) where id = {key}",
                (
                    f"update a set id = {other} where id = {key} "
                    f"and not exists (select from a where id = {other})"
                ),
                (
                    f"insert into a values ({other}, 0, 'new', repeat('w', 3000)) "
                    "on conflict do nothing"
                ),
                f"delete from a where id between {key} and {key + 5}",
            ]
        )
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_parts_and_stream_make_the_table_while_rows_come_go_and_move(
    database: Database, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completeness, "READING_SECONDS", 0.02)
    chance = random.Random(seed)
    database.run(NOTES)
    position = database.start("a")
    (table,) = database.tables()
    stream, copy = database.stream(position), database.copy()
    replica = Replica()
    replica.expect(table)
    batches: list[pa.RecordBatch] = []
    plan = copy.plan(table, 100_000)
    assert len(plan.parts) > 20
    for part in chance.sample(plan.parts, len(plan.parts)):
        for _ in range(10):
            change_at_random(database, chance)
        read = copy.read(table, part)
        batches += read.rows
        replica.follow(stream, reached(read.position))
    assert replica.join(table.name, batches) > 0
    replica.follow(stream, reached(wal_position(database.url)))
    lacking = replica.lacking(table.name)
    assert lacking.num_rows > 0
    replica.complete(table.name, copy.read_rows(table, lacking).rows)
    assert replica.checksum(table.name) == row_checksums(database.url, "shop", ["a"])["shop.a"]


def test_every_page_is_in_one_part(database: Database) -> None:
    database.run(NOTES)
    database.run("delete from a where id % 3 = 0")
    database.run("vacuum a")
    copy, table = opened(database, "a")
    for part_bytes in (1, 50_000, 1 << 20, 1 << 40):
        ids = [
            row["id"]
            for part in copy.plan(table, part_bytes).parts
            for row in rows_of(copy.read(table, part))
        ]
        assert sorted(map(str, ids)) == sorted(str(i) for i in range(2_000) if i % 3)


def test_an_empty_table_is_one_part_and_the_last_part_goes_as_far_as_the_table(
    database: Database,
) -> None:
    database.run("create table a (id int primary key)")
    copy, table = opened(database, "a")
    plan = copy.plan(table, 1 << 20)
    assert len(plan.parts) == 1
    assert rows_of(copy.read(table, plan.parts[0])) == []
    database.run("insert into a select generate_series(1, 3000)")
    assert len(rows_of(copy.read(table, plan.parts[0]))) == 3_000
    plan = copy.plan(table, 1)
    assert len(plan.parts) > 5
    database.run("insert into a select generate_series(3001, 9000)")
    assert sum(len(rows_of(copy.read(table, part))) for part in plan.parts) == 9_000


def test_a_table_of_long_values_is_cut_by_what_there_is_to_read(database: Database) -> None:
    database.run(
        "create table a (id int primary key, big text) with (fillfactor = 10);"
        "alter table a alter big set storage external;"
        "insert into a select i, repeat('x', 30000) from generate_series(1, 300) i"
    )
    copy, table = opened(database, "a")
    plan = copy.plan(table, 1 << 20)
    reads = [copy.read(table, part) for part in plan.parts]
    assert sum(len(rows_of(read)) for read in reads) == 300
    assert len(plan.parts) >= 5
    assert max(read.size_bytes for read in reads) < 3 << 20
    assert sum(read.size_bytes for read in reads) > 9_000_000


def test_a_plan_tells_about_how_many_rows_there_are(database: Database) -> None:
    database.run("create table a (id int primary key, note text)")
    database.run("insert into a select i, 'note' from generate_series(1, 100000) i")
    copy, table = opened(database, "a")
    assert 30_000 < copy.plan(table, 1 << 20).estimated_rows < 300_000
    database.run("analyze a")
    assert copy.plan(table, 1 << 20).estimated_rows == pytest.approx(100_000, rel=0.05)


# ── writers ──────────────────────────────────────────────────────────────────────────────────────

Given = TypeVar("Given")


class Waiting:
    """Something that goes on beside the test until it is done."""

    def __init__(self, action: Callable[[], Given]) -> None:
        self._found: list[object] = []
        self._thread = threading.Thread(target=lambda: self._found.append(action()))
        self._thread.start()

    @property
    def is_done(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> object:
        self._thread.join(30)
        (found,) = self._found
        return found


@contextmanager
def transaction(database: Database, statement: str) -> Iterator[psycopg.Connection]:
    """A transaction that has run a statement and is open, until its connection commits."""
    with psycopg.connect(database.url) as connection:
        connection.execute(statement.encode())
        yield connection


def await_look(looked: threading.Event) -> None:
    assert looked.wait(30)
    looked.clear()


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set whenever somebody has looked for writers, and waits for them."""
    event = threading.Event()
    sleep = time.sleep

    def notice(seconds: float) -> None:
        event.set()
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", notice)
    return event


def test_a_plan_waits_for_whoever_wrote_before_it_and_for_nobody_else(
    database: Database, looked: threading.Event
) -> None:
    database.run("create table a (id int primary key); create table b (id int primary key)")
    database.run("insert into a values (0)")
    copy, table = opened(database, "a")
    with (
        transaction(database, "insert into a values (1)") as before,
        transaction(database, "select from a for update"),
        transaction(database, "insert into b values (1)"),
    ):
        waiting = Waiting(lambda: copy.plan(table, 1 << 20))
        await_look(looked)
        with transaction(database, "insert into a values (2)"):
            await_look(looked)
            assert not waiting.is_done
            before.commit()
            assert waiting.result() is not None
            assert read_ids(copy, table) == [0, 1]


def read_ids(copy: PostgresCopy, table: SourceTable) -> list[object]:
    return [row["id"] for row in rows_of(copy.read(table, "0-"))]


def test_rows_read_by_their_keys_are_those_of_whoever_wrote_before(
    database: Database, looked: threading.Event
) -> None:
    database.run("create table a (id int primary key, n int); insert into a values (1, 1)")
    copy, table = opened(database, "a")
    with transaction(database, "update a set n = 2") as before:
        waiting = Waiting(lambda: rows_of(copy.read_rows(table, keys_of(1))))
        await_look(looked)
        before.commit()
        assert waiting.result() == [{"id": 1, "n": 2}]


def keys_of(*ids: int) -> pa.Table:
    return pa.table({"id": pa.array(ids, pa.int32())})


def test_a_writer_that_does_not_end_is_named(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "WRITERS_SECONDS", 0.1)
    database.run("create table a (id int primary key)")
    copy, table = opened(database, "a")
    with transaction(database, "insert into a values (1)") as writer:
        for act in (
            lambda: copy.plan(table, 1 << 20),
            lambda: copy.read_rows(table, keys_of(1)),
        ):
            error = error_of(act)
            assert (type(error), error.code) == (Unavailable, "table_being_written")
            assert f"server process {writer.info.backend_pid}" in error.what
            assert error.next_step
        assert rows_of(copy.read(table, "0-")) == []
    assert copy.plan(table, 1 << 20).parts


# ── tables that change ───────────────────────────────────────────────────────────────────────────

#: What makes another table of it → what is said.
CHANGES = {
    "a column dropped": ("alter table a drop n", "column n was dropped"),
    "a column renamed": ("alter table a rename n to m", "column n was renamed to m"),
    "a column retyped": ("alter table a alter n type bigint", "column n has another type"),
    "a constant added": ("alter table a add m int default 7", "added with a value in every row"),
    "another key": ("alter table a drop constraint a_pkey, add primary key (id, n)", "its key was"),
    "no key": ("alter table a drop constraint a_pkey", "no primary key"),
    "dropped": ("drop table a", "no table a"),
    "renamed": ("alter table a rename to b", "no table a"),
    "made anew": ("drop table a; create table a (id int primary key, n int)", "another table took"),
    "locked away": ("revoke all on a from public; alter table a set unlogged", "unlogged"),
}


REWRITES = ["vacuum full a", "truncate a"]


@pytest.mark.parametrize(("change", "how"), CHANGES.values(), ids=CHANGES)
def test_a_table_that_changed_is_not_read_on(database: Database, change: str, how: str) -> None:
    database.run("create table a (id int primary key, n int not null)")
    database.run("insert into a select i, i from generate_series(1, 2000) i")
    database.run("create table other (id int primary key); insert into other values (1)")
    copy, table = opened(database, "a", "other")
    other = database.tables()[1]
    first, second, *_ = copy.plan(table, 1).parts
    assert rows_of(copy.read(table, first))
    for statement in change.split("; "):
        database.run(statement)
    for act in (
        lambda: copy.read(table, second),
        lambda: copy.read_rows(table, keys_of(1)),
        lambda: copy.plan(table, 1 << 20),
    ):
        error = error_of(act)
        assert (type(error), error.code) == (LayoutChangedError, "table_changed")
        assert how in error.what
    assert read_all(copy, other) == [{"id": 1}]


@pytest.mark.parametrize(("change", "left"), [("vacuum full a", 2_000), ("truncate a", 0)])
def test_a_table_that_was_written_anew_is_not_read_on_by_its_pages(
    database: Database, change: str, left: int
) -> None:
    database.run("create table a (id int primary key)")
    database.run("insert into a select generate_series(1, 2000)")
    copy, table = opened(database, "a")
    first, second, *_ = copy.plan(table, 1).parts
    assert rows_of(copy.read(table, first))
    database.run(change)
    error = error_of(lambda: copy.read(table, second))
    assert (type(error), error.code) == (LayoutChangedError, "table_changed")
    assert "its rows were written anew" in error.what
    assert len(rows_of(copy.read_rows(table, keys_of(*range(3_000))))) == left
    assert len(read_all(copy, database.tables()[0])) == left


@pytest.mark.parametrize(
    ("change", "how"),
    [*CHANGES.values(), *((each, "its rows were written anew") for each in REWRITES)],
    ids=[*CHANGES, *REWRITES],
)
def test_what_was_read_while_the_table_changed_is_not_given(
    database_18: Database, monkeypatch: pytest.MonkeyPatch, change: str, how: str
) -> None:
    database_18.run("create table a (id int primary key, n int not null)")
    database_18.run("insert into a select i, i from generate_series(1, 2000) i")
    database_18.run("create table other (id int primary key); insert into other values (1)")
    copy, table = opened(database_18, "a", "other")
    (part,) = copy.plan(table, 1 << 20).parts
    require_same, looks = PostgresCopy._require_same, 0

    def change_behind(
        self: PostgresCopy, table: SourceTable, *, by_place: bool = False
    ) -> CapturedTable:
        nonlocal looks
        found = require_same(self, table, by_place=by_place)
        looks += 1
        if looks == 1:
            for statement in change.split("; "):
                database_18.run(statement)
        return found

    monkeypatch.setattr(PostgresCopy, "_require_same", change_behind)
    error = error_of(lambda: copy.read(table, part))
    assert (type(error), error.code) == (LayoutChangedError, "table_changed")
    assert how in error.what
    assert read_all(copy, database_18.tables()[-1]) == [{"id": 1}]


def test_an_empty_column_added_meanwhile_is_left_out(database: Database) -> None:
    database.run("create table a (id int primary key, n int); insert into a values (1, 2)")
    copy, table = opened(database, "a")
    (part,) = copy.plan(table, 1 << 20).parts
    database.run("alter table a add m int; insert into a values (2, 3, 4); analyze a")
    assert rows_of(copy.read(table, part)) == [{"id": 1, "n": 2}, {"id": 2, "n": 3}]
    assert rows_of(copy.read_rows(table, keys_of(2))) == [{"id": 2, "n": 3}]


def test_a_copy_whose_connection_breaks_makes_the_source_unavailable(database: Database) -> None:
    database.run("create table a (id int primary key)")
    copy, table = opened(database, "a")
    database.run(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        f"where application_name = '{database.slot} copy'"
    )
    assert isinstance(error_of(lambda: copied(copy, table)), Unavailable)


# ── rows by their keys ───────────────────────────────────────────────────────────────────────────

#: The type of a key → values of it, in SQL.
KEYS = {
    "int": ["0", "-2147483648", "2147483647"],
    "int2": ["-32768", "32767"],
    "bigint": ["-9223372036854775808", "9223372036854775807"],
    "oid": ["0", "4294967295"],
    "text": [
        "''",
        "'NULL'",
        "'null'",
        "'it''s'",
        "'say \"so\"'",
        r"'back\slash'",
        r"'\\'",
        r"'\N'",
        "'a,b'",
        "'{a}'",
        "' blanks '",
        r"E'two\nlines\ttab'",
        "'Crème brûlée 漢字 𝄞'",
        "E'e\\u0301'",
        "repeat('long ', 300)",
        "'$1 %s {0}'",
    ],
    "varchar(5)": ["'abc'", "'a ''c'"],
    "char(5)": ["'abc'", "''", "'  a'"],
    "name": ["'name'"],
    "uuid": ["'00000000-0000-0000-0000-000000000000'", "'6f9619ff-8b86-d011-b42d-00c04fc964ff'"],
    "bool": ["true", "false"],
    "mood": ["'ok'", "'so, \"so\"'"],
    "price": ["1.50", "0"],
    "numeric": ["0", "-0.000000000000000000000000000001", "12345678901234567890123.456", "'NaN'"],
    "numeric(12,2)": ["0.00", "-9999999999.99", "0.10"],
    "numeric(50,3)": ["12345678901234567890123456789012345678901234567.123"],
    "float8": ["0.1", "'-Infinity'", "'NaN'", "5e-324", "1.7976931348623157e308"],
    "float4": ["0.1", "3.4028235e38"],
    "date": ["'2026-02-28'", "'0044-03-15 BC'", "'0001-01-01 BC'", "'12026-01-01'", "'infinity'"],
    "timestamp": [
        "'2026-02-28 23:59:59.999999'",
        "'0044-03-15 00:00:00 BC'",
        "'12026-01-01 00:00:00.000001'",
        "'-infinity'",
    ],
    "timestamptz": [
        "'2026-10-25 01:30:00.123456+02'",
        "'1582-10-04 23:59:59+00'",
        "'0044-03-15 00:00:00+00 BC'",
        "'12026-01-01 00:00:00+00'",
        "'infinity'",
        "'-infinity'",
    ],
    "timestamptz(3)": ["'2026-10-25 01:30:00.123+02'"],
    "time": ["'23:59:59.999999'", "'00:00'"],
    "interval": ["'1 year 2 days -03:04:05.6'"],
    "bytea": [r"'\x'", r"'\x00ff5c22'", "repeat('x', 500)::bytea"],
    "jsonb": ['\'{"a": [1, "x, y"]}\''],
    "int[]": ["'{1,2,NULL}'", "'{}'"],
    "text[]": ['\'{"a b","",NULL,"c\\\\\\"d"}\''],
    "inet": ["'10.0.0.1/8'", "'::1'"],
    "bit(3)": ["'101'"],
    "int4range": ["'[1,5)'"],
}
TYPES = """
    create type mood as enum ('ok', 'so, "so"');
    create domain price as numeric(10, 2)
"""


@pytest.mark.parametrize("kind", KEYS)
def test_rows_are_read_by_keys_of_every_type(database_18: Database, kind: str) -> None:
    database_18.run(TYPES)
    values = ", ".join(f"({value}, {n})" for n, value in enumerate(KEYS[kind]))
    database_18.run(f"create table a (k {kind} primary key, n int); insert into a values {values}")
    copy, table = opened(database_18, "a")
    whole = pa.Table.from_batches(copied(copy, table))
    assert whole.num_rows == len(KEYS[kind])
    keys = whole.select(["k"])
    found = pa.Table.from_batches(copy.read_rows(table, keys).rows)
    assert sorted(found.column("n").to_pylist()) == list(range(whole.num_rows))
    for row in range(whole.num_rows):
        (only,) = copy.read_rows(table, keys.slice(row, 1)).rows
        assert only.column("n").to_pylist() == [row]
    database_18.run("delete from a")
    assert copy.read_rows(table, keys).rows == []


def test_rows_are_read_by_keys_of_several_columns_as_far_as_they_are_there(
    database: Database,
) -> None:
    database.run(f"{TYPES}; create schema sales")
    database.run(
        'create table sales."A ""b" ("K 1" text, n int, at timestamptz, "Mood" mood, '
        'primary key (at, "K 1", "Mood"));'
        'insert into sales."A ""b" values '
        "('a', 1, '2026-01-01', 'ok'), ('a', 2, '2026-01-02', 'ok'), ('b', 3, '2026-01-01', 'ok'), "
        "('a', 4, '2026-01-01', 'so, \"so\"')"
    )
    copy, table = opened(database, 'sales.A "b')
    whole = pa.Table.from_batches(copied(copy, table)).sort_by("n")
    keys = whole.select(["at", "K 1", "Mood"])
    crossed = pa.Table.from_arrays(
        [keys.column("at").slice(1, 1), keys.column("K 1").slice(2, 1), keys.column("Mood")[:1]],
        names=keys.column_names,
    )
    asked = pa.concat_tables([keys.slice(0, 2), crossed, keys.slice(3, 1)])
    assert sorted(str(row["n"]) for row in rows_of(copy.read_rows(table, asked))) == ["1", "2", "4"]


def test_refused_values_of_rows_read_by_keys_are_told(database: Database) -> None:
    database.run("create table a (id int primary key, price numeric(8,2))")
    database.run("insert into a values (1, 'NaN'), (2, 1.5)")
    copy, table = opened(database, "a")
    read = copy.read_rows(table, keys_of(1, 2))
    assert [row["id"] for row in rows_of(read)] == [2]
    (refused,) = read.refused
    assert list(refused.raw) == ["NaN"]
