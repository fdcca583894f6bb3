"""Which processes a project consists of, and what is the same in each of them.

Kept light: the supervisor imports this and nothing heavier. What a process is made of stands in
``engine_process.py`` and ``web_process.py``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO, cast

import structlog

from upwell.core.errors import UpwellError
from upwell.project.read import read_project
from upwell.project.values import Project
from upwell.supervise import on_orphaned, report_error

log = structlog.get_logger(__name__)

Run = Callable[[Project, threading.Event], None]
"""One process: works until the event is set. Raises UpwellError for what it cannot mend."""

_MODULES = {"engine": "upwell.engine_process", "web": "upwell.web_process"}


class Lossy:
    """A log that loses lines rather than stopping who writes them: its disk may be full."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def commands(folder: Path) -> dict[str, Sequence[str]]:
    """The processes of a project and how each is started."""
    return {name: [sys.executable, "-m", module, str(folder)] for name, module in _MODULES.items()}


def run_child(run: Run, folder: str) -> int:
    """Run one process of the project in ``folder`` until told to stop. Returns its exit code.

    It stops on SIGTERM, and when the supervisor is gone.
    """
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", Lossy(sys.stderr))),
    )
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    on_orphaned(lambda: os.kill(os.getpid(), signal.SIGTERM))
    try:
        run(read_project(Path(folder), environment=os.environ), stop)
    except UpwellError as error:
        log.error("cannot_work", **error.as_dict())  # noqa: TRY400 - told to the user in full
        return report_error(error)
    return 0
