"""A primary server and a standby that follows it, each a real one, for tests of what follows them.

Both end with the block that made them, whatever happened in it: every process is a child of ours
and is ended by its own id.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.capture.live import PostgresTill
from tests.conftest import FAST
from upwell.demo.server import Server

PATIENCE_SECONDS = 60.0
#: The slot by which the standby follows.
STANDBY_SLOT = "standby"
_PRIMARY = {"wal_level": "logical", "wal_keep_size": "256MB", "wal_sender_timeout": "5s"}
_STANDBY = {"hot_standby_feedback": "on", "wal_receiver_status_interval": "1s"}


@dataclass
class Pair:
    """``primary`` and ``standby``; ``url_of`` leads to whichever takes writes."""

    primary: Server
    standby: Server
    binaries: Path

    @property
    def servers(self) -> tuple[Server, Server]:
        return (self.primary, self.standby)

    def url_of(self, database: str) -> str:
        """Both servers' addresses; the one that takes writes is connected to."""
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.servers)
        return f"postgresql://postgres@{hosts}/{database}?target_session_attrs=read-write"

    def on(self, server: Server, query: str, database: str = "postgres") -> object:
        """The first value of the first row; None if there is no row."""
        with psycopg.connect(server.url_of(database), autocommit=True) as connection:
            cursor = connection.execute(query.encode())
            row = cursor.fetchone() if cursor.description else None
        return None if row is None else row[0]

    def wait_until_level(self) -> None:
        """Until the standby has everything that the primary has written."""
        reached = self.on(self.primary, "select pg_current_wal_lsn()")
        asked = f"select pg_last_wal_replay_lsn() >= '{reached}'"
        eventually(lambda: self.on(self.standby, asked) is True, "the standby level")

    def cut_off(self) -> None:
        """The standby takes no more of the log: what is committed from now on is not there."""
        self.on(self.standby, "alter system set primary_conninfo = ''")
        self.on(self.standby, "select pg_reload_conf()")
        receiving = "select count(*) from pg_stat_wal_receiver"
        eventually(lambda: self.on(self.standby, receiving) == 0, "the standby cut off")

    def crash(self, server: Server) -> None:
        """See ``crash``."""
        crash(server)

    def promote(self) -> None:
        """Have the standby take over; returns once it takes writes."""
        assert self.on(self.standby, "select pg_promote(true, 60)") is True

    def is_synced(self, slot: str) -> bool:
        """Whether a promoted standby would have a logical slot (PostgreSQL 17 and newer)."""
        asked = (
            "select synced and not temporary and invalidation_reason is null "
            f"from pg_replication_slots where slot_name = '{slot}'"
        )
        return self.on(self.standby, asked) is True


def crash(server: Server) -> None:
    """End a server at once, as ``pg_ctl stop -m immediate`` does; ``start`` recovers it."""
    process = server._process
    assert process is not None
    process.send_signal(signal.SIGQUIT)
    process.wait(30)
    server.stop()


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@contextlib.contextmanager
def pair(
    folder: Path,
    binaries: Path,
    *,
    syncs_slots: bool = False,
    on_primary: Mapping[str, str] | None = None,
) -> Iterator[Pair]:
    """Start a primary and its standby below ``folder``.

    ``syncs_slots``: the standby keeps copies of the failover slots, and the primary sends a
    follower of these nothing that the standby does not have (PostgreSQL 17 and newer).
    """
    settings = {**FAST, **_PRIMARY, **(on_primary or {})}
    if syncs_slots:
        settings["synchronized_standby_slots"] = STANDBY_SLOT
    with contextlib.ExitStack() as running:
        primary = running.enter_context(
            Server(folder / "primary", binaries=binaries, settings=settings)
        )
        followed = f"host=127.0.0.1 port={primary.port} user=postgres dbname=postgres"
        own = {**FAST, **_PRIMARY, **_STANDBY}
        if syncs_slots:
            own["sync_replication_slots"] = "on"
        standby = Server(folder / "standby", binaries=binaries, settings=own)
        backed_up(primary, standby, "-C", "-S", STANDBY_SLOT)
        for name, value in (("primary_conninfo", followed), ("primary_slot_name", STANDBY_SLOT)):
            with (standby.data / "postgresql.auto.conf").open("a") as conf:
                conf.write(f"{name} = '{value}'\n")
        (standby.data / "standby.signal").touch()
        running.enter_context(standby)
        made = Pair(primary, standby, binaries)
        made.wait_until_level()
        yield made


def backed_up(server: Server, to: Server, *options: str) -> None:
    """A base backup of a running server as the data of another, not started yet."""
    command = [str(to._binaries / "pg_basebackup"), "-d", server.url, "-D", str(to.data)]
    command += ["-X", "stream", "--checkpoint=fast", "--no-sync", *options]
    to._runs_as.give(to.directory)
    done = subprocess.run(command, capture_output=True, check=False, **to._surroundings())
    assert done.returncode == 0, done.stderr.decode()


def copied_away(server: Server, to: Path) -> None:
    """The data of a server that does not run, as a snapshot of its disk would hold it."""
    assert server.pid is None
    shutil.rmtree(to, ignore_errors=True)
    subprocess.run(["cp", "-a", str(server.data), str(to)], check=True)


def put_back(server: Server, snapshot: Path) -> None:
    """Let a server that does not run find the data of a snapshot."""
    assert server.pid is None
    shutil.rmtree(server.data)
    subprocess.run(["cp", "-a", str(snapshot), str(server.data)], check=True)


class RelentlessTill:
    """Writes to whichever server takes writes, as ``PostgresTill`` does, and never gives up."""

    statements = PostgresTill.statements

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection | None = None

    def change(self, statements: Sequence[str]) -> int:
        """One transaction; how many rows it is known to have changed."""
        try:
            if self._connection is None:
                self._connection = psycopg.connect(self._url, autocommit=True, connect_timeout=2)
            with self._connection.transaction():
                return sum(self._connection.execute(each.encode()).rowcount for each in statements)
        except psycopg.IntegrityError:
            return 0  # a key that is taken
        except psycopg.Error:
            self.close()
            return 0

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
