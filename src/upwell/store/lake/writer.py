"""What the hot store has logged goes into the lake, round by round.

A round takes everything through one version: rows of each log, then the ledger's rows with the mark
(see ``mark.py``). A table whose commit is in already is not written twice, since each says through
which version it holds everything; so a round that failed half-way is simply made again.

Whoever opens a writer takes the lake over: it raises the epoch, first in the ledger, so that the
one before can end no round any more, then in every table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import duckdb
import structlog
from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.types import LongType

from upwell.core.errors import EnvironmentFault
from upwell.core.faults import reach
from upwell.core.sql import quote, quote_table
from upwell.store.lake.expiry import forgettable
from upwell.store.lake.lake import Lake
from upwell.store.lake.layout import arrow_schema, outward
from upwell.store.lake.logged import VERSIONS, Logged
from upwell.store.lake.mark import LEDGER, PROJECT, Mark
from upwell.store.lake.parquet import Target, write_files
from upwell.store.lake.tables import Change, LakeTable

log = structlog.get_logger(__name__)

#: Properties of a log: its identity, the layout of its table as JSON, the column that says in
#: which version a row came, and through which version everything is in.
LOG, LAYOUT = "upwell.log", "upwell.layout"
VERSION_COLUMN, THROUGH = "upwell.version-column", "upwell.version"
_BATCH_ROWS = 100_000


def read_mark(lake: Lake) -> Mark:
    """How far a lake is whole; changes nothing."""
    ledger = lake.table(LEDGER)
    return Mark() if ledger is None else Mark.read(ledger.properties, ledger.location)


class LakeWriter:
    """The one that writes a lake. Used from one thread at a time."""

    def __init__(self, lake: Lake, project: str) -> None:
        self.lake = lake
        self._ledger = lake.table(LEDGER) or lake.create(
            LEDGER, VERSIONS.columns, {PROJECT: project, VERSION_COLUMN: VERSIONS.version}
        )
        owner = self._ledger.properties.get(PROJECT, "")
        if owner != project:
            raise EnvironmentFault(
                "lake_of_another_project",
                f"Opening the lake: it belongs to the project {owner!r}, not to {project!r}.",
                where=lake.root,
                next_step="Set lake.uri in upwell.yaml to a place of this project's own.",
            )
        self.mark = Mark.read(self._ledger.properties, self._ledger.location)
        self.epoch = self._ledger.epoch + 1
        self._ledger.commit(Change(), epoch=self.epoch)  # refused where the mark has moved
        self._tables: dict[str, LakeTable] = {}
        self._in_doubt = False  # whether a round may have ended without our hearing of it

    @property
    def ledger(self) -> LakeTable:
        return self._ledger

    # ── taking over ──────────────────────────────────────────────────────────────────────────────

    def take_over(self) -> None:
        """Fence every table from the engine before, and remove what it left beyond the mark."""
        names = self.lake.names()
        for name in names:
            if name == LEDGER:
                continue
            table = self.lake.table(name)
            if table is None or table.epoch == self.epoch:
                continue
            beyond = [each for each in table.files if _begins_after(each, table, self.mark.version)]
            removed = [each.file_path for each in beyond]
            properties = {THROUGH: str(self.mark.version)} if THROUGH in table.properties else {}
            table.commit(Change(removed=removed, properties=properties), epoch=self.epoch)
            if beyond:
                log.info("unended_round_removed", table=name, files=len(beyond))
        self._put_logs_back(names)

    def _put_logs_back(self, names: Sequence[str]) -> None:
        """Undo the exchange of a log that no mark knows of."""
        for name, identity in self.mark.logs.items():
            logged = self.lake.table(name)
            if logged is not None and logged.properties.get(LOG) == identity:
                continue
            aside = aside_name(name, identity)
            if aside in names:
                if logged is not None:
                    self.lake.forget(name)
                self.lake.rename(aside, name)

    # ── rounds ───────────────────────────────────────────────────────────────────────────────────

    def flush(
        self,
        connection: duckdb.DuckDBPyConnection,
        logs: Sequence[Logged],
        mark: Mark,
        await_gap: Callable[[], None] = lambda: None,
    ) -> int:
        """Make the lake whole through ``mark``; the bytes written.

        ``connection`` sees the hot store at exactly that version, and keeps seeing it. A gap is
        waited for before each table: its commit is much work for Python. Raises
        OvertakenError for good; anything else leaves a round that can be made again.
        """
        if self._in_doubt:
            self._ledger.refresh()
            self.mark = Mark.read(self._ledger.properties, self._ledger.location)
        self._in_doubt = True
        written = 0
        for logged in logs:
            await_gap()
            written += self._append(connection, logged, mark.version)
            reach("lake.table_flushed")
        await_gap()
        files = self._write(connection, VERSIONS, self._ledger, self.mark.version, mark.version)
        change = Change(files, (), mark.as_property(), forgettable(self._ledger))
        self._ledger.commit(change, epoch=self.epoch)
        reach("lake.round_ended")
        self.mark, self._in_doubt = mark, False
        return written + sum(each.file_size_in_bytes for each in files)

    def table(self, name: str) -> LakeTable | None:
        """One of the tables that this writer has written."""
        return self._tables.get(name)

    def tables(self) -> list[LakeTable]:
        """The tables that this writer has written, the ledger among them."""
        return [*self._tables.values(), self._ledger]

    def _append(self, connection: duckdb.DuckDBPyConnection, logged: Logged, version: int) -> int:
        known = self._tables.get(logged.name)
        if known is None or known.properties.get(LOG) != logged.identity:
            known = self._tables[logged.name] = self._log_table(logged)
        through = int(known.properties[THROUGH])
        if not _has_rows(connection, logged, through):
            return 0
        self.lake.widen(known, logged.columns)
        files = self._write(connection, logged, known, through, version)
        properties = {THROUGH: str(version), LAYOUT: logged.layout}
        known.commit(Change(files, (), properties, forgettable(known)), epoch=self.epoch)
        return sum(each.file_size_in_bytes for each in files)

    def _log_table(self, logged: Logged) -> LakeTable:
        """The table of a log; one of the same name and another identity is set aside."""
        found = self.lake.table(logged.name)
        if found is not None and found.properties.get(LOG) != logged.identity:
            self.lake.rename(
                logged.name, aside_name(logged.name, found.properties.get(LOG, "before"))
            )
            found = None
        if found is None:
            found = self.lake.create(
                logged.name,
                logged.columns,
                {
                    LOG: logged.identity,
                    LAYOUT: logged.layout,
                    VERSION_COLUMN: logged.version,
                    THROUGH: "0",
                },
            )
        if found.epoch != self.epoch:
            found.commit(Change(), epoch=self.epoch)
        return found

    def _write(
        self,
        connection: duckdb.DuckDBPyConnection,
        logged: Logged,
        table: LakeTable,
        after: int,
        through: int,
    ) -> list[DataFile]:
        target = Target(
            self.lake.objects,
            table.folder,
            table.schema,
            arrow_schema(table.schema, logged.columns),
            logged.bounded,
        )
        columns = ", ".join(outward(column) for column in logged.columns)
        version = quote(logged.version)
        rows = connection.execute(
            f"SELECT {columns} FROM {quote_table(logged.name)} "
            f"WHERE {version} > ? AND {version} <= ?",
            [after, through],
        ).to_arrow_reader(_BATCH_ROWS)
        # With the epoch, a round made again by a successor never has the names of an old one's.
        name = f"{after + 1:012d}-{through:012d}-{self.epoch:06d}"
        return write_files(target, name, rows)


def _has_rows(connection: duckdb.DuckDBPyConnection, logged: Logged, after: int) -> bool:
    return bool(
        connection.execute(
            f"SELECT 1 FROM {quote_table(logged.name)} WHERE {quote(logged.version)} > ? LIMIT 1",
            [after],
        ).fetchall()
    )


def aside_name(name: str, identity: str) -> str:
    """Under what name a log is kept that another one of its table has taken the place of."""
    return f"{name}__until_{identity[:12]}"


def version_bounds(file: DataFile, schema: Schema, version: str) -> tuple[int, int]:
    """The first and the last version whose rows a file holds."""
    number = schema.find_field(version).field_id
    first, last = file.lower_bounds[number], file.upper_bounds[number]
    return int(from_bytes(LongType(), first)), int(from_bytes(LongType(), last))


def _begins_after(file: DataFile, table: LakeTable, version: int) -> bool:
    column = table.properties.get(VERSION_COLUMN)
    return column is not None and version_bounds(file, table.schema, column)[0] > version
