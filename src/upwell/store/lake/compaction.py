"""Many small files of a table become few large ones: rows and their order stay as they are.

Tiered, as in a log-structured merge tree (O'Neil et al., "The Log-Structured Merge-Tree", 1996):
files that stand beside one another are merged once there are enough of them, and together they are
several times as large as the largest. So each time a row is rewritten its file has grown by that
factor: a row is rewritten O(log n) times, and O(log n) files are not full yet.

Never merged: what lies beyond the mark, since that round may still be undone; and what is damaged,
since its new name would vouch for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from upwell.core.faults import reach
from upwell.store.lake.contents import (
    Placed,
    has_versions,
    in_order,
    read_rows,
    rewrite,
    whole_versions,
)
from upwell.store.lake.expiry import forgettable
from upwell.store.lake.objects import Objects
from upwell.store.lake.parquet import FILE_BYTES
from upwell.store.lake.tables import Change, LakeTable


@dataclass(frozen=True, slots=True)
class Tiers:
    """When files are merged: this many, together this many times as large as the largest.

    Files below ``least_bytes`` count as that large: their number costs more than their bytes. From
    ``full_bytes`` on a file is never merged again.
    """

    files: int = 8
    growth: float = 4.0
    least_bytes: int = 256 << 10
    full_bytes: int = FILE_BYTES


@dataclass(frozen=True, slots=True)
class Compacted:
    """What one compaction did."""

    table: str
    files_before: int
    files_after: int
    rows: int
    bytes_before: int
    bytes_after: int


def compact(
    objects: Objects, table: LakeTable, *, through: int, epoch: int, tiers: Tiers | None = None
) -> Compacted | None:
    """Merge one run of files; None where there is none that is worth it. Call it until then.

    ``through`` is the version of the mark. One call reads little more than one full file. Raises
    IntegrityError naming a damaged file, and what ``LakeTable.commit`` raises; the table is as it
    was then, and what was written is swept.
    """
    tiers = tiers or Tiers()
    if not has_versions(table):
        return None
    run = choose(in_order(table), through, tiers)
    if not run:
        return None
    parts = (read_rows(objects, each.file, table.schema) for each in run)
    added = rewrite(
        objects,
        table,
        run,
        chain.from_iterable(parts),
        epoch=epoch,
        file_bytes=tiers.full_bytes,
    )
    reach("lake.compaction_written")
    removed = [each.location for each in run]
    table.commit(Change(added, removed, forgotten=forgettable(table)), epoch=epoch)
    reach("lake.compaction_committed")
    return Compacted(
        table.name,
        len(run),
        len(added),
        sum(each.record_count for each in added),
        sum(each.size_bytes for each in run),
        sum(each.file_size_in_bytes for each in added),
    )


def choose(files: Sequence[Placed], through: int, tiers: Tiers) -> list[Placed]:
    """The run of neighbouring files to merge next, the smallest first; empty if there is none."""
    limit = float(tiers.least_bytes)
    while True:
        limit = min(limit, tiers.full_bytes - 1)
        for begin, end in _stretches(files, limit, through):
            run = _run(files, begin, end, tiers)
            if run:
                return run
        if limit == tiers.full_bytes - 1:
            return []
        limit *= tiers.growth


def _stretches(files: Sequence[Placed], limit: float, through: int) -> Iterator[tuple[int, int]]:
    """Where neighbours of at most ``limit`` bytes stand, as long as they go: from, to."""
    begin = None
    for place, each in enumerate(files):
        if each.size_bytes <= limit and each.last <= through:
            begin = place if begin is None else begin
        elif begin is not None:
            yield begin, place
            begin = None
    if begin is not None:
        yield begin, len(files)


def _run(files: Sequence[Placed], begin: int, end: int, tiers: Tiers) -> list[Placed]:
    """What of a stretch is merged at once: all of it, or as much as makes a full file."""
    sizes = [max(each.size_bytes, tiers.least_bytes) for each in files[begin:end]]
    if len(sizes) < tiers.files or sum(sizes) < tiers.growth * max(sizes):
        return []
    size = 0
    for place in range(begin, end):
        size += files[place].size_bytes
        if size >= tiers.full_bytes:
            end = place + 1
            break
    run = files[begin:end]
    whole = whole_versions(run, files[end:])
    fits = all(each.size_bytes < tiers.full_bytes for each in whole[len(run) :])
    return whole if fits and len(whole) > 1 else []
