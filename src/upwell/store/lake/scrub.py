"""Looks whether everything a lake's tables name is there, and is what was written.

Of each data file: its size, the digest in its name, its rows and the bounds that its table tells of
it. Of the metadata: that it can be read. What is found is a value, never an error, so that one
damaged file does not hide the next. Nothing is changed; ``repair.py`` does that.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import msgspec
import pyarrow as pa
from pyiceberg.manifest import DataFile

from upwell.core.errors import IntegrityError, UpwellError
from upwell.store.lake.contents import (
    POSITION,
    bounds_in,
    has_versions,
    read_rows,
)
from upwell.store.lake.lake import Lake
from upwell.store.lake.layout import stored_schema
from upwell.store.lake.objects import Objects
from upwell.store.lake.parquet import bounds_of, check
from upwell.store.lake.references import References
from upwell.store.lake.tables import LakeTable
from upwell.store.lake.writer import VERSION_COLUMN, version_bounds


class How(StrEnum):
    """In which way a file is damaged."""

    MISSING = "missing"
    CONTENT = "content"  # other bytes than were written
    ROWS = "rows"  # another number of rows than its table knows of
    BOUNDS = "bounds"  # values outside of what its table tells
    METADATA = "metadata"  # of a table: which files it has cannot be read


class Damage(msgspec.Struct, frozen=True):
    """A damaged file, and what it held: rows, and from which version and position to which."""

    table: str
    location: str
    how: How
    what: str
    rows: int = 0
    first_version: int = 0
    last_version: int = 0
    first_position: str = ""
    last_position: str = ""


class Scrubbed(msgspec.Struct, frozen=True):
    """What a scrub looked at, and what it found."""

    tables: int
    files: int
    rows: int
    bytes: int
    damages: tuple[Damage, ...]


def scrub(lake: Lake) -> Scrubbed:
    """Look at every table. Raises only what says that the lake cannot be reached."""
    damages: list[Damage] = []
    files: list[DataFile] = []
    names = lake.names()
    references = References(lake)
    for name in names:
        try:
            table = lake.table(name)
            if table is None:
                continue
            references.of(table)
        except IntegrityError as error:
            damages.append(Damage(name, error.where, How.METADATA, error.what))
            continue
        except UpwellError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a reader makes of damaged metadata
            damages.append(Damage(name, "", How.METADATA, f"{type(error).__name__}: {error}"))
            continue
        for each in table.files:
            files.append(each)
            damages += look_at(lake.objects, table, each)
    return Scrubbed(
        len(names),
        len(files),
        sum(each.record_count for each in files),
        sum(each.file_size_in_bytes for each in files),
        tuple(damages),
    )


def look_at(objects: Objects, table: LakeTable, file: DataFile) -> Iterator[Damage]:
    """What is wrong with one file: one thing, or nothing."""
    if objects.size(file.file_path) is None:
        yield _damage(table, file, How.MISSING, "it is not there")
        return
    try:
        data = objects.read_unchecked(file.file_path)
        check(file.file_path, data, file.file_size_in_bytes)
    except IntegrityError as error:
        yield _damage(table, file, How.CONTENT, error.what)
        return
    try:
        outside = _outside_bounds(objects, table, file)
    except IntegrityError as error:
        yield _damage(table, file, How.ROWS, error.what)
    except (pa.ArrowException, OSError) as error:
        yield _damage(table, file, How.CONTENT, f"it cannot be read: {error}")
    else:
        if outside:
            yield _damage(table, file, How.BOUNDS, f"values of {outside} lie outside of its bounds")


def _outside_bounds(objects: Objects, table: LakeTable, file: DataFile) -> str:
    """The first column with values outside of what the table tells of the file."""
    told: dict[str, tuple[Any, Any]] = {
        name: bounds
        for name in stored_schema(table.schema).names
        if (bounds := bounds_in(file, table.schema, name)) is not None
    }
    for batch in read_rows(objects, file, table.schema):
        for name, (least, greatest) in told.items():
            found = bounds_of(batch.column(name))
            if found[0] is not None and not (least <= found[0] and found[1] <= greatest):
                return name
    return ""


def _damage(table: LakeTable, file: DataFile, how: How, what: str) -> Damage:
    versions, positions = (0, 0), ("", "")
    if has_versions(table):
        versions = version_bounds(file, table.schema, table.properties[VERSION_COLUMN])
        if POSITION in {field.name for field in table.schema.fields}:
            positions = bounds_in(file, table.schema, POSITION) or positions
    return Damage(table.name, file.file_path, how, what, file.record_count, *versions, *positions)
