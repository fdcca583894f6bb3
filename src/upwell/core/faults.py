"""Named points at which a process can be made to fail, exactly there.

``UPWELL_FAULT=point:n:action`` lets the action happen when the point is reached for the ``n``-th
time: ``kill`` ends the process as ``kill -9`` does, ``stop`` freezes it as ``kill -STOP`` does.
With ``UPWELL_FAULT=point:n:action:times:file`` it happens that many times in all, whatever
processes come and go: each time makes a file, ``file.1``, ``file.2`` and so on. Several faults are
separated by semicolons.

Unset, which is everywhere but in tests and drills, a point costs one comparison. Every point is
named once in the source, as a literal, so that a test can list them all and leave none out.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "UPWELL_FAULT"

_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to this process, where, and how often it still may."""

    point: str
    at: int
    action: str
    times: int = 0
    file: str = ""

    @classmethod
    def read(cls, text: str) -> Fault:
        """Raises ValueError for a text that is not as the module says."""
        point, at, action, *limit = text.split(":", 4)
        if action not in _SIGNALS or len(limit) not in {0, 2}:
            raise ValueError(f"{VARIABLE}: {text!r} is not point:n:{'|'.join(_SIGNALS)}")
        times, file = (int(limit[0]), limit[1]) if limit else (0, "")
        return cls(point, int(at), action, times, file)

    def __str__(self) -> str:
        limit = f":{self.times}:{self.file}" if self.file else ""
        return f"{self.point}:{self.at}:{self.action}{limit}"

    @property
    def happened(self) -> int:
        """How often it has."""
        return sum(self._trace(time).exists() for time in range(1, self.times + 1))

    def may_happen(self) -> bool:
        """Whether it may once more; that time is used up then."""
        if not self.file:
            return True
        for time in range(1, self.times + 1):
            try:
                self._trace(time).touch(exist_ok=False)
            except FileExistsError:
                continue
            return True
        return False

    def _trace(self, time: int) -> Path:
        return Path(f"{self.file}.{time}")


_faults = [Fault.read(text) for text in os.environ.get(VARIABLE, "").split(";") if text]
_reached: Counter[str] = Counter()


def reach(point: str) -> None:
    """The process is at ``point``."""
    if not _faults:
        return
    _reached[point] += 1
    for fault in _faults:
        if fault.point == point and fault.at == _reached[point] and fault.may_happen():
            os.kill(os.getpid(), _SIGNALS[fault.action])
