"""Every way to connect: over TCP and socket, with SCRAM, with TLS."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from upwell.core.errors import EnvironmentFault
from upwell.demo.server import Server, embedded_binaries
from upwell.sources.postgres import PostgresSource
from upwell.sources.postgres.channel import open_channel
from upwell.sources.postgres.checksum import row_checksums, wal_position
from upwell.sources.postgres.replication import drop_slot
from upwell.sources.postgres.session import session

from .conftest import Database
from .replica import Replica, error_of, reached

pytestmark = pytest.mark.postgres

PASSWORD = "open sesame/@:%"
DEBIAN = Path("/usr/lib/postgresql/15/bin")
QUICK = {"fsync": "off", "shared_buffers": "32MB"}


def capture(url: str, slot: str) -> None:
    """Copy and stream a table over ``url``, and compare."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("drop table if exists a")
        connection.execute("create table a (id int primary key, t text)")
        connection.execute(
            "insert into a select i, repeat('x', 500) from generate_series(1, 999) i"
        )
        source = PostgresSource("shop", url, ["a"], slot=slot)
        (table,) = tables = list(source.look().tables.values())
        position = source.begin(tables).position
        copy = source.copy()
        replica = Replica()
        replica.load(copy, table)
        copy.close()
        stream = source.stream(position, tables)
        connection.execute("update a set t = repeat('y', id)")
        connection.execute("delete from a where id < 100")
        replica.follow(stream, reached(wal_position(url)))
        assert replica.checksum("shop.a") == row_checksums(url, "shop", ["a"])["shop.a"]
        source.close()
        drop_slot(connection, slot)


def test_a_database_is_captured_over_its_unix_socket(postgres: Server) -> None:
    capture(postgres.socket_url_of("postgres"), "upwell_socket")


@pytest.fixture(params=["embedded-18", "debian-15"])
def guarded(request: pytest.FixtureRequest, open_folder: Path) -> Iterator[Server]:
    """A server that asks for a password."""
    binaries = embedded_binaries() if request.param == "embedded-18" else DEBIAN
    if not binaries.exists():
        pytest.skip(f"{request.param} is not installed")
    folder = open_folder / f"guarded-{request.param}"
    with Server(folder, binaries=binaries, settings=QUICK, password=PASSWORD) as server:
        yield server


def test_a_database_is_captured_with_a_scram_password(guarded: Server) -> None:
    capture(guarded.url, "upwell_scram")
    for url in (
        f"postgresql://postgres:wrong@127.0.0.1:{guarded.port}/postgres",
        f"postgresql://postgres@127.0.0.1:{guarded.port}/postgres",
    ):
        error = error_of(PostgresSource("shop", url, ["a"], slot="s").look)
        assert isinstance(error, EnvironmentFault)
        assert error.code in ("password_wrong", "password_missing")


@pytest.fixture
def encrypted(open_folder: Path) -> Iterator[Server]:
    """A server with TLS; the embedded one is built without."""
    if not (DEBIAN / "postgres").exists() or shutil.which("openssl") is None:
        pytest.skip("needs Debian's PostgreSQL 15 and openssl")
    folder = open_folder / "encrypted"
    server = Server(folder, binaries=DEBIAN, settings=QUICK, password=PASSWORD)
    server.start()
    server.stop()
    key, certificate = server.data / "server.key", server.data / "server.crt"
    subprocess.run(
        [
            "openssl",
            "req",
            "-new",
            "-x509",
            "-days",
            "2",
            "-nodes",
            "-subj",
            "/CN=localhost",
            "-newkey",
            "rsa:2048",
            "-keyout",
            str(key),
            "-out",
            str(certificate),
        ],
        check=True,
        capture_output=True,
    )
    owner = server.data.stat()
    for file in (key, certificate):
        shutil.chown(file, owner.st_uid, owner.st_gid)
        file.chmod(0o600)
    with Server(
        folder, binaries=DEBIAN, settings={**QUICK, "ssl": "on"}, password=PASSWORD
    ) as started:
        yield started


def test_a_database_is_captured_over_tls(encrypted: Server) -> None:
    url = f"{encrypted.url}?sslmode=require"
    channel = open_channel(url, replication=False)
    try:
        rows = channel.query("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
        assert rows == [{"ssl": "t"}]
    finally:
        channel.close()
    capture(url, "upwell_tls")
    error = error_of(PostgresSource("s", f"{url}&sslmode=verify-full", ["a"], slot="s").look)
    assert error.code == "root_certificate_missing"


def test_a_server_without_tls_refuses_who_insists_on_it(postgres: Server) -> None:
    source = PostgresSource("shop", f"{postgres.url}?sslmode=require", ["a"], slot="s")
    for connect in (source.look, source.copy):
        assert error_of(connect).code == "no_tls"


def test_a_server_not_set_up_for_following_is_refused_with_what_to_set(open_folder: Path) -> None:
    settings = {**QUICK, "wal_level": "replica", "max_replication_slots": "1"}
    with Server(open_folder / "replica", settings=settings) as server:
        error = error_of(lambda: PostgresSource("shop", server.url, ["a"], slot="s").begin(()))
        assert error.code == "wal_level_not_logical"
        assert "ALTER SYSTEM SET wal_level = logical" in error.next_step


def test_a_server_without_free_slots_is_refused(open_folder: Path) -> None:
    settings = {**QUICK, "max_replication_slots": "1"}
    with Server(open_folder / "slots", settings=settings) as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("create table a (id int primary key)")
            connection.execute("select pg_create_physical_replication_slot('theirs')")
        error = error_of(lambda: PostgresSource("shop", server.url, ["a"], slot="s").begin(()))
        assert error.code == "slots_exhausted"


def test_whoever_alters_a_table_is_never_ended_for_our_sake(database: Database) -> None:
    """A reading that could be part of a deadlock gives way before the server looks for one."""
    database.run("create table a (id int primary key); create table b (id int primary key)")
    timeout = database.value("select setting::int from pg_settings where name = 'deadlock_timeout'")
    assert isinstance(timeout, int)
    with psycopg.connect(database.url) as owner:
        owner.execute("lock table a in access exclusive mode")
        begun = time.monotonic()
        with session(database.url) as connection, connection.transaction():
            connection.execute("select from public.b")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                connection.execute("select from public.a")
        assert time.monotonic() - begun < timeout / 1000
        owner.execute("alter table b add column n int")
        owner.commit()
