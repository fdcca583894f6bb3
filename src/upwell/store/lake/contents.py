"""What the files of a lake table hold: in which order they stand, and the rows of one.

Rows stand in the order in which they were logged: by version, and within a version as they came.
The bounds of the version column give it, whenever a file was written. Rows are given only after the
bytes of their file were found to be what was written; what fails that is never rewritten.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.types import PrimitiveType

from upwell.store.lake.layout import stored_schema
from upwell.store.lake.objects import Objects
from upwell.store.lake.parquet import FILE_BYTES, Target, check_size, damaged, write_files
from upwell.store.lake.tables import LakeTable
from upwell.store.lake.writer import VERSION_COLUMN, version_bounds

_BATCH_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class Placed:
    """A data file in the order of its table, with the first and the last version it holds."""

    file: DataFile
    first: int
    last: int

    @property
    def location(self) -> str:
        return self.file.file_path

    @property
    def size_bytes(self) -> int:
        return self.file.file_size_in_bytes

    @property
    def is_of_one_version(self) -> bool:
        return self.first == self.last


#: What every row of a log says besides the row image it is about: see ``ingest``.
VERSION, POSITION, COMMITTED_AT = "_version", "_position", "_committed_at"
WEIGHT = "_weight"
STAMPS = (VERSION, POSITION, COMMITTED_AT, "_received_at", WEIGHT)


def is_log(table: LakeTable) -> bool:
    """Whether a table is the change log of another."""
    names = {field.name for field in table.schema.fields}
    return names.issuperset(STAMPS) and table.properties.get(VERSION_COLUMN) == VERSION


def image_columns(table: LakeTable) -> list[str]:
    """The columns of the table that a log is of."""
    return [field.name for field in table.schema.fields if field.name not in STAMPS]


def has_versions(table: LakeTable) -> bool:
    """Whether rows of a table say in which version they came, so that they have an order."""
    return VERSION_COLUMN in table.properties


def in_order(table: LakeTable) -> list[Placed]:
    """The data files of a table that has versions, oldest rows first."""
    column = table.properties[VERSION_COLUMN]
    placed = [Placed(each, *version_bounds(each, table.schema, column)) for each in table.files]
    return sorted(placed, key=lambda each: (each.first, each.last))  # stable: then as they came


def bounds_in(file: DataFile, schema: Schema, column: str) -> tuple[Any, Any] | None:
    """Least and greatest value of a column, as the table tells of a file; None where it does not.

    Times are microseconds since 1970.
    """
    field = schema.find_field(column)
    least = file.lower_bounds.get(field.field_id)
    greatest = file.upper_bounds.get(field.field_id)
    if least is None or greatest is None or not isinstance(field.field_type, PrimitiveType):
        return None
    return from_bytes(field.field_type, least), from_bytes(field.field_type, greatest)


def whole_versions(run: Sequence[Placed], following: Sequence[Placed]) -> list[Placed]:
    """``run`` with as many of the files ``following`` it as must be rewritten together with it.

    A rewritten file counts as newer than those that stay. Where versions tell no difference, it
    would be sorted behind files that it stood before.
    """
    whole = list(run)
    for each in following:
        if not (each.is_of_one_version and whole[0].first == each.first):
            break
        whole.append(each)
    return whole


def read_rows(
    objects: Objects, file: DataFile, schema: Schema, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of a file, with the columns that its table has by now; older rows read NULL there.

    Raises IntegrityError where the file is missing or not what was written.
    """
    data = objects.read(file.file_path)
    check_size(file.file_path, len(data), file.file_size_in_bytes)
    opened = pq.ParquetFile(pa.BufferReader(data))
    if opened.metadata.num_rows != file.record_count:
        raise damaged(
            file.file_path,
            f"it has {opened.metadata.num_rows} rows, the table knows of {file.record_count}",
        )
    wanted = stored_schema(schema)
    if columns is not None:
        wanted = pa.schema([wanted.field(name) for name in columns])
    present = [name for name in wanted.names if name in opened.schema_arrow.names]
    for batch in opened.iter_batches(_BATCH_ROWS, columns=present):
        yield _with_columns(batch, wanted)


def _with_columns(batch: pa.RecordBatch, wanted: pa.Schema) -> pa.RecordBatch:
    arrays = [
        batch.column(field.name).cast(field.type)
        if field.name in batch.schema.names
        else pa.nulls(batch.num_rows, field.type)
        for field in wanted
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=wanted)


def rewrite(
    objects: Objects,
    table: LakeTable,
    replaced: Sequence[Placed],
    rows: Iterable[pa.RecordBatch],
    *,
    epoch: int,
    file_bytes: int = FILE_BYTES,
) -> list[DataFile]:
    """New files with ``rows`` in the place of others; nothing refers to them yet.

    The epoch is part of their names: no engine that has been replaced can take a file of the
    newer one for one it has given up.
    """
    numbers = {number for each in replaced for number in each.file.lower_bounds}
    target = Target(
        objects,
        table.folder,
        table.schema,
        stored_schema(table.schema),
        [field.name for field in table.schema.fields if field.field_id in numbers],
    )
    name = f"{replaced[0].first:012d}-{replaced[-1].last:012d}-e{epoch}"
    return write_files(target, name, rows, file_bytes=file_bytes)
