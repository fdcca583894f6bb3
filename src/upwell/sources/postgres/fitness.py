"""Whether a server can be followed by a role, and what to run if not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg.rows import class_row

from upwell.core.errors import EnvironmentFault, UpwellError
from upwell.core.sql import quote

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


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that must hold of a server: what to say if it does and if not, what to run then."""

    code: str
    holds: bool
    good: str
    bad: str
    next_step: str


def require_fit(connection: psycopg.Connection, *, slot: str, publication: str) -> None:
    """Raise the first reason why this server cannot be followed by this role."""
    for problem in problems(connection, slot=slot, publication=publication):
        raise problem


def problems(
    connection: psycopg.Connection, *, slot: str, publication: str
) -> Iterator[UpwellError]:
    """Every reason why this server cannot be followed by this role, each with its remedy."""
    for rule in server_rules(connection, slot=slot, publication=publication):
        if not rule.holds:
            yield EnvironmentFault(
                rule.code,
                rule.bad,
                where=connection.info.dbname,
                next_step=rule.next_step,
            )


def server_rules(
    connection: psycopg.Connection, *, slot: str, publication: str
) -> tuple[Rule, ...]:
    """What must hold of the server and the role, and whether it does."""
    cursor = connection.cursor(row_factory=class_row(_Server))
    server = cursor.execute(_SERVER, [slot, publication]).fetchone()
    assert server is not None  # noqa: S101 - a SELECT without FROM has one row
    role, database = quote(server.role), quote(server.database)
    return (
        Rule(
            "source_too_old",
            server.version >= _OLDEST_VERSION,
            f"PostgreSQL {server.version_text}",
            f"PostgreSQL {server.version_text} is too old to be followed",
            "upgrade to PostgreSQL 14 or newer",
        ),
        Rule(
            "source_standby",
            not server.is_standby,
            "a primary server",
            "the server is a standby, which cannot be followed",
            "put the primary's address into the URL",
        ),
        Rule(
            "wal_level_not_logical",
            server.wal_level == "logical",
            "wal_level is logical",
            f"wal_level is {server.wal_level}; following changes needs logical",
            "ALTER SYSTEM SET wal_level = logical; then restart the server",
        ),
        Rule(
            "encoding_unknown",
            server.encoding != "SQL_ASCII",
            f"encoding {server.encoding}",
            "the database does not know its own encoding (SQL_ASCII)",
            "move it to a database of encoding UTF8",
        ),
        Rule(
            "no_replication_right",
            server.may_replicate,
            f"role {server.role} may read the log of changes",
            f"role {server.role} may not read the log of changes",
            f"as a superuser: ALTER ROLE {role} REPLICATION",
        ),
        Rule(
            "slots_exhausted",
            server.has_slot or server.slots < server.most_slots,
            f"{server.slots} of {server.most_slots} replication slots are taken",
            f"all {server.most_slots} replication slots are taken",
            "raise max_replication_slots and restart the server, or drop an unused slot",
        ),
        Rule(
            "senders_exhausted",
            server.senders < server.most_senders,
            f"{server.senders} of {server.most_senders} replication connections are taken",
            f"all {server.most_senders} replication connections are taken",
            "raise max_wal_senders and restart the server",
        ),
        Rule(
            "no_publication_right",
            server.has_publication or server.is_superuser or server.may_create,
            f"role {server.role} may create a publication",
            f"role {server.role} may not create a publication",
            f"GRANT CREATE ON DATABASE {database} TO {role}",
        ),
    )
