"""Reads tables beside the stream: ranges of pages, each in a short statement of its own.

Those of a partitioned table lie in its partitions, each of which has pages of its own.

A range is read where it lies (``ctid``), so every page of the table is read once whatever its key
is. After each the catalogue is asked whether the table is still the one whose pages were counted: a
rewrite gives it another file for ever, so a look behind the reading is enough.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import LiteralString

import psycopg
import pyarrow as pa
from psycopg import sql

from upwell.core.errors import LayoutChangedError, Unavailable, UpwellError
from upwell.core.position import Position
from upwell.core.protocols import Checksum, CopiedRows, CopyPlan, KeyRange, SourceTable
from upwell.core.sql import quote
from upwell.sources.postgres.catalog import read_catalog
from upwell.sources.postgres.channel import Channel, await_data, await_readable, open_channel
from upwell.sources.postgres.checksum import checksum
from upwell.sources.postgres.copyout import CopyDecoder
from upwell.sources.postgres.datatypes import OTHER
from upwell.sources.postgres.drift import compare, is_rewritten, partitions_of
from upwell.sources.postgres.keys import among, within
from upwell.sources.postgres.session import ANSWER_SECONDS, Session, address, fault
from upwell.sources.postgres.tables import CapturedColumn, CapturedTable
from upwell.sources.postgres.wal import lsn_of, position_before, timeline_of

#: Copied bytes are decoded in piles of about this many, or what has come before a pause as long.
_PILE_BYTES = 1 << 20
_PAUSE_SECONDS = 0.002
#: Past it, nobody is there to come to the end of a part: the server allows itself less.
PART_SECONDS = ANSWER_SECONDS
#: How long transactions that began to write before we looked may take to end.
WRITERS_SECONDS = 30.0
_LOOK_SECONDS = 0.02

_SIZE: LiteralString = """
    select pg_relation_size(oid), pg_table_size(oid), current_setting('block_size')::int
      from unnest(%s::oid[]) with ordinality as t(oid, place) order by place
"""
#: How many rows the planner expects, also of a table that was never analysed.
_PLAN: LiteralString = "EXPLAIN (FORMAT JSON) SELECT FROM ONLY {}"
#: The planner would lock every partition, and its indexes, to say as much.
_ANALYSED: LiteralString = """
    select coalesce(sum(greatest(reltuples, 0)), 0)::bigint
      from pg_class where oid = any (%s::oid[])
"""
#: Who may have written to a table without our seeing it yet. A transaction lets go of its locks
#: only after others see what it did, also one that waits for a standby to have its commit.
_WRITERS: LiteralString = """
    select virtualtransaction, pid from pg_locks
     where locktype = 'relation' and relation = any (%s::oid[]) and granted
       and database = (select oid from pg_database where datname = current_database())
       and mode in ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
                    'AccessExclusiveLock')
"""
_INSERTED: LiteralString = """
    select pg_current_wal_insert_lsn()::text, pg_walfile_name(pg_current_wal_insert_lsn())
