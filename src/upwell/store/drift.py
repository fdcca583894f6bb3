"""What comparisons of followed tables with their sources found, and when the next one is due.

Every comparison that came to its end is one row of ``upwell.drift``, also one that found nothing:
that a table was looked at and held is what people want to know of it. Of each table the newest
``KEPT`` are kept. A store made anew knows none of them: they were of another copy of the rows.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import duckdb

TABLE = "upwell.drift"

#: So many comparisons of a table are kept; by the day that is more than a year.
KEPT = 400

LAYOUT = f"""
CREATE TABLE IF NOT EXISTS {TABLE} (
    version BIGINT NOT NULL,
    source_table VARCHAR NOT NULL,
    compared_at TIMESTAMPTZ NOT NULL,
    ranges BIGINT NOT NULL,
    ranges_read BIGINT NOT NULL,
    ranges_differing BIGINT NOT NULL,
    rows BIGINT NOT NULL,
    rows_missing BIGINT NOT NULL,
    rows_unexpected BIGINT NOT NULL,
    rows_altered BIGINT NOT NULL
);
CREATE TABLE IF NOT EXISTS _upwell.comparisons_due (
    name VARCHAR NOT NULL,
    due_at TIMESTAMPTZ NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison of a table, ended at ``compared_at_us`` (microseconds since 1970 UTC).

    Of ``ranges`` of keys some were read, since their checksums differed, if only because rows were
    changing; in ``ranges_differing`` of these there was a row that is not the source's at the same
    moment. Such rows were missing from the store, unexpected in it or altered, and were mended in
    ``version``; if there are none it is the newest version there was.
    """

    version: int
    source_table: str
    compared_at_us: int
    ranges: int
    ranges_read: int
    ranges_differing: int
    rows: int
    rows_missing: int
    rows_unexpected: int
    rows_altered: int

    @property
    def rows_differing(self) -> int:
        return self.rows_missing + self.rows_unexpected + self.rows_altered


def record(connection: duckdb.DuckDBPyConnection, found: Comparison) -> None:
    """Write a comparison down, inside the caller's transaction, and forget the oldest."""
    connection.execute(
        f"INSERT INTO {TABLE} VALUES (?, ?, make_timestamptz(?::BIGINT), ?, ?, ?, ?, ?, ?, ?)",
        [
            found.version,
            found.source_table,
            found.compared_at_us,
            found.ranges,
            found.ranges_read,
            found.ranges_differing,
            found.rows,
            found.rows_missing,
            found.rows_unexpected,
            found.rows_altered,
        ],
    )
    connection.execute(
        f"DELETE FROM {TABLE} WHERE source_table = ? AND compared_at < (SELECT min(compared_at) "
        f"FROM (SELECT compared_at FROM {TABLE} WHERE source_table = ? "
        f"ORDER BY compared_at DESC LIMIT {KEPT}))",
        [found.source_table, found.source_table],
    )


def latest(connection: duckdb.DuckDBPyConnection) -> dict[str, Comparison]:
    """The last comparison of each table that was compared, by its name in SQL."""
    return _newest(connection, "true")


def latest_that_differed(connection: duckdb.DuckDBPyConnection) -> dict[str, Comparison]:
    """Of each table that was ever found to differ, as far as is known, the last time it was."""
    return _newest(connection, "rows_missing + rows_unexpected + rows_altered > 0")


def _newest(connection: duckdb.DuckDBPyConnection, condition: str) -> dict[str, Comparison]:
    rows = connection.execute(
        f"SELECT version, source_table, epoch_us(compared_at), ranges, ranges_read, "
        f"ranges_differing, rows, rows_missing, rows_unexpected, rows_altered FROM {TABLE} "
        f"WHERE {condition} "
        f"QUALIFY row_number() OVER (PARTITION BY source_table ORDER BY compared_at DESC) = 1"
    ).fetchall()
    return {each.source_table: each for each in (Comparison(*row) for row in rows)}


def due(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """When each table is to be compared next, in microseconds since 1970 UTC, by its name."""
    rows = connection.execute(
        "SELECT name, epoch_us(due_at) FROM _upwell.comparisons_due"
    ).fetchall()
    return {str(name): int(at_us) for name, at_us in rows}


def set_due(connection: duckdb.DuckDBPyConnection, name: str, at_us: int) -> None:
    """Write down when a table is to be compared next, inside the caller's transaction."""
    forget_due(connection, [name])
    connection.execute(
        "INSERT INTO _upwell.comparisons_due VALUES (?, make_timestamptz(?::BIGINT))", [name, at_us]
    )


def forget_due(connection: duckdb.DuckDBPyConnection, names: Collection[str]) -> None:
    """Tables that are not to be compared by themselves."""
    connection.execute(
        "DELETE FROM _upwell.comparisons_due WHERE list_contains(?, name)", [list(names)]
    )
