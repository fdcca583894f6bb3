"""Whether a server can be followed by a role, and what to run if not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg.rows import class_row

from upwell.core.errors import EnvironmentFault, UpwellError

_OLDEST_VERSION = 140_000  # the first whose pgoutput sends binary values
_SERVER: LiteralString = """
    select current_setting('server_version_num')::int as version,
           current_setting('server_version') as version_text,
           current_setting('wal_level') as wal_level,
           pg_is_in_recovery() as is_standby,
           current_setting('server_encoding') as encoding,
           current_database() as database,
           current_user as role,
           (select rolsuper from pg_roles where rolname = current_user) as is_superuser,
           (select rolsuper or rolreplication from pg_roles where rolname = current_user)
             or exists (select from pg_roles where rolname in ('rds_replication', 'rds_superuser')
                           and pg_has_role(oid, 'MEMBER')) as may_replicate,
           has_database_privilege(current_database(), 'CREATE') as may_create,
           current_setting('max_replication_slots')::int as most_slots,
           (select count(*) from pg_replication_slots) as slots,
           current_setting('max_wal_senders')::int as most_senders,
           (select count(*) from pg_stat_activity where backend_type = 'walsender') as senders,
           exists (select from pg_replication_slots where slot_name = %s) as has_slot,
           exists (select from pg_publication where pubname = %s) as has_publication
"""


@dataclass(frozen=True, slots=True)
class _Server:
    version: int
    version_text: str
    wal_level: str
    is_standby: bool
    encoding: str
    database: str
    role: str
    is_superuser: bool
    may_replicate: bool
    may_create: bool
    most_slots: int
    slots: int
    most_senders: int
    senders: int
    has_slot: bool
    has_publication: bool


def require_fit(connection: psycopg.Connection, *, slot: str, publication: str) -> None:
    """Raise the first reason why this server cannot be followed by this role."""
    for problem in problems(connection, slot=slot, publication=publication):
        raise problem


def problems(
    connection: psycopg.Connection, *, slot: str, publication: str
) -> Iterator[UpwellError]:
    """Every reason why this server cannot be followed by this role, each with its remedy."""
    cursor = connection.cursor(row_factory=class_row(_Server))
    server = cursor.execute(_SERVER, [slot, publication]).fetchone()
    assert server is not None  # noqa: S101 - a SELECT without FROM has one row
    for code, is_problem, what, next_step in _rules(server):
        if is_problem:
            yield EnvironmentFault(code, what, where=server.database, next_step=next_step)


def _rules(server: _Server) -> tuple[tuple[str, bool, str, str], ...]:
    """Code, whether it applies, what is wrong, what to run."""
    return (
        (
            "source_too_old",
            server.version < _OLDEST_VERSION,
            f"PostgreSQL {server.version_text} is too old to be followed",
            "upgrade to PostgreSQL 14 or newer",
        ),
        (
            "source_standby",
            server.is_standby,
            "the server is a standby, which cannot be followed",
            "put the primary's address into the URL",
        ),
        (
            "wal_level_not_logical",
            server.wal_level != "logical",
            f"wal_level is {server.wal_level}; following changes needs logical",
            "ALTER SYSTEM SET wal_level = logical; then restart the server",
        ),
        (
            "encoding_unknown",
            server.encoding == "SQL_ASCII",
            "the database does not know its own encoding (SQL_ASCII)",
            "move it to a database of encoding UTF8",
        ),
        (
            "no_replication_right",
            not server.may_replicate,
            f"role {server.role} may not read the log of changes",
            f'as a superuser: ALTER ROLE "{server.role}" REPLICATION',
        ),
        (
            "slots_exhausted",
            not server.has_slot and server.slots >= server.most_slots,
            f"all {server.most_slots} replication slots are taken",
            "raise max_replication_slots and restart the server, or drop an unused slot",
        ),
        (
            "senders_exhausted",
            server.senders >= server.most_senders,
            f"all {server.most_senders} replication connections are taken",
            "raise max_wal_senders and restart the server",
        ),
        (
            "no_publication_right",
            not (server.has_publication or server.is_superuser or server.may_create),
            f"role {server.role} may not create a publication",
            f'GRANT CREATE ON DATABASE "{server.database}" TO "{server.role}"',
        ),
    )
