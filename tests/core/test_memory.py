"""Freed memory goes back to the system."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import threading
from upwell.core.memory import give_back_memory

def held():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])

def churn(kept):
    pieces = [bytearray(60_000) for _ in range(2_000)]
    kept += pieces[::200]

kept = []
for _ in range(4):
    threads = [threading.Thread(target=churn, args=(kept,)) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
before = held()
give_back_memory()
print(before, held())
"""


def test_pages_that_are_free_are_given_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )
    before, after = map(int, done.stdout.split())
    assert after < 0.9 * before
