"""What cannot be followed is refused with what to run instead, and leaves nothing behind."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import psycopg
import pytest

from upwell.core.errors import EnvironmentFault, GapError, Unavailable, UpwellError, UsageError
from upwell.core.position import BEGINNING, Position
from upwell.core.protocols import Beginning, SourceTable
from upwell.core.schema import Column, TableSchema
from upwell.sources.postgres import PostgresSource, replication
from upwell.sources.postgres.source import slot_name

from .conftest import Database
from .replica import copied, error_of

pytestmark = pytest.mark.postgres


def slots(database: Database) -> object:
    return database.value(
        f"select count(*) from pg_replication_slots where slot_name = '{database.slot}'"
    )


def publications(database: Database) -> object:
    return database.value("select count(*) from pg_publication")


def refusal(source: PostgresSource) -> UpwellError:
    """Why the one table of a source cannot be seen."""
    (error,) = source.look().unfit.values()
    return error


def begin(source: PostgresSource) -> Beginning:
    """Begin to follow what is there."""
    return source.begin(list(source.look().tables.values()))


@pytest.mark.parametrize(
    ("make", "code", "remedy"),
    [
        ("create table a (id int)", "table_without_key", "ADD PRIMARY KEY"),
        (
            "create table a (id int primary key deferrable)",
            "key_deferrable",
            "NOT DEFERRABLE",
        ),
        (
            "create table a (n int, id int generated always as (n * 2) stored primary key)",
            "key_generated",
            "ordinary columns",
        ),
        ("create view a as select 1 as id", "table_kind", "tables behind it"),
        (
            (
                "create table a (id int primary key) partition by range (id);"
                "create unlogged table b partition of a default"
            ),
            "partition_unlogged",
            'detach "public"."b"',
        ),
        (
            (
                "create table a (id int primary key) partition by range (id);"
                "create table b partition of a default; alter table b replica identity nothing"
            ),
            "replica_identity",
            'ALTER TABLE "public"."b" REPLICA IDENTITY DEFAULT',
        ),
        ("create table a (id int) partition by range (id)", "table_without_key", "ADD PRIMARY KEY"),
        (
            (
                "create table a (id int not null) partition by range (id);"
                "create table b partition of a default; alter table only a add primary key (id)"
            ),
            "table_without_key",
            "ADD PRIMARY KEY",
        ),
        ("create unlogged table a (id int primary key)", "table_unlogged", "SET LOGGED"),
        (
            "create table a (id int primary key); alter table a replica identity nothing",
            "replica_identity",
            "REPLICA IDENTITY DEFAULT",
        ),
        (
            (
                "create table a (id int primary key, b int not null unique);"
                "alter table a replica identity using index a_b_key"
            ),
            "replica_identity",
            "REPLICA IDENTITY DEFAULT",
        ),
    ],
)
def test_an_unfit_table_is_refused_and_never_published(
    database: Database, make: str, code: str, remedy: str
) -> None:
    database.run(make)
    source = database.source("a")
    looked = source.look()
    assert not looked.tables
    error = looked.unfit["shop.a"]
    assert (type(error), error.code) == (EnvironmentFault, code)
    assert remedy in error.next_step
    assert slots(database) == 0
    assert publications(database) == 0
    source.begin([SourceTable(TableSchema("shop.a", (Column("id", "INTEGER"),), ("id",)), "")])
    assert database.value("select count(*) from pg_publication_tables") == 0


def test_a_partition_of_a_captured_table_is_refused(database: Database) -> None:
    database.run("create table a (id int primary key) partition by range (id)")
    database.run("create table b partition of a default")
    looked = database.source("a", "b").look()
    assert [*looked.tables] == ["shop.a"]
    assert looked.unfit["shop.b"].code == "partition_of_another"
    assert [*database.source("b").look().tables] == ["shop.b"]


def test_a_misspelt_table_is_refused_with_the_nearest_name(database: Database) -> None:
    database.run("create table orders (id int primary key); create schema sales;")
    database.run("create table sales.refunds (id int primary key)")
    error = refusal(database.source("ordesr"))
    assert (type(error), error.code) == (UsageError, "table_unknown")
    assert "orders" in error.next_step
    assert "sales.refunds" in refusal(database.source("sales.refund")).next_step


def test_a_table_that_is_unfit_does_not_hide_the_others(database: Database) -> None:
    database.run("create table a (id int primary key); create table b (id int)")
    looked = database.source("a", "b", "c").look()
    assert [*looked.tables] == ["shop.a"]
    assert {name: error.code for name, error in looked.unfit.items()} == {
        "shop.b": "table_without_key",
        "shop.c": "table_unknown",
    }


def test_a_wrong_address_is_unavailable_and_a_wrong_database_is_a_fault(
    database_18: Database,
) -> None:
    server = database_18.server
    cases: list[tuple[str, type[UpwellError], str]] = [
        (f"postgresql://postgres:secret@127.0.0.1:1/{database_18.name}", Unavailable, ""),
        (server.url_of("no such database"), EnvironmentFault, "database_or_role_unknown"),
        (server.url.replace("postgres@", "nobody@"), EnvironmentFault, "database_or_role_unknown"),
        ("postgresql://[", UsageError, "url_invalid"),
    ]
    for url, kind, code in cases:
        for act in (PostgresSource.look, begin, PostgresSource.copy):
            source = PostgresSource("shop", url, ["a"], slot="upwell_x")
            error = error_of(partial(act, source))
            assert isinstance(error, kind), (url, error)
            assert error.code == code or not code
            assert error.next_step
            assert "secret" not in str(error)


def as_role(database: Database, rights: str) -> Callable[[str], PostgresSource]:
    """Makes a role with ``rights``; gives sources that log in as it."""
    role = f"role_{database.number}"
    database.run(f"create role {role} login {rights}")
    url = database.url.replace("postgres@", f"{role}@")
    return lambda table: database.source(table, url=url)


def forget_role(database: Database) -> None:
    role = f"role_{database.number}"
    database.run(f"drop owned by {role} cascade; drop role {role}")


def test_missing_rights_are_named_one_by_one(database: Database) -> None:
    database.run("create table a (id int primary key)")
    role = f"role_{database.number}"
    source = as_role(database, "noreplication")("a")
    try:
        for code in ("no_schema_right", "no_select_right"):
            error = refusal(source)
            assert error.code == code
            database.run(error.next_step.replace("the role in the URL", role))
        assert error_of(partial(begin, source)).code == "no_replication_right"
        database.run(f"alter role {role} replication")
        assert error_of(partial(begin, source)).code == "no_publication_right"
        database.run(f'grant create on database "{database.name}" to {role}')
        error = error_of(partial(begin, source))
        assert error.code == "no_publication_right"
        assert f'CREATE PUBLICATION "{database.slot}" FOR TABLE "public"."a"' in error.next_step
        assert slots(database) == 0
        database.run(error.next_step.partition(": ")[2])
        begin(source)
        assert copied(database.copy(), database.tables()[0]) == []
        database.run(f"alter table a enable row level security; grant select on a to {role}")
        assert refusal(source).code == "row_security"
    finally:
        source.close()
        forget_role(database)


def test_looking_and_copying_leave_nothing_behind_and_a_beginning_leaves_its_slot(
    database: Database,
) -> None:
    database.run("create table a (id int primary key)")
    source = database.source("a")
    assert copied(database.copy(), database.tables()[0]) == []
    database.close()
    assert (slots(database), publications(database)) == (0, 0)
    begin(source)
    source.close()
    assert (slots(database), publications(database)) == (1, 1)


def test_a_slot_of_another_plugin_or_database_is_never_dropped(database: Database) -> None:
    database.run("create table a (id int primary key)")
    source = database.source("a")
    with psycopg.connect(database.server.url, autocommit=True) as elsewhere:
        for create in (
            f"select pg_create_physical_replication_slot('{database.slot}')",
            f"select pg_create_logical_replication_slot('{database.slot}', 'test_decoding')",
            f"select pg_create_logical_replication_slot('{database.slot}', 'pgoutput')",
        ):
            elsewhere.execute(create.encode())
            error = error_of(partial(begin, source))
            assert (type(error), error.code) == (EnvironmentFault, "slot_of_another")
            assert "rename the project" in error.next_step
            assert slots(database) == 1
            elsewhere.execute("select pg_drop_replication_slot(%s)", [database.slot])


@pytest.mark.parametrize(
    "column", ['"Name" int, name int', "_weight int", '"_Version" int', "_position int"]
)
def test_a_column_that_the_store_could_not_tell_apart_is_refused(
    database_18: Database, column: str
) -> None:
    database_18.run(f"create table a (id int primary key, {column})")
    error = refusal(database_18.source("a"))
    assert (type(error), error.code) == (EnvironmentFault, "column_name_taken")
    assert "RENAME COLUMN" in error.next_step


def test_columns_that_differ_in_more_than_ascii_case_are_captured(database_18: Database) -> None:
    database_18.run('create table a (id int primary key, "É" int, "é" int)')
    table = database_18.source("a").look().tables["shop.a"]
    assert table.schema.column_names == ("id", "É", "é")


def test_a_new_beginning_replaces_the_slot_of_the_one_before(database: Database) -> None:
    database.run("create table a (id int primary key)")
    first = database.start("a")
    database.run("insert into a values (1)")
    later = database.start("a")
    assert later > first
    assert slots(database) == 1
    assert error_of(lambda: database.stream(first)).code == "slot_ahead"


def test_a_slot_in_use_is_refused_naming_its_user(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replication, "RELEASE_TIMEOUT_SECONDS", 0.2)
    database.run("create table a (id int primary key)")
    position = database.start("a")
    database.stream(position)
    other = database.source("a")
    acts: list[tuple[Callable[[], object], type[UpwellError]]] = [
        (lambda: begin(other), EnvironmentFault),
        (lambda: database.stream(position), Unavailable),
    ]
    for act, kind in acts:
        error = error_of(act)
        assert (type(error), error.code) == (kind, "slot_active")
        assert database.slot in error.what
        assert "server process" in error.where


def test_a_stream_that_would_miss_changes_is_a_gap(database: Database) -> None:
    database.run("create table a (id int primary key)")
    position = database.start("a")
    earlier = Position("00000000/00000001")

    def code_of(act: Callable[[], object]) -> str:
        error = error_of(act)
        assert isinstance(error, GapError)
        assert error.next_step
        return error.code

    def follow() -> None:
        database.sources[-1].follow_only(database.tables())

    def stream() -> None:
        database.stream(position)

    assert code_of(lambda: database.stream(BEGINNING)) == "never_begun"
    assert code_of(lambda: database.stream(earlier)) == "slot_ahead"
    for narrowed in (
        "drop publication {0}",
        "create publication {0} for table a with (publish = 'insert, update, delete')",
        "drop publication {0}; create publication {0} for table a where (id > 5)",
        "alter publication {0} set table a (id)",
    ):
        database.run(narrowed.format(database.slot))
        assert code_of(stream) == "publication_changed"
        assert code_of(follow) == "publication_changed"
    database.run(f"drop publication {database.slot}; create publication {database.slot}")
    database.run(f"alter publication {database.slot} add table a")
    database.stream(position).close()
    replication.drop_slot(database.connection, database.slot)
    assert code_of(stream) == "slot_missing"


def test_a_slot_of_another_kind_is_a_gap(database: Database) -> None:
    database.run("create table a (id int primary key)")
    position = database.start("a")
    database.run(
        f"select pg_drop_replication_slot('{database.slot}');"
        f"select pg_create_physical_replication_slot('{database.slot}')"
    )
    assert error_of(lambda: database.stream(position)).code == "slot_foreign"


def test_a_publication_with_a_row_filter_is_put_right_by_the_next_beginning(
    database: Database,
) -> None:
    database.run("create table a (id int primary key)")
    database.run(f"create publication {database.slot} for table a where (id > 5)")
    database.run("insert into a values (1)")
    position = database.start("a")
    stream = database.stream(position)
    database.run("insert into a values (2)")
    batch = stream.poll(10)
    while batch is not None and not batch.changes:
        batch = stream.poll(10)
    assert batch is not None


def test_another_database_under_the_same_address_is_refused(database: Database) -> None:
    database.run("create table a (id int primary key)")
    beginning = begin(database.source("a"))
    position, tables = beginning.position, database.tables()
    for expected, is_same in ((beginning.identity, True), ("1", False)):
        source = PostgresSource("shop", database.url, ["a"], slot=database.slot, known=expected)
        if is_same:
            source.stream(position, tables)
            source.close()
        else:
            error = error_of(partial(source.stream, position, tables))
            assert error.code == "another_database"


def test_a_server_that_ends_the_connection_makes_the_source_unavailable(
    database: Database,
) -> None:
    database.run("create table a (id int primary key)")
    stream = database.stream(database.start("a"))
    database.run("insert into a values (1)")
    assert stream.poll(10) is not None
    database.run(
        "select pg_terminate_backend(active_pid) from pg_replication_slots "
        f"where slot_name = '{database.slot}'"
    )

    def follow() -> None:
        while True:
            stream.poll(5)

    assert isinstance(error_of(follow), Unavailable)


def test_slot_names_are_made_of_what_postgresql_allows() -> None:
    assert slot_name("shop", "eu_west") == "upwell_shop_eu_west"
    assert re.fullmatch(r"upwell_my_shop_eu_west_[0-9a-f]{8}", slot_name("My Shop", "eu-west"))
    assert len(slot_name("x" * 80, "y")) == 63


def test_slot_names_that_were_changed_stay_apart() -> None:
    assert slot_name("eu-west", "s") != slot_name("eu.west", "s")
    assert slot_name("Shop", "s") != slot_name("shop", "s")
    assert slot_name("x" * 80, "y") != slot_name("x" * 80, "z")


def test_an_unreadable_table_is_refused_before_anything_is_set_up(database_18: Database) -> None:
    database_18.run("create table a (id int primary key)")
    source = as_role(database_18, "replication")("a")
    try:
        database_18.run(
            f'grant create on database "{database_18.name}" to role_{database_18.number}'
        )
        assert refusal(source).code == "no_schema_right"
        assert publications(database_18) == 0
    finally:
        forget_role(database_18)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:hunter2@127.0.0.1:1/x?bogus=1",
        "mysql://me:hunter2@127.0.0.1/x",
        "postgresql://me:raw@hunter2@127.0.0.1:1/x",
        "postgresql://me:raw/hunter2@127.0.0.1:1/x",
        "postgresql://me:raw?hunter2@127.0.0.1:1/x",
        "me:hunter2@127.0.0.1/x",
    ],
)
def test_errors_never_show_the_password(url: str) -> None:
    error = error_of(PostgresSource("shop", url, ["a"], slot="s").look)
    assert (type(error), error.code) == (UsageError, "url_invalid")
    assert "hunter2" not in f"{error}{error.__cause__!r}"


def test_an_empty_address_is_refused_before_the_client_library_looks_for_one() -> None:
    error = error_of(PostgresSource("shop", " ", ["a"], slot="s").look)
    assert (type(error), error.code) == (UsageError, "url_empty")
