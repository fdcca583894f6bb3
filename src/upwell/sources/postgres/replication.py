"""The two things we leave in the source database: a publication and a slot.

The publication holds exactly the configured tables. The changes of a partitioned one come under its
own name, whichever partition they are in. The slot makes the server keep its log for us, so it is
dropped as soon as nothing follows it: an orphan would fill the source's disk.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from upwell.core.errors import EnvironmentFault, GapError, Unavailable
from upwell.core.position import Position
from upwell.core.sql import literal, quote
from upwell.sources.postgres.channel import Channel
from upwell.sources.postgres.standby import FAILOVER_VERSION
from upwell.sources.postgres.tables import CapturedTable
from upwell.sources.postgres.wal import lsn_of, position_of

#: Creating a slot waits for all transactions that are open at the moment.
SLOT_TIMEOUT_SECONDS = 60.0
#: How long a follower that has just ended may take to be noticed by the server.
RELEASE_TIMEOUT_SECONDS = 5.0
START_ANEW = "`upwell resync` reads the source's tables anew and goes on from there"

#: What a publication of ours has: every change, of a partitioned table under its own name.
PUBLISHED: LiteralString = (
    "publish = 'insert, update, delete, truncate', publish_via_partition_root = true"
)

_log = logging.getLogger(__name__)
_PUBLISHED: LiteralString = """
    select t.oid::bigint, p.pubinsert and p.pubupdate and p.pubdelete and p.pubtruncate
      from pg_publication p
      left join pg_publication_tables pt on pt.pubname = p.pubname
      left join pg_namespace n on n.nspname = pt.schemaname
      left join pg_class t on t.relnamespace = n.oid and t.relname = pt.tablename
     where p.pubname = %s
"""
_FILTERED: LiteralString = """
    select exists (select from pg_publication p join pg_publication_rel r on r.prpubid = p.oid
                    where p.pubname = %s and (r.prqual is not null or r.prattrs is not null))
"""
_SLOT: LiteralString = """
    select s.plugin, s.database, s.active_pid, s.confirmed_flush_lsn::text as confirmed,
           s.wal_status, a.application_name as application, a.client_addr::text as client,
           (to_jsonb(s) ->> 'failover')::boolean as is_offered
      from pg_replication_slots s left join pg_stat_activity a on a.pid = s.active_pid
     where s.slot_name = %s
