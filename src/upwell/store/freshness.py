"""How fresh dashboards were: one histogram of commit-to-visible latencies a minute and dashboard.

Whoever shows a dashboard reports what it saw in parts; a minute may therefore have several rows.
"""

from __future__ import annotations

import duckdb
import pyarrow as pa

from upwell.core.histogram import Histogram

TABLE = "upwell.freshness"

_US_PER_MINUTE = 60_000_000


def record(
    connection: duckdb.DuckDBPyConnection, dashboard: str, minute_us: int, seen: Histogram
) -> None:
    """Add what was seen in the minute that ``minute_us`` (microseconds since 1970) falls into.

    It counts towards the version to come, since the last one may be in the lake already.
    """
    connection.execute(
        f"INSERT INTO {TABLE} SELECT coalesce(max(version), 0) + 1, make_timestamptz(?::BIGINT), "
        f"?, ?::BIGINT[] FROM upwell.versions",
        [minute_us - minute_us % _US_PER_MINUTE, dashboard, seen.encode()],
    )


def recorded(rows: pa.Table) -> list[tuple[str, int, Histogram]]:
    """Rows of the table as (dashboard, minute in microseconds since 1970, histogram)."""
    minutes = rows.column("minute").cast(pa.int64()).to_pylist()
    dashboards = rows.column("dashboard").to_pylist()
    histograms = rows.column("histogram").to_pylist()
    return [
        (dashboard, minute, Histogram.decode(encoded))
        for dashboard, minute, encoded in zip(dashboards, minutes, histograms, strict=True)
    ]
