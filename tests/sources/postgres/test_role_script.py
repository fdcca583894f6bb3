"""A role made by the printed script, and by nothing else, follows its tables and can do no more."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import quote as encoded

import psycopg
import pytest
from psycopg import sql

from tests.conftest import DEBIAN_BINARIES
from upwell.core.errors import EnvironmentFault
from upwell.core.protocols import TableChanges
from upwell.core.sql import literal, quote
from upwell.sources.postgres.checksum import row_checksums, wal_position
from upwell.sources.postgres.checkup import check_up
from upwell.sources.postgres.role_script import role_script
from upwell.sources.postgres.stream import PostgresStream

from .conftest import Database
from .replica import Replica, reached

pytestmark = pytest.mark.postgres

TABLES = ("a", 'sales.it"ems $upwell$')
MAKE = """
    create table a (id int primary key, t text);
    create table secrets (id int primary key, t text);
    create schema sales;
    create table sales."it""ems $upwell$" (id int primary key, t text);
    insert into a values (1, 'one'), (2, 'two');
    insert into sales."it""ems $upwell$" values (1, 'one');
    insert into secrets values (1, 'hidden');
"""


@contextmanager
def role(database: Database, *tables: str, name: str = "") -> Iterator[tuple[str, str]]:
    """A role that the script made, and the URL by which it logs in."""
    name = name or f"u%s\"'_{database.number}"
    script = role_script(name, database=database.name, tables=tables, publication=database.slot)
    try:
        database.run(script)
        login = f"//{encoded(name, safe='')}@"
        yield name, database.url.replace("//postgres@", login)
    finally:
        database.run(f"drop owned by {quote(name)}; drop role {quote(name)}")


def test_the_role_suffices_for_the_tables_and_the_log(database: Database) -> None:
    database.run(MAKE)
    with role(database, *TABLES) as (_, url):
        checkup = check_up(url, TABLES, slot=database.slot)
        assert [each for each in checkup.checks if each.verdict == "fault"] == []
        source = database.source(*TABLES, url=url)
        tables = list(source.look().tables.values())
        beginning = source.begin(tables)
        assert beginning.identity
        assert not source.follow_only(tables)
        replica, copy = Replica(), source.copy()
        for table in tables:
            assert copy.plan(table, 1 << 20).estimated_rows > 0
            replica.load(copy, table)
        copy.close()
        stream = source.stream(beginning.position, tables)
        database.run("update a set t = t || '!'; delete from a where id = 1")
        database.run(
            """insert into sales."it""ems $upwell$" select i, 't' from generate_series(2, 99) i"""
        )
        replica.follow(stream, reached(wal_position(database.url)))
        for name, sums in row_checksums(database.url, "shop", TABLES).items():
            assert replica.checksum(name) == sums
        stream.acknowledge(beginning.position)
        source.close()
        database.source(*TABLES, url=url).begin(tables)  # takes the slot down, makes it anew


def test_the_role_may_read_the_partitions_of_its_tables(database: Database) -> None:
    database.run(
        "create table parted (id int primary key) partition by range (id);"
        "create schema parts; create table parts.one partition of parted default;"
        "insert into parted values (1)"
    )
    with role(database, "parted") as (name, url):
        checkup = check_up(url, ["parted"], slot=database.slot)
        assert [each for each in checkup.checks if each.verdict == "fault"] == []
        source = database.source("parted", url=url)
        (table,) = source.look().tables.values()
        source.begin([table])
        copy, replica = source.copy(), Replica()
        replica.load(copy, table)
        copy.close()
        assert (
            replica.checksum("shop.parted") == row_checksums(url, "shop", ["parted"])["shop.parted"]
        )
        database.run(f"revoke select on parts.one from {quote(name)}")
        (fault,) = [
            each
            for each in check_up(url, ["parted"], slot=database.slot).checks
            if each.verdict == "fault"
        ]
        assert fault.code == "no_partition_right"
        assert fault.next_step == f'GRANT SELECT ON "parts"."one" TO {quote(name)}'


def test_the_role_can_neither_write_nor_read_anything_else(database: Database) -> None:
    database.run(MAKE)
    with role(database, *TABLES) as (_, url), psycopg.connect(url, autocommit=True) as as_role:
        assert as_role.execute("select count(*) from a").fetchone() == (2,)
        for statement in (
            "select * from secrets",
            "insert into a values (3, 'three')",
            "update a set t = ''",
            "delete from a",
            "truncate a",
            "alter table a add x int",
            "drop table a",
            "create table b (id int)",
            "create schema mine",
            "create role other",
            f"alter publication {database.slot} add table secrets",
            f"drop publication {database.slot}",
            f"create publication more_{database.number} for table secrets",
            "alter system set wal_level = replica",
            "copy a to program 'true'",
            "select pg_read_file('PG_VERSION')",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                as_role.execute(statement.encode())


def test_the_script_may_be_run_again_and_takes_back_what_is_no_longer_named(
    database: Database,
) -> None:
    database.run(MAKE)
    with role(database, "a", "secrets") as (name, url):
        with role_again(database, name, "a"), psycopg.connect(url) as as_role:
            as_role.execute("select count(*) from a")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                as_role.execute("select count(*) from secrets")
        published = "select string_agg(tablename, ',') from pg_publication_tables"
        assert database.value(f"{published} where pubname = {literal(database.slot)}") == "a"


@contextmanager
def role_again(database: Database, name: str, *tables: str) -> Iterator[None]:
    database.run(
        role_script(name, database=database.name, tables=tables, publication=database.slot)
    )
    yield


def test_a_role_that_may_do_more_is_left_alone(database: Database) -> None:
    database.run(MAKE)
    other = f"other_{database.number}"
    database.run(
        f"create role {other} createdb; create role {other}_member; grant {other} to {other}_member"
    )
    try:
        for name in ("postgres", other, f"{other}_member"):
            script = role_script(
                name, database=database.name, tables=["a"], publication=database.slot
            )
            with pytest.raises(psycopg.errors.RaiseException, match="more rights"):
                database.run(script)
            database.run("rollback")
    finally:
        database.run(f"drop role {other}_member; drop role {other}")
    assert database.value("select count(*) from pg_publication") == 0


def test_row_level_security_is_passed_by_where_a_table_has_it(database: Database) -> None:
    database.run(MAKE)
    database.run("alter table a enable row level security")
    with role(database, "a") as (_, url):
        assert check_up(url, ["a"], slot=database.slot).is_fit


def test_what_everybody_may_do_is_warned_of(database: Database) -> None:
    database.run(MAKE)
    database.run("grant usage on schema public to public; grant select on secrets to public")
    database.run("grant insert on a to public; grant create on schema sales to public")
    said: list[str] = []
    database.connection.add_notice_handler(lambda notice: said.append(str(notice.message_primary)))
    with role(database, "a"):
        warned = [line for line in said if "PUBLIC" in line]
    assert len(warned) == 3
    assert "may read secrets" in " ".join(warned)
    assert "may change a," in " ".join(warned)
    assert "tables in schema sales" in " ".join(warned)


def test_psql_takes_the_script_as_it_is_printed(database: Database) -> None:
    psql = DEBIAN_BINARIES / "psql"
    if not psql.exists():
        pytest.skip("psql is not installed")
    database.run(MAKE)
    name = f"plain_{database.number}"
    script = role_script(name, database=database.name, tables=["a"], publication=database.slot)
    try:
        done = subprocess.run(
            [psql, "--set", "ON_ERROR_STOP=1", "--quiet", database.url],
            input=script,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        rights = sql.SQL("select rolreplication and rolcanlogin and not rolsuper from pg_roles")
        found = database.connection.execute(
            sql.SQL("{} where rolname = {}").format(rights, sql.Literal(name))
        ).fetchone()
        assert found == (True,)
    finally:
        database.run(f"drop owned by {name}; drop role {name}")


def test_a_right_that_is_taken_is_no_change_of_the_table(database: Database) -> None:
    database.run(MAKE)
    with role(database, "a") as (name, url):
        source = database.source("a", url=url)
        (table,) = source.look().tables.values()
        position, copy = source.begin([table]).position, source.copy()
        (part,) = copy.plan(table, 1 << 20).parts
        database.run(f"revoke select on a from {quote(name)}")
        asked: list[Callable[[], object]] = [
            lambda: source.look([table]),
            lambda: source.follow_only([table]),
            lambda: source.stream(position, [table]),
            lambda: copy.read(table, part),
        ]
        for each in asked:
            with pytest.raises(EnvironmentFault) as raised:
                each()
            assert raised.value.code == "no_select_right"
        assert source.look().unfit[table.name].code == "no_select_right"
        database.run(f"grant select on a to {quote(name)}; insert into a values (3, 'three')")
        assert not source.look([table]).changes
        stream = source.stream(position, [table])
        (change,) = stream_changes(stream)
        assert isinstance(change, TableChanges)
        database.run(f"revoke select on a from {quote(name)}; update a set t = 'new' where id = 3")
        with pytest.raises(EnvironmentFault):  # its layout is announced anew
            stream_changes(stream)
        copy.close()
        source.close()


def stream_changes(stream: PostgresStream) -> Sequence[object]:
    """The first that come."""
    while True:
        batch = stream.poll(1.0)
        if batch is not None and batch.changes:
            return batch.changes
