"""The engine as its own process, with one thing about its surroundings changed.

The environment says what; nothing in the engine knows of it.

- ``UPWELL_TORTURE_HASTE``: what an engine does every ten minutes or once a day, every second or two
- ``UPWELL_TORTURE_CLOCK``: a file that says by how many seconds the wall clock is wrong just now
- ``UPWELL_TORTURE_EIO``: a file; once it is there, the next fsync fails, and the file is gone
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

HASTE, CLOCK, EIO = (f"UPWELL_TORTURE_{name}" for name in ("HASTE", "CLOCK", "EIO"))

KEPT_SECONDS = 5.0
"""How long an unreferenced file stays, and how much history a table keeps."""


def engine(folder: Path) -> Sequence[str]:
    """The command of a project's engine, changed as the environment says."""
    return [sys.executable, "-m", "tests.torture.altered", str(folder)]


def set_clock(told: Path) -> None:
    """Shift the wall clock; the one that nobody sets stays as it is."""
    seconds, nanoseconds = time.time, time.time_ns

    def shift() -> float:
        with suppress(OSError, ValueError):
            return float(told.read_text())
        return 0.0

    setattr(time, "time", lambda: seconds() + shift())  # noqa: B010 - a module's function
    setattr(time, "time_ns", lambda: nanoseconds() + int(shift() * 1e9))  # noqa: B010


def fail_once(told: Path) -> None:
    """Let the disk refuse an fsync when told to."""
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        with suppress(FileNotFoundError):
            told.unlink()
            raise OSError(errno.EIO, "Input/output error")
        sync(descriptor)

    setattr(os, "fsync", fsync)  # noqa: B010 - a module's function


def hurry() -> None:
    """Shorten what an engine waits for between sweeps, folds and checkpoints."""
    from upwell.store import hot  # noqa: PLC0415 - after the clock
    from upwell.store.lake import care, mark, retention, sweep  # noqa: PLC0415 - after the clock

    def soon(read: mark.Mark, source: str, _keep: timedelta) -> datetime | None:
        return retention.cut_off(read, source, timedelta(seconds=KEPT_SECONDS))

    altered = {
        "SWEEP_SECONDS": 1.0,
        "FOLD_SECONDS": 2.0,
        "Sweeper": partial(sweep.Sweeper, keep_seconds=KEPT_SECONDS),
        "cut_off": soon,
    }
    assert hasattr(hot, "FOLD_AT_BYTES")
    setattr(hot, "FOLD_AT_BYTES", 1 << 18)  # noqa: B010 - a module's constant
    for name, value in altered.items():
        assert hasattr(care, name)
        setattr(care, name, value)


def main() -> int:
    if told := os.environ.get(CLOCK):
        set_clock(Path(told))
    if told := os.environ.get(EIO):
        fail_once(Path(told))
    if os.environ.get(HASTE):
        hurry()
    from upwell.app import run_child  # noqa: PLC0415 - after the clock
    from upwell.engine_process import run_engine  # noqa: PLC0415 - after the clock

    return run_child(run_engine, sys.argv[1])


if __name__ == "__main__":
    sys.exit(main())
