"""The account of a drill: every row of the shop, counted where it should be, exactly once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import pyarrow as pa

from upwell.core.schema import TableSchema
from upwell.core.sql import connect, quote
from upwell.feed.channel import EngineClient
from upwell.ingest.tables import log_name
from upwell.past import Logs, Moment
from upwell.sources.postgres.checksum import checksum_sql, row_checksums
from upwell.store.lake.lake import Lake
from upwell.store.lake.writer import read_mark

SOURCE = "shop"


class Line(msgspec.Struct, frozen=True):
    """Rows of one table: in the source, standing by its log, in the current table, in the lake.

    ``lost`` rows of the source are missing somewhere; ``doubled`` ones stand somewhere more than
    once, or there and not in the source.
    """

    table: str
    source: int
    log: int
    current: int
    lake: int
    lost: int
    doubled: int
    equal: bool


def take(
    engine: EngineClient, url: str, layouts: Sequence[TableSchema], lake: Lake, zone: str
) -> list[Line]:
    """Count. Nobody may write to the shop meanwhile, and the lake must be whole."""
    names = [schema.name.partition(".")[2] for schema in layouts]
    theirs = row_checksums(url, SOURCE, names)
    current = engine.ask("checksums")["tables"]
    version, hot = engine.tables([log_name(schema.name) for schema in layouts])
    identities = dict(engine.ask("logs"))
    by_name = {schema.name: schema for schema in layouts}
    whole = Logs(zone, by_name, identities, version, hot, lake)
    nothing = {name: part.schema.empty_table() for name, part in hot.items()}
    alone = Logs(zone, by_name, identities, read_mark(lake).version, nothing, lake)
    lines = []
    for schema in layouts:
        found = {
            "log": _sums(schema, whole.as_of(schema.name, Moment(version=version)), zone),
            "current": tuple(current[schema.name]),
            "lake": _sums(schema, alone.as_of(schema.name, Moment(version=alone.version)), zone),
        }
        rows, checksum = theirs[schema.name]
        lines.append(_line(schema.name, (str(rows), str(checksum)), found))
    return lines


def _line(table: str, source: tuple[str, ...], found: Mapping[str, tuple[str, ...]]) -> Line:
    counts = {place: int(sums[0]) for place, sums in found.items()}
    rows = int(source[0])
    return Line(
        table,
        rows,
        counts["log"],
        counts["current"],
        counts["lake"],
        lost=max(0, *(rows - count for count in counts.values())),
        doubled=max(0, *(count - rows for count in counts.values())),
        equal=all(sums == source for sums in found.values()),
    )


def _sums(schema: TableSchema, rows: pa.Table, zone: str) -> tuple[str, ...]:
    with connect(zone=zone) as connection:
        connection.register("_rows", rows)
        columns = ", ".join(
            f"CAST({quote(column.name)} AS {column.type}) AS {quote(column.name)}"
            for column in schema.columns
        )
        connection.execute(f"CREATE TABLE _counted AS SELECT {columns} FROM _rows")
        found = connection.execute(checksum_sql(schema, "_counted")).fetchone()
    return tuple(str(value) for value in found or ())
