"""TLS and SCRAM: with both clients, and never a word in the clear to who insists on them."""

from __future__ import annotations

import shutil
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from tests.certificates import Authority, new_authority
from tests.conftest import FAST, binaries_of
from upwell.core.errors import EnvironmentFault, UpwellError
from upwell.demo.server import Server
from upwell.sources.postgres import checkup
from upwell.sources.postgres.channel import open_channel
from upwell.sources.postgres.checkup import transport
from upwell.sources.postgres.session import session

from .replica import error_of
from .test_connections import capture

pytestmark = pytest.mark.postgres

PASSWORD = "open sesame/@:%"
#: How a client asks for TLS, and for GSS encryption: nothing of what it came for is in it.
WISHES = {struct.pack(">II", 8, 80877103), struct.pack(">II", 8, 80877104)}
IN_USE = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"


@dataclass(frozen=True)
class Guarded:
    """Takes nobody without TLS and a SCRAM password; shows one certificate or another."""

    server: Server
    authority: Authority
    other: Authority

    def url(
        self,
        host: str = "localhost",
        *,
        password: str = PASSWORD,
        ca: Path | None = None,
        more: str = "",
    ) -> str:
        root = quote(str(ca or self.authority.certificate))
        return (
            f"postgresql://postgres:{quote(password, safe='')}@{host}:{self.server.port}/postgres"
            f"?sslmode=verify-full&sslrootcert={root}{more}"
        )

    def present(self, authority: Authority, *hosts: str, days: int = 2) -> None:
        """Have the server show another certificate from now on."""
        owner = self.server.data.stat()
        for file, name in zip(authority.issue(*hosts, days=days), ("crt", "key"), strict=True):
            fresh = self.server.data / f"server.{name}.new"
            shutil.copyfile(file, fresh)
            shutil.chown(fresh, owner.st_uid, owner.st_gid)
            fresh.chmod(0o600)
            fresh.rename(self.server.data / f"server.{name}")
        if self.server.pid is not None:
            with psycopg.connect(self.server.socket_url_of("postgres"), autocommit=True) as admin:
                before = admin.execute("select pg_conf_load_time()").fetchone()
                admin.execute("select pg_reload_conf()")
                while admin.execute("select pg_conf_load_time()").fetchone() == before:
                    pass
                admin.execute("select pg_sleep(0)")


