"""Where a drill makes Upwell fail: every named point of the source that a run passes.

Points are reached in the order of the phases: a start that reads the tables, work under load, and
the rebuild of a hot store that is gone. A test holds the list complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """When a point is reached."""

    START = "start"
    ANEW = "start anew"  # the tables a second time: hot store and lake are gone
    LOAD = "load"
    REBUILD = "rebuild"


@dataclass(frozen=True, slots=True)
class Trial:
    """One fault: ``kill -9`` when ``point`` is reached for the ``at``-th time, ``times`` times."""

    point: str
    phase: Phase
    what: str
    at: int = 1
    times: int = 1
    is_quick: bool = False


_START, _ANEW, _LOAD, _REBUILD = Phase

TRIALS = (
    # A start folds the log in for sure; load reaches the size at which it is only after a while.
    Trial("store.before_checkpoint", _START, "before the write-ahead log is folded in"),
    Trial("store.after_checkpoint", _START, "after the write-ahead log is folded in"),
    Trial("start.source_begun", _START, "source keeps its log, store does not know yet"),
    Trial("copy.begun", _START, "written down what is to be read"),
    Trial("copy.planned", _START, "a table cut into parts", at=2),
    Trial("copy.part_stored", _START, "half-way through reading the tables", at=4),
    Trial("copy.prepared", _START, "all read, not yet in place"),
    Trial("copy.settled", _START, "tables in place, models not built", is_quick=True),
    Trial("start.model_built", _START, "while building a model"),
    Trial("copy.part_stored", _ANEW, "in the middle of reading the tables, again", at=2),
    Trial("engine.batch_read", _LOAD, "changes read, nothing written yet", at=2),
    Trial("engine.batch_ingested", _LOAD, "in the middle of a version, rows written"),
    Trial("engine.models_refreshed", _LOAD, "in the middle of a version, models done"),
    Trial("store.before_commit", _LOAD, "before a version commits", at=4),
    Trial("store.after_commit", _LOAD, "version committed, not announced", at=4),
    Trial("lake.file_half_written", _LOAD, "in the middle of a file of the lake", at=2),
    Trial("lake.file_before_fsync", _LOAD, "a file of the lake written, not durable", at=3),
    Trial("lake.file_written", _LOAD, "a data file durable, not committed"),
    Trial("lake.snapshot_written", _LOAD, "metadata of a commit written", at=3),
    Trial("lake.before_commit", _LOAD, "before a commit to the lake", at=4),
    Trial("lake.after_commit", _LOAD, "after a commit to the lake", at=12, is_quick=True),
    Trial("lake.table_flushed", _LOAD, "in the middle of a round, some tables in", at=2),
    Trial("lake.round_ended", _LOAD, "round ended, source not acknowledged", is_quick=True),
    Trial("engine.acknowledged", _LOAD, "source acknowledged, logs not trimmed"),
    Trial("lake.compaction_written", _LOAD, "compacted files written, not committed"),
    Trial("lake.compaction_committed", _LOAD, "compaction committed, old files there"),
    Trial("lake.publication_written", _LOAD, "a published table written, not committed"),
    Trial("lake.publication_committed", _LOAD, "a published table committed"),
    Trial("rebuild.table_restored", _REBUILD, "in the middle of a rebuild, twice", 2, times=2),
    Trial("rebuild.ledger_written", _REBUILD, "rebuilt, not folded in yet", is_quick=True),
)
