"""Keeps the newest versions in memory and hands them to followers.

The engine publishes each version after it committed it; a follower takes what it has not seen. One
that is new, or has fallen out of the kept range, gets a snapshot instead, read from the store at
exactly the version the hub announced last (both happen under the store's commit lock).
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

import duckdb
import numpy as np
import pyarrow as pa

from upwell.core.errors import Unavailable
from upwell.core.protocols import (
    FeedMessage,
    Heartbeat,
    SourceTime,
    TableDelta,
    TableSnapshot,
    VersionEnd,
)
from upwell.core.schema import TableSchema
from upwell.core.sql import quote_table, quoted_list

#: How much of the recent past is kept for followers that reconnect.
KEPT_BYTES = 64 << 20
HEARTBEAT_SECONDS = 0.5
#: What a kept version, and each delta in it, weighs besides its values.
_OVERHEAD_BYTES = 8 << 10


@dataclass(frozen=True, slots=True)
class Published:
    """One version as the engine made it; ``anew``: tables whose followers begin again here."""

    end: VersionEnd
    deltas: Mapping[str, pa.Table]
    anew: frozenset[str] = frozenset()

    @property
    def size_bytes(self) -> int:
        data = sum(int(delta.nbytes) for delta in self.deltas.values())
        return data + _OVERHEAD_BYTES * (1 + len(self.deltas))


@dataclass(slots=True)
class _Recent:
    versions: deque[Published] = field(default_factory=deque)
    size_bytes: int = 0

    def append(self, published: Published) -> None:
        self.versions.append(published)
        self.size_bytes += published.size_bytes
        while self.size_bytes > KEPT_BYTES and len(self.versions) > 1:
            self.size_bytes -= self.versions.popleft().size_bytes

    def after(self, version: int) -> list[Published] | None:
        """Every kept version after ``version``, or None if some are no longer kept."""
        if self.versions and self.versions[0].end.version > version + 1:
            return None
        return [published for published in self.versions if published.end.version > version]


View = Callable[[Callable[[], None]], AbstractContextManager[duckdb.DuckDBPyConnection]]
"""Opens what is seen at one version, having called back while no newer one can be announced."""


class FeedHub:
    """Implements ``Feed`` inside the engine's process; the Flight server carries it outside.

    ``view`` is that of ``HotStore``; ``schema_of`` gives a table's layout; it raises UsageError
    for a table nobody may follow, and Unavailable for one that is not there yet.
    """

    def __init__(
        self,
        view: View,
        *,
        version: int,
        schema_of: Callable[[str], TableSchema],
    ) -> None:
        self._view = view
        self.schema_of = schema_of
        self._changed = threading.Condition()
        self._kept_since: dict[
            str, int
        ] = {}  # published tables, and after which version they are kept
        self._recent = _Recent()
        self._end = VersionEnd(version, 0, (), np.empty(0, np.int64))
        self._trouble = ""
        self._closed = False

    # ── the engine's side ────────────────────────────────────────────────────────────────────────

    @property
    def version(self) -> int:
        return self._end.version

    def publish(
        self,
        end: VersionEnd,
        deltas: Mapping[str, pa.Table],
        *,
        anew: frozenset[str] = frozenset(),
    ) -> None:
        """Announce a version. Called with the commit lock held, right after the commit.

        Of ``deltas`` only the published ones are kept: tables that some follower names. Those that
        are ``anew`` may have another layout now; their followers get all rows again.
        """
        with self._changed:
            self._end = end
            kept = {name: delta for name, delta in deltas.items() if name in self._kept_since}
            self._kept_since |= dict.fromkeys(anew & self._kept_since.keys(), end.version)
            self._recent.append(Published(end, kept, anew))
            self._changed.notify_all()

    def set_times(self, times: Sequence[SourceTime], trouble: str = "") -> None:
        """No new version, but sources are known complete through ``times``."""
        with self._changed:
            woken = trouble != self._trouble
            self._end = replace(self._end, times=tuple(times), trouble=trouble)
            self._trouble = trouble
            if woken:
                self._changed.notify_all()

    @property
    def trouble(self) -> str:
        """Why time stands still; empty while all is well."""
        return self._trouble

    @property
    def times(self) -> Sequence[SourceTime]:
        """Through when each source is known complete, on our clock."""
        return self._end.times

    def close(self) -> None:
        """End every follower's iterator soon."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # ── the followers' side ──────────────────────────────────────────────────────────────────────

    def follow(self, tables: Sequence[str], version: int | None) -> Iterator[FeedMessage]:
        """See ``core.protocols.Feed``."""
        wanted = self._there(tables)
        since = self._publish(tables)
        at = version if version is not None and version >= since else None
        while not self._closed:
            news = self._news(at)
            # A model counts as there only a moment behind the version that brought it.
            has_come = len(wanted) < len(set(tables)) and len(self._there(tables)) > len(wanted)
            if news is None or has_come or any(not each.anew.isdisjoint(tables) for each in news):
                wanted = self._there(tables)
                for message in self.snapshot(wanted):
                    yield message
                    at = message.version
                continue
            if not news:
                yield self._heartbeat()
                continue
            for published in news:
                for table, delta in published.deltas.items():
                    if table in wanted:
                        yield TableDelta(published.end.version, table, delta)
                yield published.end
                at = published.end.version

    def snapshot(self, wanted: Mapping[str, TableSchema]) -> Iterator[TableSnapshot | VersionEnd]:
        """All of ``wanted`` at one version."""
        ends: list[VersionEnd] = []
        with self._view(lambda: ends.append(self._end)) as reader:
            end = replace(ends[0], committed_at_us=np.empty(0, np.int64))
            for name, schema in wanted.items():
                rows = reader.execute(
                    f"SELECT {quoted_list(schema.column_names)} FROM {quote_table(name)}"
                ).to_arrow_table()
                yield TableSnapshot(end.version, schema, rows)
            yield end

    def _there(self, tables: Iterable[str]) -> dict[str, TableSchema]:
        """The layouts of those tables that are there already."""
        found = {}
        for name in tables:
            with contextlib.suppress(Unavailable):
                found[name] = self.schema_of(name)
        return found

    def _news(self, at: int | None) -> list[Published] | None:
        """What came after ``at``, waiting a heartbeat's time for it; None: out of reach."""
        with self._changed:
            if at is None or at > self._end.version:
                return None
            if at == self._end.version:
                before = self._trouble
                self._changed.wait_for(
                    lambda: self._closed or self._end.version != at or self._trouble != before,
                    HEARTBEAT_SECONDS,
                )
            if at == self._end.version:
                return []
            return self._recent.after(at) if self._recent.versions else None

    def _heartbeat(self) -> Heartbeat:
        with self._changed:
            return Heartbeat(self._end.version, self._end.times, self._trouble)

    def _publish(self, names: Iterable[str]) -> int:
        """Keep the deltas of ``names`` from now on; after which version all of them are kept."""
        with self._changed:
            for name in names:
                self._kept_since.setdefault(name, self._end.version)
            return max((self._kept_since[name] for name in names), default=0)