@pytest.fixture(scope="module")
def guarded_server(
    open_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    """Debian's server: the embedded one is built without TLS."""
    binaries = binaries_of("debian-15")
    folder = tmp_path_factory.mktemp("authorities")
    authority, other = new_authority(folder / "ours"), new_authority(folder / "another")
    server = Server(
        open_folder / "tls", binaries=binaries, settings={**FAST, "ssl": "on"}, password=PASSWORD
    )
    plain = Server(open_folder / "tls", binaries=binaries, settings=FAST, password=PASSWORD)
    plain.start()
    plain.stop()
    guarded = Guarded(server, authority, other)
    guarded.present(authority, "localhost", "127.0.0.1")
    (server.data / "pg_hba.conf").write_text(
        "local all all scram-sha-256\nhostssl all,replication all all scram-sha-256\n"
    )
    with server:
        yield guarded


@pytest.fixture
def guarded(guarded_server: Guarded) -> Iterator[Guarded]:
    yield guarded_server
    guarded_server.present(guarded_server.authority, "localhost", "127.0.0.1")


def asked_by_session(url: str) -> object:
    with session(url) as connection:
        return connection.execute(IN_USE).fetchone()


def asked_by_channel(url: str, *, replication: bool = False) -> object:
    channel = open_channel(url, replication=replication)
    try:
        return tuple(row["ssl"] == "t" for row in channel.query(IN_USE))
    finally:
        channel.close()


CLIENTS: tuple[Callable[[str], object], ...] = (
    asked_by_session,
    asked_by_channel,
    lambda url: asked_by_channel(url, replication=True),
)
#: What changes at the server, how it is reached, the error's code, and what it says.
REFUSED: dict[str, tuple[Callable[[Guarded], None], Callable[[Guarded], str], str, str]] = {
    "another host's certificate": (
        lambda guarded: guarded.present(guarded.authority, "db.example.com"),
        lambda guarded: guarded.url(),
        "certificate_of_another_host",
        "db.example.com",
    ),
    "a certificate of another authority": (
        lambda guarded: guarded.present(guarded.other, "localhost"),
        lambda guarded: guarded.url(),
        "certificate_refused",
        "unable to get local issuer certificate",
    ),
    "an expired certificate": (
        lambda guarded: guarded.present(guarded.authority, "localhost", days=-1),
        lambda guarded: guarded.url(),
        "certificate_refused",
        "certificate has expired",
    ),
    "no certificate of the authority": (
        lambda _: None,
        lambda guarded: guarded.url(ca=Path("/not/there.crt")),
        "root_certificate_missing",
        "/not/there.crt",
    ),
    "a wrong password": (
        lambda _: None,
        lambda guarded: guarded.url(password="wrong"),
        "password_wrong",
        "postgres",
    ),
    "no TLS where it is asked for": (
        lambda _: None,
        lambda guarded: guarded.url().replace("verify-full", "disable"),
        "host_not_allowed",
        "no encryption",
    ),
}


def test_a_database_is_captured_over_verified_tls_with_channel_binding(guarded: Guarded) -> None:
    for host in ("localhost", "127.0.0.1"):
        url = guarded.url(host, more="&channel_binding=require")
        for client in CLIENTS:
            assert client(url) == (True,)
    capture(guarded.url(more="&channel_binding=require"), "upwell_verified")


@pytest.mark.parametrize("case", REFUSED)
def test_who_is_not_trusted_is_refused_with_the_reason(guarded: Guarded, case: str) -> None:
    change, url, code, said = REFUSED[case]
    change(guarded)
    for client in CLIENTS:
        error = error_of(partial(client, url(guarded)))
        assert isinstance(error, EnvironmentFault)
        assert error.code == code, error
        assert said in error.what
        assert error.next_step
        assert PASSWORD not in str(error)


def test_a_server_that_asks_for_no_proof_is_refused_by_channel_binding(postgres: Server) -> None:
    for client in CLIENTS:
        error = error_of(partial(client, f"{postgres.url}?channel_binding=require"))
        assert error.code == "channel_binding"


@contextmanager
def listener() -> Iterator[tuple[int, list[bytes]]]:
    """Says no to whatever is wished for, and takes it down: its port, and what it heard."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    while data := connection.recv(4096):
                        heard.append(data)
                        connection.sendall(b"N")

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield server.getsockname()[1], heard
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_nothing_is_sent_in_the_clear_to_a_server_without_tls(mode: str, tmp_path: Path) -> None:
    authority = new_authority(tmp_path / "authority")
    for client in CLIENTS:
        with listener() as (port, heard):
            url = (
                f"postgresql://somebody:hidden@127.0.0.1:{port}/shop?sslmode={mode}"
                f"&sslrootcert={authority.certificate}"
            )
            error: UpwellError = error_of(partial(client, url))
            assert error.code == "no_tls", error
            assert "ssl = on" in error.next_step
        assert set(heard) <= WISHES


def test_other_threads_go_on_while_a_server_does_not_answer() -> None:
    """Else what is served would stand still whenever a source is away."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://x@127.0.0.1:{silent.getsockname()[1]}/x?connect_timeout=2"
        errors: list[UpwellError] = []
        connecting = threading.Thread(
            target=lambda: errors.append(error_of(partial(open_channel, url, replication=True)))
        )
        connecting.start()
        rounds = 0
        while connecting.is_alive():
            connecting.join(0.01)
            rounds += 1
    assert rounds > 20
    assert errors[0].code == "source_unavailable"


@pytest.mark.parametrize(
    ("host", "is_encrypted", "mode", "found"),
    [
        ("db.example.com", False, "prefer", [("not_encrypted", "warning")]),
        ("db.example.com", True, "require", [("server_not_verified", "warning")]),
        ("db.example.com", True, "verify-full", [("server_not_verified", "ok")]),
        ("127.0.0.1", False, "prefer", []),
        ("/run/postgresql", False, "prefer", []),
    ],
)
def test_the_doctor_says_who_could_listen(
    host: str, mode: str, found: list[tuple[str, str]], *, is_encrypted: bool
) -> None:
    checks = list(transport(host, is_encrypted=is_encrypted, mode=mode))
    assert [(each.code, each.verdict) for each in checks] == found


def test_the_doctor_looks_at_the_connection_it_has(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkup, "_OURSELVES", ())
    for mode, verdict in (("verify-full", "ok"), ("require", "warning")):
        url = guarded.url().replace("verify-full", mode)
        checks = checkup.check_up(url, [], slot=None).checks
        assert verdict in [e.verdict for e in checks if e.code == "server_not_verified"]
