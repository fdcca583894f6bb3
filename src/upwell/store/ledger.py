"""The ledger: which version the store is at, and how far into each source that reaches.

``upwell.versions`` gets one row a source and version, in the transaction of the version itself:
its newest row *is* the position to go on from. There is no second place where progress is kept.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from uuid import uuid4

import duckdb
import msgspec

from upwell.core.errors import IntegrityError
from upwell.core.position import BEGINNING, Position
from upwell.core.schema import Column
from upwell.core.sql import quote
from upwell.store import drift

#: Format of everything in the store. A store of another format is built anew.
FORMAT = 4

#: Facts: the line of stores that this one belongs to, each made from the lake of the one before;
#: and through which version the lake has taken the change logs over.
LINEAGE, DURABLE = "lineage", "durable version"
_UNFILLED = "tables laid out and not filled"

#: Versions older than this are forgotten by ``trim``.
KEPT_HOURS = 48

#: Upwell's own tables that anyone may read, in the schema ``upwell``.
TABLES = ("versions", "quarantine", "freshness", "drift")

#: The columns of ``upwell.versions``.
VERSIONS = (
    Column("version", "BIGINT", nullable=False),
    Column("source", "VARCHAR", nullable=False),
    Column("position", "VARCHAR", nullable=False),
    Column("complete_through", "TIMESTAMPTZ"),
    Column("logical_time", "TIMESTAMPTZ", nullable=False),
    Column("transactions", "BIGINT", nullable=False),
    Column("changes", "BIGINT", nullable=False),
)

_LAYOUT = f"""
CREATE SCHEMA IF NOT EXISTS upwell;
CREATE SCHEMA IF NOT EXISTS _upwell;
CREATE TABLE IF NOT EXISTS _upwell.facts (name VARCHAR, value VARCHAR);
CREATE TABLE IF NOT EXISTS _upwell.captured (
    name VARCHAR NOT NULL,
    layout VARCHAR NOT NULL,
    log VARCHAR NOT NULL,
    state VARCHAR NOT NULL,
    terms VARCHAR NOT NULL,
    frozen VARCHAR NOT NULL
);
CREATE TABLE IF NOT EXISTS _upwell.copies (
    name VARCHAR NOT NULL,
    layout VARCHAR NOT NULL,
    state VARCHAR NOT NULL,
    terms VARCHAR NOT NULL,
    identity VARCHAR NOT NULL,
    reach VARCHAR NOT NULL,
    estimated_rows BIGINT NOT NULL
);
CREATE TABLE IF NOT EXISTS _upwell.copied_parts (
    name VARCHAR NOT NULL,
    place BIGINT NOT NULL,
    part VARCHAR NOT NULL,
    is_stored BOOLEAN NOT NULL
);
CREATE TABLE IF NOT EXISTS _upwell.same_parts (name VARCHAR NOT NULL, place BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS upwell.versions ({
    ", ".join(
        f"{quote(column.name)} {column.type}{'' if column.nullable else ' NOT NULL'}"
        for column in VERSIONS
    )
});
CREATE TABLE IF NOT EXISTS upwell.quarantine (
    version BIGINT NOT NULL,
    source_table VARCHAR NOT NULL,
    position VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    key VARCHAR NOT NULL,
    raw VARCHAR
);
CREATE TABLE IF NOT EXISTS upwell.freshness (
    version BIGINT NOT NULL,
    minute TIMESTAMPTZ NOT NULL,
    dashboard VARCHAR NOT NULL,
    histogram BIGINT[] NOT NULL
);
{drift.LAYOUT}"""


@dataclass(frozen=True, slots=True)
class SourceProgress:
    """How far one source has been taken in. Times in microseconds since 1970 UTC, our clock."""

    position: Position
    complete_through_us: int
    transactions: int = 0
    changes: int = 0


def prepare(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the ledger's tables where missing. Raises IntegrityError on another format."""
    for statement in _LAYOUT.split(";"):
        if statement.strip():
            connection.execute(statement)
    found = read_fact(connection, "format")
    if found is None:
        write_fact(connection, "format", str(FORMAT))
        write_fact(connection, "store", uuid4().hex)
        write_fact(connection, LINEAGE, uuid4().hex)
    elif found != str(FORMAT):
        raise IntegrityError(
            "store_format",
            f"Opening the hot store: it has format {found}, this Upwell writes {FORMAT}.",
            next_step="Start `upwell run`: it sets the file aside and takes a new snapshot.",
        )


def read_fact(connection: duckdb.DuckDBPyConnection, name: str) -> str | None:
    """A named fact about the store (format, identity, what models it was built with)."""
    row = connection.execute("SELECT value FROM _upwell.facts WHERE name = ?", [name]).fetchone()
    return None if row is None else str(row[0])


def write_fact(connection: duckdb.DuckDBPyConnection, name: str, value: str) -> None:
    connection.execute("DELETE FROM _upwell.facts WHERE name = ?", [name])
    connection.execute("INSERT INTO _upwell.facts VALUES (?, ?)", [name, value])


def read_identity(connection: duckdb.DuckDBPyConnection, source: str) -> str | None:
    """Who the source was that rows were read from; None if none were."""
    return read_fact(connection, f"source {source}")


def write_identity(connection: duckdb.DuckDBPyConnection, source: str, identity: str) -> None:
    """Record who the source is, before anything is taken in that only this one has."""
    write_fact(connection, f"source {source}", identity)


def begun_version(connection: duckdb.DuckDBPyConnection, source: str) -> int:
    """The version with which a source was begun anew last; 0 if it never was. Positions of versions
    before it are of another log, and say nothing in this one.
    """
    return int(read_fact(connection, f"source {source} begun") or 0)


def begin_anew(
    connection: duckdb.DuckDBPyConnection, source: str, identity: str, version: int
) -> None:
    """Record with ``version``, in its transaction, that a source goes on with another log."""
    write_identity(connection, source, identity)
    write_fact(connection, f"source {source} begun", str(version))
    write_fact(connection, f"source {source} parted", "")


def parted(connection: duckdb.DuckDBPyConnection, source: str) -> dict[str, str] | None:
    """Why a source is not to be gone on with, as ``UpwellError.as_dict``; None if it is."""
    recorded = read_fact(connection, f"source {source} parted")
    return msgspec.json.decode(recorded, type=dict[str, str]) if recorded else None


def note_parted(connection: duckdb.DuckDBPyConnection, source: str, why: dict[str, str]) -> None:
    """Record that a source lacks what was read of it, so that it is not forgotten by a restart:
    its log may have grown past our position by then.
    """
    write_fact(connection, f"source {source} parted", msgspec.json.encode(why).decode())


def unfilled(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Tables that have a new layout, and whose rows are not in yet."""
    recorded = read_fact(connection, _UNFILLED)
    return msgspec.json.decode(recorded, type=list[str]) if recorded else []


def note_unfilled(connection: duckdb.DuckDBPyConnection, names: Iterable[str]) -> None:
    """Record tables as not filled yet, beside those that are recorded."""
    before = {*unfilled(connection)}
    if not before >= {*names}:
        _write_unfilled(connection, before.union(names))


def note_filled(connection: duckdb.DuckDBPyConnection, names: Container[str]) -> None:
    """Record that tables have their rows, in the transaction that puts them in, or are gone."""
    before = unfilled(connection)
    if any(each in names for each in before):
        _write_unfilled(connection, (each for each in before if each not in names))


def _write_unfilled(connection: duckdb.DuckDBPyConnection, names: Iterable[str]) -> None:
    write_fact(connection, _UNFILLED, msgspec.json.encode(sorted(names)).decode())


def built_models(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """The models that stand in the store as they should: name → fingerprint of what built them."""
    recorded = read_fact(connection, "models built")
    return msgspec.json.decode(recorded, type=dict[str, str]) if recorded else {}


def write_built_models(connection: duckdb.DuckDBPyConnection, built: Mapping[str, str]) -> None:
    """Record which models stand as they should; the others are built at the next start."""
    write_fact(connection, "models built", msgspec.json.encode(built).decode())


def latest_version(connection: duckdb.DuckDBPyConnection) -> int:
    """The newest version; 0 while there is none."""
    row = connection.execute("SELECT coalesce(max(version), 0) FROM upwell.versions").fetchone()
    return int(row[0]) if row else 0


def logical_time_us(connection: duckdb.DuckDBPyConnection) -> int:
    """What ``now()`` means in the newest version, microseconds since 1970 UTC."""
    row = connection.execute(
        "SELECT coalesce(epoch_us(max(logical_time)), 0) FROM upwell.versions"
    ).fetchone()
    return int(row[0]) if row else 0


def changes(connection: duckdb.DuckDBPyConnection) -> int:
    """Changes taken in by the versions on record, snapshots not counted."""
    row = connection.execute(
        "SELECT coalesce(sum(changes), 0) FROM upwell.versions WHERE transactions > 0"
    ).fetchone()
    return int(row[0]) if row else 0


def progress(connection: duckdb.DuckDBPyConnection, source: str) -> SourceProgress:
    """Where to go on with ``source``; position ``BEGINNING`` if nothing was ever taken in."""
    row = connection.execute(
        "SELECT position, coalesce(epoch_us(complete_through), 0) FROM upwell.versions "
        "WHERE source = ? ORDER BY version DESC LIMIT 1",
        [source],
    ).fetchone()
    if row is None:
        return SourceProgress(BEGINNING, 0)
    return SourceProgress(Position(row[0]), int(row[1]))


def append(
    connection: duckdb.DuckDBPyConnection,
    version: int,
    logical_time_us: int,
    progresses: Mapping[str, SourceProgress],
) -> None:
    """Write down ``version``, inside the transaction that makes it."""
    for source, now in progresses.items():
        connection.execute(
            "INSERT INTO upwell.versions VALUES "
            "(?, ?, ?, make_timestamptz(?::BIGINT), make_timestamptz(?::BIGINT), ?, ?)",
            [
                version,
                source,
                now.position,
                now.complete_through_us,
                logical_time_us,
                now.transactions,
                now.changes,
            ],
        )


def trim(
    connection: duckdb.DuckDBPyConnection, now_us: int, durable_version: int | None = None
) -> None:
    """Forget versions older than ``KEPT_HOURS``, but never a source's newest.

    Nor, with ``durable_version``, one after it: the lake has not taken it over yet.
    """
    connection.execute(
        "DELETE FROM upwell.versions WHERE logical_time < make_timestamptz(?::BIGINT) "
        "AND version <= coalesce(?::BIGINT, version) AND version < (SELECT min(newest) FROM "
        "(SELECT max(version) AS newest FROM upwell.versions GROUP BY source))",
        [now_us - KEPT_HOURS * 3_600_000_000, durable_version],
    )
