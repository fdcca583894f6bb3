"""A PostgreSQL database as a source of changes."""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable, Sequence

from upwell.core.errors import EnvironmentFault, GapError
from upwell.core.position import BEGINNING, Position
from upwell.core.schema import TableSchema
from upwell.sources.postgres.catalog import Catalog, read_catalog
from upwell.sources.postgres.channel import open_channel
from upwell.sources.postgres.drift import KnownLayouts
from upwell.sources.postgres.fitness import require_fit
from upwell.sources.postgres.replication import START_ANEW
from upwell.sources.postgres.session import address, session
from upwell.sources.postgres.snapshot import PostgresSnapshot, take_snapshot
from upwell.sources.postgres.stream import Following, PostgresStream

_LONGEST_NAME = 63


class PostgresSource:
    """See ``core.protocols.Source``.

    ``tables`` are named as in the database (``orders``, ``sales.orders``). ``slot`` and
    ``publication`` are the names of what is set up there; see ``slot_name``. A database whose
    system identifier is not ``expected_system_id`` is refused: it is another one, whatever its
    address says. ``is_sole_follower``: nobody else may follow the slot, and an engine that still
    does is ended.
    """

    def __init__(
        self,
        name: str,
        url: str,
        tables: Sequence[str],
        *,
        slot: str,
        publication: str | None = None,
        expected_system_id: str | None = None,
        is_sole_follower: bool = False,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._name = name
        self._url = url
        self._table_names = tuple(tables)
        self._slot = slot
        self._publication = publication or slot
        self._expected_system_id = expected_system_id
        self._is_sole_follower = is_sole_follower
        self._now_us = now_us
        self._catalog: Catalog | None = None
        self._layouts: KnownLayouts | None = None
        self._streams: list[PostgresStream] = []

    @property
    def name(self) -> str:
        return self._name

    @property
    def tables(self) -> Sequence[TableSchema]:
        """The captured tables; asks the database the first time."""
        catalog = self._catalog or self._introspect()
        return tuple(table.schema for table in catalog.tables)

    @property
    def identity(self) -> str:
        """The database cluster's own identifier, made when it was."""
        channel = open_channel(self._url, replication=True, application=self._slot)
        try:
            return channel.query("IDENTIFY_SYSTEM")[0]["systemid"] or ""
        finally:
            channel.close()

    def snapshot(self) -> PostgresSnapshot:
        """See ``core.protocols.Source.snapshot``."""
        self._layouts = None  # whatever the tables are like now, all rows will be so
        return take_snapshot(self._following())

    def stream(self, position: Position) -> PostgresStream:
        """See ``core.protocols.Source.stream``. Raises ``GapError`` if the log is gone, or
        if what it has for us no longer fits the rows given before: see ``drift``.
        """
        if position == BEGINNING:
            raise GapError(
                "no_snapshot",
                f"source {self._name} has not been read yet, so its log alone is not enough",
                where=self._name,
                next_step=START_ANEW,
            )
        following = self._following()
        self._require_same_system()
        stream = PostgresStream(following, position, now_us=self._now_us)
        self._streams.append(stream)
        return stream

    def close(self) -> None:
        """Close the streams; the slot stays, so that the next run can go on."""
        for stream in self._streams:
            stream.close()
        self._streams.clear()

    def _following(self) -> Following:
        with session(self._url) as connection:
            require_fit(connection, slot=self._slot, publication=self._publication)
        catalog = self._introspect()
        if self._layouts is None:
            self._layouts = KnownLayouts(self._name, self._url, catalog)
        self._layouts.admit_catalog(catalog)
        return Following(
            self._url,
            self._slot,
            self._publication,
            catalog,
            self._layouts,
            self._is_sole_follower,
        )

    def _introspect(self) -> Catalog:
        with session(self._url) as connection:
            self._catalog = read_catalog(connection, self._name, self._table_names)
        return self._catalog

    def _require_same_system(self) -> None:
        if self._expected_system_id is None:
            return
        found = self.identity
        if found != self._expected_system_id:
            raise EnvironmentFault(
                "another_database",
                f"source {self._name} is another database than the one read so far "
                f"(system {found}, expected {self._expected_system_id})",
                where=address(self._url),
                next_step=f"correct the URL; if the database was rebuilt, {START_ANEW}",
            )


def slot_name(project: str, source: str) -> str:
    """The slot and publication of a project's source: ``upwell_shop_shop``, at most 63 letters.

    A name that had to be changed ends in a checksum of what it was: others may be changed alike.
    """
    wanted = f"upwell_{project}_{source}"
    allowed = re.sub(r"[^a-z0-9_]", "_", wanted.lower())
    if allowed == wanted and len(allowed) <= _LONGEST_NAME:
        return allowed
    checksum = f"_{zlib.crc32(wanted.encode()):08x}"
    return allowed[: _LONGEST_NAME - len(checksum)] + checksum
