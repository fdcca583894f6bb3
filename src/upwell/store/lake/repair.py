"""Puts back what damaged files of the lake held, from what is known good. Invents nothing.

In this order:

- the hot store's log still has exactly the rows: they are written again;
- the hot store has the current table of the log: what the readable rest of the log, and what is not
  in the lake yet, do not account for is written in the place of the files. From the last version of
  theirs on the log sums up as before; how it came to that is lost, and reported;
- neither: the file stays named and unreadable. Of Upwell's own tables, which nothing is derived
  from, it is given up instead.

Damaged files are kept beside the others under a name that nothing reads or sweeps, whatever becomes
of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import Any

import duckdb
import msgspec
import pyarrow as pa
import structlog
from pyiceberg.manifest import DataFile

from upwell.core.faults import reach
from upwell.core.sql import quote, quote_table, quoted_list
from upwell.store.lake.contents import (
    COMMITTED_AT,
    POSITION,
    STAMPS,
    VERSION,
    WEIGHT,
    Placed,
    bounds_in,
    has_versions,
    image_columns,
    in_order,
    is_log,
    read_rows,
    rewrite,
)
from upwell.store.lake.expiry import forgettable
from upwell.store.lake.lake import Lake
from upwell.store.lake.layout import outward, stored_schema
from upwell.store.lake.logged import Logged
from upwell.store.lake.objects import Objects
from upwell.store.lake.scrub import Damage, How
from upwell.store.lake.tables import Change, LakeTable

log = structlog.get_logger(__name__)


class Outcome(StrEnum):
    """What became of a damaged file."""

    EXACT = "exact"  # its rows are in a new file
    NET = "net"  # what they sum up to is; how it came to that is lost
    GIVEN_UP = "given up"  # its table does without it
    UNRECOVERABLE = "unrecoverable"  # it is named and cannot be read, as before


class Repaired(msgspec.Struct, frozen=True):
    """A damaged file and what became of it; its rows are lost unless the outcome is exact."""

    damage: Damage
    outcome: Outcome
    kept_as: str = ""

    @property
    def rows_lost(self) -> int:
        return 0 if self.outcome is Outcome.EXACT else self.damage.rows


@dataclass(frozen=True, slots=True)
class Known:
    """A hot store to repair from, seen at one version: that of the mark, or a later one.

    ``tables`` names the current table of each log.
    """

    connection: duckdb.DuckDBPyConnection
    logs: Sequence[Logged]
    tables: Mapping[str, str]

    def log(self, name: str) -> Logged | None:
        return next((each for each in self.logs if each.name == name), None)


@dataclass(frozen=True, slots=True)
class _Case:
    """A table with damaged files, in the order of its files, and what it is repaired with."""

    objects: Objects
    table: LakeTable
    files: Sequence[Placed]
    damaged: Sequence[Placed]
    through: int
    epoch: int


def repair(
    lake: Lake, damages: Iterable[Damage], *, through: int, epoch: int, known: Known | None
) -> list[Repaired]:
    """Repair what a scrub found, one commit a table.

    ``through`` is the version of the mark. Raises what ``LakeTable.commit`` raises; tables not yet
    reached are as they were.
    """
    repaired: list[Repaired] = []
    for name, found in groupby(sorted(damages, key=lambda it: it.table), lambda it: it.table):
        damages_of_table = list(found)
        is_readable = all(damage.how is not How.METADATA for damage in damages_of_table)
        table = lake.table(name) if is_readable else None
        outcomes: Mapping[str, Outcome] = {}
        if table is not None and has_versions(table):
            locations = {damage.location for damage in damages_of_table}
            files = in_order(table)
            damaged = [each for each in files if each.location in locations]
            case = _Case(lake.objects, table, files, damaged, through, epoch)
            outcomes = _repair_table(case, known)
        for damage in damages_of_table:
            outcome = outcomes.get(damage.location, Outcome.UNRECOVERABLE)
            is_aside = damage.location in outcomes and damage.how is not How.MISSING
            kept_as = _aside(damage.location) if is_aside else ""
            repaired.append(Repaired(damage, outcome, kept_as))
    for each in repaired:
        log.warning("lake_file_repaired", **msgspec.to_builtins(each))
    return repaired


def _repair_table(case: _Case, known: Known | None) -> Mapping[str, Outcome]:
    for each in case.damaged:
        if case.objects.size(each.location) is not None:
            case.objects.write(_aside(each.location), case.objects.read_unchecked(each.location))
    logged = known.log(case.table.name) if known else None
    added: list[DataFile] = []
    outcomes: dict[str, Outcome] = {}
    if known is not None and logged is not None:
        for each in case.damaged:
            if _has_all_rows(known, logged, each, case.files):
                rows = _logged_rows(known, logged, each.first, each.last)
                added += rewrite(case.objects, case.table, [each], rows, epoch=case.epoch)
                outcomes[each.location] = Outcome.EXACT
    rest = [each for each in case.damaged if each.location not in outcomes]
    outcome = Outcome.UNRECOVERABLE if is_log(case.table) else Outcome.GIVEN_UP
    if rest and is_log(case.table) and known and logged and logged.name in known.tables:
        net = _stamped(case.table, rest[-1], _difference(case, known, logged, added))
        added += rewrite(case.objects, case.table, rest, net, epoch=case.epoch)
        outcome = Outcome.NET
    outcomes |= {each.location: outcome for each in rest}
    removed = [at for at, what in outcomes.items() if what is not Outcome.UNRECOVERABLE]
    reach("lake.repair_written")
    if removed:
        change = Change(added, removed, forgotten=forgettable(case.table))
        case.table.commit(change, epoch=case.epoch)
    return outcomes


def _aside(location: str) -> str:
    """Where a damaged file is kept. Without an ending, or some buckets would refuse it."""
    folder, _, name = location.rpartition("/")
    return f"{folder}/damaged-{name.removesuffix('.parquet')}"


# ── the same rows ────────────────────────────────────────────────────────────────────────────────


def _has_all_rows(known: Known, logged: Logged, file: Placed, files: Sequence[Placed]) -> bool:
    """Whether the hot store's log has what a file held: all of it, and nothing that was folded."""
    is_shared = any(
        each is not file and each.first <= file.last and file.first <= each.last for each in files
    )
    if is_shared:
        return False
    version = quote(logged.version)
    found = known.connection.execute(
        f"SELECT count(*), min({version}), max({version}) FROM {quote_table(logged.name)} "
        f"WHERE {version} BETWEEN ? AND ?",
        [file.first, file.last],
    ).fetchone()
    return found == (file.file.record_count, file.first, file.last)