"""


class PostgresCopy:
    """See ``core.protocols.Copy``. Two connections: one copies, one asks.

    ``names`` gives the tables' names in the database by their names in SQL. What a server on
    another ``timeline`` has (0: on any) is not read: the stream would never come to its moments.
    """

    def __init__(
        self,
        url: str,
        source: str,
        names: dict[str, str],
        *,
        application: str,
        timeline: int = 0,
    ) -> None:
        self._url = url
        self._source = source
        self._names = names
        self._application = application
        self._timeline = timeline
        self._session = Session(url)
        self._channel: Channel | None = None
        try:
            self._channel = self._opened()
        except BaseException:
            self._session.close()
            raise

    def plan(self, table: SourceTable, part_bytes: int) -> CopyPlan:
        """See ``core.protocols.Copy.plan``."""
        now = self._require_same(table, by_place=True)
        self._await_writers(now)
        places = [each.oid for each in now.leaves] if now.is_partitioned else [now.oid]
        with self._session.use() as connection:
            sizes = connection.execute(_SIZE, [places]).fetchall()
            estimated_rows = _estimated_rows(connection, now, places)
        parts: list[str] = []
        for oid, (main_bytes, all_bytes, page_bytes) in zip(places, sizes, strict=True):
            step = part_bytes * (main_bytes // page_bytes) / max(all_bytes, 1)
            ranges = _page_ranges(main_bytes // page_bytes, max(1, int(step)))
            parts += [f"{oid}:{each}" for each in ranges] if now.is_partitioned else ranges
        return CopyPlan(parts or _page_ranges(0, 1), estimated_rows)

    def read(self, table: SourceTable, part: str) -> CopiedRows:
        """See ``core.protocols.Copy.read``."""
        place, _, pages = part.rpartition(":")
        begin, _, end = pages.partition("-")
        where = f"ctid >= '({int(begin)},0)'::tid"
        if end:
            where += f" AND ctid < '({int(end)},0)'::tid"
        return self._read(table, where, by_place=True, partition=int(place) if place else None)

    def compare(
        self, table: SourceTable, keys: KeyRange, stored: Checksum
    ) -> CopiedRows | Position:
        """See ``core.protocols.Copy.compare``."""
        now = self._require_same(table)
        condition = within(now, table.schema.key, keys)
        with self._session.use() as connection:
            found = checksum(connection, now, condition)
        if found != stored:
            return self._read(table, condition)
        return self._looked_at(table)

    def read_rows(self, table: SourceTable, keys: pa.Table) -> CopiedRows:
        """See ``core.protocols.Copy.read_rows``."""
        now = self._require_same(table)
        self._await_writers(now)
        return self._read(table, among(now, table.schema.key, keys))

    def close(self) -> None:
        """See ``core.protocols.Copy.close``."""
        if self._channel is not None:
            self._channel.close()
        self._session.close()

    def _read(
        self,
        table: SourceTable,
        where: str,
        *,
        by_place: bool = False,
        partition: int | None = None,
    ) -> CopiedRows:
        now = self._require_same(table, by_place=by_place)
        rows = now.own
        if partition is not None:
            leaves = {each.oid: each for each in now.leaves}
            if partition not in leaves:
                raise _changed(table, "a partition is none any more")
            rows = f"ONLY {leaves[partition].quoted}"
        columns = [column for column in now.columns if column.name in table.schema.column_names]
        decoder = CopyDecoder([each.name for each in columns], [each.type for each in columns])
        selected = ", ".join(map(_selected, columns))
        statement = f"SELECT {selected} FROM {rows} WHERE {where}"
        try:
            batches, size = self._copied(decoder, f"COPY ({statement}) TO STDOUT (FORMAT binary)")
        except UpwellError as error:
            if not decoder.is_ready:  # but amid the answer, or gone
                self._let_go_of_channel()
            if not isinstance(error, Unavailable):
                self._require_same(table)  # a column gone or retyped is a change, not a fault
            raise
        reached = self._looked_at(table, by_place=by_place)
        return CopiedRows(batches, decoder.refused, reached, size)

    def _opened(self) -> Channel:
        channel = open_channel(self._url, replication=False, application=self._application)
        try:
            found = channel.query(_INSERTED)[0]
            self._require_same_timeline(found["pg_walfile_name"] or "")
        except BaseException:
            channel.close()
            raise
        return channel

    def _require_same_timeline(self, file: str) -> None:
        timeline = timeline_of(file)
        if self._timeline not in (0, timeline):
            raise Unavailable(
                "server_of_another_timeline",
                f"the server read from is on timeline {timeline}, the log that is followed on "
                f"{self._timeline}",
                where=address(self._url),
                next_step="see that the URL leads to one server alone, the one that takes writes",
            )

    def _looked_at(self, table: SourceTable, *, by_place: bool = False) -> Position:
        """Through where a stream must have come to have given what was just read."""
        self._require_same(table, by_place=by_place)
        with self._session.use() as connection:
            row = connection.execute(_INSERTED).fetchone()
        assert row is not None  # noqa: S101 - a SELECT without FROM has one row
        self._require_same_timeline(row[1])
        return position_before(lsn_of(row[0]))

    def _copied(self, decoder: CopyDecoder, statement: str) -> tuple[list[pa.RecordBatch], int]:
        batches: list[pa.RecordBatch] = []
        size = 0
        self._channel = self._channel or self._opened()
        self._channel.start_copy(statement)
        for data in self._received(self._channel, decoder):
            size += len(data)
            batches += decoder.feed(data)
        if decoder.failure is not None:
            notice, where = decoder.failure, address(self._url)
            raise fault("copy a table", notice.sqlstate, notice.message, where)
        return batches, size

    @staticmethod
    def _received(channel: Channel, decoder: CopyDecoder) -> Iterator[bytes]:
        """What comes, piled up: the server writes in small pieces, and taking each apart on its own
        costs more than its rows do.
        """
        deadline = time.monotonic() + PART_SECONDS
        yield channel.receive()
        while not decoder.is_ready:
            await_data(channel, deadline)
            parts = [channel.receive()]
            size = len(parts[0])
            while size < _PILE_BYTES and await_readable(channel, _PAUSE_SECONDS):
                parts.append(channel.receive())
                size += len(parts[-1])
                if time.monotonic() >= deadline:
                    break
            yield b"".join(parts)

    def _let_go_of_channel(self) -> None:
        """The server is amid an answer that we do not wait for; the next part has another one."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.cancel()
            channel.close()

    def _require_same(self, table: SourceTable, *, by_place: bool = False) -> CapturedTable:
        """The table in the catalogue. Raises ``LayoutChangedError`` if it is another one, or, for
        reading ``by_place``, if its rows lie elsewhere now; ``EnvironmentFault`` if this role may
        not read it.
        """
        with self._session.use() as connection:
            names, seen = [self._names[table.name]], partitions_of([table])
            catalog = read_catalog(connection, self._source, names, seen)
        catalog.require_rights([table.name])
        if not catalog.tables:
            (unfit,) = catalog.unfit.values()
            raise _changed(table, unfit.what)
        (now,) = catalog.tables
        change = compare(table, now)
        if change is not None and (change.why or change.fills is not None):
            raise _changed(table, change.why or "a column was added with a value in every row")
        if by_place and is_rewritten(table, now):
            raise _changed(table, "its rows were written anew")
        return now

    def _await_writers(self, table: CapturedTable) -> None:
        """Until no transaction is left that may have written before now, and whose rows we might
        not see.
        """
        deadline = time.monotonic() + WRITERS_SECONDS
        with self._session.use() as connection:
            writers = dict(connection.execute(_WRITERS, [table.oids]).fetchall())
            while writers:
                if time.monotonic() > deadline:
                    pid = next(iter(writers.values()))
                    raise Unavailable(
                        "table_being_written",
                        f"reading {table.name} waits for a transaction that has written to it and "
                        f"is still open (server process {pid})",
                        where=table.quoted,
                        next_step="end that transaction; until then the table is not read",
                    )
                time.sleep(_LOOK_SECONDS)
                now = dict(connection.execute(_WRITERS, [table.oids]).fetchall())
                writers = {each: pid for each, pid in writers.items() if each in now}


