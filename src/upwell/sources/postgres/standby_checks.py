"""What would become of following if a standby took over, looked at before it happens.

Cautions only: without any of this following works, and a failover costs an `upwell resync`. Said
where there is a standby; of a server that has none there is nothing to say.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import LiteralString

import psycopg

from upwell.core.errors import UpwellError
from upwell.sources.checkup import Check
from upwell.sources.postgres.session import session
from upwell.sources.postgres.standby import FAILOVER_VERSION, is_synced

_STANDBYS: LiteralString = """
    select array(select slot_name::text from pg_replication_slots where slot_type = 'physical'
                  order by slot_name),
           coalesce(current_setting('synchronized_standby_slots', true), ''),
           (select (to_jsonb(s) ->> 'failover')::boolean from pg_replication_slots s
             where s.slot_name = %s)
"""
_STANDBY: LiteralString = """
    select pg_is_in_recovery(),
           coalesce(current_setting('sync_replication_slots', true), 'off') = 'on',
           current_setting('hot_standby_feedback') = 'on'
"""
_RELOAD = "SELECT pg_reload_conf()"


def standby_checks(
    connection: psycopg.Connection, *, slot: str, standby: str, is_offered: bool
) -> Iterator[Check]:
    """What is to be said of the primary's standbys, and of the one at ``standby``."""
    row = connection.execute(_STANDBYS, [slot]).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    physical, waits_for, has_failover = row
    if not physical and not standby:
        return
    if connection.info.server_version < FAILOVER_VERSION:
        said = "a standby of this version keeps no slots: if one takes over, the log is lost"
        step = "after a failover run `upwell resync`; or upgrade to PostgreSQL 17 or newer"
        yield Check("slot_not_kept_by_standbys", "warning", "", said, step)
        return
    if not is_offered:
        said = "upwell.yaml keeps the slot from standbys: if one takes over, the log is lost"
        step = "write `failover_slot: true` under the source in upwell.yaml"
        yield Check("slot_not_kept_by_standbys", "warning", "", said, step)
        return
    if has_failover is False:
        said = "the slot is not offered to standbys yet"
        yield Check("slot_not_kept_by_standbys", "warning", "", said, "run Upwell: it offers it")
    if waits_for.strip():
        said = f"nothing is followed that these standbys do not have: {waits_for}"
        yield Check("standby_may_be_behind", "ok", "", said)
    else:
        said = "a standby that takes over may lack what was read already; the source stops then"
        names = ", ".join(physical) or "SLOT_OF_THE_STANDBY"
        step = f"ALTER SYSTEM SET synchronized_standby_slots = '{names}'; {_RELOAD}"
        yield Check("standby_may_be_behind", "warning", "", said, step)
    if standby:
        yield from _of_standby(standby, slot)
    else:
        said = "whether a standby has a usable copy of the slot is not known: none is named"
        step = "name it under the source in upwell.yaml: `standby: ${STANDBY_URL}`"
        yield Check("slot_not_synchronised", "warning", "", said, step)


def _of_standby(url: str, slot: str) -> Iterator[Check]:
    try:
        with session(url) as connection:
            row = connection.execute(_STANDBY).fetchone()
            synced, why = is_synced(connection, slot)
    except UpwellError as error:
        said = f"the standby could not be asked: {error.what}"
        yield Check("slot_not_synchronised", "warning", "", said, error.next_step)
        return
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    is_standby, keeps_slots, gives_feedback = row
    if not is_standby:
        step = "correct `standby` under the source in upwell.yaml"
        yield Check("slot_not_synchronised", "warning", "", why, step)
        return
    if not keeps_slots:
        said = "the standby keeps no copies of slots"
        step = f"there: ALTER SYSTEM SET sync_replication_slots = on; {_RELOAD}"
        yield Check("slots_not_kept", "warning", "", said, step)
    if not gives_feedback:
        said = "the standby does not tell the primary which rows it still needs"
        step = f"there: ALTER SYSTEM SET hot_standby_feedback = on; {_RELOAD}"
        yield Check("no_standby_feedback", "warning", "", said, step)
    if synced:
        yield Check("slot_not_synchronised", "ok", "", "the standby has a usable copy of the slot")
    else:
        step = "let Upwell run for a minute: a slot is copied once it has moved; then look again"
        yield Check("slot_not_synchronised", "warning", "", why, step)
