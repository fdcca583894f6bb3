"""Whether a server can be followed by a user, and what to run if not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from upwell.core.errors import EnvironmentFault, UpwellError
from upwell.sources.mysql.server import Server
from upwell.sources.mysql.session import Session

_OLDEST_MARIADB, _OLDEST_MYSQL = (10, 5), (8, 0)
_DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that should hold of a server: what to say if it does and if not, what to run then.

    Without what is only advised the server can be followed all the same.
    """

    code: str
    holds: bool
    good: str
    bad: str
    next_step: str
    is_advice: bool = False


def require_fit(session: Session, server: Server) -> None:
    """Raise the first reason why this server cannot be followed by this user."""
    for problem in problems(session, server):
        raise problem


def problems(session: Session, server: Server) -> Iterator[UpwellError]:
    """Every reason why this server cannot be followed by this user, each with its remedy."""
    for rule in server_rules(session, server):
        if not rule.holds and not rule.is_advice:
            yield EnvironmentFault(
                rule.code, rule.bad, where=str(session.address), next_step=rule.next_step
            )


def server_rules(session: Session, server: Server) -> tuple[Rule, ...]:
    """What must hold of the server and the user, and whether it does."""
    settings = _settings(session)
    oldest = _OLDEST_MARIADB if server.is_mariadb else _OLDEST_MYSQL
    least = f"{server.kind} {oldest[0]}.{oldest[1]}"
    grants = _grants(session)
    right = "BINLOG MONITOR" if server.is_mariadb else "REPLICATION CLIENT"
    user = _text(session.row("SELECT CURRENT_USER()")[0])
    is_logged, excluded = _logged_databases(session, server, settings)
    return (
        Rule(
            "source_too_old",
            server.version >= oldest,
            f"{server.kind} {server.version_text}",
            f"{server.kind} {server.version_text} is too old to be followed",
            f"upgrade to {least} or newer",
        ),
        Rule(
            "log_bin_off",
            settings.get("log_bin") in ("1", "ON"),
            "the server writes a binary log",
            "the server writes no binary log, so its changes cannot be followed",
            "set log_bin in its configuration (my.cnf), binlog_format=ROW too; then restart it",
        ),
        Rule(
            "binlog_format_not_row",
            settings.get("binlog_format", "ROW") == "ROW",
            "binlog_format is ROW",
            f"binlog_format is {settings.get('binlog_format')}; following changes needs ROW",
            "SET GLOBAL binlog_format = 'ROW', also in my.cnf; then reconnect the shop's programs",
        ),
        Rule(
            "binlog_row_image_not_full",
            settings.get("binlog_row_image", "FULL") == "FULL",
            "binlog_row_image is FULL",
            f"binlog_row_image is {settings.get('binlog_row_image')}; following changes needs FULL",
            "SET GLOBAL binlog_row_image = 'FULL', also in my.cnf; then reconnect the shop's "
            "programs",
        ),
        Rule(
            "database_not_logged",
            is_logged,
            "the database is in the log",
            f"the log leaves the database {session.address.database} out ({excluded})",
            "take binlog_do_db and binlog_ignore_db out of its configuration; then restart it",
        ),
        Rule(
            "no_replication_right",
            _has(grants, "REPLICATION SLAVE", "REPLICATION REPLICA"),
            f"user {user} may read the log",
            f"user {user} may not read the log",
            f"GRANT REPLICATION SLAVE ON *.* TO {user}",
        ),
        Rule(
            "no_log_status_right",
            _has(grants, "BINLOG MONITOR", "REPLICATION CLIENT", "SUPER"),
            f"user {user} may ask where the log ends",
            f"user {user} may not ask where the log ends",
            f"GRANT {right} ON *.* TO {user}",
        ),
        Rule(
            "log_kept_briefly",
            _kept_seconds(settings) == 0 or _kept_seconds(settings) >= _DAY_SECONDS,
            "the log is kept for a day or longer",
            f"the log is kept for {_kept_seconds(settings)} s: an engine that is away for longer "
            "reads everything anew",
            "SET GLOBAL binlog_expire_logs_seconds = 604800",
            is_advice=True,
        ),
        Rule(
            "crash_loses_commits",
            settings.get("innodb_flush_log_at_trx_commit", "1") == "1",
            "commits survive a crash of the server",
            "after a crash the server's tables may lack rows that its log has, and we then have",
            "SET GLOBAL innodb_flush_log_at_trx_commit = 1, GLOBAL sync_binlog = 1, also in my.cnf",
            is_advice=True,
        ),
    )


def _settings(session: Session) -> dict[str, str]:
    names = (
        "'log_bin', 'binlog_format', 'binlog_row_image', 'binlog_expire_logs_seconds',"
        " 'expire_logs_days', 'innodb_flush_log_at_trx_commit'"
    )
    rows = session.rows(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})")
    return {_text(name): _text(value) for name, value in rows}


def _logged_databases(
    session: Session, server: Server, settings: dict[str, str]
) -> tuple[bool, str]:
    """Whether the log has our database, and what leaves it out."""
    if settings.get("log_bin") not in ("1", "ON"):
        return True, ""
    is_renamed = not server.is_mariadb and server.version >= (8, 4)
    statement = "SHOW BINARY LOG STATUS" if is_renamed else "SHOW MASTER STATUS"
    try:
        row = session.named_rows(statement)[0]
    except EnvironmentFault:
        return True, ""  # no right to ask: another rule says so
    only = [name for name in _text(row.get("binlog_do_db") or "").split(",") if name]
    never = [name for name in _text(row.get("binlog_ignore_db") or "").split(",") if name]
    database = session.address.database
    if only and database not in only:
        return False, f"binlog_do_db is {', '.join(only)}"
    return database not in never, f"binlog_ignore_db is {', '.join(never)}"


def _grants(session: Session) -> str:
    return "\n".join(_text(row[0]) for row in session.rows("SHOW GRANTS"))


def _has(grants: str, *rights: str) -> bool:
    """Whether one of these rights was granted for all databases. What comes with a role is not
    listed: then the server itself says, when we ask.
    """
    if re.search(r"GRANT (?:`[^`]+`@`[^`]*`|`?\w+`?) TO ", grants):
        return True
    lines = [line for line in grants.splitlines() if " ON *.* TO " in line]
    return any("ALL PRIVILEGES" in line or right in line for line in lines for right in rights)


def _kept_seconds(settings: dict[str, str]) -> int:
    seconds = float(settings.get("binlog_expire_logs_seconds") or 0)
    days = float(settings.get("expire_logs_days") or 0)
    return int(seconds or days * _DAY_SECONDS)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