"""


@dataclass(frozen=True, slots=True)
class _Slot:
    plugin: str | None
    database: str | None
    active_pid: int | None
    confirmed: str | None
    wal_status: str | None
    application: str | None
    client: str | None
    is_offered: bool | None  # to standbys; None: the server is too old for that


# ── publication ──────────────────────────────────────────────────────────────────────────────────


def published(connection: psycopg.Connection, publication: str) -> frozenset[int]:
    """The tables in the publication, by OID. Raises ``GapError`` unless it has them whole."""
    rows = connection.execute(_PUBLISHED, [publication]).fetchall()
    is_whole = bool(rows) and rows[0][1]
    if is_whole and connection.info.server_version >= 150_000:  # row filters, column lists
        filtered = connection.execute(_FILTERED, [publication]).fetchone()
        is_whole = filtered is not None and not filtered[0]
    if not is_whole:
        raise GapError(
            "publication_changed",
            f"publication {publication} is gone, or was narrowed: some changes were not kept",
            where=publication,
            next_step=START_ANEW,
        )
    return frozenset(oid for oid, _ in rows if oid is not None)


def publish(
    connection: psycopg.Connection, publication: str, wanted: Sequence[CapturedTable]
) -> None:
    """Make the publication hold exactly these tables."""
    with suppress(GapError):
        if published(connection, publication) == {table.oid for table in wanted}:
            return
    name = sql.Identifier(publication)
    tables = sql.SQL(", ").join(
        sql.SQL("only {}").format(sql.Identifier(table.namespace, table.relation))
        for table in wanted
    )
    kinds = sql.SQL(PUBLISHED)
    exists = connection.execute(
        "select from pg_publication where pubname = %s", [publication]
    ).fetchone()
    try:
        with connection.transaction():
            if not wanted:
                connection.execute(sql.SQL("drop publication if exists {}").format(name))
                connection.execute(sql.SQL("create publication {} with ({})").format(name, kinds))
            elif exists is None:
                created = sql.SQL("create publication {} for table {} with ({})")
                connection.execute(created.format(name, tables, kinds))
            else:
                statement = sql.SQL("alter publication {} set table {}")
                connection.execute(statement.format(name, tables))
                connection.execute(sql.SQL("alter publication {} set ({})").format(name, kinds))
    except psycopg.errors.InsufficientPrivilege as error:
        remedy = publication_statement(
            publication,
            [table.quoted for table in wanted],
            has_partitioned=any(table.is_partitioned for table in wanted),
        )
        raise EnvironmentFault(
            "no_publication_right",
            f"this role may not publish the tables: {error.diag.message_primary}",
            where=publication,
            next_step=f"as their owner: {remedy}",
        ) from error


def publication_statement(publication: str, quoted: Sequence[str], *, has_partitioned: bool) -> str:
    """What the owner of these tables runs where our role may not."""
    option = " WITH (publish_via_partition_root = true)" if has_partitioned else ""
    return f"CREATE PUBLICATION {quote(publication)} FOR TABLE {', '.join(quoted)}{option}"


# ── slot ─────────────────────────────────────────────────────────────────────────────────────────


def drop_slot(connection: psycopg.Connection, slot: str) -> None:
    """Drop our own slot where there is one.

    Raises if somebody follows it at this moment, or if it is not ours: slots are named across all
    databases of a server, and what follows a foreign one could not go on.
    """
    found = _find(connection, slot)
    if found is not None and not _is_ours(connection, found):
        raise EnvironmentFault(
            "slot_of_another",
            f"replication slot {slot} is not ours: it is {_kind(found)}",
            where=slot,
            next_step="rename the project: its name is in the name of its slots",
        )
    if _released(connection, slot, EnvironmentFault) is not None:
        connection.execute("select pg_drop_replication_slot(%s)", [slot])


def create_slot(
    channel: Channel, slot: str, server_version: int, *, is_offered: bool = False
) -> int:
    """Create the slot; the log follows from the LSN that comes back.

    ``is_offered``: standbys may keep a copy of it, where the server knows how (PostgreSQL 17).
    """
    options = "(SNAPSHOT 'nothing')" if server_version >= 150_000 else "NOEXPORT_SNAPSHOT"
    if is_offered and server_version >= FAILOVER_VERSION:
        options = "(SNAPSHOT 'nothing', FAILOVER true)"
    rows = channel.query(
        f"CREATE_REPLICATION_SLOT {quote(slot)} LOGICAL pgoutput {options}",
        timeout_seconds=SLOT_TIMEOUT_SECONDS,
    )
    point = rows[0]["consistent_point"]
    assert point is not None  # noqa: S101 - the protocol gives it
    return lsn_of(point)


def offer_slot(channel: Channel, slot: str, *, is_offered: bool) -> None:
    """Let standbys keep a copy of a slot that nobody follows just now, or no longer.

    A server that refuses is told of and otherwise as good as one that does not know how.
    """
    try:
        channel.query(
            f"ALTER_REPLICATION_SLOT {quote(slot)} (FAILOVER {'true' if is_offered else 'false'})",
            timeout_seconds=SLOT_TIMEOUT_SECONDS,
        )
    except EnvironmentFault as error:
        _log.warning("the slot stays as it is for standbys: %s", error.what)


def require_slot(
    connection: psycopg.Connection, slot: str, position: Position, *, is_sole_follower: bool = False
) -> bool | None:
    """Raise unless the slot is free and still has everything from ``position`` on. Gives whether it
    is offered to standbys; None where the server knows nothing of the kind.

    A slot in use is ``Unavailable``: it is often our own connection of before, not given up yet.
    As the ``is_sole_follower`` (the lake is ours: whoever else follows was replaced, and may be
    frozen) we end the connection of an engine that does not give it up.
    """
    found = _released(connection, slot, Unavailable, is_sole_follower=is_sole_follower)
    if found is None:
        raise _gap("slot_missing", f"replication slot {slot} is gone, and with it the log", slot)
    if not _is_ours(connection, found):
        raise _gap("slot_foreign", f"replication slot {slot} is {_kind(found)}", slot)
    if found.wal_status == "lost" or found.confirmed is None:
        what = f"replication slot {slot} fell too far behind: the server has discarded its log"
        raise _gap("slot_lost", what, slot)
    if lsn_of(found.confirmed) > lsn_of(position):
        kept = position_of(lsn_of(found.confirmed))
        what = f"replication slot {slot} begins at {kept}, behind our position {position}"
        raise _gap("slot_ahead", what, slot)
    return found.is_offered


def start_replication(
    channel: Channel, slot: str, publication: str, lsn: int, *, binary: bool
) -> None:
    """Have the server send everything committed after ``lsn``."""
    high, low = f"{lsn >> 32:X}", f"{lsn & 0xFFFFFFFF:X}"
    names = literal(quote(publication))
    channel.start_copy(
        f"START_REPLICATION SLOT {quote(slot)} LOGICAL {high}/{low} (proto_version '1', "
        f"publication_names {names}, binary '{'true' if binary else 'false'}')"
    )


def _find(connection: psycopg.Connection, slot: str) -> _Slot | None:
    cursor = connection.cursor(row_factory=class_row(_Slot))
    return cursor.execute(_SLOT, [slot]).fetchone()


def _is_ours(connection: psycopg.Connection, found: _Slot) -> bool:
    return found.plugin == "pgoutput" and found.database == connection.info.dbname


def _kind(found: _Slot) -> str:
    if found.plugin is None:
        return "a physical slot"
    return f"of {found.plugin} on database {found.database}"


def _released(
    connection: psycopg.Connection,
    slot: str,
    failure: type[EnvironmentFault | Unavailable],
    *,
    is_sole_follower: bool = False,
) -> _Slot | None:
    """The slot once nobody follows it; a connection that just ended gets a moment to be noticed,
    then ``failure`` says who it is.
    """
    deadline = time.monotonic() + RELEASE_TIMEOUT_SECONDS
    while True:
        found = _find(connection, slot)
        if found is None or found.active_pid is None:
            return found
        if time.monotonic() > deadline and is_sole_follower and found.application == slot:
            connection.execute("select pg_terminate_backend(%s)", [found.active_pid])
            is_sole_follower = False  # once; then it is somebody who comes back
            deadline = time.monotonic() + RELEASE_TIMEOUT_SECONDS
        elif time.monotonic() > deadline:
            client, pid = found.client or "the server's own machine", found.active_pid
            follower = f"{found.application or 'a client'} from {client}, server process {pid}"
            raise failure(
                "slot_active",
                f"replication slot {slot} is followed by another process: {follower}",
                where=f"server process {found.active_pid}",
                next_step="stop the other engine; each project needs a slot of its own",
            )
        time.sleep(0.05)


def _gap(code: str, what: str, slot: str) -> GapError:
    return GapError(code, what, where=slot, next_step=START_ANEW)
