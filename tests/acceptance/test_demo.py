"""``upwell demo`` as users run it: it ends as asked, once a folder, and leaves nothing running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.running import eventually, free_port
from upwell.core.errors import Exit

#: What docs/reference/commands.md says the report holds.
REPORT = {
    "orders_written",
    "changes_captured",
    "versions",
    "freshness_ms",
    "proved",
    "source_equals_replica",
    "differing_tables",
    "models",
    "shop",
    "pss_mb",
}
LIVE_SECONDS = 60.0
STOP_SECONDS = 10.0  # 2 s on a slow machine; others use this one too


def command(folder: Path, port: int, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "upwell.cli.main", "demo", "--no-browser", "--json"),
        *("--dir", str(folder), "--http", f"127.0.0.1:{port}", *more),
    ]


def family(pid: int) -> set[int]:
    """A process and all that descend from it, as they are now."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[int(entry.parent.name)] = int(fields[1])
    found, before = {pid}, set[int]()
    while found != before:
        before = set(found)
        found |= {child for child, parent in parents.items() if parent in before}
    return found


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@contextmanager
def demo(folder: Path, port: int, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    """The demo running; what is left of it afterwards is stopped."""
    with subprocess.Popen(command(folder, port, *more), stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)


def is_ready(port: int) -> bool:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as reply:
        return bool(reply.status == 200)


def data_of(output: bytes) -> dict[str, Any]:
    (line,) = output.splitlines()
    told = json.loads(line)
    assert told["ok"] is True
    return dict(told["data"])


@pytest.mark.postgres
def test_a_demo_for_a_while_ends_by_itself_with_its_report(tmp_path: Path) -> None:
    port = free_port()
    with demo(tmp_path / "shop", port, "--for", "4s") as process:
        eventually(lambda: is_ready(port), seconds=LIVE_SECONDS)
        processes = family(process.pid)
        output, _ = process.communicate(timeout=LIVE_SECONDS)
    report = data_of(output)
    assert process.returncode == Exit.DONE
    assert report.keys() == REPORT
    assert report["proved"] is True
    assert report["source_equals_replica"] is True
    assert report["orders_written"] > 0
    assert {"engine", "web", "supervisor"} <= report["pss_mb"].keys()
    assert all(size > 0 for size in report["pss_mb"].values())
    assert len(processes) > 3
    eventually(lambda: not any(map(is_alive, processes)), seconds=STOP_SECONDS)


@pytest.mark.postgres
def test_a_folder_has_one_demo_and_ctrl_c_stops_all_of_it_while_somebody_watches(
    tmp_path: Path,
) -> None:
    folder, port = tmp_path / "shop", free_port()
    with demo(folder, port) as process:
        eventually(lambda: is_ready(port), seconds=LIVE_SECONDS)

        second = subprocess.run(
            command(folder, free_port()), stdout=subprocess.PIPE, timeout=30, check=False
        )
        assert second.returncode == Exit.ENVIRONMENT
        assert json.loads(second.stdout)["error"]["code"] == "already_running"
        assert is_ready(port)

        address = f"http://127.0.0.1:{port}/live?dashboard=sales"
        with urllib.request.urlopen(address, timeout=10) as watching:
            assert watching.readline()
            processes = family(process.pid)
            begun = time.monotonic()
            os.kill(process.pid, signal.SIGINT)
            output, _ = process.communicate(timeout=STOP_SECONDS)
            eventually(lambda: not any(map(is_alive, processes)), seconds=STOP_SECONDS)
            assert time.monotonic() - begun < STOP_SECONDS
    assert len(processes) > 4  # with the customers
    assert data_of(output) == {"stopped": True}
