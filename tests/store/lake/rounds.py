"""A hot store's logs as a test writes them, and rounds that bring them into a lake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from upwell.core.position import Position
from upwell.core.schema import Column
from upwell.core.sql import connect, quote_table
from upwell.store.lake.catalog import Access
from upwell.store.lake.contents import in_order, read_rows
from upwell.store.lake.lake import Lake, open_lake
from upwell.store.lake.logged import VERSIONS, Logged
from upwell.store.lake.mark import LEDGER, Mark, MarkedSource
from upwell.store.lake.repair import Known
from upwell.store.lake.tables import LakeTable
from upwell.store.lake.writer import LakeWriter

PROJECT = "shop"
LOG, CURRENT = "shop.orders__log", "shop.orders"
ORDERS = Logged(
    LOG,
    (
        Column("id", "INTEGER"),
        Column("note", "VARCHAR"),
        Column("_version", "BIGINT"),
        Column("_position", "VARCHAR"),
        Column("_committed_at", "TIMESTAMPTZ"),
        Column("_received_at", "TIMESTAMPTZ"),
        Column("_weight", "BIGINT"),
    ),
    "_version",
    ("_version", "_position", "_committed_at"),
    "identity-1",
)
#: Version n is committed n seconds after this, a microsecond short of it.
START_US = 1_780_000_000_000_000

#: id, note, version, weight
Row = tuple[int, str | None, int, int]


def committed_us(version: int) -> int:
    return START_US + version * 1_000_000 - 1


@dataclass
class Rounds:
    """``write`` makes a version of the hot store, ``flush`` a round of the lake."""

    folder: Path
    log: Logged = ORDERS
    version: int = 0
    uri: str = "lake"
    access: Access = field(default_factory=Access)
    connection: duckdb.DuckDBPyConnection = field(init=False)
    lake: Lake = field(init=False)
    writer: LakeWriter = field(init=False)

    def __post_init__(self) -> None:
        self.connection = connect(zone="Europe/London", threads=1)
        self.connection.execute("CREATE SCHEMA shop; CREATE SCHEMA upwell")
        for logged in (self.log, VERSIONS):
            columns = ", ".join(f'"{each.name}" {each.type}' for each in logged.columns)
            self.connection.execute(f"CREATE TABLE {quote_table(logged.name)} ({columns})")
        self.connection.execute(f"CREATE TABLE {CURRENT} (id INTEGER, note VARCHAR)")
        self.take_over()

    def take_over(self) -> None:
        """What was open is left as it is, as after a crash; a new writer begins."""
        self.lake = open_lake(self.uri, self.folder, self.access)
        self.writer = LakeWriter(self.lake, PROJECT)
        self.writer.take_over()

    def write(
        self,
        come: Sequence[tuple[int, str | None]] = (),
        gone: Sequence[tuple[int, str | None]] = (),
    ) -> int:
        """A version in which rows ended and began; its number."""
        self.version += 1
        version, position = self.version, f"{self.version:08d}"
        at = committed_us(version)
        for rows, weight in ((gone, -1), (come, 1)):
            for row in rows:
                self.connection.execute(
                    f"INSERT INTO {LOG} VALUES "
                    "(?, ?, ?, ?, make_timestamptz(?), make_timestamptz(?), ?)",
                    [*row, version, position, at, at, weight],
                )
        for id_, note in gone:
            self.connection.execute(
                f"DELETE FROM {CURRENT} WHERE id = ? AND note IS NOT DISTINCT FROM ?", [id_, note]
            )
        for row in come:
            self.connection.execute(f"INSERT INTO {CURRENT} VALUES (?, ?)", row)
        self.connection.execute(
            f"INSERT INTO {LEDGER} VALUES "
            "(?, 'shop', ?, make_timestamptz(?), make_timestamptz(?), 1, ?)",
            [version, position, at, at, len(come) + len(gone)],
        )
        return version

    def mark(self) -> Mark:
        source = MarkedSource(Position(f"{self.version:08d}"), committed_us(self.version))
        return Mark(version=self.version, sources={"shop": source}, logs={LOG: self.log.identity})

    def flush(self) -> None:
        self.writer.flush(self.connection, [self.log], self.mark())

    def round(
        self,
        come: Sequence[tuple[int, str | None]] = (),
        gone: Sequence[tuple[int, str | None]] = (),
    ) -> int:
        version = self.write(come, gone)
        self.flush()
        return version

    def table(self, name: str = LOG) -> LakeTable:
        """The table as it stands: the writer's own, where it has one."""
        if name == LEDGER:
            return self.writer.ledger
        table = self.writer.table(name) or self.lake.table(name)
        assert table is not None
        return table

    def logged(self) -> list[Row]:
        """What the hot store's log says."""
        return self.connection.execute(f"SELECT id, note, _version, _weight FROM {LOG}").fetchall()

    def known(self) -> Known:
        return Known(self.connection, [self.log, VERSIONS], {LOG: CURRENT})


def rows_in(lake: Lake, table: LakeTable) -> list[Row]:
    """What the lake's log says, in its order."""
    names = ["id", "note", "_version", "_weight"]
    return [
        (row["id"], row["note"], row["_version"], row["_weight"])
        for each in in_order(table)
        for batch in read_rows(lake.objects, each.file, table.schema, names)
        for row in batch.to_pylist()
    ]
