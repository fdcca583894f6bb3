"""Tables of the hot store as they stand, for other programs to read in the lake.

Each is parted by the month (UTC) of one of its times, or is one part. A part whose rows are others
than what is published is written again as a whole, all such parts of a table in one commit; the
others keep their files. What differs is told by a digest of each part, kept in the table's
properties: so nothing depends on what was published when, and whatever went wrong is put right by
the next publication.

A model is found in the namespace ``main``: ``main.order_categories``. Nothing is ever read back
from here: what is published is derived, and its history is that of the logs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import duckdb
import msgspec
import numpy as np
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PARTITION_FIELD_ID_START, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.transforms import MonthTransform
from pyiceberg.typedef import Record
from pyiceberg.types import NestedField

from upwell.core.faults import reach
from upwell.core.schema import Column
from upwell.core.sql import quote, quote_table, quoted_list
from upwell.store.lake.expiry import forgettable
from upwell.store.lake.layout import arrow_schema, iceberg_schema, iceberg_type, outward
from upwell.store.lake.parquet import Target, write_files
from upwell.store.lake.tables import Change, LakeTable, Layout
from upwell.store.lake.writer import LakeWriter

#: Properties of a published table: the version it shows, the moment that version is of, and what
#: each part holds.
PUBLISHED, AS_OF, PARTS = "upwell.published", "upwell.as-of", "upwell.parts"
#: Types by whose month a table can be parted.
TIMES = frozenset({"DATE", "TIMESTAMP", "TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE"})
#: Snapshots that a published table keeps; each may hold files of its own.
_KEPT = 5
_BATCH_ROWS = 100_000

Part = int | None
"""A month counted from January 1970; None for rows without a time, and in tables of one part."""


@dataclass(frozen=True, slots=True)
class Published:
    """A table to be published, by its name in SQL; ``month_of`` is the column it is parted by."""

    name: str
    columns: tuple[Column, ...]
    month_of: str | None = None

    @property
    def part(self) -> str:
        """SQL for the part a row belongs to."""
        column = next((each for each in self.columns if each.name == self.month_of), None)
        return "NULL::BIGINT" if column is None else _month(column)


def lake_name(name: str) -> str:
    """What a table is called in the lake."""
    return name if "." in name else f"main.{name}"


@dataclass(slots=True)
class Publication:
    """What one round of publishing did."""

    parts: int = 0
    rows: int = 0
    bytes: int = 0
    removed: list[str] = field(default_factory=list)


class Publisher:
    """Publishes through the writer of a lake. Used from the thread that makes its rounds."""

    def __init__(self, writer: LakeWriter) -> None:
        self._writer = writer
        self._tables: dict[str, LakeTable] = {}

    def publish(
        self, connection: duckdb.DuckDBPyConnection, each: Published, done: Publication
    ) -> None:
        """Make the lake show a table as ``connection`` sees it, at the version of the mark.

        Raises what ``LakeTable.commit`` raises, and duckdb.Error where a value has no place in the
        lake; what was published before stays then.
        """
        found = _digests(connection, each)
        known = self._table(each)
        relaid = _relaid(known.metadata, each)
        before = {} if relaid is not None else _parts_of(known)
        changed = [part for part, digest in found.items() if before.get(part) != digest]
        gone = [part for part in before if part not in found]
        if not changed and not gone and relaid is None and PUBLISHED in known.properties:
            return
        target = _target(self._writer, known, each, relaid)
        added = [file for part in changed for file in self._write(connection, each, target, part)]
        replaced = {*changed, *gone}
        removed = [file.file_path for file in known.files if _part_of(file) in replaced]
        reach("lake.publication_written")
        known.commit(
            Change(
                added,
                removed,
                self._properties(found),
                forgettable(known, _KEPT),
                relaid,
            ),
            epoch=self._writer.epoch,
        )
        reach("lake.publication_committed")
        done.parts += len(replaced)
        done.rows += sum(file.record_count for file in added)
        done.bytes += sum(file.file_size_in_bytes for file in added)

    def withdraw(self, wanted: Iterable[str], done: Publication) -> None:
        """Take out of the lake what is no longer to be published, but for these, by SQL name."""
        keep = {lake_name(name) for name in wanted}
        for name in self._writer.lake.names():
            table = None if name in keep else self._writer.lake.table(name)
            if table is not None and PARTS in table.properties:
                self._writer.lake.forget(name)
                self._tables.pop(name, None)
                done.removed.append(name)

    def _table(self, each: Published) -> LakeTable:
        name, lake = lake_name(each.name), self._writer.lake
        table = self._tables.get(name) or lake.table(name)
        if table is None:
            schema = iceberg_schema(each.columns)
            partitioning = _partitioning(schema, each, 0, PARTITION_FIELD_ID_START)
            table = lake.create(name, each.columns, {PARTS: "{}"}, partitioning)
        if table.epoch != self._writer.epoch:
            table.commit(Change(), epoch=self._writer.epoch)
        self._tables[name] = table
        return table

    def _write(
        self, connection: duckdb.DuckDBPyConnection, each: Published, target: Target, part: Part
    ) -> list[DataFile]:
        columns = ", ".join(outward(column) for column in each.columns)
        order = f"ORDER BY {quote(each.month_of)}" if each.month_of else ""
        rows = connection.execute(
            f"SELECT {columns} FROM {quote_table(each.name)} "
            f"WHERE {each.part} IS NOT DISTINCT FROM ? {order}",
            [part],
        ).to_arrow_reader(_BATCH_ROWS)
        place = Record(part) if each.month_of else Record()
        month = "all" if part is None else f"{1970 + part // 12:04d}-{part % 12 + 1:02d}"
        name = f"{month}-{self._writer.mark.version:012d}-{self._writer.epoch:06d}"
        return write_files(replace(target, partition=place), name, rows)

    def _properties(self, parts: Mapping[Part, str]) -> dict[str, str]:
        mark = self._writer.mark
        as_of = datetime.fromtimestamp(mark.logical_time_us / 1_000_000, UTC)
        named = {"" if part is None else str(part): digest for part, digest in parts.items()}
        return {
            PUBLISHED: str(mark.version),
            AS_OF: as_of.isoformat(),
            PARTS: msgspec.json.encode(named).decode(),
        }


# ── parts ────────────────────────────────────────────────────────────────────────────────────────


def _digests(connection: duckdb.DuckDBPyConnection, each: Published) -> dict[Part, str]:
    """Each part with its rows counted and digested, whatever their order."""
    row = f"hash({quoted_list(column.name for column in each.columns)})"
    found = connection.execute(
        f"SELECT {each.part} AS part, count(*), sum({row}), bit_xor({row}) "
        f"FROM {quote_table(each.name)} GROUP BY part ORDER BY part"
    ).fetchall()
    return {part: f"{rows}-{total:x}-{mixed:x}" for part, rows, total, mixed in found}


def _parts_of(table: LakeTable) -> dict[Part, str]:
    """What the parts of a table held when it was published."""
    named = msgspec.json.decode(table.properties[PARTS], type=dict[str, str])
    return {int(part) if part else None: digest for part, digest in named.items()}


def _part_of(file: DataFile) -> Part:
    return file.partition[0] if len(file.partition) else None


def _month(column: Column) -> str:
    """SQL for the month of a time, as Iceberg counts it: also that of infinity, as it is stored."""
    name = quote(column.name)
    unit, infinity = ("D", 2**31 - 1) if column.type == "DATE" else ("us", 2**63 - 1)
    ends = np.array([-infinity, infinity]).astype(f"datetime64[{unit}]")
    first, last = ends.astype("datetime64[M]").astype(np.int64)
    utc = name if column.type in {"DATE", "TIMESTAMP"} else f"timezone('UTC', {name})"
    return (
        f"CASE WHEN isinf({name}) THEN CASE WHEN {name} > 'epoch' THEN {last} ELSE {first} END "
        f"ELSE datediff('month', DATE '1970-01-01', {utc}) END"
    )


# ── layouts ──────────────────────────────────────────────────────────────────────────────────────


def _partitioning(schema: Schema, each: Published, spec_id: int, field_id: int) -> PartitionSpec:
    if each.month_of is None:
        return PartitionSpec(spec_id=spec_id)
    source = schema.find_field(each.month_of).field_id
    month = PartitionField(source, field_id, MonthTransform(), f"{each.month_of}_month")
    return PartitionSpec(month, spec_id=spec_id)


def _relaid(metadata: TableMetadata, each: Published) -> Layout | None:
    """The layout that a table must be given to be ``each``; None if it has it.

    A column of the same name and type keeps its number. Numbers once used are never used again.
    """
    schema, partitioning = metadata.schema(), metadata.spec()
    wanted = [(column.name, iceberg_type(column.type)) for column in each.columns]
    if wanted != [(it.name, it.field_type) for it in schema.fields]:
        known = {(it.name, it.field_type): it.field_id for it in schema.fields}
        number = metadata.last_column_id
        fields = []
        for name, stored in wanted:
            if (name, stored) not in known:
                number += 1
            fields.append(
                NestedField(known.get((name, stored), number), name, stored, required=False)
            )
        schema_id = max(it.schema_id for it in metadata.schemas) + 1
        schema = Schema(*fields, schema_id=schema_id)
    source = schema.find_field(each.month_of).field_id if each.month_of else None
    if [it.source_id for it in partitioning.fields] != ([source] if source else []):
        spec_id = max(it.spec_id for it in metadata.partition_specs) + 1
        field_id = max(metadata.last_partition_id or 0, PARTITION_FIELD_ID_START - 1) + 1
        partitioning = _partitioning(schema, each, spec_id, field_id)
    is_same = (schema.schema_id, partitioning.spec_id) == (
        metadata.current_schema_id,
        metadata.default_spec_id,
    )
    return None if is_same else Layout(schema, partitioning)


def _target(writer: LakeWriter, table: LakeTable, each: Published, relaid: Layout | None) -> Target:
    layout = relaid or Layout(table.schema, table.partitioning)
    return Target(
        writer.lake.objects,
        table.folder,
        layout.schema,
        arrow_schema(layout.schema, each.columns),
        (each.month_of,) if each.month_of else (),
        spec_id=layout.partitioning.spec_id,
    )
