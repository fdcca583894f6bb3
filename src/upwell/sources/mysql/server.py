"""What kind of server answers, which one it is, and where its log ends."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from upwell.core.errors import EnvironmentFault
from upwell.sources.mysql.places import Place, number_of
from upwell.sources.mysql.session import Session

_NOW_US = "CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)"

_CONNECTIONS = """
    SELECT COUNT(*) FROM information_schema.PROCESSLIST
     WHERE USER = SUBSTRING_INDEX(CURRENT_USER(), '@', 1)
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A server by what it says of itself."""

    is_mariadb: bool
    version: tuple[int, int]
    version_text: str
    identity: str

    @property
    def kind(self) -> str:
        return "MariaDB" if self.is_mariadb else "MySQL"


@dataclass(frozen=True, slots=True)
class Reading:
    """The log's end at a time of the source's clock; our clock minus the source's."""

    place: Place
    at_us: int
    skew_us: int


def meet(session: Session) -> Server:
    """Ask a server who it is."""
    text = str(session.row("SELECT VERSION()")[0])
    is_mariadb = "mariadb" in text.lower()
    found = re.match(r"(?:5\.5\.5-)?(\d+)\.(\d+)", text)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    if is_mariadb:
        number, domain = session.row("SELECT @@global.server_id, @@global.gtid_domain_id")
        identity = f"mariadb {number}-{domain}"
    else:
        identity = f"mysql {session.row('SELECT @@global.server_uuid')[0]}"
    return Server(is_mariadb, version, text, identity)


def log_end(session: Session, server: Server) -> Place:
    """Behind everything that is in the log, though it may not all be visible yet."""
    is_renamed = not server.is_mariadb and server.version >= (8, 4)
    rows = session.rows("SHOW BINARY LOG STATUS" if is_renamed else "SHOW MASTER STATUS")
    if not rows:
        raise EnvironmentFault(
            "log_bin_off",
            "the source writes no binary log, so its changes cannot be followed",
            where=str(session.address),
            next_step="set log_bin and binlog_format=ROW in its configuration; then restart it",
        )
    return Place(number_of(str(rows[0][0])), int(rows[0][1]))


def log_files(session: Session) -> Sequence[tuple[str, int]]:
    """Names and sizes of the log's files, in order."""
    return [(str(row[0]), int(row[1])) for row in session.rows("SHOW BINARY LOGS")]


def bytes_from(session: Session, place: Place) -> int:
    """How much log there is from a place on."""
    files = [(number_of(name), size) for name, size in log_files(session)]
    return sum(
        max(0, size - place.offset) if number == place.file else size
        for number, size in files
        if number >= place.file
    )


def connections_of_user(session: Session) -> int:
    """How many connections the user of a session has."""
    return int(session.row(_CONNECTIONS)[0])


def gtid_before(session: Session, server: Server, place: Place, file_name: str) -> str:
    """The GTIDs, one a domain, of what lies before a place; empty where the server cannot tell."""
    if not server.is_mariadb or not file_name:
        return ""
    query = "SELECT BINLOG_GTID_POS(%s, %s)"
    found = session.row(query, [file_name, place.offset])[0]
    return _text(found)


def read_clock(session: Session, server: Server, now_us: Callable[[], int]) -> Reading:
    """One reading. The clock is read first: what was committed before it is in the log by then."""
    asked_us = now_us()
    at_us = int(session.row(f"SELECT {_NOW_US}")[0])
    answered_us = now_us()
    place = log_end(session, server)
    return Reading(place, at_us, (asked_us + answered_us) // 2 - at_us)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")
