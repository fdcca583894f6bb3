"""Killed at any point of keeping a lake, nothing is lost: the next engine finds all of it.

Each case runs in a process of its own that ends, by ``kill -9``, exactly at the point named; then
the same is done again by whoever takes over, and must come to its end.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.store.lake.rounds import LOG, Rounds, committed_us, rows_in
from upwell.core.faults import VARIABLE
from upwell.store.lake.compaction import compact
from upwell.store.lake.contents import in_order
from upwell.store.lake.objects import path_of
from upwell.store.lake.repair import repair
from upwell.store.lake.retention import fold
from upwell.store.lake.scrub import scrub
from upwell.store.lake.sweep import Sweeper
from upwell.store.lake.tables import LakeTable

VERSIONS = 10


def versions(rounds: Rounds, then: Callable[[], None]) -> None:
    """A row that changes in every version, and one that stays."""
    for number in range(1, VERSIONS + 1):
        gone = [(0, f"{number - 1}")] if number > 1 else []
        rounds.write([(0, f"{number}"), (number, "stays")], gone)
        then()


def write(folder: Path) -> Rounds:
    """A round for each version."""
    rounds = Rounds(folder)
    versions(rounds, rounds.flush)
    return rounds


def logged(rounds: Rounds) -> LakeTable:
    table = rounds.lake.table(LOG)
    assert table is not None
    return table


def compacting(rounds: Rounds) -> None:
    compact(rounds.lake.objects, logged(rounds), through=VERSIONS, epoch=rounds.writer.epoch)


def folding(rounds: Rounds) -> None:
    fold(
        rounds.lake.objects,
        logged(rounds),
        before=datetime.fromtimestamp(committed_us(VERSIONS // 2) / 1e6 + 1e-3, UTC),
        through=VERSIONS,
        epoch=rounds.writer.epoch,
    )


def sweeping(rounds: Rounds) -> None:
    compacting(rounds)
    for _ in range(2):  # what is first seen is swept by the next look at the earliest
        Sweeper(rounds.lake, keep_seconds=0.0).sweep(rounds.writer.epoch)


def repairing(rounds: Rounds) -> None:
    versions(rounds, lambda: None)  # the hot store still has them
    damages = scrub(rounds.lake).damages
    epoch = rounds.writer.epoch
    repair(rounds.lake, damages, through=VERSIONS, epoch=epoch, known=rounds.known())


KEEPING: dict[str, Callable[[Rounds], None]] = {
    "lake.compaction_written": compacting,
    "lake.compaction_committed": compacting,
    "lake.fold_written": folding,
    "lake.fold_committed": folding,
    "lake.file_swept": sweeping,
    "lake.repair_written": repairing,
}


def keep(folder: Path, point: str) -> None:
    """What the process that is to be killed does."""
    KEEPING[point](Rounds(folder))


def standing(rounds: Rounds) -> Counter[tuple[int, str | None]]:
    found: Counter[tuple[int, str | None]] = Counter()
    for id_, note, _, weight in rows_in(rounds.lake, logged(rounds)):
        found[id_, note] += weight
    return +found


@pytest.mark.parametrize("point", KEEPING)
def test_what_is_killed_while_it_keeps_a_lake_leaves_it_whole(point: str, tmp_path: Path) -> None:
    rounds = write(tmp_path)
    stood = standing(rounds)
    is_damaged = point == "lake.repair_written"
    if is_damaged:
        path_of(in_order(rounds.table())[3].location).write_bytes(b"damaged")
    program = (
        f"from pathlib import Path; from {__name__} import keep; "
        f"keep(Path({str(tmp_path)!r}), {point!r})"
    )
    environment = {VARIABLE: f"{point}:1:kill", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **environment}, check=False
    )
    assert done.returncode == -signal.SIGKILL
    after = Rounds(tmp_path)
    assert after.writer.mark.version == VERSIONS
    assert is_damaged or standing(after) == stood
    KEEPING[point](after)
    assert scrub(after.lake).damages == ()
    assert standing(after) == stood
