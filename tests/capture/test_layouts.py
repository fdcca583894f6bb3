"""Tables are altered in mid-stream: no restart, no wrong number, the others go on."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.capture.live import Live, Workload
from tests.capture.test_copying import NOTES
from tests.sources.postgres.conftest import Database
from upwell import following
from upwell.copying import Budget
from upwell.sources.postgres import completeness

MODELS = {
    "by_note": "select note, count(*) as notes, sum(n) as total from shop.notes group by note",
    "others_count": "select count(*) as others from shop.others",
}


@pytest.fixture
def live(tmp_path: Path, database_18: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    monkeypatch.setattr(completeness, "BURDEN_SECONDS", 0.2)
    database_18.run(NOTES.format(rows=1_000))
    database_18.run("create table others (id int primary key, n int)")
    made = Live(
        tmp_path,
        database_18.url,
        database_18.slot,
        ["notes", "others"],
        MODELS,
        Budget(most_part_bytes=1 << 20),
    )
    with made.running():
        made.wait_until_settled()
        yield made


def alter(live: Live, statement: str) -> None:
    """Alter the table while others write to it, and have it written to afterwards."""
    with Workload(live.url, "notes", seed=3, keys=1_000) as workload:
        live.wait(lambda: workload.changes > 20, "changes before")
        with psycopg.connect(live.url, autocommit=True) as connection:
            connection.execute(statement.encode())
        seen = workload.changes
        live.wait(lambda: workload.changes > seen + 20, "changes behind")


def check(live: Live, *columns: str) -> None:
    """What is stored is the source's, the models are theirs, and followers see them."""
    live.wait(
        lambda: tuple(live.states.layouts["shop.notes"].column_names) == columns, "its columns"
    )
    live.wait_until_settled()
    live.wait_until_equal()
    assert live.is_log_whole("shop.notes")
    live.wait(lambda: not live.hub.trouble, "no trouble")
    (others,) = live.followed("others_count")
    with psycopg.connect(live.url, autocommit=True) as connection:
        connection.execute("insert into others select coalesce(max(id), 0) + 1 from others")
    live.wait(lambda: live.followed("others_count") != [others], "the other model")


GROWS = {
    "nothing in it": ("alter table notes add extra text", "extra"),
    "a constant": ("alter table notes add extra int not null default 7", "extra"),
    "a time": ("alter table notes add extra timestamptz not null default now()", "extra"),
    "bytes": (r"alter table notes add extra bytea default '\x00ff5c'", "extra"),
    "a list": ("alter table notes add extra int[] default '{1,2}'", "extra"),
    "random": ("alter table notes add extra float8 not null default random()", "extra"),
    "a number": ("alter table notes add extra bigserial", "extra"),
}


@pytest.mark.parametrize("case", GROWS)
def test_a_column_is_added(live: Live, case: str) -> None:
    statement, column = GROWS[case]
    alter(live, statement)
    check(live, "id", "n", "note", "big", column)
    by_note = {row[0]: row[1:] for row in live.followed("by_note")}
    with psycopg.connect(live.url) as connection:
        wanted = connection.execute(
            "select note, count(*), sum(n) from notes group by note"
        ).fetchall()
    assert by_note == {note: (count, total) for note, count, total in wanted}


