"""Asks the server for its log from a place on, and hands over the socket.

The client library makes the connection, so all its ways to authenticate and encrypt work; what
comes behind the request are packets that we read from the socket in large pieces.
"""

from __future__ import annotations

import secrets
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from upwell.core.errors import GapError, Unavailable
from upwell.sources.mysql.places import FIRST_OFFSET, LAST_OFFSET_TO_ASK, Place, number_of
from upwell.sources.mysql.server import Server, gtid_before, log_files
from upwell.sources.mysql.session import START_ANEW, Session, translated
from upwell.sources.mysql.url import Address

_BINLOG_DUMP = 0x12
#: The server shows a sign of life this often while nothing is logged.
HEARTBEAT_SECONDS = 1
_MARIADB_CAPABILITY = 4  # knows MariaDB's GTID events


@dataclass(frozen=True, slots=True)
class Dump:
    """The log on its way: ``close`` ends it. ``is_checksummed`` until the log says otherwise."""

    session: Session
    is_checksummed: bool

    @property
    def socket(self) -> socket.socket:
        raw: socket.socket = self.session.raw._sock  # noqa: SLF001 - see the decision on pymysql
        return raw

    def close(self) -> None:
        self.session.close()


def open_dump(address: Address, server: Server, place: Place, gtid: str) -> Dump:
    """Have the log sent from ``place`` on. Raises ``GapError`` if it is not there any more."""
    session = Session(address)
    try:
        name, offset = locate(session, server, place, gtid)
        algorithm = str(session.row("SELECT @@global.binlog_checksum")[0])
        word = "source" if not server.is_mariadb and server.version >= (8, 4) else "master"
        period = HEARTBEAT_SECONDS * 1_000_000_000
        session.run(f"SET @{word}_binlog_checksum = @@global.binlog_checksum")
        session.run(f"SET @{word}_heartbeat_period = {period}")
        if word == "source":  # older servers of the line know the older names alone
            session.run("SET @master_binlog_checksum = @@global.binlog_checksum")
            session.run(f"SET @master_heartbeat_period = {period}")
        if server.is_mariadb:
            session.run(f"SET @mariadb_slave_capability = {_MARIADB_CAPABILITY}")
        request = struct.pack("<IHI", offset, 0, _replica_id()) + name.encode()
        with translated("follow the source database", address):
            session.raw._execute_command(_BINLOG_DUMP, request)  # noqa: SLF001 - as above
    except BaseException:
        session.close()
        raise
    return Dump(session, algorithm.upper() != "NONE")


def locate(session: Session, server: Server, place: Place, gtid: str) -> tuple[str, int]:
    """File and offset to ask for. Raises ``GapError`` where the log does not have the place.

    The server says which transactions lie before a place: if ours is not the last of them, the log
    was begun anew, or it is another server's.
    """
    files = log_files(session)
    by_number = {number_of(name): (name, size) for name, size in files}
    if place.file not in by_number:
        raise _gone(session, place, files)
    name, size = by_number[place.file]
    if place.offset > size:
        raise _gone(session, place, files)
    if gtid and server.is_mariadb:
        before = gtid_before(session, server, place, name).split(",")
        if gtid not in before and place.offset > FIRST_OFFSET:
            raise _other(session, place, gtid)
    if gtid and not server.is_mariadb:
        query = "SELECT GTID_SUBSET(%s, @@global.gtid_executed)"
        if not session.row(query, [gtid])[0]:
            raise _other(session, place, gtid)
    if place.offset <= LAST_OFFSET_TO_ASK:
        return name, place.offset
    if place.file + 1 not in by_number:  # the server goes on there as soon as this file is done
        raise Unavailable(
            "log_file_large",
            f"the log goes on behind 4 GiB of {name}, and its next file is not there yet",
            where=str(session.address),
            next_step="it is tried again",
        )
    return by_number[place.file + 1][0], FIRST_OFFSET


def _replica_id() -> int:
    """A number of our own: a server drops a replica when another comes with the same."""
    return secrets.randbelow(1 << 31) + (1 << 31) - 1


def _gone(session: Session, place: Place, files: Sequence[tuple[str, int]]) -> GapError:
    first, last = (files[0][0], files[-1][0]) if files else ("nothing", "nothing")
    return GapError(
        "log_lost",
        f"the log no longer has file {place.file} at {place.offset}: there are {first} to {last}",
        where=str(session.address),
        next_step=f"keep the log for longer (binlog_expire_logs_seconds); {START_ANEW}",
    )


def _other(session: Session, place: Place, gtid: str) -> GapError:
    return GapError(
        "log_changed",
        f"the log at file {place.file}, {place.offset} is not the one read so far: transaction "
        f"{gtid} is not in it (RESET MASTER, a restored server, or another one)",
        where=str(session.address),
        next_step=f"correct the URL if it is another server; else {START_ANEW}",
    )
