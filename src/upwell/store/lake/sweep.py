"""Files that nothing refers to are deleted, once nobody can be reading them any more.

A file is swept when it was seen unreferenced for the whole grace: seen by us, on a clock that no
one sets, with what was seen kept in the lake (``upwell/data/unreferenced``) over restarts. Time in
which nobody looked does not count, so no jump of a clock and no long stop deletes anything early.
A file that is referred to again leaves the list.

Only what has the shape of our own files is ever touched: data files named by their digest,
Iceberg's metadata, and what a write left unfinished. The catalog, locks, damaged files kept aside
and whatever else lies in the folder are not ours to delete. Nothing is deleted either while the
catalog cannot be trusted: when a table of it cannot be read, or when it has gone back in time.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import msgspec
import structlog

from upwell.core.errors import IntegrityError
from upwell.core.faults import reach
from upwell.store.lake.lake import Lake
from upwell.store.lake.mark import LEDGER
from upwell.store.lake.objects import UNFINISHED, missing, own_file
from upwell.store.lake.references import References
from upwell.store.lake.tables import LakeTable, overtaken

log = structlog.get_logger(__name__)

#: How long a file stays that nothing refers to.
KEEP_SECONDS = 3600.0
LIST = "unreferenced"

_OURS = re.compile(
    r"[^/]+/("
    r"data/[^/]+-[0-9a-f]{32}\.parquet"
    r"|metadata/(snap-)?[^/]+\.avro"
    r"|metadata/(v[0-9]+|[0-9]+-[^/]+)\.metadata\.json"
    r")"
)


class Seen(msgspec.Struct, frozen=True):
    """What sweeps saw so far. ``unreferenced`` gives seconds by location, relative to the lake.

    ``ledger`` is the one that the catalog named, ``snapshot`` and ``commits`` how far it was.
    """

    ledger: str = ""
    snapshot: int = 0
    commits: int = 0
    unreferenced: Mapping[str, float] = {}


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep did, and how many files wait for the end of their grace."""

    deleted: int = 0
    bytes: int = 0
    waiting: int = 0


class Sweeper:
    """Sweeps one lake. Used from the thread that writes it, between commits."""

    def __init__(
        self,
        lake: Lake,
        *,
        keep_seconds: float = KEEP_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lake = lake
        self._keep_seconds = keep_seconds
        self._monotonic = monotonic
        self._list = own_file(lake.root, LIST)
        self._seen: Seen | None = None
        self._looked_at = 0.0
        self._references = References(lake)

    def sweep(self, epoch: int) -> Swept:
        """Look once, and delete what has waited long enough.

        Raises OvertakenError where another engine writes the lake by now, IntegrityError where it
        is not certain what is referred to; nothing is deleted then.
        """
        before, elapsed = self._look_back()
        ledger = self._ledger_now(epoch)
        _check_order(before, ledger, self._list)
        stored = {
            each.location.removeprefix(f"{self._lake.root}/"): each.size_bytes
            for each in self._lake.objects.list(self._lake.root)
        }
        named = self._named(stored)
        unreferenced = {
            name: before.unreferenced[name] + elapsed if name in before.unreferenced else 0.0
            for name in stored
            if _is_ours(name) and name not in named
        }
        due = [name for name, seconds in unreferenced.items() if seconds >= self._keep_seconds]
        self._remember(
            Seen(
                str(ledger.metadata.table_uuid),
                ledger.snapshot_id or 0,
                ledger.metadata.next_sequence_number() - 1,
                unreferenced,
            )
        )
        for name in due:
            self._lake.objects.delete(f"{self._lake.root}/{name}")
            reach("lake.file_swept")
        swept = Swept(len(due), sum(stored[name] for name in due), len(unreferenced) - len(due))
        if due:
            log.info("lake_swept", files=swept.deleted, bytes=swept.bytes)
        return swept

    def _named(self, stored: Collection[str]) -> set[str]:
        """What tables refer to, as ``stored`` names it: were it listed under other names, or not
        listed at all, everything would look unreferenced.
        """
        every: set[str] = set()
        for table, locations in self._references.read().items():
            prefix = f"{self._lake.root}/"
            here = {each.removeprefix(prefix) for each in locations if each.startswith(prefix)}
            if here and here.isdisjoint(stored):
                raise IntegrityError(
                    "lake_listing_incomplete",
                    f"Sweeping the lake: its listing shows no file of {table}.",
                    where=self._lake.root,
                    next_step="Nothing was deleted. See that the lake's key may list everything.",
                )
            every |= here
        return every

    def _look_back(self) -> tuple[Seen, float]:
        """What was seen before, and for how long since: not at all, if this is the first look."""
        now = self._monotonic()
        elapsed = 0.0 if self._seen is None else max(now - self._looked_at, 0.0)
        self._looked_at = now
        return self._seen or self._recall(), elapsed

    def _recall(self) -> Seen:
        if self._lake.objects.size(self._list) is None:
            return Seen()
        try:
            return msgspec.json.decode(self._lake.objects.read(self._list), type=Seen)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("unreferenced_list_unreadable", where=self._list, why=str(error))
            return Seen()

    def _remember(self, seen: Seen) -> None:
        if self._seen is None or seen.unreferenced or self._seen.unreferenced:
            self._lake.objects.write(self._list, msgspec.json.encode(seen))
        self._seen = seen

    def _ledger_now(self, epoch: int) -> LakeTable:
        ledger = self._lake.table(LEDGER)
        if ledger is None:
            raise missing(f"{self._lake.root}: {LEDGER}")
        if ledger.epoch != epoch:
            raise overtaken(LEDGER, ledger.epoch, epoch)
        return ledger


def _check_order(before: Seen, ledger: LakeTable, where: str) -> None:
    """Refuse a ledger that is another one than was seen before, or an older one."""
    same = {
        each.snapshot_id
        for each in ledger.snapshots
        if each.sequence_number == before.commits and before.snapshot
    }
    is_other = before.ledger not in {"", str(ledger.metadata.table_uuid)}
    is_older = ledger.metadata.next_sequence_number() <= before.commits
    if is_other or is_older or not same <= {before.snapshot}:
        raise IntegrityError(
            "lake_catalog_older",
            f"Sweeping the lake: its catalog is not the one that was there before, or an older "
            f"one: what it does not name may be all there is. The ledger was {before.ledger} at "
            f"commit {before.commits}.",
            where=where,
            next_step="Nothing was deleted. Put the newer catalog back. If this one is right, "
            "remove this file: what the catalog does not name is deleted after the grace.",
        )


def _is_ours(name: str) -> bool:
    return _OURS.fullmatch(name) is not None or name.rpartition("/")[2].startswith(UNFINISHED)
