"""Reading what the lake holds: the rows of a log, and what stands according to it.

Files are read only after their bytes were found to be what was written. What lies beyond the mark
is never read: a round that has not ended may still be undone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import duckdb
from pyiceberg.manifest import DataFile

from upwell.core.schema import TableSchema
from upwell.core.sql import literal, null_safe_equal, quote, quote_table, quoted_list
from upwell.store.lake import parquet
from upwell.store.lake.lake import Lake
from upwell.store.lake.layout import homeward
from upwell.store.lake.logged import Logged
from upwell.store.lake.objects import Objects
from upwell.store.lake.tables import LakeTable
from upwell.store.lake.writer import LOG, VERSION_COLUMN, aside_name, read_mark, version_bounds


def log_table(lake: Lake, name: str, identity: str) -> LakeTable | None:
    """The table of a log by name and identity, wherever a round that did not end has left it."""
    for candidate in (name, aside_name(name, identity)):
        table = lake.table(candidate)
        if table is not None and table.properties.get(LOG) == identity:
            return table
    return None


def files_through(table: LakeTable, version: int) -> list[DataFile]:
    """The files with rows of versions up to ``version``, oldest first."""
    column = table.properties[VERSION_COLUMN]
    bounds = {each.file_path: version_bounds(each, table.schema, column) for each in table.files}
    files = [each for each in table.files if bounds[each.file_path][0] <= version]
    return sorted(files, key=lambda each: bounds[each.file_path])


@contextmanager
def checked(objects: Objects, files: Sequence[DataFile]) -> Iterator[list[Path]]:
    """Data files as paths on this machine, each found undamaged."""
    with ExitStack() as opened:
        paths = []
        for each in files:
            path = opened.enter_context(objects.local(each.file_path))
            parquet.check_size(each.file_path, path.stat().st_size, each.file_size_in_bytes)
            paths.append(path)
        yield paths


@contextmanager
def log_rows(lake: Lake, table: LakeTable, log: Logged, through: int) -> Iterator[str]:
    """SQL for the rows of a log up to a version, in the hot store's types, inside the block."""
    files = files_through(table, through)
    if not files:
        nothing = ", ".join(
            f"CAST(NULL AS {column.type}) AS {quote(column.name)}" for column in log.columns
        )
        yield f"(SELECT {nothing} WHERE false)"
        return
    present = {field.name for field in table.schema.fields}
    columns = ", ".join(
        homeward(column)
        if column.name in present
        else f"CAST(NULL AS {column.type}) AS {quote(column.name)}"
        for column in log.columns
    )
    with checked(lake.objects, files) as paths:
        listed = ", ".join(literal(str(path)) for path in paths)
        yield (
            f"(SELECT {columns} FROM read_parquet([{listed}], union_by_name = true) "
            f"WHERE {quote(log.version)} <= {through:d})"
        )


@contextmanager
def marked_rows(lake: Lake, log: Logged) -> Iterator[tuple[str, int]]:
    """SQL for the rows of a log that are in the lake, and through which version that is, inside
    the block; none through version 0 where the lake has nothing of this log yet.
    """
    mark = read_mark(lake)
    stored = None
    if mark.logs.get(log.name) == log.identity:
        stored = log_table(lake, log.name, log.identity)
    if stored is None:
        nothing = ", ".join(
            f"CAST(NULL AS {column.type}) AS {quote(column.name)}" for column in log.columns
        )
        yield f"(SELECT {nothing} WHERE false)", 0
        return
    with log_rows(lake, stored, log, mark.version) as rows:
        yield rows, mark.version


def standing(rows: str, schema: TableSchema) -> str:
    """SQL for the rows that stand according to a log's ``rows``, each with its weight.

    Rows of keys of which nothing ever ended stand as they came; the others are summed. A weight
    other than 1 contradicts the log.
    """
    names, key = quoted_list(schema.column_names), quoted_list(schema.key)
    same = null_safe_equal(schema.key, "l", "e")
    return (
        f"WITH log AS MATERIALIZED (FROM {rows}), "
        f"ended AS MATERIALIZED (SELECT DISTINCT {key} FROM log WHERE _weight < 0) "
        f"SELECT {names}, _weight FROM log AS l "
        f"WHERE NOT EXISTS (SELECT 1 FROM ended AS e WHERE {same}) "
        f"UNION ALL SELECT {names}, sum(_weight)::BIGINT AS _weight FROM log AS l "
        f"WHERE EXISTS (SELECT 1 FROM ended AS e WHERE {same}) "
        f"GROUP BY {names} HAVING sum(_weight) <> 0"
    )


def fill(
    connection: duckdb.DuckDBPyConnection, lake: Lake, table: LakeTable, log: Logged, through: int
) -> int:
    """Copy the rows of a log into the store's table of the same name; how many."""
    names = quoted_list(column.name for column in log.columns)
    with log_rows(lake, table, log, through) as rows:
        done = connection.execute(
            f"INSERT INTO {quote_table(log.name)} ({names}) SELECT {names} FROM {rows}"
        ).fetchone()
    return int(done[0]) if done else 0
