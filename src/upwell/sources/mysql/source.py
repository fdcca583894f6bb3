"""A MySQL or MariaDB database as a source of changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from upwell.core.errors import EnvironmentFault, GapError
from upwell.core.position import BEGINNING, Position
from upwell.core.protocols import Beginning, SourceTable, SourceTables
from upwell.core.schema import TableSchema
from upwell.sources.mysql.catalog import Catalog, read_catalog
from upwell.sources.mysql.checksum import checksum_sql
from upwell.sources.mysql.copy import MySQLCopy
from upwell.sources.mysql.fitness import require_fit
from upwell.sources.mysql.keys import is_ordered_alike
from upwell.sources.mysql.places import NOWHERE, Place, number_of, position_of
from upwell.sources.mysql.server import (
    Server,
    gtid_before,
    log_end,
    log_files,
    meet,
    read_clock,
)
from upwell.sources.mysql.session import START_ANEW, Session, session
from upwell.sources.mysql.stream import Following, MySQLStream, known_layouts_changed
from upwell.sources.mysql.tables import source_table, sql_name
from upwell.sources.mysql.url import parse_url


class MySQLSource:
    """See ``core.protocols.Source``.

    ``tables`` are named as in the database of the URL (``orders``) or with another one before them
    (``sales.orders``). A server that is not the one of ``expected_identity`` is refused: it is
    another one, whatever its address says.
    """

    def __init__(
        self,
        name: str,
        url: str,
        tables: Sequence[str],
        *,
        expected_identity: str | None = None,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._name = name
        self._address = parse_url(url)
        self._names = {sql_name(name, table, self._address.database): table for table in tables}
        self._expected_identity = expected_identity
        self._now_us = now_us
        self._streams: list[MySQLStream] = []
        self._held: set[Place] = set()

    @property
    def name(self) -> str:
        return self._name

    def look(self, known: Sequence[SourceTable] = ()) -> SourceTables:
        """See ``core.protocols.Source.look``."""
        with session(self._address) as opened:
            server = meet(opened)
            catalog = self._catalog(opened, server)
            through = log_end(opened, server) if known else NOWHERE
        tables = {name: source_table(table) for name, table in catalog.tables.items()}
        changes = known_layouts_changed(known, catalog, through)
        return SourceTables(tables, catalog.unfit, changes)

    def checksum_sql(self, schema: TableSchema, relation: str) -> str:
        """See ``core.protocols.Source.checksum_sql``."""
        return checksum_sql(schema, relation)

    def has_ordered_keys(self, schema: TableSchema) -> bool:
        """See ``core.protocols.Source.has_ordered_keys``: texts have many orders."""
        return all(is_ordered_alike(schema.column(name).type) for name in schema.key)

    def begin(self, tables: Sequence[SourceTable]) -> Beginning:  # noqa: ARG002 - the Protocol's
        """See ``core.protocols.Source.begin``. The server's log has every table: there is nothing
        to set up, so ``tables`` makes no difference.
        """
        with session(self._address) as opened:
            server = meet(opened)
            require_fit(opened, server)
            reading = read_clock(opened, server, self._now_us)
            files = {number_of(name): name for name, _ in log_files(opened)}
            gtids = gtid_before(opened, server, reading.place, files.get(reading.place.file, ""))
        self._expected_identity = server.identity
        position = position_of(reading.place, gtids.rpartition(",")[2])
        return Beginning(position, reading.at_us + reading.skew_us, server.identity)

    def follow_only(self, tables: Sequence[SourceTable]) -> Sequence[str]:  # noqa: ARG002
        """Nothing to do, and no table was ever missing: see ``begin``."""
        return ()

    def stream(self, position: Position, tables: Sequence[SourceTable]) -> MySQLStream:
        """See ``core.protocols.Source.stream``. Raises ``GapError`` if the log is gone."""
        if position == BEGINNING:
            raise GapError(
                "never_begun",
                f"source {self._name} has not been read yet, so its log alone is not enough",
                where=self._name,
                next_step=START_ANEW,
            )
        server = self._require_same_server()
        following = Following(self._address, server, self._name, self._names, self._held)
        stream = MySQLStream(following, position, tables, now_us=self._now_us)
        self._streams.append(stream)
        return stream

    def copy(self) -> MySQLCopy:
        """See ``core.protocols.Source.copy``."""
        server = self._require_same_server()
        return MySQLCopy(self._address, server, self._name, self._names)

    def release(self) -> None:
        """See ``core.protocols.Source.release``. The server keeps nothing for us alone."""
        self.close()

    def close(self) -> None:
        """Close the streams."""
        for stream in self._streams:
            stream.close()
        self._streams.clear()

    def _catalog(self, opened: Session, server: Server) -> Catalog:
        return read_catalog(opened, server, self._name, list(self._names.values()))

    def _require_same_server(self) -> Server:
        with session(self._address) as opened:
            server = meet(opened)
        if self._expected_identity not in (None, server.identity):
            raise EnvironmentFault(
                "another_database",
                f"source {self._name} is another server than the one read so far "
                f"({server.identity}, expected {self._expected_identity})",
                where=str(self._address),
                next_step=f"correct the URL; if the database has moved there, {START_ANEW}",
            )
        return server
