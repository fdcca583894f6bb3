"""Rows to Parquet files, and what Iceberg wants to know of each file.

A file's name ends in the SHA-256 of its bytes (128 bits of it), so a file can be checked against
its own name whatever happened to it on the way. Bounds are recorded for our own columns alone: they
are what files are chosen by, and a user's column may hold what no bound can say (infinite times).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.conversions import to_bytes
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.schema import Schema
from pyiceberg.typedef import Record
from pyiceberg.types import PrimitiveType

from upwell.core.errors import IntegrityError
from upwell.core.faults import reach
from upwell.store.lake.digests import digest_of, is_as_named
from upwell.store.lake.objects import Objects

#: A file is closed once it has this many bytes.
FILE_BYTES = 128 << 20
#: Rows are held until they fill a row group: this many, or this many bytes before compression. A
#: group has its own dictionaries, so large ones make small files.
_ROW_GROUP_ROWS = 1 << 20
_ROW_GROUP_BYTES = 64 << 20
_NOT_PARTITIONED = Record()


@dataclass(frozen=True, slots=True)
class Target:
    """Where the files of one table go: folder, columns, and the columns whose bounds are kept."""

    objects: Objects
    folder: str
    iceberg: Schema
    arrow: pa.Schema
    bounded: Sequence[str]
    partition: Record = _NOT_PARTITIONED
    spec_id: int = 0


def write_files(
    target: Target, name: str, parts: Iterable[pa.RecordBatch], *, file_bytes: int = FILE_BYTES
) -> list[DataFile]:
    """Write the rows into as many files as it takes, none if there are none; durable on return.

    One row group and one compressed file are in memory at a time.
    """
    files = []
    writing = None
    for rows in _row_groups(target, parts):
        writing = writing or _Writing(target)
        writing.add(rows)
        if writing.size_bytes >= file_bytes:
            files.append(writing.finish(name))
            writing = None
    if writing is not None:
        files.append(writing.finish(name))
    return files


def _row_groups(target: Target, parts: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    held: list[pa.RecordBatch] = []
    rows = size = 0
    for part in parts:
        if part.num_rows:
            held.append(part)
            rows += part.num_rows
            size += part.nbytes
        if rows >= _ROW_GROUP_ROWS or size >= _ROW_GROUP_BYTES:
            yield _alike(held, target.arrow)
            held, rows, size = [], 0, 0
    if held:
        yield _alike(held, target.arrow)


def _alike(parts: Sequence[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_batches(parts).select(schema.names).cast(schema)


class _Writing:
    """A file that is being put together, in memory."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._sink = pa.BufferOutputStream()
        self._rows = 0
        self._least: dict[str, Any] = {}
        self._greatest: dict[str, Any] = {}
        self._writer = pq.ParquetWriter(
            self._sink,
            target.arrow,
            compression="zstd",
            write_page_checksum=True,
            store_schema=False,
        )

    @property
    def size_bytes(self) -> int:
        return int(self._sink.tell())

    def add(self, rows: pa.Table) -> None:
        self._writer.write_table(rows, row_group_size=_ROW_GROUP_ROWS)
        self._rows += rows.num_rows
        for name in self._target.bounded:
            least, greatest = bounds_of(rows.column(name))
            if least is not None:
                self._least[name] = min(least, self._least.get(name, least))
                self._greatest[name] = max(greatest, self._greatest.get(name, greatest))

    def finish(self, name: str) -> DataFile:
        self._writer.close()
        data = self._sink.getvalue()
        location = f"{self._target.folder}/{name}-{digest_of(data)}.parquet"
        self._target.objects.write(location, memoryview(data))
        reach("lake.file_written")
        return DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=location,
            file_format=FileFormat.PARQUET,
            partition=self._target.partition,
            record_count=self._rows,
            file_size_in_bytes=data.size,
            spec_id=self._target.spec_id,
            lower_bounds=self._encoded(self._least),
            upper_bounds=self._encoded(self._greatest),
        )

    def _encoded(self, bounds: Mapping[str, Any]) -> dict[int, bytes]:
        fields = {name: self._target.iceberg.find_field(name) for name in bounds}
        return {
            field.field_id: to_bytes(field.field_type, bounds[name])
            for name, field in fields.items()
            if isinstance(field.field_type, PrimitiveType)
        }


def bounds_of(column: pa.ChunkedArray) -> tuple[Any, Any]:
    """Least and greatest value as Iceberg's conversions take them; None where all are NULL.

    Times are whole numbers in their own unit since 1970: as floating point numbers of seconds they
    would be off by a microsecond.
    """
    both = pc.min_max(column)
    least, greatest = (both[which] for which in ("min", "max"))
    if pa.types.is_temporal(column.type):
        return least.value, greatest.value
    return least.as_py(), greatest.as_py()


def check_size(location: str, found_bytes: int, written_bytes: int) -> None:
    """Raises IntegrityError where a file has another length than was written."""
    if found_bytes != written_bytes:
        raise damaged(location, f"it has {found_bytes} bytes, {written_bytes} were written")


def check(location: str, data: bytes, size_bytes: int) -> None:
    """Raises IntegrityError where a file is not what was written."""
    check_size(location, len(data), size_bytes)
    if not is_as_named(location, data):
        raise damaged(location, "its content is not what its name says was written")


def damaged(location: str, how: str) -> IntegrityError:
    """The error for a data file that cannot be trusted."""
    return IntegrityError(
        "lake_file_damaged",
        f"Reading the lake: a data file is damaged: {how}.",
        where=location,
        next_step="Run `upwell scrub`: it tells what the file held and repairs what can be.",
    )
