"""Every type of PostgreSQL is stored as the reference says, in snapshot and stream alike.

One table has a column for each type, and a row for each sample of them. On each server it is
copied, inserted into and updated, and so is one of the columns alone that are sent in binary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import LiteralString

import pyarrow as pa
import pytest

from tests import stored
from tests.lake_shop import PROJECT, LakeShop, rows_of
from upwell.core.position import Position
from upwell.core.protocols import SourceBatch, TableChanges
from upwell.core.schema import TableSchema
from upwell.core.sql import connect, quote
from upwell.demo.server import Server
from upwell.ingest.apply import Ingest
from upwell.rebuild import rebuild
from upwell.sources.postgres.catalog import read_catalog
from upwell.sources.postgres.checksum import row_checksums, wal_position
from upwell.store import ledger
from upwell.store.lake.writer import LakeWriter, read_mark
from upwell.testing import changed_rows, one_transaction

from .conftest import Database, emptied
from .replica import Key, Replica, Row, reached
from .type_page import type_page
from .type_rows import PREPARED, TYPE_ROWS, Sample, TypeRow

pytestmark = [pytest.mark.postgres, pytest.mark.xdist_group("type_rows")]

ROWS = [row for rows in TYPE_ROWS.values() for row in rows]
REFUSING = [row for row in ROWS if row.refused]
MOST = max(len(row.samples) for row in ROWS)
#: How a row came, and the first of the keys of those that came so.
WAYS = {"copied": 0, "inserted": 1000, "updated": 2000}

Place = tuple[str, int]
"""A type and the number of one of its samples."""

Texts = dict[str, dict[Place, str | None]]
"""What is stored, by the way it came."""


@dataclass
class Followed:
    """What became of a table on its way."""

    rows: dict[str, TypeRow]  # by how they are declared
    stored: dict[str, str]
    texts: Texts
    touched: Texts  # after an update of every row that sends nothing which lies outside it
    unchanged: set[str]  # types of which values were not sent then
    has_equal_checksums: bool
    is_ingested_alike: bool  # into the hot store
    copied: TableChanges  # what was copied, as inserts


@dataclass
class Outcome:
    """What one server showed: of all types, twice, and of those that have a binary form for us."""

    version: int
    every: Followed
    full: Followed  # under REPLICA IDENTITY FULL
    wire: Followed
    refused: dict[str, list[str]]  # way → the texts that are kept
    types: dict[int, str]  # that a column can have, by OID
    covered: set[int]


@pytest.fixture(
    scope="module", params=["postgres", "postgres_15"], ids=["embedded-18", "debian-15"]
)
def outcome(request: pytest.FixtureRequest, database_names: dict[str, str]) -> Outcome:
    """Made once for each server."""
    server: Server = request.getfixturevalue(request.param)
    with emptied(server, database_names) as database:
        return look_at(database)


def look_at(database: Database) -> Outcome:
    database.run(PREPARED)
    rows = taken_rows(database)
    every = follow(database, "every", rows)
    table = read_catalog(database.connection, "shop", ["every"]).tables[0]
    binary = {column.name for column in table.columns if column.type.has_binary}
    full = follow(database, "whole", rows, identity="full")
    wire = follow(database, "wire", [row for row in rows if row.declared in binary])
    return Outcome(
        version_of(database),
        every,
        full,
        wire,
        refused=refuse(database),
        types=dict(database.connection.execute(TYPES).fetchall()),
        covered={column.declared[0] for column in table.columns},
    )


#: Pseudo-types are none of a column.
TYPES: LiteralString = """
    select oid, typname from pg_type
     where typnamespace = 'pg_catalog'::regnamespace and typtype not in ('p', 'c')
       and (typcategory <> 'A' or typlen <> -1 or typname in ('int2vector', 'oidvector'))
