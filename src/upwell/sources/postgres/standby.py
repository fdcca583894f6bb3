"""Whether following would go on where a standby takes over: what the servers say of it.

A failover slot (PostgreSQL 17 and newer) is one that standbys may keep a copy of; it is with that
copy that following goes on. The primary knows which standbys have everything before we get it, but
not whether one of them has a usable copy: only the standby itself can say that, so it is asked
where its address is known, and nothing is claimed where it is not.
"""

from __future__ import annotations

import logging
from typing import LiteralString

import psycopg

from upwell.core.protocols import Failover
from upwell.sources.asking import Asking
from upwell.sources.postgres.session import kept_connection

#: A standby is asked this often.
ASKING_SECONDS = 5.0
#: The first version that has failover slots.
FAILOVER_VERSION = 170_000
#: Fields that older versions lack are NULL this way. A name may be quoted, ``*`` stands for none.
_OFFERED: LiteralString = """
    select (to_jsonb(s) ->> 'failover')::boolean, s.restart_lsn::text,
           exists (select from pg_replication_slots where slot_type = 'physical'),
           array(select trim(both ' "' from name) from unnest(string_to_array(
             coalesce(current_setting('synchronized_standby_slots', true), ''), ',')) as name
             where trim(name) <> ''),
           array(select slot_name::text from pg_replication_slots
             where slot_type = 'physical' and active)
      from pg_replication_slots s where s.slot_name = %s
"""
_SYNCED: LiteralString = """
    select pg_is_in_recovery(), (to_jsonb(s) ->> 'synced')::boolean and not s.temporary
           and (to_jsonb(s) ->> 'invalidation_reason') is null
      from (select) as one left join pg_replication_slots s on s.slot_name = %s
"""
_HEARTBEAT: LiteralString = "select pg_logical_emit_message(false, 'upwell', 'heartbeat')"
_log = logging.getLogger(__name__)


class Offering:
    """Whether a slot is offered to standbys, asked of the primary now and then.

    A standby makes no lasting copy of a slot that has not moved since it was made, and in a
    database where nothing happens none ever does: so a word is written into the log until ours has
    moved, where there is a standby at all.
    """

    def __init__(self, slot: str) -> None:
        self._slot = slot
        self._first_restart: str | None = None
        self.seen: Failover | None = None

    def look(self, connection: psycopg.Connection) -> None:
        """Renew ``seen``."""
        row = connection.execute(_OFFERED, [self._slot]).fetchone()
        if row is None:
            self.seen = None
            return
        is_offered, restart, has_standby, waits_for, active = row
        missing = tuple(name for name in waits_for if name not in active)
        self.seen = Failover(bool(is_offered), tuple(waits_for), missing)
        self._first_restart = self._first_restart or restart
        if is_offered and has_standby and restart == self._first_restart:
            connection.execute(_HEARTBEAT)


class StandbyWatch:
    """Asks a standby in a thread of its own whether it has a usable copy of a slot."""

    def __init__(self, url: str, slot: str) -> None:
        self._slot = slot
        self.is_synced: bool | None = None
        self.why = "the standby was not asked yet"
        self._asking = Asking(
            "upwell-standby",
            lambda: kept_connection(url, f"{slot} standby"),
            self._ask,
            failed=self._note,
            every_seconds=ASKING_SECONDS,
            again_seconds=ASKING_SECONDS,
        )
        self._asking.start()

    def close(self) -> None:
        """Returns soon, whatever the standby does."""
        self._asking.close()

    def _ask(self, connection: psycopg.Connection) -> None:
        self.is_synced, self.why = is_synced(connection, self._slot)

    def _note(self, error: Exception) -> None:
        self.is_synced, self.why = None, "the standby does not answer"
        _log.warning("the standby cannot be asked for its slots: %s", error)


def is_synced(connection: psycopg.Connection, slot: str) -> tuple[bool | None, str]:
    """Whether the server is a standby that has a usable copy of a slot, and why not.

    None if it is no standby: what it has then is the slot itself, or nothing to do with it.
    """
    row = connection.execute(_SYNCED, [slot]).fetchone()
    assert row is not None  # noqa: S101 - a join with one row has one
    is_standby, synced = row
    if not is_standby:
        return None, "what is named as the standby is none"
    if synced:
        return True, ""
    return False, "the standby has no lasting copy of the slot yet"