OTHERS = {
    "dropped": ("alter table notes drop column big", ("id", "n", "note")),
    "renamed": ("alter table notes rename column big to large", ("id", "n", "note", "large")),
    "wider": ("alter table notes alter column n type bigint", ("id", "n", "note", "big")),
    "narrower": (
        "alter table notes alter column big type varchar(10) using left(big, 10)",
        ("id", "n", "note", "big"),
    ),
    "another type": (
        "alter table notes alter column n type text using 'n ' || n",
        ("id", "n", "note", "big"),
    ),
    "swapped": (
        """alter table notes rename column note to x; alter table notes rename column big to note;
        alter table notes rename column x to big""",
        ("id", "n", "big", "note"),
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_column_becomes_another(live: Live, case: str) -> None:
    statement, columns = OTHERS[case]
    alter(live, statement)
    live.wait(
        lambda: tuple(live.states.layouts["shop.notes"].column_names) == columns, "its columns"
    )
    live.wait_until_settled()
    live.wait_until_equal()
    assert live.is_log_whole("shop.notes")
    is_text = case == "another type"  # of which there is no sum()
    live.wait(lambda: ("by_note" in live.built.held) == is_text, "its model")


UNFILLED = {
    "filled in": ("alter table notes add extra int not null default 7", "extra"),
    "read anew": ("alter table notes alter column n type bigint", "n"),
}


@pytest.mark.parametrize("case", UNFILLED)
def test_nobody_sees_a_table_between_two_layouts(live: Live, case: str) -> None:
    statement, column = UNFILLED[case]
    seen: Counter[int] = Counter()
    is_over = threading.Event()

    def look() -> None:
        while not is_over.is_set():
            with live.store.view() as connection:
                names = connection.execute("FROM shop.notes LIMIT 0").to_arrow_table().column_names
                if column in names:
                    values = f"SELECT count({column}) FROM shop.notes"
                    seen.update(each for (each,) in connection.execute(values).fetchall())

    looking = threading.Thread(target=look)
    looking.start()
    try:
        with psycopg.connect(live.url, autocommit=True) as connection:
            connection.execute(statement.encode())
            connection.execute("insert into others select coalesce(max(id), 0) + 1 from others")
            connection.execute("update notes set n = n where id = 1")
        live.wait(lambda: column in live.states.layouts["shop.notes"].column_names, "its column")
        live.wait_until_equal()
    finally:
        is_over.set()
        looking.join()
    assert seen.keys() == {1_000}


def test_a_key_becomes_another(live: Live) -> None:
    alter(
        live,
        "alter table notes add k bigint generated always as identity;"
        "alter table notes drop constraint notes_pkey; alter table notes add primary key (k)",
    )
    live.wait(lambda: live.states.layouts["shop.notes"].key == ("k",), "its key")
    check(live, "id", "n", "note", "big", "k")


def test_a_model_whose_column_is_gone_stays_with_the_reason(live: Live) -> None:
    before = live.followed("by_note")
    with psycopg.connect(live.url, autocommit=True) as connection:
        connection.execute("alter table notes drop column note")
        connection.execute("insert into notes values (-1, 1, 'x')")
        connection.execute("insert into others values (-1, 1)")
    live.wait(lambda: "by_note" in live.built.held, "held")
    live.wait_until_settled()
    live.wait(lambda: live.followed("others_count") == [(1,)], "the other model")
    assert live.followed("by_note") == before
    live.wait(lambda: "note" in live.hub.trouble, "the reason")
    with psycopg.connect(live.url, autocommit=True) as connection:
        connection.execute("alter table notes add note text not null default 'again'")
        connection.execute("update others set n = 2")
        connection.execute("delete from notes where id = -1")
    live.wait(lambda: not live.built.held, "no longer held")
    rows = live.followed("by_note")
    assert [row[0] for row in rows] == ["again"]


def test_a_table_is_dropped_and_made_anew(live: Live) -> None:
    with psycopg.connect(live.url, autocommit=True) as connection:
        connection.execute("drop table notes")
        connection.execute("create table notes (id int primary key, n int, note text)")
        connection.execute("insert into notes values (1, 2, 'new')")
    live.wait(lambda: live.followed("by_note") == [("new", 1, 2)], "the new rows")
    live.wait_until_settled()
    live.wait_until_equal()


def test_a_table_that_is_dropped_is_told_though_nobody_writes(live: Live) -> None:
    before = live.followed("by_note")
    with psycopg.connect(live.url, autocommit=True) as connection:
        connection.execute("drop table notes")
        live.wait(lambda: "shop.notes" in live.states.still, "the reason")
        connection.execute("insert into others values (-1, 1)")
        live.wait(lambda: live.followed("others_count") == [(1,)], "the other model")
    live.wait(lambda: live.states.still["shop.notes"] in live.hub.trouble, "the reason")
    assert live.followed("by_note") == before


def test_a_table_that_somebody_takes_out_of_the_publication_is_put_back_and_read(
    live: Live,
) -> None:
    with psycopg.connect(live.url, autocommit=True) as connection:
        connection.execute(f"alter publication {live.slot} drop table notes".encode())
        connection.execute("update notes set n = -1 where id = 17")
        live.wait_until_equal()
    live.wait_until_settled()
    live.wait(lambda: not live.hub.trouble, "no trouble")
    assert live.is_log_whole("shop.notes")


def test_a_table_that_lost_its_key_stands_still_and_comes_back(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LOOK_SECONDS", 0.3)
    before = live.followed("by_note")
    with psycopg.connect(live.url, autocommit=True) as connection:
        connection.execute("alter table notes drop constraint notes_pkey")
        connection.execute("insert into notes values (-1, 1, 'x', 'y')")
        live.wait(lambda: "no primary key" in live.hub.trouble, "the reason")
        connection.execute("insert into others values (-1, 1)")
        live.wait(lambda: live.followed("others_count") == [(1,)], "the other model")
        assert live.followed("by_note") == before
        connection.execute("update notes set n = 5 where id = -1")  # it is not published any more
        connection.execute("alter table notes add primary key (id)")
    live.wait(lambda: live.followed("by_note") != before, "the new rows")
    live.wait_until_settled()
    live.wait_until_equal()


# ── what an owner decided beforehand ─────────────────────────────────────────────────────────────


def test_a_frozen_table_stands_still_until_it_is_told(live: Live) -> None:
    live.states._policies = {"shop.notes": "freeze"}
    before = live.followed("by_note")
    with psycopg.connect(live.url, autocommit=True) as connection:
        connection.execute("alter table notes add extra int")
        connection.execute("insert into notes values (-1, 1, 'x', 'y', 2)")
        connection.execute("insert into others values (-1, 1)")
    live.wait(lambda: "stands still" in live.hub.trouble, "the reason")
    live.wait(lambda: live.followed("others_count") == [(1,)], "the other model")
    assert live.followed("by_note") == before
    live.engine.upkeep.resync(["shop.notes"])
    live.wait(lambda: live.followed("by_note") != before, "the new rows")
    live.wait_until_settled()
    live.wait_until_equal()


def test_with_quarantine_a_table_keeps_its_columns_and_what_does_not_fit_is_set_aside(
    live: Live,
) -> None:
    live.states._policies = {"shop.notes": "quarantine"}
    live.following.let_go_of_tables()
    before = live.states.layouts["shop.notes"]
    with psycopg.connect(live.url, autocommit=True) as connection:
        connection.execute("alter table notes add extra int not null default 5")
        connection.execute("alter table notes alter n type text using n::text")
        connection.execute("insert into notes values (-1, '12', 'fits', 'y', 2)")
        connection.execute("insert into notes values (-2, 'twelve', 'does not', 'y', 2)")
        connection.execute("update notes set n = 'many' where id = 7")
        connection.execute("insert into others values (-1, 1)")
    live.wait(lambda: live.followed("others_count") == [(1,)], "all of it")
    assert live.states.layouts["shop.notes"] == before
    assert live.rows("SELECT n, note FROM shop.notes WHERE id < 0") == [(12, "fits")]
    assert live.rows("SELECT count(*) FROM shop.notes WHERE id = 7") == [(0,)]
    set_aside = live.rows("SELECT key, raw FROM upwell.quarantine ORDER BY ALL")
    assert set_aside == [("id=-2", "twelve"), ("id=7", "many")]
    assert live.is_log_whole("shop.notes")
