"""Named points at which a test can make a process fail, exactly there.

``UPWELL_FAULT=point:n:action`` lets the action happen when the point is reached for the ``n``-th
time: ``kill`` ends the process as ``kill -9`` does, ``stop`` freezes it as ``kill -STOP`` does.
Unset, which is everywhere but in tests and drills, a point costs one comparison. Every point is
named once in the source, as a literal, so that a test can list them all and leave none out.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from itertools import count

VARIABLE = "UPWELL_FAULT"

_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to this process, and when."""

    point: str
    at: int
    action: str

    @classmethod
    def read(cls, text: str) -> Fault:
        """Raises ValueError for a text that is not ``point:n:action``."""
        point, at, action = text.split(":")
        if action not in _SIGNALS:
            raise ValueError(f"{VARIABLE}: {action!r} is none of {', '.join(_SIGNALS)}")
        return cls(point, int(at), action)


_fault = Fault.read(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None
_reached = count(1)


def reach(point: str) -> None:
    """The process is at ``point``."""
    if _fault is not None and _fault.point == point and next(_reached) == _fault.at:
        os.kill(os.getpid(), _SIGNALS[_fault.action])
