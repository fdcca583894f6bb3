"""What is seen of a real database, and that looking at it harms nobody."""

from __future__ import annotations

import socket
import threading
from datetime import UTC, datetime

import psycopg
import pytest

from upwell.core.errors import EnvironmentFault, UpwellError, UsageError
from upwell.project.survey import SeenForeignKey
from upwell.sources.checkup import Checkup
from upwell.sources.postgres import statistics
from upwell.sources.postgres.checkup import check_up
from upwell.sources.postgres.survey import survey_database

from .conftest import Database
from .replica import error_of

pytestmark = pytest.mark.postgres


def test_keys_references_types_and_counts_are_seen(database: Database) -> None:
    database.run(
        """
        create type mood as enum ('good', 'bad');
        create table a (id int primary key, name varchar(20) not null);
        create table b (x int, y bigint, a_id int references a, at timestamp, m mood,
                        price numeric(10,2), rate numeric, primary key (x, y));
        insert into a select n, 'n' || n % 3 from generate_series(1, 30) n;
        insert into b select n, n, n, '2020-01-01'::date + n, 'good', n, n
            from generate_series(1, 30) n;
        """
    )
    seen = survey_database(database.url)
    a, b = seen.tables
    assert (a.name, a.rows, a.rows_are_exact, a.key) == ("a", 30, True, ("id",))
    assert (b.key, b.foreign_keys) == (("x", "y"), (SeenForeignKey(("a_id",), "a", ("id",)),))
    name = a.column("name")
    assert (name.declared, name.stored, name.is_nullable) == (
        "character varying(20)",
        "VARCHAR",
        False,
    )
    assert (name.distinct, name.null_share, set(name.common)) == (3, 0, {"n0", "n1", "n2"})
    at = b.column("at")
    assert at.latest == datetime(2020, 1, 31, tzinfo=UTC)
    assert at.earliest == datetime(2020, 1, 2, tzinfo=UTC)
    assert [b.column(each).family for each in ("m", "price", "rate", "at")] == [
        "text",
        "number",
        "number",
        "time",
    ]
    assert b.column("price").is_exact
    assert not b.column("rate").is_exact


