"""`upwell demo` as a measured subject: started as a user does, watched from outside, then checked.

Shop, customers, Upwell and whoever measures share the machine.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.folders import passing_folder
from benchmarks.processes import children, cpu_seconds
from benchmarks.programs import WrongRunError
from upwell.demo.template import SETTINGS_FILE, write_project
from upwell.feed.channel import EngineClient
from upwell.project.read import read_project
from upwell.sources.postgres.checksum import row_checksums, wal_position
from upwell.store.place import StatePlace

#: One order makes about this many changes of rows, over its life.
CHANGES_AN_ORDER = 9.4
#: Customers that hardly do anything, where somebody else writes.
HARDLY_ANY_ORDERS = 0.01
SOURCE = "shop"

_MARKS = {
    "engine": "upwell.engine_process",
    "web": "upwell.web_process",
    "customers": "upwell.demo.simulator",
}
_START_SECONDS = 120.0
_CATCH_UP_SECONDS = 120.0


@dataclass(frozen=True)
class Demonstration:
    """A demo that is live, with its customers in."""

    process: subprocess.Popen[bytes]
    folder: Path
    address: str

    @property
    def shop_url(self) -> str:
        port = (self.folder / ".upwell" / "shop-port").read_text()
        return f"postgresql://postgres@127.0.0.1:{port}/shop"

    @property
    def engine(self) -> EngineClient:
        return EngineClient(StatePlace(self.folder).find_socket())

    def pids(self) -> dict[str, int]:
        """Engine, web and, unless they were sent home, customers."""
        return children(self.process.pid, _MARKS)

    def cpu_seconds(self) -> dict[str, float]:
        """Processor time of each process so far."""
        return {name: cpu_seconds(pid) for name, pid in self.pids().items()}

    def freshness_ms(self) -> dict[str, float]:
        """Quantiles from commit to visible, of the slowest board, since the demo began."""
        address = f"http://{self.address}/api/v1/freshness"
        with urllib.request.urlopen(address, timeout=10) as reply:
            boards = json.load(reply)["dashboards"].values()
        return {
            name: max(board[f"{name}_ms"] or 0.0 for board in boards) for name in ("p50", "p99")
        }

    def rounds(self) -> list[dict[str, Any]]:
        """What the engine's log tells of each round that made the lake whole, oldest first."""
        lines = (self.folder / ".upwell" / "log" / "engine.log").read_text().splitlines()
        told = [json.loads(line) for line in lines if '"round_ended"' in line]
        return [line for line in told if line["event"] == "round_ended"]

    def send_customers_home(self) -> None:
        """Nothing is written from here on."""
        customers = self.pids().get("customers")
        if customers is not None:
            subprocess.run(["kill", f"-{signal.SIGTERM:d}", str(customers)], check=True)
        deadline = time.monotonic() + _START_SECONDS
        while _is_running(customers) and time.monotonic() < deadline:
            time.sleep(0.1)

    def check(self) -> None:
        """Everything the shop holds is here, and every model equals its full recompute.

        Raises WrongRunError. The customers must have gone home.
        """
        names = read_project(
            self.folder, environment={"SHOP_URL": self.shop_url}
        ).settings.sources[SOURCE].tables  # fmt: skip
        position = wal_position(self.shop_url)
        theirs = row_checksums(self.shop_url, SOURCE, names)
        deadline = time.monotonic() + _CATCH_UP_SECONDS
        while (ours := self.engine.ask("checksums"))["positions"][SOURCE] < position:
            if time.monotonic() > deadline:
                raise WrongRunError(f"not caught up {_CATCH_UP_SECONDS:.0f} s after the last order")
            time.sleep(0.2)
        for name, sums in theirs.items():
            if ours["tables"][name] != [str(value) for value in sums]:
                raise WrongRunError(f"{name}: {ours['tables'][name]}, the shop has {sums}")
        for model in self.engine.ask("prove")["models"]:
            if not model["holds"]:
                raise WrongRunError(f"{model['model']} differs from its full recompute")


@contextmanager
def running(orders_a_second: float, settings: str = "") -> Iterator[Demonstration]:
    """A demo until the end of the block, of a project with more ``settings`` in upwell.yaml."""
    with passing_folder() as folder:
        address = _free_address()
        if settings:
            write_project(folder, http=address)
            with (folder / SETTINGS_FILE).open("a", encoding="utf-8") as file:
                file.write(f"{settings}\n")
        command = _command(orders_a_second, folder, address)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        demonstration = Demonstration(process, folder, address)
        try:
            _await_live(demonstration)
            yield demonstration
        finally:
            process.terminate()
            process.communicate(timeout=30)


def reported(orders_a_second: float, seconds: float) -> dict[str, Any]:
    """One run of the demo; what it says of itself at the end."""
    with passing_folder() as folder:
        command = _command(orders_a_second, folder, _free_address())
        output = subprocess.run(
            [*command, "--for", f"{seconds:.0f}s"], capture_output=True, check=True
        ).stdout
    return dict(json.loads(output)["data"])


def _await_live(demonstration: Demonstration) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while demonstration.pids().keys() != _MARKS.keys() or not _answers(demonstration.address):
        if demonstration.process.poll() is not None or time.monotonic() > deadline:
            demonstration.process.terminate()
            _, said = demonstration.process.communicate(timeout=30)
            raise WrongRunError(f"the demo did not start: {said.decode()[-2000:]}")
        time.sleep(0.2)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/readyz", timeout=1):
            return True
    except (OSError, urllib.error.URLError):
        return False


def _is_running(pid: int | None) -> bool:
    if pid is None:
        return False
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # ended, and the demo will hear of it when it ends


def _command(orders_a_second: float, folder: Path, address: str) -> list[str]:
    options = ["--no-browser", "--json", "--dir", str(folder), "--http", address]
    rate = ["--rate", f"{orders_a_second:.4f}"]
    return [sys.executable, "-m", "upwell.cli.main", "demo", *options, *rate]


def _free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"
