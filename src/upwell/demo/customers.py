"""The shop's customers as a process of their own, which ends with whoever sent them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_STOP_SECONDS = 2.0
_REPORT_SECONDS = 10.0


@contextmanager
def customers(url: str, orders_a_second: float) -> Iterator[subprocess.Popen[bytes]]:
    """The shop at ``url`` is busy inside the block."""
    command = [sys.executable, "-m", "upwell.demo.simulator"]
    process = subprocess.Popen(  # noqa: S603 - our own module
        [*command, "--url", url, "--rate", str(orders_a_second)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def send_home(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """End the customers; what they did."""
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=_REPORT_SECONDS)
    return dict(json.loads(output))
