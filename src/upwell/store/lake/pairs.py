"""Which rows of a log cancel out: an image that began (+1) and the end of the same image (−1).

Of each image the earliest beginnings go, as many as it has ends, together with those ends; so what
stays is what stood last, and the sum is the same. Rows of another weight, which a table without a
key may have, are left alone.

Rows come one file at a time, twice: first those that end something, then all that such an end may
be of. The hash only keeps out what never ended; rows are paired by all of their values.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from upwell.core.sql import connect, literal, null_safe_equal, quoted_list
from upwell.store.lake.contents import VERSION, WEIGHT, Placed, image_columns, read_rows
from upwell.store.lake.objects import Objects
from upwell.store.lake.tables import LakeTable

#: What DuckDB may hold in memory; the rest lies on disk meanwhile.
_MEMORY = "512MB"
#: A place is the number of a file, and the row within it.
_PLACE, _ROW_BITS = "_place", 40

Rows = NDArray[np.int64]


def cancelled_rows(
    objects: Objects, table: LakeTable, files: Sequence[Placed], through: int
) -> list[Rows]:
    """For each file the numbers of the rows that cancel out, among those up to a version.

    Raises IntegrityError naming a damaged file.
    """
    images = image_columns(table)
    with tempfile.TemporaryDirectory(prefix="upwell-fold-") as folder:
        connection = connect(zone="UTC", threads=1)
        try:
            connection.execute(f"SET temp_directory = {literal(folder)}")
            connection.execute(f"SET memory_limit = {literal(_MEMORY)}")
            ended = _hashes_ended(connection, _parts(objects, table, files, through), images)
            if not len(ended):
                return [np.array([], np.int64) for _ in files]
            parts = _parts(objects, table, files, through)
            _gather(connection, parts, images, ended)
            _pair(connection, images)
            return [_rows_of(connection, number) for number in range(len(files))]
        finally:
            connection.close()


def _parts(
    objects: Objects, table: LakeTable, files: Sequence[Placed], through: int
) -> Iterator[pa.RecordBatch]:
    """The rows up to a version, each with its place."""
    columns = [*image_columns(table), WEIGHT, VERSION]
    for number, each in enumerate(files):
        place = number << _ROW_BITS
        for batch in read_rows(objects, each.file, table.schema, columns):
            places = np.arange(place, place + batch.num_rows, dtype=np.int64)
            placed = batch.append_column(_PLACE, pa.array(places))
            yield placed.filter(pc.less_equal(batch.column(VERSION), through))
            place += batch.num_rows


def _hashes(
    connection: duckdb.DuckDBPyConnection, part: pa.RecordBatch, images: Sequence[str]
) -> NDArray[np.uint64]:
    connection.register("part", pa.Table.from_batches([part]))
    found = connection.execute(f"SELECT hash({quoted_list(images)}) AS hash FROM part")
    hashes: NDArray[np.uint64] = found.fetchnumpy()["hash"]
    return hashes


def _hashes_ended(
    connection: duckdb.DuckDBPyConnection, parts: Iterator[pa.RecordBatch], images: Sequence[str]
) -> NDArray[np.uint64]:
    found = [np.array([], np.uint64)]
    for part in parts:
        ends = part.filter(pc.equal(part.column(WEIGHT), -1))
        if ends.num_rows:
            found.append(_hashes(connection, ends, images))
    return np.unique(np.concatenate(found))


def _gather(
    connection: duckdb.DuckDBPyConnection,
    parts: Iterator[pa.RecordBatch],
    images: Sequence[str],
    ended: NDArray[np.uint64],
) -> None:
    """Fill ``touched`` with the rows whose image may have ended."""
    statement = "CREATE TABLE touched AS FROM part"
    for part in parts:
        hashes = _hashes(connection, part, images)
        places = np.searchsorted(ended, hashes)
        is_touched = ended[np.minimum(places, len(ended) - 1)] == hashes
        touched = part.filter(pa.array(is_touched))
        connection.register("part", pa.Table.from_batches([touched]))
        connection.execute(statement)
        statement = "INSERT INTO touched FROM part"


def _pair(connection: duckdb.DuckDBPyConnection, images: Sequence[str]) -> None:
    """Fill ``gone``. Most images began once and ended once; only the others need an order."""
    names = quoted_list(images)
    connection.execute(
        f"CREATE TABLE counted AS SELECT {names}, "
        f"count(*) FILTER ({WEIGHT} = 1) AS begun, count(*) FILTER ({WEIGHT} = -1) AS ended, "
        f"min({_PLACE}) AS earliest, max({_PLACE}) AS latest "
        f"FROM touched WHERE {WEIGHT} IN (1, -1) GROUP BY {names} HAVING begun > 0 AND ended > 0"
    )
    connection.execute(
        f"CREATE TABLE gone AS SELECT unnest([earliest, latest]) AS {_PLACE} FROM counted "
        f"WHERE begun = 1 AND ended = 1"
    )
    connection.execute(
        f"INSERT INTO gone SELECT {_PLACE} FROM ("
        f"SELECT {_PLACE}, least(begun, ended) AS pairs, row_number() OVER "
        f"(PARTITION BY {quoted_list(images, 't')}, {WEIGHT} ORDER BY {_PLACE}) AS number "
        f"FROM touched AS t JOIN counted AS c ON {null_safe_equal(images, 't', 'c')} "
        f"WHERE {WEIGHT} IN (1, -1) AND (begun > 1 OR ended > 1)) WHERE number <= pairs"
    )


def _rows_of(connection: duckdb.DuckDBPyConnection, number: int) -> Rows:
    begin = number << _ROW_BITS
    rows: Rows = connection.execute(
        f"SELECT {_PLACE} - ? AS row FROM gone WHERE {_PLACE} >= ? AND {_PLACE} < ? ORDER BY 1",
        [begin, begin, (number + 1) << _ROW_BITS],
    ).fetchnumpy()["row"]
    return rows
