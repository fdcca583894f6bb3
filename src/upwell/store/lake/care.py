"""What a lake needs besides rounds: few files, few snapshots, no waste, no more history than asked.

Done between rounds, by the thread that makes them, so nothing competes for a commit. Little at a
time: one compaction a round, so that no round waits long for its turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

import structlog

from upwell.core.errors import IntegrityError
from upwell.core.schema import source_of
from upwell.store.lake.compaction import Compacted, compact
from upwell.store.lake.retention import cut_off, fold
from upwell.store.lake.sweep import Sweeper
from upwell.store.lake.tables import LakeTable
from upwell.store.lake.writer import LakeWriter

log = structlog.get_logger(__name__)

SWEEP_SECONDS = 600.0
FOLD_SECONDS = 24 * 3600.0


class Care:
    """Looks after what ``writer`` writes. ``history_days``: how long, by the name of a log."""

    def __init__(
        self,
        writer: LakeWriter,
        history_days: Mapping[str, int],
        *,
        sweeper: Sweeper | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._writer = writer
        self._history_days = history_days
        self._sweeper = sweeper or Sweeper(writer.lake)
        self._monotonic = monotonic
        self._swept_at = self._folded_at = monotonic()
        self._turns: Iterator[LakeTable] = iter(())

    def after_round(self) -> None:
        """What is due. Raises what commits raise; the lake is whole then, as before."""
        now = self._monotonic()
        compacted = self._compact_one()
        if compacted is not None:
            log.info(
                "compacted",
                table=compacted.table,
                files=compacted.files_before,
                into=compacted.files_after,
                bytes=compacted.bytes_after,
            )
        if now - self._folded_at >= FOLD_SECONDS:
            self._folded_at = now
            self._fold()
        if now - self._swept_at >= SWEEP_SECONDS:
            self._swept_at = now
            swept = self._sweeper.sweep(self._writer.epoch)
            log.info("swept", files=swept.deleted, bytes=swept.bytes, waiting=swept.waiting)

    def _compact_one(self) -> Compacted | None:
        """One compaction, of the first table in turn that needs one."""
        for _ in range(2):  # what is left of this turn, then the next one
            for table in self._turns:
                with self._damage_told(table):
                    done = compact(
                        self._writer.lake.objects,
                        table,
                        through=self._writer.mark.version,
                        epoch=self._writer.epoch,
                    )
                    if done is not None:
                        return done
            self._turns = iter(self._writer.tables())
        return None

    def _fold(self) -> None:
        mark = self._writer.mark
        for table in self._writer.tables():
            days = self._history_days.get(table.name)
            source = source_of(table.name)
            before = cut_off(mark, source, timedelta(days=days)) if days else None
            if before is None:
                continue
            with self._damage_told(table):
                folded = fold(
                    self._writer.lake.objects,
                    table,
                    before=before,
                    through=mark.version,
                    epoch=self._writer.epoch,
                )
                if folded is not None:
                    told = {"table": table.name, "through": folded.through}
                    log.info("folded", rows=folded.rows_gone, **told)

    @contextmanager
    def _damage_told(self, table: LakeTable) -> Iterator[None]:
        """A table with a damaged file is left alone until it is repaired; the others go on."""
        try:
            yield
        except IntegrityError as error:
            told = {"table": table.name, "what": error.what, "where": error.where}
            log.error("lake_file_damaged", **told)  # noqa: TRY400 - no defect to be traced
