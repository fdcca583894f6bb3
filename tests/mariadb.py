"""A MariaDB server of the tests' own: a folder, a Unix socket, a port on loopback."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pymysql

#: A test server may lose its data with the machine: that makes commits cheap.
FAST = {
    "innodb_flush_log_at_trx_commit": "0",
    "sync_binlog": "0",
    "innodb_buffer_pool_size": "64M",
    "innodb_log_file_size": "32M",
    "performance_schema": "OFF",
}
LOGGING = {
    "log_bin": "binlog",
    "binlog_format": "ROW",
    "server_id": "7",
    "max_allowed_packet": "128M",
}
_START_SECONDS = 60


def program(name: str) -> str | None:
    """Where a program of MariaDB is; servers are often not on the path."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))


class Server:
    """Runs from ``start`` (or entering) to ``stop``. ``settings`` go over those of tests."""

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.socket = folder / "s"
        self.settings = {**FAST, **LOGGING, **(settings or {})}
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
        install = program("mariadb-install-db")
        assert install is not None
        # Of its own: a server that starts removes what it takes for left over in this folder.
        temporary = f"--tmpdir={self.folder / 'tmp'}"
        options = [
            "--no-defaults",
            f"--datadir={self.folder / 'data'}",
            "--skip-test-db",
            temporary,
        ]
        options += ["--auth-root-authentication-method=normal", *_as_whom()]
        command = [install, *options]
        made = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert made.returncode == 0, made.stdout + made.stderr
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start, and wait until it answers."""
        binary = program("mariadbd")
        assert binary is not None
        options = {
            "datadir": self.folder / "data",
            "tmpdir": self.folder / "tmp",
            "socket": self.socket,
            "port": self.port,
            "bind_address": "127.0.0.1",
            "pid_file": self.folder / "pid",
            **self.settings,
        }
        listed = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [binary, "--no-defaults", *_as_whom(), *listed], stdout=log, stderr=log
            )
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.connect(str(self.socket))
                self.connect().close()
            except (OSError, pymysql.err.OperationalError):
                said = (self.folder / "log").read_text(errors="replace")[-2000:]
                assert self._process.poll() is None, said
                assert time.monotonic() < deadline, said
                time.sleep(0.05)
            else:
                return

    @property
    def process_id(self) -> int:
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        """An orderly end."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """The end of a crash."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(60)
            self._process = None

    def connect(self, database: str | None = None, user: str = "root", **options: Any) -> Any:
        """An ordinary connection."""
        return pymysql.connect(
            unix_socket=str(self.socket),
            user=user,
            database=database,
            charset="utf8mb4",
            autocommit=True,
            **options,
        )

    def url_of(self, database: str, *, user: str = "root", password: str = "") -> str:
        """Over the Unix socket."""
        who = f"{user}:{password}" if password else user
        return f"mysql://{who}@localhost/{database}?socket={self.socket}"

    def tcp_url_of(self, database: str, user: str, password: str, options: str = "") -> str:
        """Over loopback."""
        tail = f"?{options}" if options else ""
        return f"mysql://{user}:{password}@127.0.0.1:{self.port}/{database}{tail}"


def _as_whom() -> list[str]:
    """A server refuses to run as root unless told so."""
    return ["--user=root"] if os.geteuid() == 0 else []


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
