"""History older than a table keeps is folded: what began and ended before the cut-off vanishes.

Of a row image that began (+1) and ended (−1) before the cut-off nothing stays; of one that still
stood there everything does: its version, position and times. So the sum of the log is what it was,
at every version from the cut-off on; before it, versions can no longer be told apart.

The cut-off is a time of the source, turned into a version: the last one up to which everything was
committed before it. Our clock plays no part, so no jump of it can fold anything too early.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.manifest import DataFile

from upwell.core.faults import reach
from upwell.store.lake.contents import (
    COMMITTED_AT,
    VERSION,
    Placed,
    bounds_in,
    in_order,
    is_log,
    read_rows,
    rewrite,
    whole_versions,
)
from upwell.store.lake.expiry import forgettable
from upwell.store.lake.mark import Mark
from upwell.store.lake.objects import Objects
from upwell.store.lake.pairs import Rows, cancelled_rows
from upwell.store.lake.tables import Change, LakeTable

#: Properties of a log: through which version its history is folded, and before which time.
FOLDED, FOLDED_BEFORE = "upwell.folded", "upwell.folded-before"
_EPOCH_BEGIN = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Folded:
    """What folding a log did: through which version, and how many of its rows are gone."""

    table: str
    through: int
    rows_gone: int
    files_before: int
    files_after: int


def cut_off(mark: Mark, source: str, keep: timedelta) -> datetime | None:
    """Before which time a source's history may go; None while nothing was read from it."""
    marked = mark.sources.get(source)
    if marked is None:
        return None
    return _EPOCH_BEGIN + marked.complete_through_us * _MICROSECOND - keep


def fold(
    objects: Objects, table: LakeTable, *, before: datetime, through: int, epoch: int
) -> Folded | None:
    """Fold what a log has from before a time; None where nothing more is as old as that.

    ``through`` is the version of the mark. Raises IntegrityError naming a damaged file, and what
    ``LakeTable.commit`` raises; the table is as it was then, and what was written is swept.
    """
    if not is_log(table):
        return None
    files = in_order(table)
    version = _last_version_before(objects, table, files, before, through)
    if version <= int(table.properties.get(FOLDED, "0")):
        return None
    old = [each for each in files if each.first <= version]
    gone = cancelled_rows(objects, table, old, version)
    added: list[DataFile] = []
    removed: list[str] = []
    for begin, end in _runs(files, [len(rows) > 0 for rows in gone]):
        run = files[begin:end]
        added += rewrite(
            objects, table, run, _rows_left(objects, table, run, gone[begin:end]), epoch=epoch
        )
        removed += [each.location for each in run]
    reach("lake.fold_written")
    properties = {FOLDED: str(version), FOLDED_BEFORE: before.isoformat()}
    table.commit(Change(added, removed, properties, forgettable(table)), epoch=epoch)
    reach("lake.fold_committed")
    return Folded(table.name, version, sum(map(len, gone)), len(removed), len(added))


def _last_version_before(
    objects: Objects, table: LakeTable, files: Sequence[Placed], before: datetime, through: int
) -> int:
    """The last version with everything up to it committed before a time; ``through`` at most."""
    cut = (before - _EPOCH_BEGIN) // _MICROSECOND
    for each in files:
        bounds = bounds_in(each.file, table.schema, COMMITTED_AT)
        if each.first > through or (bounds is not None and bounds[1] < cut):
            continue
        versions = _versions_since(objects, table, each, cut)
        if len(versions):
            return min(through, int(versions.min()) - 1)
    return through


def _versions_since(objects: Objects, table: LakeTable, file: Placed, cut: int) -> Rows:
    """The versions of a file's rows that were committed at a time or later."""
    instant = pa.scalar(cut, pa.timestamp("us", "UTC"))
    found = [np.array([], np.int64)]
    for batch in read_rows(objects, file.file, table.schema, (VERSION, COMMITTED_AT)):
        is_new = pc.greater_equal(batch.column(COMMITTED_AT), instant)
        found.append(batch.column(VERSION).filter(is_new).to_numpy(zero_copy_only=False))
    return np.concatenate(found)


def _runs(files: Sequence[Placed], touched: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """Where the files stand that lose rows, neighbours together: from, to."""
    place = 0
    while place < len(touched):
        if not touched[place]:
            place += 1
            continue
        begin = end = place
        while end < len(touched) and touched[end]:
            end += 1
        place += len(whole_versions(files[begin:end], files[end:]))
        yield begin, place


def _rows_left(
    objects: Objects, table: LakeTable, run: Sequence[Placed], gone: Sequence[Rows]
) -> Iterator[pa.RecordBatch]:
    for each, rows in zip(run, gone, strict=True):
        begin = 0
        for batch in read_rows(objects, each.file, table.schema):
            stays = np.ones(batch.num_rows, bool)
            stays[rows[(rows >= begin) & (rows < begin + batch.num_rows)] - begin] = False
            yield batch.filter(pa.array(stays))
            begin += batch.num_rows
