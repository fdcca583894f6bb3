"""What the list of types cannot say one by one: arrays and rows of every type, settings, keys."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from upwell.core.protocols import SourceBatch, TableChanges
from upwell.core.sql import quote
from upwell.sources.postgres.checksum import row_checksums, wal_position
from upwell.sources.postgres.session import session

from .conftest import Database
from .replica import Replica, Row, reached
from .test_type_rows import sample_of, taken_rows, version_of
from .type_rows import PREPARED

pytestmark = pytest.mark.postgres


def both_ways(database: Database, table: str, columns: Sequence[str]) -> tuple[Row, Row]:
    """Row 1 of a table as it is copied, and a row 2 like it that is inserted and then updated."""
    replica = Replica()
    position = database.read_into(replica, table)
    names = ", ".join(map(quote, columns))
    database.run(f"insert into {table} (id, {names}) select 2, {names} from {table} where id = 1")
    database.run(f"update {table} set id = 3 where id = 2")
    stream = database.stream(position)
    replica.follow(stream, reached(wal_position(database.url)))
    theirs = row_checksums(database.url, "shop", [table])[f"shop.{table}"]
    assert replica.checksum(f"shop.{table}") == theirs
    texts = replica.texts(f"shop.{table}")
    return texts[1,][1:], texts[3,][1:]


def printed(database: Database, table: str, columns: Sequence[str]) -> Row:
    """Row 1 as the server prints it in a session of ours."""
    texts = ", ".join(
        f"case when {quote(name)} is distinct from null then concat({quote(name)}) end"
        for name in columns
    )
    with session(database.url) as connection:
        statement = f"select {texts} from public.{table} where id = 1"
        row: Row | None = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return row


def test_an_array_of_any_type_is_stored_as_it_is_printed(database: Database) -> None:
    database.run(PREPARED)
    version = version_of(database)
    names = [row.declared for row in taken_rows(database)]
    elements = {
        name
        for (name,) in database.connection.execute(
            "select name from unnest(%s::text[]) name join pg_type t on t.oid = to_regtype(name) "
            "where typarray <> 0 and typcategory <> 'A'",
            [names],
        )
    }
    rows = {
        row.declared: [
            sample
            for number in range(len(row.samples))
            if (sample := sample_of(row, number, version)) is not None
        ]
        for row in taken_rows(database)
        if row.declared in elements
    }
    columns = ", ".join(f"{quote(name)} {name}[]" for name in rows)
    database.run(f"create table arrays (id int primary key, {columns})")
    values = [
        ", ".join([*(f"({sample.sql})::{name}" for sample in samples), "null"])
        for name, samples in rows.items()
    ]
    arrays = ", ".join(f"array[{each}]::{name}[]" for name, each in zip(rows, values, strict=True))
    database.run(f"insert into arrays values (1, {arrays})")
    copied, streamed = both_ways(database, "arrays", list(rows))
    assert dict(zip(rows, copied, strict=True)) == dict(
        zip(rows, printed(database, "arrays", list(rows)), strict=True)
    )
    assert streamed == copied
    assert None not in copied


def test_a_row_of_any_relation_of_the_server_is_stored_as_it_is_printed(
    database: Database,
) -> None:
    relations: dict[str, bool] = dict(
        database.connection.execute(
            "select relname, relkind = 'r' from pg_class c "
            "where relnamespace = 'pg_catalog'::regnamespace and reltype <> 0 and not exists "
            "(select from pg_attribute a join pg_type t on t.oid = atttypid "
            "where attrelid = c.oid and (typtype = 'p' or typname = '_pg_statistic')) order by 1"
        ).fetchall()
    )
    columns = ", ".join(f"{name} pg_catalog.{name}" for name in relations)
    database.run(f"create table catalogs (id int primary key, {columns})")
    tables = [name for name, is_table in relations.items() if is_table]
    values = ", ".join(f"(select r from pg_catalog.{name} r limit 1)" for name in tables)
    database.run(f"insert into catalogs (id, {', '.join(tables)}) values (1, {values})")
    copied, streamed = both_ways(database, "catalogs", list(relations))
    assert copied == streamed == printed(database, "catalogs", list(relations))
    assert sum(text is not None for text in copied) > 30


ODD_SETTINGS = {
    "datestyle": "German",
    "intervalstyle": "sql_standard",
    "timezone": "Asia/Kolkata",
    "bytea_output": "escape",
    "extra_float_digits": "-5",
    "search_path": "public",
    "quote_all_identifiers": "on",
    "array_nulls": "off",
}
ODD_VALUES = {
    "span": ("interval", "'1 year -2 days 03:00'", "1 year -2 days +03:00:00"),
    "days": ("daterange", "'[2026-01-31,2026-02-02)'", "[2026-01-31,2026-02-02)"),
    "at": ("timestamptz[]", "'{2026-01-31 12:00+00}'", '{"2026-01-31 12:00:00+00"}'),
    "moment": ("timestamptz", "'2026-01-31 12:00+00'", "2026-01-31 12:00:00+00"),
    "raw": ("bytea[]", "array['\\x00ff'::bytea]", '{"\\\\x00ff"}'),
    "shape": ("point", "point(0.1, 1e-7)", "(0.1,1e-07)"),
    "ratio": ("double precision", "1/3.0", "0.3333333333333333"),
    "relation": ("regclass", "'odd'", "public.odd"),
}


def test_no_setting_of_database_or_role_changes_how_values_are_stored(
    database: Database,
) -> None:
    name = database.name
    columns = ", ".join(f"{column} {kind}" for column, (kind, _, _) in ODD_VALUES.items())
    values = ", ".join(value for _, value, _ in ODD_VALUES.values())
    database.run(f"create table odd (id int primary key, {columns})")
    database.run(f"insert into odd values (1, {values})")
    for setting, value in ODD_SETTINGS.items():
        database.run(f"alter database {name} set {setting} = '{value}'")
    try:
        copied, streamed = both_ways(database, "odd", list(ODD_VALUES))
    finally:
        database.run(f"alter database {name} reset all")
    assert copied == tuple(text for _, _, text in ODD_VALUES.values())
    assert streamed == copied


def test_generated_columns_are_left_out_and_identities_are_as_the_server_gave_them(
    database: Database,
) -> None:
    virtual = ", later int generated always as (a + 1) virtual" if version_of(database) > 17 else ""
    database.run(
        "create table made (id bigint generated always as identity (start 7) primary key, "
        "a int default 5, twice int generated always as (a * 2) stored, "
        f"other int generated by default as identity{virtual})"
    )
    database.run("insert into made default values")
    replica = Replica()
    position = database.read_into(replica, "made")
    database.run("insert into made (a) values (8); update made set a = 9 where id = 7")
    stream = database.stream(position)
    replica.follow(stream, reached(wal_position(database.url)))
    assert replica.schemas["shop.made"].column_names == ("id", "a", "other")
    assert replica.texts("shop.made") == {(7,): ("7", "9", "1"), (8,): ("8", "8", "2")}
    assert (
        replica.checksum("shop.made") == row_checksums(database.url, "shop", ["made"])["shop.made"]
    )


@pytest.mark.parametrize("beside", ["", ", beside interval"], ids=["binary", "text"])
def test_a_text_of_no_encoding_is_refused_with_its_bytes_and_the_rest_goes_on(
    database: Database, beside: str
) -> None:
    """As a cast without a function makes it, or a server of old that checked less."""
    database.run(
        "drop cast if exists (bytea as text); create cast (bytea as text) without function"
    )
    database.run(f"create table texts (id int primary key, note text{beside})")
    database.run(r"insert into texts values (1, 'é'), (2, '\x636166e9'::bytea::text)")
    copied, streamed = Replica(), Replica()
    position = database.read_into(copied, "texts")
    database.run(r"insert into texts values (3, '\x636166e9'::bytea::text), (4, 'ü')")
    stream = database.stream(position)
    batches = streamed.follow(stream, reached(wal_position(database.url)))
    assert list(copied.rows["shop.texts"]) == [(1,)]
    assert copied.refused == streamed.refused == [r"caf\xe9"]
    (refusal,) = only_change(batches).refusals
    assert refusal.rows.tolist() == [True, False]
    assert refusal.reason == "note: it is no text of the database's encoding"


def only_change(batches: Sequence[SourceBatch]) -> TableChanges:
    (change,) = (change for batch in batches for change in batch.changes)
    assert isinstance(change, TableChanges)
    return change


def test_a_long_key_outside_its_row_is_known_in_changes_that_do_not_send_it(
    database: Database,
) -> None:
    """A key of 2,400 bytes is longer than what PostgreSQL keeps within a row."""
    database.run(
        "create table keyed (name text primary key, kind jsonb, n int); "
        "alter table keyed alter name set storage external, alter kind set storage external"
    )
    letters = "(select string_agg(chr(33 + i % 90), '') from generate_series(1, 2400) i)"
    document = "to_jsonb(array(select i from generate_series(1, 2000) i))"
    replica = Replica()
    position = database.read_into(replica, "keyed")
    database.run(f"insert into keyed values ({letters}, {document}, 1)")
    database.run("update keyed set n = 2; update keyed set n = 3, name = 'x' || name")
    stream = database.stream(position)
    replica.follow(stream, reached(wal_position(database.url)))
    theirs = row_checksums(database.url, "shop", ["keyed"])["shop.keyed"]
    assert replica.checksum("shop.keyed") == theirs
    assert len(replica.rows["shop.keyed"]) == 1
