"""Servers that tests share, once for the whole session: PostgreSQL in each version, MariaDB, S3."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import mariadb as mariadb_server
from tests.store.lake import seaweed as s3
from tests.torture_report import Report
from upwell.core.errors import EnvironmentFault
from upwell.demo.server import Server, embedded_binaries

#: A test server may lose its data with the machine: that makes commits cheap.
FAST = {"fsync": "off", "shared_buffers": "64MB", "max_wal_size": "2GB"}
DEBIAN_BINARIES = Path("/usr/lib/postgresql/15/bin")


def binaries_of(version: str) -> Path:
    """The ``bin`` folder of ``embedded-18`` or ``debian-15``; skips the test where it is absent."""
    try:
        folder = embedded_binaries() if version == "embedded-18" else DEBIAN_BINARIES
    except EnvironmentFault:
        folder = Path("absent")
    if not (folder / "postgres").exists():
        reason = f"PostgreSQL {version} is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter: pytest's own ones are closed to ``nobody``."""
    with tempfile.TemporaryDirectory(prefix="upwell-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture(scope="session")
def postgres(open_folder: Path) -> Iterator[Server]:
    """The embedded PostgreSQL 18 server. Each test makes its own database in it."""
    binaries = binaries_of("embedded-18")
    with Server(open_folder / "18", binaries=binaries, settings=FAST) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_15(open_folder: Path) -> Iterator[Server]:
    """Debian's PostgreSQL 15, where it is installed."""
    binaries = binaries_of("debian-15")
    with Server(open_folder / "15", binaries=binaries, settings=FAST) as server:
        yield server


@pytest.fixture(params=["postgres", "postgres_15"], ids=["embedded-18", "debian-15"])
def postgres_server(request: pytest.FixtureRequest) -> Server:
    """Each test that asks for this runs on both servers."""
    server: Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[mariadb_server.Server]:
    """Debian's MariaDB, where it is installed. Each test makes its own database in it."""
    if not mariadb_server.program("mariadbd") or not mariadb_server.program("mariadb-install-db"):
        reason = "MariaDB is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with (
        tempfile.TemporaryDirectory(prefix="upwell-test-") as name,
        mariadb_server.Server(Path(name)) as server,
    ):
        yield server


@pytest.fixture(scope="session")
def seaweed(open_folder: Path) -> Iterator[s3.Seaweed]:
    """An S3 server with an Iceberg catalog. Whoever makes a lake takes a bucket of its own."""
    program = s3.binary()
    if program is None:
        reason = "SeaweedFS is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with s3.serving(open_folder / "seaweed", program) as server:
        yield server


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Iterator[Report]:
    """Takes down what a crash or soak test sees; written to docs by those marked ``torture``."""
    taken = Report(request.node.nodeid)
    yield taken
    if request.node.get_closest_marker("torture") and taken.rows:
        taken.write()
