"""Everything that following a database needs, looked at one by one, each with the exact remedy.

The rules are those by which a run refuses (``fitness``, ``relations``), so that what is fit here
starts. Beside them stand cautions: settings under which following works but may harm the source or
end by itself. Reads only; sets nothing up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import LiteralString

import psycopg
from psycopg.rows import class_row

from upwell.core.errors import UpwellError, UsageError
from upwell.core.sql import quote
from upwell.project.problems import choices
from upwell.sources.checkup import Check, Checkup, TableSize, Verdict
from upwell.sources.postgres.catalog import read_columns
from upwell.sources.postgres.fitness import server_rules
from upwell.sources.postgres.relations import Relation, list_relations
from upwell.sources.postgres.replication import publication_statement
from upwell.sources.postgres.session import session
from upwell.sources.postgres.standby_checks import standby_checks
from upwell.sources.postgres.statistics import estimate_sizes, place_of
from upwell.sources.postgres.survey import obstacles, project_name

_OURSELVES = ("localhost", "127.0.0.1", "::1", "")
_VERIFY = (
    "turn on TLS at the server (ssl = on) and add to the URL "
    "?sslmode=verify-full&sslrootcert=/path/of/ca.crt"
)
_SETTINGS: LiteralString = """
    select current_user::text as role,
           (select rolsuper from pg_roles where rolname = current_user) as is_superuser,
           exists (select from pg_publication where pubname = %s) as has_publication,
           current_setting('max_slot_wal_keep_size') as kept_log,
           current_setting('wal_sender_timeout') as sender_timeout,
           coalesce(current_setting('idle_replication_slot_timeout', true), '0') as idle_timeout,
           (select count(*) from pg_stat_activity
             where xact_start < now() - interval '1 minute' and datname = current_database())
               as long_transactions