def _estimated_rows(
    connection: psycopg.Connection, table: CapturedTable, places: Sequence[int]
) -> int:
    if table.is_partitioned:
        row = connection.execute(_ANALYSED, [list(places)]).fetchone()
        return int(row[0]) if row else 0
    name = sql.Identifier(table.namespace, table.relation)
    plan = connection.execute(sql.SQL(_PLAN).format(name)).fetchone()
    return int(plan[0][0]["Plan"]["Plan Rows"]) if plan else 0


def _page_ranges(pages: int, step: int) -> list[str]:
    cuts = [*range(0, max(pages, 1), step)]
    ends = [*map(str, cuts[1:]), ""]  # the last goes as far as the table does
    return [f"{begin}-{end}" for begin, end in zip(cuts, ends, strict=True)]


def _selected(column: CapturedColumn) -> str:
    """A type without a binary form for us is sent as the text the server prints, as in the log."""
    name = quote(column.name)
    if column.type != OTHER:
        return name
    # A cast may print otherwise; and a composite value with a NULL in it is not IS NOT NULL.
    return f"CASE WHEN {name} IS DISTINCT FROM NULL THEN concat({name}) END"


def _changed(table: SourceTable, how: str) -> LayoutChangedError:
    return LayoutChangedError(
        "table_changed",
        f"reading {table.name}: {how}",
        where=table.name,
        next_step="it is read anew from its beginning",
    )