"""


# ── one table of all types ───────────────────────────────────────────────────────────────────────


def version_of(database: Database) -> int:
    return database.connection.info.server_version // 10_000


def taken_rows(database: Database) -> list[TypeRow]:
    """The types, with samples of those of which this server takes values."""
    built = database.value("select setting from pg_config() where name = 'CONFIGURE'")
    is_lacking = "with-libxml" not in str(built)
    return [replace(row, samples=()) if row.needs_libxml and is_lacking else row for row in ROWS]


def sample_of(row: TypeRow, number: int, version: int) -> Sample | None:
    sample = row.samples[number] if number < len(row.samples) else None
    return sample if sample is not None and version >= sample.since else None


def create(database: Database, table: str, rows: Sequence[TypeRow]) -> None:
    """A table of a column for each type, whose values lie outside their row wherever they can."""
    columns = ", ".join(f"{quote(row.declared)} {row.declared}" for row in rows)
    database.run(f"create table {table} (id int primary key, touched int, {columns})")
    database.run(f"alter table {table} set (toast_tuple_target = 128)")
    movable = database.connection.execute(
        "select attname from pg_attribute a join pg_type t on t.oid = a.atttypid "
        "where attrelid = %s::regclass and attnum > 2 and typstorage <> 'p'",
        [table],
    )
    external = ", ".join(f"alter {quote(name)} set storage external" for (name,) in movable)
    database.run(f"alter table {table} {external}")


def fill(database: Database, table: str, rows: Sequence[TypeRow], first: int) -> None:
    """The nth sample of each type in the nth row; the last row has none."""
    for number in range(MOST + 1):
        samples = {row.declared: sample_of(row, number, version_of(database)) for row in rows}
        given = {name: sample.sql for name, sample in samples.items() if sample is not None}
        names = "".join(f", {quote(name)}" for name in given)
        values = "".join(f", {each}" for each in given.values())
        database.run(f"insert into {table} (id{names}) values ({first + number}{values})")


def update(database: Database, table: str, rows: Sequence[TypeRow]) -> None:
    """Rows that are empty become as those that were copied."""
    names = ", ".join(quote(row.declared) for row in rows)
    first = WAYS["updated"]
    database.run(
        f"insert into {table} (id) select {first} + n from generate_series(0, {MOST}) n; "
        f"update {table} t set ({names}) = "
        f"(select {names} from {table} copied where copied.id + {first} = t.id) where id >= {first}"
    )


def follow(
    database: Database, table: str, rows: list[TypeRow], *, identity: str = "default"
) -> Followed:
    create(database, table, rows)
    database.run(f"alter table {table} replica identity {identity}")
    fill(database, table, rows, WAYS["copied"])
    replica = Replica()
    position = database.read_into(replica, table)
    texts = texts_of(replica, table, rows, "copied")
    copied = changed_rows(
        replica.schemas[f"shop.{table}"], pa.concat_tables(replica.rows[f"shop.{table}"].values())
    )
    fill(database, table, rows, WAYS["inserted"])
    update(database, table, rows)
    stream = database.stream(position)
    batches = replica.follow(stream, reached(wal_position(database.url)))
    texts |= texts_of(replica, table, rows, "inserted", "updated")
    database.run(f"update {table} set touched = 1")
    touching = replica.follow(stream, reached(wal_position(database.url)))
    stream.close()
    in_order = [one_transaction("0", copied, committed_at_us=0), *batches, *touching]
    return Followed(
        {row.declared: row for row in rows},
        stored={column.name: column.type for column in copied.schema.columns},
        texts=texts,
        touched=texts_of(replica, table, rows, *WAYS),
        unchanged=unchanged_in(touching),
        has_equal_checksums=replica.checksum(f"shop.{table}")
        == row_checksums(database.url, "shop", [table])[f"shop.{table}"],
        is_ingested_alike=ingested(copied.schema, in_order) == replica.texts(f"shop.{table}"),
        copied=copied,
    )


def ingested(schema: TableSchema, batches: Sequence[SourceBatch]) -> dict[Key, Row]:
    """The table as the hot store has it after these batches, and as its log says; as texts."""
    columns = ", ".join(f"CAST({quote(column.name)} AS VARCHAR)" for column in schema.columns)
    with connect(zone="UTC") as connection:
        ledger.prepare(connection)
        stored.create(connection, schema)
        ingest = Ingest(connection, {schema.name: schema})
        for version, batch in enumerate(batches, 1):
            ingest.apply(batch, version)
        current, log = (
            connection.execute(statement).fetchall()
            for statement in (
                f"SELECT {columns} FROM {schema.name}",
                f"SELECT {columns} FROM {schema.name}__log GROUP BY ALL HAVING sum(_weight) <> 0",
            )
        )
    assert sorted(current, key=str) == sorted(log, key=str)
    return {(int(row[0]),): row for row in current}


def texts_of(replica: Replica, table: str, rows: Sequence[TypeRow], *ways: str) -> Texts:
    """What is stored now of the rows that came in these ways."""
    found = replica.texts(f"shop.{table}")
    return {
        way: {
            (row.declared, number): found[WAYS[way] + number,][index]
            for index, row in enumerate(rows, 2)
            for number in range(MOST + 1)
        }
        for way in ways
    }


def unchanged_in(batches: Sequence[SourceBatch]) -> set[str]:
    changes = [change for batch in batches for change in batch.changes]
    return {name for each in changes if isinstance(each, TableChanges) for name in each.unchanged}


def refuse(database: Database) -> dict[str, list[str]]:
    """Copy, insert and update rows of one refused value each; with text columns beside and not."""
    refused: dict[str, list[str]] = {}
    for table, beside in (("refusing", ""), ("refusing_text", ", beside interval")):
        columns = ", ".join(f"{quote(row.declared)} {row.declared}" for row in REFUSING)
        database.run(f"create table {table} (id serial primary key, {columns}{beside})")
        samples = [(row.declared, each.sql) for row in REFUSING for each in row.refused]
        for name, value in samples:
            database.run(f"insert into {table} ({quote(name)}) values ({value})")
        copied, streamed = Replica(), Replica()
        position = database.read_into(copied, table)
        assert copied.rows == {f"shop.{table}": {}}
        refused[f"{table} copied"] = copied.refused
        for name, value in samples:
            database.run(f"insert into {table} ({quote(name)}) values ({value})")
        stream = database.stream(position)
        streamed.follow(stream, reached(wal_position(database.url)))
        refused[f"{table} inserted"] = streamed.refused
        streamed.refused = []
        for number, (name, value) in enumerate(samples, 1):
            changed = f"{quote(name)} = {value}"
            database.run(f"update {table} set {changed} where id = {number + len(samples)}")
        streamed.follow(stream, reached(wal_position(database.url)))
        refused[f"{table} updated"] = streamed.refused
        stream.close()
    return refused


# ── the rows of the reference ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.declared)
def test_a_type_is_stored_as_the_reference_says(outcome: Outcome, row: TypeRow) -> None:
    for followed in (outcome.every, outcome.full, outcome.wire):
        if row.declared not in followed.rows:
            continue
        assert followed.stored[row.declared] == row.stored
        for number in range(MOST + 1):
            sample = sample_of(followed.rows[row.declared], number, outcome.version)
            found = {
                texts[way][row.declared, number]
                for texts in (followed.texts, followed.touched)
                for way in WAYS
            }
            if sample is None:
                assert found == {None}
            elif sample.text is not None:
                assert found == {sample.text}, sample.sql
            else:
                assert len(found) == 1, sample.sql
                assert None not in found, sample.sql


def test_the_reference_has_a_row_for_every_type_of_the_server(outcome: Outcome) -> None:
    """All that are neither arrays nor whole rows of a relation; those are below."""
    assert [name for oid, name in outcome.types.items() if oid not in outcome.covered] == []


def test_times_kept_as_text_can_be_cast_in_a_model() -> None:
    with connect(zone="UTC") as connection:
        for declared, to, beyond in (("interval", "INTERVAL", 3), ("time", "TIME", 0)):
            row = next(row for row in ROWS if row.declared == declared)
            texts = [sample.text for sample in row.samples]
            cast = f"SELECT TRY_CAST(unnest(?::VARCHAR[]) AS {to}) IS NULL"
            found = connection.execute(cast, [texts]).fetchall()
            assert [is_beyond for (is_beyond,) in found].count(True) == beyond


def test_the_committed_page_is_current() -> None:
    page = Path(__file__).parents[3] / "docs/reference/types.md"
    assert page.read_text(encoding="utf-8") == type_page(), (
        "run `make docs`, or python -m tests.sources.postgres.type_page docs/reference"
    )


def test_source_and_store_compute_the_same_checksum_over_all_types(outcome: Outcome) -> None:
    for followed in (outcome.every, outcome.full, outcome.wire):
        assert followed.has_equal_checksums


def test_the_hot_store_takes_all_types_in_as_they_come(outcome: Outcome) -> None:
    for followed in (outcome.every, outcome.full, outcome.wire):
        assert followed.is_ingested_alike


def test_the_lake_gives_all_types_back_as_they_were(outcome: Outcome, tmp_path: Path) -> None:
    copied = outcome.every.copied
    shop = LakeShop(tmp_path, (copied.schema,))
    position = Position("00000001")
    with shop.store.transaction() as connection:
        batch = one_transaction(position, copied, committed_at_us=0)
        Ingest(connection, {copied.table: copied.schema}).apply(batch, 1)
        progress = ledger.SourceProgress(position, 1, 1, copied.rows.num_rows)
        ledger.append(connection, 1, 1, {PROJECT: progress})
    shop.flush(LakeWriter(shop.open_lake(), PROJECT))
    again, lake = shop.open_store("again.duckdb"), shop.open_lake()
    rebuild(again, lake, read_mark(lake), lambda _event, **_facts: None)
    found = rows_of(again.writer, copied.table)
    assert found == rows_of(shop.store.writer, copied.table)
    assert len(found) == MOST + 1


def test_values_that_are_not_sent_because_they_did_not_change_are_of_many_types(
    outcome: Outcome,
) -> None:
    assert {"text", "jsonb", "bytea", "numeric"} <= outcome.wire.unchanged
    assert len(outcome.every.unchanged) > 30
    assert outcome.full.unchanged == set()  # they stand in the old row


@pytest.mark.parametrize("table", ["refusing", "refusing_text"])
@pytest.mark.parametrize("way", ["copied", "inserted", "updated"])
def test_what_a_stored_type_cannot_hold_is_kept_as_the_server_prints_it(
    outcome: Outcome, table: str, way: str
) -> None:
    expected = [sample.text for row in REFUSING for sample in row.refused]
    assert sorted(outcome.refused[f"{table} {way}"]) == sorted(map(str, expected))