def test_a_big_table_is_sampled_not_scanned_and_its_newest_time_is_found(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.run("create table a (id int primary key, kind text, at timestamptz not null)")
    database.run(
        "insert into a select n, 'kind ' || n % 5, '2026-01-01'::timestamptz + n * interval '1 s' "
        "from generate_series(1, 60000) n"
    )
    monkeypatch.setattr(statistics, "SMALL_BYTES", 0)
    monkeypatch.setattr(statistics, "_PAGES", 20)
    for analyze in ("", "analyze a"):
        if analyze:
            database.run(analyze)
        before = read_blocks(database)
        (a,) = survey_database(database.url).tables
        assert read_blocks(database) - before < 100  # of some 400
        assert not a.rows_are_exact
        assert a.column("kind").distinct == 5
        assert a.column("at").latest == datetime(2026, 1, 1, 16, 40, tzinfo=UTC)
    assert a.rows is not None
    assert abs(a.rows - 60_000) < 3_000


def read_blocks(database: Database) -> int:
    """Blocks of table ``a`` that sessions have asked for so far, once all have reported."""
    database.run("select pg_stat_force_next_flush()")
    blocks = database.value(
        "select heap_blks_read + heap_blks_hit from pg_statio_user_tables where relname = 'a'"
    )
    assert isinstance(blocks, int)
    return blocks


def test_what_cannot_be_captured_is_seen_with_its_remedy(database: Database) -> None:
    database.run(
        """
        create table keyless (id int);
        create view seen_through as select 1 as one;
        create table parted (id int) partition by range (id);
        create table parted_1 partition of parted for values from (1) to (9);
        create table "with.dot" (id int primary key);
        create unlogged table unlogged (id int primary key);
        create table taken (id int primary key, _weight int);
        """
    )
    found = {
        table.name: [(obstacle.code, bool(obstacle.next_step)) for obstacle in table.obstacles]
        for table in survey_database(database.url).tables
    }
    assert found == {
        "keyless": [("table_without_key", True)],
        "seen_through": [("table_kind", True)],
        "parted": [("table_without_key", True)],
        "with.dot": [("table_name_unusual", True)],
        "unlogged": [("table_unlogged", True)],
        "taken": [("column_name_taken", True)],
    }


@pytest.mark.parametrize("rows", [1_000, 300_000])
def test_a_partitioned_table_is_seen_as_one(database: Database, rows: int) -> None:
    database.run(
        """
        create table parted (id int primary key, kind text, made timestamptz)
          partition by range (id);
        create table parted_1 partition of parted for values from (minvalue) to (100);
        create table parted_2 partition of parted default;
        """
        f"""
        insert into parted
        select i, 'kind ' || i % 3, timestamptz '2024-01-01 00:00+00' + i * interval '1 min'
          from generate_series(0, {rows - 1}) as i
        """
    )
    database.run("analyze parted")
    (table,) = survey_database(database.url).tables
    assert (table.name, table.obstacles) == ("parted", ())
    assert table.rows is not None
    assert abs(table.rows - rows) < rows / 10
    assert table.size_bytes > rows * 30
    _, kind, made = table.columns
    assert (kind.distinct, sorted(kind.common)) == (3, ["kind 0", "kind 1", "kind 2"])
    assert made.earliest is not None
    assert made.latest is not None
    assert (made.latest - made.earliest).total_seconds() > 0.9 * 60 * rows


def test_a_locked_table_is_waited_for_shortly_and_said_to_be_unseen(database_18: Database) -> None:
    database_18.run("create table a (id int primary key); insert into a values (1)")
    with psycopg.connect(database_18.url) as holder:
        holder.execute("lock table a in access exclusive mode")
        seen = survey_database(database_18.url)
    assert [table.name for table in seen.tables] == ["a"]
    assert seen.notes


def test_the_zone_is_the_servers_own(database_18: Database) -> None:
    database_18.run(f"alter database {database_18.name} set timezone to 'Asia/Tokyo'")
    try:
        assert survey_database(database_18.url).zone == "Asia/Tokyo"
    finally:
        database_18.run(f"alter database {database_18.name} reset timezone")


def test_five_hundred_tables_are_seen_with_few_statements(database_18: Database) -> None:
    database_18.run(
        "do $$ begin for n in 1..500 loop execute format("
        "'create table t_%s (id int primary key, name text, at date)', n); "
        "execute format('insert into t_%s values (1, ''a'', now())', n); end loop; end $$"
    )
    before = transactions(database_18)
    seen = survey_database(database_18.url)
    assert len(seen.tables) == 500
    assert {table.rows for table in seen.tables} == {1}
    assert transactions(database_18) - before < 60  # each statement is one


def transactions(database: Database) -> int:
    """How many transactions have ended in this database, as far as they have been reported."""
    database.run("select pg_stat_force_next_flush()")
    count = database.value(
        "select xact_commit from pg_stat_database where datname = current_database()"
    )
    assert isinstance(count, int)
    return count


# ── the doctor ───────────────────────────────────────────────────────────────────────────────────


def faults(checkup: Checkup) -> dict[str, str]:
    """Code → remedy of all that stands in the way."""
    return {each.code: each.next_step for each in checkup.checks if each.verdict == "fault"}


def test_a_fit_database_has_no_faults_and_says_what_the_first_copy_takes(
    database: Database,
) -> None:
    database.run("create table a (id int primary key); insert into a select generate_series(1, 9)")
    checkup = check_up(database.url, ["a"], slot=database.slot)
    assert checkup.is_fit
    assert [table.table for table in checkup.tables] == ["a"]
    cautions = {each.code: each for each in checkup.checks if each.verdict == "warning"}
    assert "max_slot_wal_keep_size" in cautions["no_disk_guard"].next_step


def test_what_was_asked_for_is_a_fault_where_the_rest_is_a_warning(database_18: Database) -> None:
    database_18.run("create table a (id int primary key); create table keyless (id int)")
    assert check_up(database_18.url, None, slot="s").is_fit
    asked = check_up(database_18.url, ["a", "keyless"], slot="s")
    assert 'ALTER TABLE "public"."keyless" ADD PRIMARY KEY' in faults(asked)["table_without_key"]
    database_18.run("drop table a")
    assert "nothing_to_capture" in faults(check_up(database_18.url, None, slot="s"))
    database_18.run("drop table keyless")
    assert "no_tables" in faults(check_up(database_18.url, None, slot="s"))
    error = error_of(lambda: check_up(database_18.url, ["ab"], slot="s"))
    assert (type(error), error.code) == (UsageError, "table_unknown")


def test_following_the_remedies_makes_a_database_fit(database_18: Database) -> None:
    """Each remedy is run as it stands, where it is a statement."""
    role = f"role_{database_18.number}"
    database_18.run(
        f"create role {role} login noreplication; create table a (id int primary key);"
        "create table b (id int primary key, n int not null);"
        "alter table b replica identity nothing; revoke all on schema public from public;"
    )
    url = database_18.url.replace("postgres@", f"{role}@")
    try:
        for _ in range(6):
            found = faults(check_up(url, ["a", "b"], slot=database_18.slot))
            if not found:
                break
            for remedy in found.values():
                database_18.run(remedy.rpartition("or ")[2].rpartition("superuser: ")[2])
        assert not found
    finally:
        database_18.run(f"drop owned by {role} cascade; drop role {role}")


def test_the_publication_an_owner_is_told_to_create_holds_every_fit_table_and_makes_the_rest_fit(
    database_18: Database,
) -> None:
    role = f"role_{database_18.number}"
    database_18.run(
        f"create role {role} login replication; create table keyless (id int);"
        "create table a (id int primary key); create table b (id int primary key);"
        f"grant usage on schema public to {role};"
        f"grant select on all tables in schema public to {role};"
    )
    url = database_18.url.replace("postgres@", f"{role}@")
    names = ["a", "b", "keyless"]
    try:
        nameless = faults(check_up(url, ["a", "b"], slot=None))["not_owned"]
        assert "CREATE PUBLICATION" not in nameless  # by which name, no project says yet
        remedy = faults(check_up(url, names, slot=database_18.slot))["not_owned"]
        statement, _, _ = remedy.removeprefix("as postgres: ").partition("; or ")
        assert statement.endswith('FOR TABLE "public"."a", "public"."b"')
        database_18.run(statement)
        assert check_up(url, ["a", "b"], slot=database_18.slot).is_fit
    finally:
        database_18.run(f"drop owned by {role} cascade; drop role {role}")


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (("postgres@", "nobody@"), EnvironmentFault),
        (("@127.0.0.1", "@no.such.host.invalid"), EnvironmentFault),
        (("/capture_", "/no_such_"), EnvironmentFault),
        (("@127.0.0.1", "@[127.0.0.1"), UsageError),
        (("127.0.0.1:", "127.0.0.1:1"), UpwellError),
    ],
)
def test_what_is_wrong_with_an_address_is_said(
    database_18: Database, change: tuple[str, str], kind: type[UpwellError]
) -> None:
    url = database_18.url.replace(*change)
    assert url != database_18.url
    for act in (lambda: survey_database(url), lambda: check_up(url, None, slot="s")):
        error = error_of(act)
        assert isinstance(error, kind), error
        assert error.next_step


def test_a_server_that_speaks_otherwise_is_no_postgresql() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        error = error_of(lambda: survey_database(f"postgresql://me@127.0.0.1:{port}/x"))
        thread.join()
    assert error.code == "not_postgresql"
