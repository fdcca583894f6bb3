"""Partitioned tables: their rows lie in partitions, which come, go and are emptied."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from tests.capture.live import Live, Workload
from tests.sources.postgres.conftest import Database
from upwell import following
from upwell.copying import Budget
from upwell.sources.postgres import completeness

NOTES = """
    create table notes (id int primary key, n int, note text, big text) partition by range (id);
    alter table notes alter column big set storage external;
    create table notes_a partition of notes for values from (minvalue) to (250);
    create table notes_b partition of notes for values from (250) to (500) partition by hash (id);
    create table notes_b_0 partition of notes_b for values with (modulus 2, remainder 0);
    create table notes_b_1 partition of notes_b for values with (modulus 2, remainder 1);
    create table notes_c (gone int, big text, note text, n int, id int primary key);
    alter table notes_c drop column gone, alter column big set storage external;
    alter table notes attach partition notes_c for values from (500) to (750);
    create table notes_rest partition of notes default;
    insert into notes
    select i, i, 'before', repeat('x', case when i % 100 = 0 then 9000 else 200 end)
      from generate_series(0, 999) as i;
    create table others (id int primary key, n int)
"""
#: A table that can become one of its partitions.
SPARE = """
    create table spare (like notes including all);
    insert into spare select i, i, 'spare', '' from generate_series(2000, 2049) as i
"""
ATTACH = "alter table notes attach partition spare for values from (2000) to (2050)"
MODELS = {
    "by_note": "select note, count(*) as notes, sum(n) as total from shop.notes group by note",
    "others_count": "select count(*) as others from shop.others",
}


@pytest.fixture
def made(tmp_path: Path, database_18: Database) -> Live:
    return shop_of(database_18, tmp_path)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completeness, "BURDEN_SECONDS", 0.2)
    monkeypatch.setattr(following, "RETRY_SECONDS", (0.05, 0.2))
    monkeypatch.setattr(following, "LOOK_SECONDS", 0.5)


def shop_of(database: Database, folder: Path) -> Live:
    database.run(NOTES)
    return Live(
        folder,
        database.url,
        database.slot,
        ["notes", "others"],
        MODELS,
        Budget(most_part_bytes=32 << 10),
    )


@pytest.fixture
def live(made: Live) -> Iterator[Live]:
    with made.running():
        made.wait_until_settled()
        yield made


def run(live: Live, *statements: str) -> None:
    with psycopg.connect(live.url, autocommit=True) as connection:
        for statement in statements:
            _run(connection, statement)


def _run(connection: psycopg.Connection, statement: str) -> None:
    """Again where it met a deadlock with others that write: these went on."""
    while True:
        try:
            connection.execute(statement.encode())
        except psycopg.errors.DeadlockDetected:
            connection.rollback()
        else:
            return


def check(live: Live) -> None:
    """What is stored is the source's, what is stated of it too, and nothing stands still."""
    live.wait_until_settled()
    live.wait(lambda: live.rows("select count(*) from shop.notes") == theirs(live), "the rows")
    live.wait_until_settled()
    live.wait_until_equal()
    assert live.is_log_whole("shop.notes")
    live.wait(lambda: not live.hub.trouble, "no trouble")
    with psycopg.connect(live.url) as connection:
        query = "select note, count(*), sum(n) from notes group by note"
        wanted = Counter(connection.execute(query).fetchall())
    live.wait(lambda: Counter(live.followed("by_note")) == wanted, "the model")


def theirs(live: Live) -> list[tuple[object, ...]]:
    with psycopg.connect(live.url) as connection:
        return connection.execute("select count(*) from notes").fetchall()


def test_a_table_is_read_partition_by_partition_and_followed_as_one(
    tmp_path: Path, database: Database
) -> None:
    live = shop_of(database, tmp_path)
    with live.running():
        live.wait_until_settled()
        follow_as_one(live)


def follow_as_one(live: Live) -> None:
    parts = [part.split()[1] for part in live.source.parts_read if part.startswith("shop.notes")]
    assert len({part.partition(":")[0] for part in parts}) == 5  # its leaves, on both levels
    assert len(parts) > 5
    with Workload(live.url, "notes", seed=1, keys=1_000) as workload:
        live.wait(lambda: workload.changes > 400, "changes in all partitions, and between them")
    run(
        live,
        "insert into notes_c (id, n, note) values (749, 1, 'into the partition')"
        " on conflict (id) do update set note = excluded.note",
        "update notes set id = id + 10000 where id < 100",
    )
    check(live)
    run(live, "truncate notes", "insert into notes values (1, 1, 'afterwards', '')")
    check(live)
    assert live.followed("by_note") == [("afterwards", 1, 1)]


