"""A PostgreSQL database as a source of changes."""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable, Container, Sequence

from upwell.core.errors import GapError
from upwell.core.position import BEGINNING, Position
from upwell.core.protocols import Beginning, SourceTable, SourceTables
from upwell.core.schema import TableSchema
from upwell.sources.postgres.catalog import Catalog, read_catalog
from upwell.sources.postgres.channel import open_channel
from upwell.sources.postgres.checksum import checksum_sql
from upwell.sources.postgres.completeness import read_clock
from upwell.sources.postgres.copy import PostgresCopy
from upwell.sources.postgres.drift import changed_since, partitions_of, source_table
from upwell.sources.postgres.fitness import require_fit
from upwell.sources.postgres.replication import (
    START_ANEW,
    create_slot,
    drop_slot,
    publish,
    published,
)
from upwell.sources.postgres.session import address, session
from upwell.sources.postgres.stream import Following, PostgresStream
from upwell.sources.postgres.tables import sql_name
from upwell.sources.postgres.timeline import line_of, read_line, require_system
from upwell.sources.postgres.wal import position_of

_LONGEST_NAME = 63
_ORDERED = frozenset(
    ("SMALLINT", "INTEGER", "BIGINT", "UINTEGER", "UUID", "DATE", "TIMESTAMP", "TIMESTAMPTZ")
)


class PostgresSource:
    """See ``core.protocols.Source``.

    ``tables`` are named as in the database (``orders``, ``sales.orders``). ``slot`` and
    ``publication`` are the names of what is set up there; see ``slot_name``. A database whose
    identity is not what is ``known`` of it (``Beginning.identity``) is refused: it is another one,
    whatever its address says, or has not everything that was read. ``is_offered``: standbys may
    keep a copy of the slot, and one at ``standby`` is asked for it. ``is_sole_follower``: nobody
    else may follow the slot, and an engine that still does is ended. ``renewed_url`` is asked for
    the URL whenever something is opened: its password may change while we follow.
    """

    def __init__(
        self,
        name: str,
        url: str,
        tables: Sequence[str],
        *,
        slot: str,
        publication: str | None = None,
        known: str | None = None,
        is_offered: bool = True,
        standby: str = "",
        is_sole_follower: bool = False,
        renewed_url: Callable[[], str] | None = None,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._name = name
        self._url = url
        self._names = {sql_name(name, table): table for table in tables}
        self._slot = slot
        self._publication = publication or slot
        self._line = None if known is None else line_of(known)
        self._is_offered = is_offered
        self._standby = standby
        self._is_sole_follower = is_sole_follower
        self._renewed_url = renewed_url
        self._now_us = now_us
        self._streams: list[PostgresStream] = []

    @property
    def name(self) -> str:
        return self._name

    def look(self, known: Sequence[SourceTable] = ()) -> SourceTables:
        """See ``core.protocols.Source.look``."""
        catalog = self._catalog(self._current_url(), partitions_of(known))
        tables = {table.name: source_table(table) for table in catalog.tables}
        changes = {each.table: each for each in changed_since(known, catalog)}
        leaving_out = [table.name for table in catalog.tables if not table.logs_whole_rows]
        return SourceTables(tables, catalog.unfit, changes, leaving_out)

    def checksum_sql(self, schema: TableSchema, relation: str) -> str:
        """See ``core.protocols.Source.checksum_sql``."""
        return checksum_sql(schema, relation)

    def has_ordered_keys(self, schema: TableSchema) -> bool:
        """See ``core.protocols.Source.has_ordered_keys``: texts have many orders."""
        types = (schema.column(name).type for name in schema.key)
        return all(each in _ORDERED or each.startswith("DECIMAL") for each in types)

    def begin(self, tables: Sequence[SourceTable]) -> Beginning:
        """See ``core.protocols.Source.begin``."""
        url = self._current_url()
        catalog = self._catalog(url).only([table.name for table in tables])
        with session(url, read_only=False) as connection:
            require_fit(connection, slot=self._slot, publication=self._publication)
            drop_slot(connection, self._slot)
            publish(connection, self._publication, catalog.tables)
            reading = read_clock(connection, self._now_us)
            version = connection.info.server_version
        channel = open_channel(url, replication=True, application=self._slot)
        try:
            line, _ = read_line(channel)
            lsn = create_slot(channel, self._slot, version, is_offered=self._is_offered)
        finally:
            channel.close()
        self._line = line
        return Beginning(position_of(lsn), reading.at_us + reading.skew_us, str(line))

    def follow_only(self, tables: Sequence[SourceTable]) -> Sequence[str]:
        """See ``core.protocols.Source.follow_only``. Raises ``GapError`` where there is no
        publication, or one that left changes out.
        """
        url = self._current_url()
        catalog = self._catalog(url).only([table.name for table in tables])
        with session(url, read_only=False) as connection:
            before = published(connection, self._publication)
            publish(connection, self._publication, catalog.tables)
        return [table.name for table in catalog.tables if table.oid not in before]

    def stream(self, position: Position, tables: Sequence[SourceTable]) -> PostgresStream:
        """See ``core.protocols.Source.stream``. Raises ``GapError`` if the log is gone,
        ``IntegrityError`` if the server does not have what was read (``timeline.require_same``).
        """
        if position == BEGINNING:
            raise GapError(
                "never_begun",
                f"source {self._name} has not been read yet, so its log alone is not enough",
                where=self._name,
                next_step=START_ANEW,
            )
        following = Following(
            self._current_url(),
            self._slot,
            self._publication,
            self._name,
            {table.name: self._names[table.name] for table in tables},
            self._line,
            self._is_sole_follower,
            self._is_offered,
            self._standby,
        )
        stream = PostgresStream(following, position, tables, now_us=self._now_us)
        self._line = stream.line
        self._streams.append(stream)
        return stream

    def copy(self) -> PostgresCopy:
        """See ``core.protocols.Source.copy``."""
        url, application = self._current_url(), f"{self._slot} copy"
        if url != self._url:
            self._require_same_system(url)
        timeline = 0 if self._line is None else self._line.timeline
        return PostgresCopy(
            url, self._name, self._names, application=application, timeline=timeline
        )

    def release(self) -> None:
        """See ``core.protocols.Source.release``."""
        self.close()
        with session(self._url, read_only=False) as connection:
            drop_slot(connection, self._slot)

    def close(self) -> None:
        """Close the streams; the slot stays, so that the next run can go on."""
        for stream in self._streams:
            stream.close()
        self._streams.clear()

    def _current_url(self) -> str:
        return self._url if self._renewed_url is None else self._renewed_url()

    def _catalog(self, url: str, seen: Container[int] | None = None) -> Catalog:
        with session(url) as connection:
            return read_catalog(connection, self._name, list(self._names.values()), seen)

    def _require_same_system(self, url: str) -> None:
        if self._line is None:
            return
        with session(url) as connection:  # whose reasons say what to do
            require_fit(connection, slot=self._slot, publication=self._publication)
        channel = open_channel(url, replication=True, application=self._slot)
        try:
            found, _ = read_line(channel)
        finally:
            channel.close()
        require_system(self._line, found, address(url), source=self._name, anew=START_ANEW)


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
