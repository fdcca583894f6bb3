"""What a server sends, recorded from a real one: its log, and a table copied out."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from upwell.sources.postgres.catalog import Catalog, read_catalog

from .conftest import Database

#: Two tables with a column of every kind of value that we read.
TABLES = """
    create table a (id int primary key, n numeric(12,2), m numeric, t text, d date,
        ts timestamptz, u uuid, by bytea, b bool, f float8, big text, j jsonb, i2 int2, i8 int8,
        o oid, f4 float4, wide numeric(38,10));
    alter table a alter big set storage external;
    create table b (id bigint, part text, primary key (id, part));
    alter table b replica identity full;
"""
_ROW = """i, i * 1.01, i / 7.0, 'row ' || i, date '2026-01-01' + i, now(), gen_random_uuid(),
    decode('00ff', 'hex'), i % 2 = 0, i / 3.0, repeat('b', 2100), '{"a": 1}', i, i, i, i, i"""
_CHANGES = (
    f"insert into a select {_ROW} from generate_series(1, 3) i",
    "insert into b select i, 'part' from generate_series(1, 5) i",
    "update a set t = null, b = null where id = 3",
    "update a set id = -id where id = 2",
    "update b set part = 'other' where id < 3",
    "delete from a where id = 1; delete from b where id = 5",
    "truncate b",
    "alter table b add extra text; insert into b values (1, 'x', 'y')",
)


@dataclass(frozen=True, slots=True)
class Recording:
    """Messages as they stand on the wire, and the tables that they are about."""

    name: str
    messages: Sequence[bytes]
    catalog: Catalog


def frame(payload: bytes, letter: bytes = b"d") -> bytes:
    return letter + struct.pack(">I", len(payload) + 4) + payload


def log_data(message: bytes) -> bytes:
    return frame(b"w" + bytes(24) + message)


def keepalive(lsn: int, *, reply: bool = False) -> bytes:
    return frame(struct.pack(">cQqB", b"k", lsn, 0, reply))


def record_logs(database: Database) -> list[Recording]:
    """The same changes in binary and as text."""
    slot = database.slot
    database.run(TABLES)
    database.run(f"create publication {slot} for table a, b")
    database.run(f"select pg_create_logical_replication_slot('{slot}', 'pgoutput')")
    for statement in _CHANGES:
        database.run(statement)
    catalog = read_catalog(database.connection, "shop", ["a", "b"])
    made = []
    for binary in (True, False):
        messages = [log_data(data) for data in peeked(database, binary=binary)]
        messages += [keepalive((1 << 62) - 1, reply=True)]
        made.append(Recording("log in binary" if binary else "log as text", messages, catalog))
    return made


def peeked(database: Database, *, binary: bool) -> list[bytes]:
    """The messages that the slot holds."""
    cursor = psycopg.RawCursor(database.connection)
    rows = cursor.execute(
        "select data from pg_logical_slot_peek_binary_changes($1, null, null, "
        "'proto_version', '1', 'publication_names', $2, 'binary', $3)",
        [database.slot, database.slot, str(binary).lower()],
        binary=True,
    ).fetchall()
    return [data for (data,) in rows]


def record_copy(database: Database) -> Recording:
    """Table ``a``, as ``COPY`` sends it."""
    database.run(f"truncate a; insert into a select {_ROW} from generate_series(1, 12) i")
    catalog = read_catalog(database.connection, "shop", ["a"])
    columns = ", ".join(column.name for column in catalog.tables[0].columns)
    statement = f"copy (select {columns} from only a) to stdout (format binary)"
    with database.connection.cursor().copy(statement.encode()) as copy:
        messages = [frame(bytes(data)) for data in copy]
    messages += [frame(b"", b"c"), frame(b"COPY 12\0", b"C"), frame(b"I", b"Z")]
    return Recording("copy", messages, catalog)
