"""Versions of the store: what makes one, what it is announced with, and what stands on it.

Used by the engine's thread alone; any thread may read ``troubles`` and ``times``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import duckdb
import numpy as np
import pyarrow as pa

from upwell.core.protocols import Int64s, SourceTime, VersionEnd
from upwell.feed.hub import FeedHub
from upwell.following import Following
from upwell.ingest.settle import Moment
from upwell.models import Models
from upwell.store import ledger
from upwell.store.hot import HotStore
from upwell.table_states import TableStates

Work = Callable[[duckdb.DuckDBPyConnection], None]
"""Writes what is new in a version, in its transaction."""


class Versions:
    """Makes versions of ``store`` and announces them to ``hub``.

    ``clock`` gives seconds since 1970. ``on_ready`` is called once there is something to serve.
    """

    def __init__(
        self,
        store: HotStore,
        hub: FeedHub,
        followings: Sequence[Following],
        tables: TableStates,
        models: Models,
        *,
        on_ready: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._hub = hub
        self._followings = followings
        self._tables = tables
        self._models = models
        self._on_ready = on_ready
        self._is_ready = False
        self._clock = clock
        self.lake_trouble = ""

    @property
    def next(self) -> int:
        """The number of the version to come."""
        return self._hub.version + 1

    def now_us(self) -> int:
        """Microseconds since 1970 UTC."""
        return int(self._clock() * 1_000_000)

    def moment(self, following: Following) -> Moment:
        """What the change log says of rows that are there because of us, not of the source."""
        return Moment(
            self.next, following.committed_position, following.complete_through_us, self.now_us()
        )

    def make(
        self,
        work: Work,
        anew: frozenset[str] = frozenset(),
        deltas: dict[str, pa.Table] | None = None,
    ) -> None:
        """Make a version without changes of a source; see ``models.MakeVersion``.

        ``deltas`` are filled by ``work``.
        """
        version, logical_time_us = self.next, self.now_us()
        end = self.end(version, logical_time_us, np.empty(0, np.int64))
        announce = partial(self._hub.publish, end, {} if deltas is None else deltas, anew=anew)
        with self._store.transaction(announce) as connection:
            work(connection)
            progresses = {
                each.name: ledger.SourceProgress(each.committed_position, each.complete_through_us)
                for each in self._followings
            }
            ledger.append(connection, version, logical_time_us, progresses)

    def unbuild_readers(self, connection: duckdb.DuckDBPyConnection, table: str) -> None:
        """See ``Models.unbuild_readers``."""
        self._models.unbuild_readers(connection, table)

    def renew(self, anew: frozenset[str] = frozenset()) -> None:
        """Let the models stand on the tables as they are now."""
        with self._store.on_all_cores():
            self._models.renew(self._tables.ground, self.make, anew)
        if not self._is_ready and (self._tables.layouts or not self._tables.copying):
            self._is_ready = True
            self.announce_times()
            self._on_ready()

    def end(self, version: int, logical_time_us: int, committed_at_us: Int64s) -> VersionEnd:
        """What a version is announced with."""
        return VersionEnd(version, logical_time_us, self.times(), committed_at_us, self.troubles())

    def announce_times(self) -> None:
        """No new version, but time has passed, or what does not go on is another."""
        self._hub.set_times(self.times(), self.troubles())

    def times(self) -> tuple[SourceTime, ...]:
        """Through when each source is known complete."""
        return tuple(
            SourceTime(following.name, following.complete_through_us)
            for following in self._followings
        )

    def troubles(self) -> str:
        """What does not go on, a line each."""
        troubles = [each for following in self._followings for each in following.troubles]
        troubles += self._tables.still.values()
        troubles += [f"{model} stays as it was: {why}" for model, why in self._models.held.items()]
        troubles += [
            f"{model} is not there yet: {why}" for model, why in self._models.missing.items()
        ]
        if self.lake_trouble:
            troubles.append(self.lake_trouble)
        return "\n".join(dict.fromkeys(troubles))