def _logged_rows(known: Known, logged: Logged, first: int, last: int) -> Iterator[pa.RecordBatch]:
    columns = ", ".join(outward(column) for column in logged.columns)
    version = quote(logged.version)
    yield from known.connection.execute(
        f"SELECT {columns} FROM {quote_table(logged.name)} WHERE {version} BETWEEN ? AND ?",
        [first, last],
    ).to_arrow_reader()


# ── what they sum up to ──────────────────────────────────────────────────────────────────────────


def _difference(
    case: _Case, known: Known, logged: Logged, restored: Sequence[DataFile]
) -> pa.Table:
    """Current table at the mark − readable rest of the log: images with their weights."""
    readable = [each.file for each in case.files if each not in case.damaged]
    images = image_columns(case.table)
    columns = ", ".join(outward(each) for each in logged.columns if each.name in images)
    names = quoted_list(images)
    connection = known.connection
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE expected AS "
        f"SELECT {columns}, 1::BIGINT AS {WEIGHT} FROM {quote_table(known.tables[logged.name])} "
        f"UNION ALL SELECT {columns}, -{WEIGHT} FROM {quote_table(logged.name)} "
        f"WHERE {quote(logged.version)} > {case.through:d}"
    )
    for file in (*readable, *restored):
        for batch in read_rows(case.objects, file, case.table.schema, [*images, WEIGHT, VERSION]):
            connection.register("part", pa.Table.from_batches([batch]))
            connection.execute(
                f"INSERT INTO expected ({names}, {WEIGHT}) SELECT {names}, -{WEIGHT} FROM part "
                f"WHERE {VERSION} <= {case.through:d}"
            )
            connection.unregister("part")
    difference = connection.execute(
        f"SELECT {names}, sum({WEIGHT})::BIGINT AS {WEIGHT} FROM expected "
        f"GROUP BY {names} HAVING sum({WEIGHT}) <> 0 ORDER BY {WEIGHT}"
    ).to_arrow_table()
    connection.execute("DROP TABLE expected")
    return difference


def _stamped(table: LakeTable, last: Placed, difference: pa.Table) -> Iterator[pa.RecordBatch]:
    """The difference as rows of the log, of the last version of the files it takes the place of."""
    stamps: dict[str, Any] = dict.fromkeys(STAMPS)
    for name in (POSITION, COMMITTED_AT):
        bounds = bounds_in(last.file, table.schema, name)
        stamps[name] = bounds[1] if bounds else stamps[name]
    stamps[VERSION] = last.last
    schema = stored_schema(table.schema)
    columns = [
        difference.column(each.name).cast(each.type)
        if each.name in difference.column_names
        else pa.repeat(pa.scalar(stamps[each.name], each.type), difference.num_rows)
        for each in schema
    ]
    yield from pa.Table.from_arrays(columns, schema=schema).to_batches()
