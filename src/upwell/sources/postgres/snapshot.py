"""All captured tables as they stood when the slot was created.

The slot's creation exports a snapshot; a second, ordinary connection adopts it and copies the
tables out. What the slot then streams begins exactly where this snapshot ends. Unless ``keep``
was called, closing drops the slot again: nothing would follow it, and the server would keep its
log for ever.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import pyarrow as pa

from upwell.core.errors import UsageError
from upwell.core.position import Position
from upwell.core.protocols import RefusedRows
from upwell.core.sql import literal, quote
from upwell.sources.postgres.channel import Channel, await_readable, open_channel
from upwell.sources.postgres.copying import CopyDecoder
from upwell.sources.postgres.datatypes import OTHER
from upwell.sources.postgres.replication import CreatedSlot, create_slot, drop_slot, publish
from upwell.sources.postgres.session import address, fault, session
from upwell.sources.postgres.stream import Following
from upwell.sources.postgres.tables import CapturedColumn, CapturedTable
from upwell.sources.postgres.wal import position_of

#: Copied bytes are decoded in piles of about this many, or what has come before a pause as long.
_PILE_BYTES = 1 << 20
_PAUSE_SECONDS = 0.002
_NOW = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint"


class PostgresSnapshot:
    """See ``core.protocols.Snapshot``. Tables are read one after another."""

    def __init__(
        self, following: Following, channel: Channel, slot: CreatedSlot, taken_at_us: int
    ) -> None:
        self._following = following
        self._channel = channel
        self._position = position_of(slot.lsn)
        self._taken_at_us = taken_at_us
        self._tables = {table.name: table for table in following.catalog.tables}
        self._refused: dict[str, Sequence[RefusedRows]] = {}
        self._is_copying = False
        self._is_kept = False
        self._is_closed = False

    @property
    def position(self) -> Position:
        return self._position

    @property
    def taken_at_us(self) -> int:
        """Source clock just before the slot was created: all committed by then is in."""
        return self._taken_at_us

    def estimated_rows(self, table: str) -> int:
        """What the source's planner expects to find."""
        statement = f"EXPLAIN (FORMAT JSON) {_selection(self._table(table))}"
        texts = [value for row in self._channel.query(statement) for value in row.values()]
        return int(json.loads("".join(text or "" for text in texts))[0]["Plan"]["Plan Rows"])

    def read(self, table: str) -> Iterator[pa.RecordBatch]:
        """The table's rows; those that cannot be stored are left out, see ``refusals``."""
        captured = self._table(table)
        if self._is_copying:
            raise UsageError("snapshot_busy", f"{table} is read while another table is being read")
        self._is_copying = True
        types = [column.type for column in captured.columns]
        decoder = CopyDecoder([column.name for column in captured.columns], types)
        self._channel.start_copy(f"COPY ({_selection(captured)}) TO STDOUT (FORMAT binary)")
        yield from decoder.feed(self._channel.receive())
        while not decoder.is_ready:
            await_readable(self._channel)
            yield from decoder.feed(self._piled_up())
        self._is_copying = False
        if decoder.failure is not None:
            notice = decoder.failure
            where = address(self._following.url)
            raise fault(f"copy table {table}", notice.sqlstate, notice.message, where)
        self._refused[table] = tuple(decoder.refused)

    def refusals(self, table: str) -> Sequence[RefusedRows]:
        """The rows of a table, read to its end, that cannot be stored; they go to quarantine."""
        return self._refused.get(table, ())

    def keep(self) -> None:
        """The rows are committed: the slot stays, for the stream to follow."""
        self._is_kept = True

    def close(self) -> None:
        """Let go of the source; unless it was kept, the slot goes too."""
        if self._is_closed:
            return
        self._is_closed = True
        self._channel.close()
        if not self._is_kept:
            with session(self._following.url, read_only=False) as connection:
                drop_slot(connection, self._following.slot)

    def _piled_up(self) -> bytes:
        """What comes without a pause, up to a bounded size: the server writes in small pieces, and
        taking each apart on its own costs more than its rows do.
        """
        parts = [self._channel.receive()]
        size = len(parts[0])
        while size < _PILE_BYTES and await_readable(self._channel, _PAUSE_SECONDS):
            parts.append(self._channel.receive())
            size += len(parts[-1])
        return b"".join(parts)

    def _table(self, name: str) -> CapturedTable:
        if name not in self._tables:
            raise UsageError("table_unknown", f"{name} is not captured from this source")
        return self._tables[name]


def take_snapshot(following: Following) -> PostgresSnapshot:
    """Set up publication and slot anew and open the snapshot where the slot begins."""
    with session(following.url, read_only=False) as connection:
        drop_slot(connection, following.slot)
        publish(connection, following.publication, following.catalog)
        row = connection.execute(_NOW).fetchone()
        version = connection.info.server_version
    taken_at_us: int = row[0] if row else 0
    exporting = open_channel(following.url, replication=True, application=following.slot)
    try:
        slot = create_slot(exporting, following.slot, version)
        try:
            channel = _adopted(following, slot)
        except BaseException:
            exporting.query(f"DROP_REPLICATION_SLOT {quote(following.slot)}")
            raise
    finally:
        exporting.close()
    return PostgresSnapshot(following, channel, slot, taken_at_us)


def _adopted(following: Following, slot: CreatedSlot) -> Channel:
    """A connection that sees the tables as of the slot's beginning."""
    channel = open_channel(following.url, replication=False, application=following.slot)
    try:
        channel.query("SET statement_timeout = 0")
        channel.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        channel.query(f"SET TRANSACTION SNAPSHOT {literal(slot.snapshot)}")
    except BaseException:
        channel.close()
        raise
    return channel


def _selection(table: CapturedTable) -> str:
    """The table's own rows, children left out as they are in the log."""
    columns = ", ".join(_selected(column) for column in table.columns)
    return f"SELECT {columns} FROM ONLY {table.quoted}"


def _selected(column: CapturedColumn) -> str:
    """A type without a binary form for us is sent as the text the server prints, as in the log."""
    name = quote(column.name)
    if column.type != OTHER:
        return name
    # A cast may print otherwise; and a composite value with a NULL in it is not IS NOT NULL.
    return f"CASE WHEN {name} IS DISTINCT FROM NULL THEN concat({name}) END"