"""


@dataclass(frozen=True, slots=True)
class _Settings:
    role: str
    is_superuser: bool
    has_publication: bool
    kept_log: str
    sender_timeout: str
    idle_timeout: str
    long_transactions: int


def check_up(
    url: str,
    tables: Sequence[str] | None,
    *,
    slot: str | None,
    standby: str = "",
    is_offered: bool = True,
) -> Checkup:
    """Look at the server and at ``tables`` (None: all there are).

    ``slot`` names the slot and the publication that a run would set up; None before there is a
    project, whose name they bear. ``standby`` and ``is_offered``: see ``PostgresSource``. A table
    that was not named and cannot be captured is a warning: nobody asked for it. Raises what
    ``session`` raises.
    """
    with session(url) as connection:
        connection.execute("SET lock_timeout = '2s'; SET statement_timeout = '20s'")
        found = server_rules(connection, slot=slot or "", publication=slot or "")
        checks = [
            Check(rule.code, "ok", "", rule.good)
            if rule.holds
            else Check(rule.code, "fault", "", rule.bad, rule.next_step)
            for rule in found
        ]
        info, pgconn = connection.info, connection.pgconn
        mode = info.get_parameters().get("sslmode", "")
        checks += transport(info.host, is_encrypted=bool(pgconn.ssl_in_use), mode=mode)
        cursor = connection.cursor(row_factory=class_row(_Settings))
        settings = cursor.execute(_SETTINGS, [slot or ""]).fetchone()
        assert settings is not None  # noqa: S101 - a SELECT without FROM has one row
        checks += _cautions(settings)
        checks += standby_checks(
            connection, slot=slot or "", standby=standby, is_offered=is_offered
        )
        relations = list_relations(connection)
        wholes = [each for each in relations if not each.is_partition]
        chosen = wholes if tables is None else list(_named(relations, tables))
        columns = read_columns(connection, [each.oid for each in chosen])
        faults = {each.oid: obstacles(each, columns[each.oid]) for each in chosen}
        of_tables, fit = _of_tables(chosen, faults, settings, slot)
        against: Verdict = "fault" if tables else "warning"
        checks += [
            each if each.verdict == "ok" else replace(each, verdict=against) for each in of_tables
        ]
        if not fit and tables is None:
            checks.append(_nothing_fit(relations))
        return Checkup(tuple(checks), _sizes(connection, fit))


def transport(host: str, *, is_encrypted: bool, mode: str) -> Iterator[Check]:
    """Who could read what comes, or be taken for the server; nobody on the machine itself."""
    if host.startswith("/") or host in _OURSELVES:
        return
    if not is_encrypted:
        said = f"the connection to {host} is not encrypted: whoever stands between can read it"
        yield Check("not_encrypted", "warning", "", said, _VERIFY)
    elif mode != "verify-full":
        said = f"whoever stands between could be taken for {host}: its certificate is not checked"
        yield Check("server_not_verified", "warning", "", said, _VERIFY)
    else:
        said = f"the connection to {host} is encrypted, its certificate checked"
        yield Check("server_not_verified", "ok", "", said)


def _named(relations: Sequence[Relation], names: Sequence[str]) -> Iterator[Relation]:
    by_name = {project_name(relation): relation for relation in relations}
    for name in names:
        relation = by_name.get(name.removeprefix("public."))
        if relation is None:
            raise UsageError(
                "table_unknown",
                f"the database has no table {name}",
                where=name,
                next_step=choices(name, by_name, nothing="the database has no tables"),
            )
        yield relation


def _cautions(settings: _Settings) -> Iterator[Check]:
    """What lets following begin, and may make it end or fill a disk."""
    if settings.kept_log == "-1":
        said = "no limit on the log kept for a follower that stays away: it may fill the disk"
        step = "ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'; SELECT pg_reload_conf()"
        yield Check("no_disk_guard", "warning", "", said, step)
    else:
        said = f"at most {settings.kept_log} of log is kept for a follower that stays away"
        yield Check("no_disk_guard", "ok", "", said)
    if settings.idle_timeout != "0":
        said = f"a slot nobody follows for {settings.idle_timeout} is given up, and read anew then"
        step = "ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf()"
        yield Check("slot_given_up_when_idle", "warning", "", said, step)
    if settings.sender_timeout == "0":
        said = "wal_sender_timeout is 0: a follower that is gone is never noticed"
        step = "ALTER SYSTEM SET wal_sender_timeout = '60s'; SELECT pg_reload_conf()"
        yield Check("senders_never_time_out", "warning", "", said, step)
    if settings.long_transactions:
        said = f"{settings.long_transactions} transactions are open for over a minute"
        step = "end them before the first run, which waits a minute at most for them"
        yield Check("transactions_open", "warning", "", said, step)


def _of_tables(
    relations: Sequence[Relation],
    faults: Mapping[int, Sequence[UpwellError]],
    settings: _Settings,
    slot: str | None,
) -> tuple[list[Check], list[Relation]]:
    """What is to be said of each table, and those that are fit. ``faults`` are by OID."""
    publishing = _publishing(slot, [each for each in relations if not faults[each.oid]])
    checks: list[Check] = []
    fit = []
    for relation in relations:
        against = list(_against(relation, faults[relation.oid], settings, publishing))
        if not against:
            fit.append(relation)
            key = f"key ({', '.join(relation.key)})"
            against = [Check("table_fit", "ok", project_name(relation), key)]
        checks += against
    return checks, fit


def _publishing(slot: str | None, relations: Sequence[Relation]) -> str:
    """What an owner does so that a run finds its publication. An unfit table is never in it."""
    if slot is None:
        return "create the publication that `upwell doctor` names in the project"
    names = [relation.quoted for relation in relations]
    has_partitioned = any(relation.is_partitioned for relation in relations)
    return publication_statement(slot, names, has_partitioned=has_partitioned)


def _against(
    relation: Relation, faults: Sequence[UpwellError], settings: _Settings, publishing: str
) -> Iterator[Check]:
    """What stands against a table; nothing where it is fit."""
    name = project_name(relation)
    for fault in faults:
        step = fault.next_step.replace("the role in the URL", quote(settings.role))
        if "BYPASSRLS" in step:
            step = f"as a superuser: ALTER ROLE {quote(settings.role)} BYPASSRLS"
        yield Check(fault.code, "fault", name, fault.what, step)
    may_publish = settings.is_superuser or settings.has_publication or relation.is_owned
    if not faults and not may_publish:
        said = f"{name} is owned by {relation.owner}, and only owners may publish a table"
        grant = f"GRANT {quote(relation.owner)} TO {quote(settings.role)}"
        yield Check(
            "not_owned", "fault", name, said, f"as {relation.owner}: {publishing}; or {grant}"
        )


def _nothing_fit(relations: Sequence[Relation]) -> Check:
    if not relations:
        said = "the database has no tables, or none that this role may see"
        return Check("no_tables", "fault", "", said, "correct the database in the URL")
    said = "no table can be captured"
    return Check("nothing_to_capture", "fault", "", said, "see the remedies of the tables")


def _sizes(connection: psycopg.Connection, fit: Sequence[Relation]) -> tuple[TableSize, ...]:
    looks = estimate_sizes(connection, [place_of(each, columns={}) for each in fit])
    return tuple(
        TableSize(project_name(each), looks[each.oid].rows, looks[each.oid].size_bytes)
        for each in fit
    )
