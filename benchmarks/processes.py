"""What processes cost: processor time and memory as Linux counts them.

Standard library alone: the measured programs of others import this too.
"""

from __future__ import annotations

import os
from pathlib import Path

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_USER, _ENDED = 11, 13  # fields of /proc/PID/stat behind the name: own time, ended children's


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and all its threads so far, user and system."""
    return _times(pid, _USER)


def ended_children_cpu_seconds(pid: int) -> float:
    """Processor time of the children that a process has waited for."""
    return _times(pid, _ENDED)


def pss_mb(pid: int) -> float:
    """Proportional set size in MiB; 0 for a process that is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)


def children(parent: int, marks: dict[str, str]) -> dict[str, int]:
    """The children of a process whose command line contains a mark, by the mark's name."""
    found: dict[str, int] = {}
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        try:
            command = Path(f"/proc/{child}/cmdline").read_bytes().decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        found |= {name: int(child) for name, mark in marks.items() if mark in command}
    return found


def _times(pid: int, first: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[first]) + int(fields[first + 1])) / _TICKS_A_SECOND
