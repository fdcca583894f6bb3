"""Reads tables beside the stream: ranges of the key, each as of one moment.

A range is read in a transaction of its own with a snapshot. MariaDB tells the place in its log that
a snapshot stands for, exactly; with MySQL the log's end just after stands for it, which is never
too early. Before a table is cut, what the stream may have given must have become visible to such
snapshots: a server writes a transaction to its log first. MariaDB is asked until a snapshot has
reached what was the log's end; on MySQL a lock for reading is taken on the table and let go, which
waits for all that were still writing.

While rows come the transaction keeps the table's definition as it is, so a look at the catalogue
behind them says what they were read under.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import pyarrow as pa

from upwell.core.errors import EnvironmentFault, LayoutChangedError, Unavailable, UpwellError
from upwell.core.position import Position
from upwell.core.protocols import (
    Checksum,
    CopiedRows,
    CopyPlan,
    KeyRange,
    RefusedRows,
    SourceTable,
)
from upwell.core.sql import quote
from upwell.sources.mysql import keys
from upwell.sources.mysql.catalog import read_catalog
from upwell.sources.mysql.checksum import checksum
from upwell.sources.mysql.copyout import CopyDecoder
from upwell.sources.mysql.drift import compare
from upwell.sources.mysql.places import Place, number_of, position_of
from upwell.sources.mysql.server import Server, log_end
from upwell.sources.mysql.session import Session, client, fault, translated
from upwell.sources.mysql.tables import CapturedTable, of_state
from upwell.sources.mysql.texts import selected
from upwell.sources.mysql.url import Address

#: How long transactions that are being committed, or hold a lock, may take to end.
WRITERS_SECONDS = 30.0
_LOOK_SECONDS = 0.02
_LOCK_SECONDS = 2
_READ_BYTES = 256 << 10
_KEYS_AT_ONCE = 1000
_QUERY = 0x03
_USUAL_ROW_BYTES = 100
_ROW_HEADER_BYTES = 20  # what a row takes in InnoDB beside its values
#: The table is another one: no such table, no such column, defined anew since the snapshot.
_CHANGED = (1146, 1054, 1412, 1051, 1932)

_SIZE = """
    SELECT COALESCE(TABLE_ROWS, 0), COALESCE(AVG_ROW_LENGTH, 0) FROM information_schema.TABLES
     WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s
"""
_WRITERS = """
    SELECT trx_mysql_thread_id FROM information_schema.INNODB_TRX
     WHERE trx_rows_modified > 0 ORDER BY trx_started LIMIT 5