def test_an_empty_partition_comes_and_is_written_to(live: Live) -> None:
    live.source.parts_read.clear()
    known = live.states.state_of("shop.notes")
    run(live, "create table notes_new partition of notes for values from (2000) to (3000)")
    live.wait(lambda: live.states.state_of("shop.notes") != known, "it is noticed")
    assert not live.states.still
    run(live, "insert into notes values (2000, 5, 'in the new one', ''), (2999, 6, 'too', '')")
    check(live)
    assert not live.source.parts_read, "nothing had to be read"


#: What is done to partitions, and whether rows come or go of which the log tells nothing.
UNLOGGED = {
    "one comes with rows": ATTACH,
    "one is made and filled at once": (
        "create table notes_new partition of notes for values from (2000) to (3000);"
        "insert into notes select i, i, 'new', '' from generate_series(2000, 2100) as i"
    ),
    "one is made, filled and attached in a transaction": (
        "create table made (like notes including all);"
        "insert into made values (2000, 1, 'made', '');"
        "alter table notes attach partition made for values from (2000) to (3000);"
        "insert into notes values (2001, 2, 'made', '')"
    ),
    "one is detached": "alter table notes detach partition notes_a",
    "one is detached beside others": "alter table notes_b detach partition notes_b_0",
    "one is dropped": "drop table notes_b",
    "one is truncated": "truncate notes_c",
    "one is written anew": "vacuum full notes_a",
    "one is swapped for another": (
        "begin; alter table notes detach partition notes_a;"
        "create table other (like notes including all);"
        "insert into other values (7, 7, 'other', '');"
        "alter table notes attach partition other for values from (minvalue) to (250); commit"
    ),
    "one comes, and a column does": (
        "begin;" + ATTACH + "; alter table notes add column more int default 7; commit"
    ),
    "one goes, and a column does": (
        "begin; drop table notes_a; alter table notes drop column big; commit"
    ),
}


@pytest.mark.parametrize("statements", UNLOGGED.values(), ids=UNLOGGED)
def test_what_the_log_does_not_tell_of_partitions_is_found(live: Live, statements: str) -> None:
    run(live, SPARE)
    with Workload(live.url, "notes", seed=3, keys=1_000) as workload:
        live.wait(lambda: workload.changes > 20, "changes before")
        run(live, statements)
        seen = workload.changes
        live.wait(lambda: workload.changes > seen + 20, "changes behind")
    check(live)
    run(live, "insert into others values (-1, 1)")
    live.wait(lambda: live.followed("others_count") == [(1,)], "the other model")


def test_only_what_differs_is_read_when_a_partition_goes(live: Live) -> None:
    live.source.parts_read.clear()
    before = live.followed("by_note")
    run(live, "drop table notes_c")
    live.wait(lambda: "shop.notes" in live.states.still or not _has(live, 500), "it is noticed")
    check(live)
    assert live.followed("by_note") != before
    assert not [part for part in live.source.parts_read if ":" in part], "no partition was read"


def _has(live: Live, key: int) -> bool:
    return live.rows(f"select count(*) from shop.notes where id = {key}") == [(1,)]


#: What the log has, and what was undone afterwards without its knowing.
MEANWHILE = {
    "one comes with rows": ATTACH,
    "one is split off": (
        "begin; create table part (like notes including all);"
        "with moved as (delete from notes_rest where id between 800 and 899 returning *)"
        " insert into part select * from moved;"
        "alter table notes attach partition part for values from (800) to (900); commit"
    ),
    "one is written to and truncated": (
        "update notes set n = -1 where id = 501; insert into notes values (-5, 1, 'gone', '');"
        "truncate notes_c; truncate notes_a"
    ),
    "one is written to and dropped": (
        "update notes set n = -1 where id = 1; insert into notes values (-5, 1, 'gone', '');"
        "drop table notes_a"
    ),
    "one is written to and detached": (
        "update notes set n = -1 where id < 500; alter table notes detach partition notes_b"
    ),
    "one comes, is written to and goes": (
        "create table new partition of notes for values from (2000) to (3000);"
        "insert into notes values (2001, 1, 'gone', ''); drop table new"
    ),
    "one comes, is written to and truncated": (
        "create table new partition of notes for values from (2000) to (3000);"
        "insert into notes values (2001, 1, 'gone', ''); truncate new"
    ),
    "one is changed while it is away": (
        "begin; alter table notes detach partition notes_a; update notes_a set n = -1;"
        "alter table notes attach partition notes_a for values from (minvalue) to (250); commit"
    ),
    "ones are changed while the one above them is away": (
        "alter table notes detach partition notes_b; update notes_b set n = -1;"
        "alter table notes attach partition notes_b for values from (250) to (500)"
    ),
}


