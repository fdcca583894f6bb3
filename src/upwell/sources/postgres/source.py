"""A PostgreSQL database as a source of changes."""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable, Sequence

from upwell.core.errors import EnvironmentFault, GapError
from upwell.core.position import BEGINNING, Position
from upwell.core.protocols import Beginning, SourceTable, SourceTables
from upwell.core.schema import TableSchema
from upwell.sources.postgres.catalog import Catalog, read_catalog
from upwell.sources.postgres.channel import open_channel
from upwell.sources.postgres.checksum import checksum_sql
from upwell.sources.postgres.completeness import read_clock
from upwell.sources.postgres.copy import PostgresCopy
from upwell.sources.postgres.drift import changed_since, source_table
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
from upwell.sources.postgres.wal import position_of

_LONGEST_NAME = 63
_ORDERED = frozenset(
    ("SMALLINT", "INTEGER", "BIGINT", "UINTEGER", "UUID", "DATE", "TIMESTAMP", "TIMESTAMPTZ")
)


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
        self._names = {sql_name(name, table): table for table in tables}
        self._slot = slot
        self._publication = publication or slot
        self._expected_system_id = expected_system_id
        self._is_sole_follower = is_sole_follower
        self._now_us = now_us
        self._streams: list[PostgresStream] = []

    @property
    def name(self) -> str:
        return self._name

    def look(self, known: Sequence[SourceTable] = ()) -> SourceTables:
        """See ``core.protocols.Source.look``."""
        catalog = self._catalog()
        tables = {table.name: source_table(table) for table in catalog.tables}
        changes = changed_since(known, catalog)
        return SourceTables(tables, catalog.unfit, {each.table: each for each in changes})

    def checksum_sql(self, schema: TableSchema, relation: str) -> str:
        """See ``core.protocols.Source.checksum_sql``."""
        return checksum_sql(schema, relation)

    def has_ordered_keys(self, schema: TableSchema) -> bool:
        """See ``core.protocols.Source.has_ordered_keys``: texts have many orders."""
        types = (schema.column(name).type for name in schema.key)
        return all(each in _ORDERED or each.startswith("DECIMAL") for each in types)

    def begin(self, tables: Sequence[SourceTable]) -> Beginning:
        """See ``core.protocols.Source.begin``."""
        catalog = self._catalog().only(table.name for table in tables)
        with session(self._url, read_only=False) as connection:
            require_fit(connection, slot=self._slot, publication=self._publication)
            drop_slot(connection, self._slot)
            publish(connection, self._publication, catalog.tables)
            reading = read_clock(connection, self._now_us)
            version = connection.info.server_version
        channel = open_channel(self._url, replication=True, application=self._slot)
        try:
            identity = channel.query("IDENTIFY_SYSTEM")[0]["systemid"] or ""
            lsn = create_slot(channel, self._slot, version)
        finally:
            channel.close()
        self._expected_system_id = identity
        return Beginning(position_of(lsn), reading.at_us + reading.skew_us, identity)

    def follow_only(self, tables: Sequence[SourceTable]) -> Sequence[str]:
        """See ``core.protocols.Source.follow_only``. Raises ``GapError`` where there is no
        publication, or one that left changes out.
        """
        catalog = self._catalog().only(table.name for table in tables)
        with session(self._url, read_only=False) as connection:
            before = published(connection, self._publication)
            publish(connection, self._publication, catalog.tables)
        return [table.name for table in catalog.tables if table.oid not in before]

    def stream(self, position: Position, tables: Sequence[SourceTable]) -> PostgresStream:
        """See ``core.protocols.Source.stream``. Raises ``GapError`` if the log is gone."""
        if position == BEGINNING:
            raise GapError(
                "never_begun",
                f"source {self._name} has not been read yet, so its log alone is not enough",
                where=self._name,
                next_step=START_ANEW,
            )
        self._require_same_system()
        following = Following(
            self._url,
            self._slot,
            self._publication,
            self._name,
            {table.name: self._names[table.name] for table in tables},
            self._is_sole_follower,
        )
        stream = PostgresStream(following, position, tables, now_us=self._now_us)
        self._streams.append(stream)
        return stream

    def copy(self) -> PostgresCopy:
        """See ``core.protocols.Source.copy``."""
        return PostgresCopy(self._url, self._name, self._names, application=f"{self._slot} copy")

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

    def _catalog(self) -> Catalog:
        with session(self._url) as connection:
            return read_catalog(connection, self._name, list(self._names.values()))

    def _require_same_system(self) -> None:
        if self._expected_system_id is None:
            return
        channel = open_channel(self._url, replication=True, application=self._slot)
        try:
            found = channel.query("IDENTIFY_SYSTEM")[0]["systemid"] or ""
        finally:
            channel.close()
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
