"""Rows to Parquet files, and what Iceberg wants to know of each file.

A file's name ends in the SHA-256 of its bytes (128 bits of it), so a file can be checked against
its own name whatever happened to it on the way. Bounds are recorded for our own columns alone: they
are what files are chosen by, and a user's column may hold what no bound can say (infinite times).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

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
from upwell.store.lake.objects import Objects

#: A file is closed once it holds this much before compression.
FILE_BYTES = 256 << 20
_ROW_GROUP_ROWS = 122_880
_NOT_PARTITIONED = Record()
_DIGEST_CHARACTERS = 32


@dataclass(frozen=True, slots=True)
class Target:
    """Where the files of one table go: folder, columns, and the columns whose bounds are kept."""

    objects: Objects
    folder: str
    iceberg: Schema
    arrow: pa.Schema
    bounded: Sequence[str]
    partition: Record = _NOT_PARTITIONED


def write_files(target: Target, name: str, parts: Iterable[pa.RecordBatch]) -> list[DataFile]:
    """Write the rows into as many files as it takes, none if there are none; durable on return."""
    return [_write(target, name, rows) for rows in _chunks(target, parts)]


def _chunks(target: Target, parts: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    held: list[pa.RecordBatch] = []
    size = 0
    for part in parts:
        if part.num_rows:
            held.append(part)
            size += part.nbytes
        if size >= FILE_BYTES:
            yield _alike(held, target.arrow)
            held, size = [], 0
    if held:
        yield _alike(held, target.arrow)


def _alike(parts: Sequence[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_batches(parts).select(schema.names).cast(schema)


def _write(target: Target, name: str, rows: pa.Table) -> DataFile:
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        target.arrow,
        compression="zstd",
        write_page_checksum=True,
        store_schema=False,
    ) as writer:
        writer.write_table(rows, row_group_size=_ROW_GROUP_ROWS)
    data = sink.getvalue()
    location = f"{target.folder}/{name}-{digest_of(data)}.parquet"
    target.objects.write(location, memoryview(data))
    reach("lake.file_written")
    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=location,
        file_format=FileFormat.PARQUET,
        partition=target.partition,
        record_count=rows.num_rows,
        file_size_in_bytes=data.size,
        spec_id=0,
        lower_bounds=_bounds(target, rows, "min"),
        upper_bounds=_bounds(target, rows, "max"),
    )


def _bounds(target: Target, rows: pa.Table, which: Literal["min", "max"]) -> dict[int, bytes]:
    bounds = {}
    for name in target.bounded:
        field = target.iceberg.find_field(name)
        bound = pc.min_max(rows.column(name))[which].as_py()
        if bound is not None and isinstance(field.field_type, PrimitiveType):
            bounds[field.field_id] = to_bytes(field.field_type, _plain(bound))
    return bounds


def _plain(value: Any) -> Any:
    """A value as Iceberg's conversions take it: times in microseconds since 1970."""
    return int(value.timestamp() * 1_000_000) if isinstance(value, datetime) else value


def digest_of(data: Any) -> str:
    """The part of a file's name that tells its content."""
    return hashlib.sha256(data).hexdigest()[:_DIGEST_CHARACTERS]


def check(location: str, data: bytes, size_bytes: int) -> None:
    """Raises IntegrityError where a file is not what was written."""
    if len(data) != size_bytes:
        raise damaged(location, f"it has {len(data)} bytes, {size_bytes} were written")
    if digest_of(data) != location.removesuffix(".parquet")[-_DIGEST_CHARACTERS:]:
        raise damaged(location, "its content is not what its name says was written")


def damaged(location: str, how: str) -> IntegrityError:
    """The error for a data file that cannot be trusted."""
    return IntegrityError(
        "lake_file_damaged",
        f"Reading the lake: a data file is damaged: {how}.",
        where=location,
        next_step="Run `upwell scrub`: it tells what the file held and repairs what can be.",
    )