"""


class MySQLCopy:
    """See ``core.protocols.Copy``. ``names`` gives tables' names in the project by those in SQL.

    ``tells_snapshots``: the server knows the place of its snapshots (MariaDB does).
    """

    def __init__(
        self,
        address: Address,
        server: Server,
        source: str,
        names: Mapping[str, str],
        *,
        tells_snapshots: bool | None = None,
        writers_seconds: float = WRITERS_SECONDS,
    ) -> None:
        self._address = address
        self._server = server
        self._source = source
        self._names = names
        self._tells_snapshots = server.is_mariadb if tells_snapshots is None else tells_snapshots
        self._writers_seconds = writers_seconds
        self._open: Session | None = None
        self._session()

    def plan(self, table: SourceTable, part_bytes: int) -> CopyPlan:
        """See ``core.protocols.Copy.plan``."""
        now = self._require_same(table)
        self._await_visible(now)
        rows, row_bytes = self._session().row(_SIZE, [now.database, now.table])
        most_rows = max(1, part_bytes // max(int(row_bytes), _ROW_HEADER_BYTES))
        if not row_bytes:
            most_rows = max(1, part_bytes // _USUAL_ROW_BYTES)
        cuts = list(self._cuts(now, most_rows))
        begins: list[keys.Key] = [(), *cuts]
        ends: list[keys.Key] = [*cuts, ()]
        parts = [json.dumps([after, through]) for after, through in zip(begins, ends, strict=True)]
        return CopyPlan(parts, int(rows))

    def read(self, table: SourceTable, part: str) -> CopiedRows:
        """See ``core.protocols.Copy.read``."""
        after, through = json.loads(part)
        condition = keys.between(of_state(table), tuple(after), tuple(through))
        return self._read(table, [condition])

    def compare(
        self, table: SourceTable, wanted: KeyRange, stored: Checksum
    ) -> CopiedRows | Position:
        """See ``core.protocols.Copy.compare``."""
        now = self._require_same(table)
        condition = keys.within(now, wanted)
        try:
            found = checksum(self._session(), now, condition)
        except EnvironmentFault:
            self._require_same(table)  # a column gone or retyped is a change, not a fault
            raise
        if found != stored:
            self._await_visible(now)
            return self._read(table, [condition])
        self._require_same(table)
        return position_of(log_end(self._session(), self._server))

    def read_rows(self, table: SourceTable, wanted: pa.Table) -> CopiedRows:
        """See ``core.protocols.Copy.read_rows``."""
        known = of_state(table)
        self._await_visible(self._require_same(table))
        conditions = [
            keys.matches(known, wanted.slice(at, _KEYS_AT_ONCE))
            for at in range(0, wanted.num_rows, _KEYS_AT_ONCE)
        ]
        return self._read(table, conditions)

    def close(self) -> None:
        """See ``core.protocols.Copy.close``."""
        if self._open is not None:
            self._open.close()
            self._open = None

    # ── reading ──────────────────────────────────────────────────────────────────────────────────

    def _read(self, table: SourceTable, conditions: Sequence[str]) -> CopiedRows:
        known = of_state(table)
        batches: list[pa.RecordBatch] = []
        refused: list[RefusedRows] = []
        size = 0
        try:
            place = self._take_snapshot()
            for condition in conditions:
                decoder, received = self._rows(table, known, condition)
                batches += decoder.batches
                refused += decoder.refused
                size += received
            self._require_same(table)
            self._session().run("COMMIT")
        except UpwellError:
            self.close()  # whatever was under way there: the next call begins anew
            raise
        return CopiedRows(batches, refused, position_of(place), size)

    def _take_snapshot(self) -> Place:
        """Begin a transaction with a snapshot; a place that has all that the snapshot shows."""
        session = self._session()
        session.run("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        return self._snapshot_place() if self._tells_snapshots else log_end(session, self._server)

    def _snapshot_place(self) -> Place:
        rows = self._session().rows("SHOW STATUS LIKE 'binlog_snapshot_%'")
        told = {str(name).lower(): str(value) for name, value in rows}
        file, offset = told.get("binlog_snapshot_file"), told.get("binlog_snapshot_position")
        if not file or not offset:
            return log_end(self._session(), self._server)
        return Place(number_of(file), int(offset))

    def _rows(
        self, table: SourceTable, known: CapturedTable, condition: str
    ) -> tuple[CopyDecoder, int]:
        places = [at for at in known.kept if known.columns[at].name in table.schema.column_names]
        columns = [known.columns[at] for at in places]
        types = [known.types[at] for at in places]
        listed = ", ".join(
            selected(column.name, kind) for column, kind in zip(columns, types, strict=True)
        )
        statement = f"SELECT {listed} FROM {known.quoted} WHERE {condition}"
        raw = self._session().raw
        try:
            raw._execute_command(_QUERY, statement)  # noqa: SLF001 - see the decision on pymysql
            count = raw._read_packet().read_length_encoded_integer()  # noqa: SLF001
            for _ in range(count + 1):  # the columns, and the mark behind them
                raw._read_packet()  # noqa: SLF001
        except client().err.MySQLError as error:
            raise self._refused(table, error) from error
        first = raw._next_seq_id  # noqa: SLF001
        decoder = CopyDecoder([column.name for column in columns], types, first)
        received = 0
        with translated(f"copy table {table.name}", self._address):
            while not decoder.is_done:
                data = raw._rfile.read1(_READ_BYTES)  # noqa: SLF001
                if not data:
                    raise EOFError("the server closed the connection")
                received += len(data)
                decoder.feed(data)
        if decoder.failure is not None:
            notice = decoder.failure
            raise self._fault(table, notice.number, notice.message)
        return decoder, received

    def _refused(self, table: SourceTable, error: Exception) -> UpwellError:
        number = error.args[0] if error.args and isinstance(error.args[0], int) else 0
        return self._fault(table, number, str(error.args[-1]) if error.args else "")

    def _fault(self, table: SourceTable, number: int, message: str) -> UpwellError:
        if number in _CHANGED:
            return _changed(table, message)
        return fault(f"copy table {table.name}", number, message, self._address)

    def _require_same(self, table: SourceTable) -> CapturedTable:
        """The table in the catalogue. Raises ``LayoutChangedError`` if rows are others now."""
        names = [self._names[table.name]]
        catalog = read_catalog(self._session(), self._server, self._source, names)
        if not catalog.tables:
            (unfit,) = catalog.unfit.values()
            raise _changed(table, unfit.what)
        (now,) = catalog.tables.values()
        change = compare(table, now)
        if change is not None and (change.why or change.fills is not None):
            raise _changed(table, change.why or "a column was added with a value in every row")
        return now

    def _session(self) -> Session:
        if self._open is None:
            self._open = Session(self._address)
            self._open.run("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            self._open.run("SET character_set_results = NULL")  # texts as they are stored
        return self._open

    # ── cutting ──────────────────────────────────────────────────────────────────────────────────

    def _cuts(self, table: CapturedTable, most_rows: int) -> Iterator[keys.Key]:
        """Keys at which parts end, ascending."""
        if keys.is_cut_by_numbers(table):
            name = quote(table.key[0])
            query = f"SELECT MIN({name}), MAX({name}) FROM {table.quoted}"
            first, last = self._session().row(query)
            if first is not None:
                count = self._counter(table, name)
                for cut in keys.halved(int(first), int(last), most_rows, count):
                    yield (str(cut),)
            return
        yield from self._walked(table, most_rows)

    def _counter(self, table: CapturedTable, name: str) -> Callable[[int, int], int]:
        """Asks the optimiser, which looks down the index at both ends and reads no rows."""

        def count(low: int, high: int) -> int:
            query = f"SELECT {name} FROM {table.quoted} WHERE {name} BETWEEN {low} AND {high}"
            rows = self._session().named_rows(f"EXPLAIN {query}")
            return int(rows[0].get("rows") or 0)

        return count

    def _walked(self, table: CapturedTable, most_rows: int) -> Iterator[keys.Key]:
        """Step through the key's index: other keys than numbers have no middle to halve at."""
        types = keys.key_types(table)
        pairs = list(zip(table.key, types, strict=True))
        listed = ", ".join(keys.shown(name, kind) for name, kind in pairs)
        order = ", ".join(map(quote, table.key))
        after: keys.Key = ()
        while True:
            condition = keys.between(table, after, ())
            rows = self._session().rows(
                f"SELECT {listed} FROM {table.quoted} WHERE {condition}"
                f" ORDER BY {order} LIMIT 1 OFFSET {most_rows - 1}"
            )
            if not rows:
                return
            texts = [value.decode() if isinstance(value, bytes) else value for value in rows[0]]
            after = tuple(
                keys.as_literal(text, kind) for text, kind in zip(texts, types, strict=True)
            )
            yield after

    # ── what is visible ──────────────────────────────────────────────────────────────────────────

    def _await_visible(self, table: CapturedTable) -> None:
        """Until snapshots show everything that is in the log by now."""
        deadline = time.monotonic() + self._writers_seconds
        end = log_end(self._session(), self._server)
        while not (self._has_reached(end) if self._tells_snapshots else self._has_locked(table)):
            if time.monotonic() > deadline:
                raise self._being_written(table)
            time.sleep(_LOOK_SECONDS)

    def _has_reached(self, end: Place) -> bool:
        place = self._take_snapshot()
        self._session().run("COMMIT")
        return place >= end

    def _has_locked(self, table: CapturedTable) -> bool:
        session = self._session()
        try:
            session.run(f"SET SESSION lock_wait_timeout = {_LOCK_SECONDS}")
            session.run(f"LOCK TABLES {table.quoted} READ")
            session.run("UNLOCK TABLES")
        except Unavailable as error:
            if error.code != "source_locked":
                raise
            return False
        except EnvironmentFault as error:
            if error.code != "no_right":
                raise
            step = f"GRANT LOCK TABLES ON {quote(table.database)}.* TO the user in the URL"
            raise EnvironmentFault(
                error.code, error.what, where=error.where, next_step=step
            ) from error
        return True

    def _being_written(self, table: CapturedTable) -> Unavailable:
        try:
            found = [str(row[0]) for row in self._session().rows(_WRITERS)]
        except UpwellError:  # needs the right PROCESS
            found = []
        who = f" (connections {', '.join(found)})" if found else ""
        return Unavailable(
            "table_being_written",
            f"reading {table.name} waits for a transaction that has written and is still open{who}",
            where=f"{table.database}.{table.table}",
            next_step="end that transaction (SHOW PROCESSLIST, KILL); until then the table is not "
            "read",
        )


def _changed(table: SourceTable, how: str) -> LayoutChangedError:
    return LayoutChangedError(
        "table_changed",
        f"reading {table.name}: {how}",
        where=table.name,
        next_step="it is read anew from its beginning",
    )