@pytest.mark.parametrize("statements", MEANWHILE.values(), ids=MEANWHILE)
def test_partitions_change_while_nobody_follows(made: Live, statements: str) -> None:
    run(made, SPARE)
    with made.running():
        made.wait_until_settled()
    run(made, *statements.split(";"), "insert into notes values (999999, 1, 'meanwhile', '')")
    with made.running():
        check(made)


@pytest.mark.parametrize(
    "case", ["one comes, is written to and goes", "one is changed while it is away"]
)
def test_what_nobody_can_see_any_more_is_found(live: Live, case: str) -> None:
    with Workload(live.url, "notes", seed=5, keys=1_000) as workload:
        live.wait(lambda: workload.changes > 20, "changes before")
        run(live, *MEANWHILE[case].split(";"))
        seen = workload.changes
        live.wait(lambda: workload.changes > seen + 20, "changes behind")
    check(live)


def test_a_partition_is_detached_while_others_still_write_to_it(live: Live) -> None:
    run(live, "drop table notes_rest")  # beside it the server detaches none so
    check(live)
    with psycopg.connect(live.url) as writer, ThreadPoolExecutor(1) as pool:
        writer.execute("update notes set n = -7 where id = 20")
        detach = "alter table notes detach partition notes_a concurrently"
        detaching = pool.submit(run, live, detach)
        live.wait(lambda: _is_leaving(live), "it is being detached")
        run(live, "insert into notes_a values (-22, 22, 'into what leaves', '')")
        writer.commit()
        detaching.result()
    check(live)
    assert not _has(live, 20)
    assert not _has(live, -22)


def _is_leaving(live: Live) -> bool:
    with psycopg.connect(live.url) as connection:
        query = "select bool_or(inhdetachpending) from pg_inherits"
        return connection.execute(query).fetchone() == (True,)


def test_a_table_without_partitions_waits_for_none(tmp_path: Path, database_18: Database) -> None:
    database_18.run(
        "create table notes (id int primary key, n int, note text, big text)"
        " partition by range (id); create table others (id int primary key, n int)"
    )
    empty = Live(tmp_path, database_18.url, database_18.slot, ["notes", "others"], MODELS, Budget())
    with empty.running():
        empty.wait_until_settled()
        run(
            empty,
            "create table notes_a partition of notes default",
            "insert into notes values (1, 1, 'first', '')",
        )
        check(empty)
        assert empty.followed("by_note") == [("first", 1, 1)]


@pytest.mark.parametrize("statement", [ATTACH, "drop table notes_a", "truncate notes_c"])
def test_partitions_change_while_the_table_is_read(made: Live, statement: str) -> None:
    run(made, SPARE)
    with made.running(pause_seconds=0.05):
        made.wait(lambda: len(made.source.parts_read) > 2, "some parts")
        run(made, statement)
        made.source.pause_seconds = 0.0
        check(made)


def test_a_column_added_with_a_value_is_filled_in_all_partitions(live: Live) -> None:
    live.source.parts_read.clear()
    with Workload(live.url, "notes", seed=4, keys=1_000) as workload:
        live.wait(lambda: workload.changes > 20, "changes before")
        run(live, "alter table notes add column stars int not null default 5")
        seen = workload.changes
        live.wait(lambda: workload.changes > seen + 20, "changes behind")
    live.wait(lambda: "stars" in live.states.layouts["shop.notes"].column_names, "the column")
    check(live)
    assert not live.source.parts_read, "nothing had to be read"
    run(live, "alter table notes add column at timestamptz default clock_timestamp()")
    live.wait(lambda: "at" in live.states.layouts["shop.notes"].column_names, "the column")
    check(live)


def test_a_publication_of_single_partitions_is_mended(made: Live) -> None:
    narrowed = (
        f"alter publication {made.slot} set (publish_via_partition_root = false)",
        "insert into notes values (-1, 1, 'under its own name', '')",
    )
    with made.running():
        made.wait_until_settled()
    run(made, *narrowed)
    with made.running():
        check(made)
        run(made, narrowed[0], "insert into notes values (-2, 2, 'likewise', '')")
        check(made)


def test_a_partition_that_cannot_be_followed_stops_its_table_alone(live: Live) -> None:
    before = live.followed("by_note")
    run(
        live,
        "create unlogged table spare (like notes including all)",
        ATTACH,
    )
    live.wait(lambda: "shop.notes" in live.states.still, "the reason")
    assert "spare" in live.states.still["shop.notes"]
    run(live, "insert into others values (-1, 1)")
    live.wait(lambda: live.followed("others_count") == [(1,)], "the other model")
    assert live.followed("by_note") == before
    run(live, "alter table spare set logged", "insert into spare values (2001, 1, 'after', '')")
    check(live)
