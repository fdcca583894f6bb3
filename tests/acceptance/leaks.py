"""Whether a word is anywhere in what Upwell wrote: as it is, or compressed in tables."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from upwell.core.sql import quote_table


def leaking_files(folder: Path, word: str, *, but: tuple[str, ...] = ()) -> list[str]:
    """Files of a project, state and lake that hold the word as it is."""
    ours = {folder / name for name in but}
    files = [path for path in folder.rglob("*") if path.is_file() and path not in ours]
    return [str(path) for path in files if word.encode() in path.read_bytes()]


def leaking_tables(folder: Path, word: str) -> list[str]:
    """Tables of the hot store and files of the lake that hold the word compressed."""
    found = []
    with duckdb.connect(str(folder / ".upwell/hot.duckdb"), read_only=True) as store:
        tables = store.execute(
            "select table_schema || '.' || table_name from information_schema.tables"
        ).fetchall()
        assert len(tables) > 10
        for (table,) in tables:
            rows = store.execute(f"from {quote_table(table)}").to_arrow_table()
            if word in str(rows.to_pylist()):
                found.append(table)
    files = folder.rglob("*.parquet")
    return found + [str(each) for each in files if word in str(pq.read_table(each).to_pylist())]
