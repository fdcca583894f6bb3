"""A hot store made anew from the lake: at the mark, as if it had never been away.

Current tables are the sums of their logs; the models are built from them afterwards as at any
start, and what the source committed since the mark is read from its log again. The version is
written last, so a rebuild that did not end is seen as one, and begun anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import duckdb

from upwell.core.errors import IntegrityError
from upwell.core.faults import reach
from upwell.core.schema import source_of
from upwell.core.sql import quote_table, quoted_list
from upwell.ingest.tables import (
    Captured,
    captured_tables,
    change_log,
    create,
    log_name,
    logged_table,
    renew_log,
)
from upwell.store import ledger
from upwell.store.hot import HotStore
from upwell.store.lake.lake import Lake
from upwell.store.lake.logged import OWN, own_log
from upwell.store.lake.mark import Mark
from upwell.store.lake.reading import fill, log_rows, log_table, standing
from upwell.store.lake.tables import LakeTable
from upwell.store.lake.writer import LAYOUT

Report = Callable[..., None]

_WEIGHT = "a weight is not 1"


def rebuild(store: HotStore, lake: Lake, mark: Mark, report: Report) -> None:
    """Fill an empty store with what the lake holds at ``mark``.

    Raises IntegrityError naming the file or table where the lake contradicts itself; nothing that
    could be taken for a whole store is left then.
    """
    begun = time.monotonic()
    report("rebuild_started", version=mark.version, tables=sorted(mark.logs))
    rows = 0
    for number, (name, identity) in enumerate(sorted(mark.logs.items()), 1):
        found = log_table(lake, name, identity)
        if found is None:
            raise _contradicts(name, "the mark names it, and it is not there")
        rows += _restore(store, lake, found, identity, mark)
        reach("rebuild.table_restored")
        report("rebuild_progress", table=name, done=number, of=len(mark.logs))
    with store.transaction() as connection:
        _restore_own(connection, lake, mark)
        ledger.write_fact(connection, ledger.LINEAGE, mark.lineage)
        ledger.write_fact(connection, ledger.DURABLE, str(mark.version))
        for source, marked in mark.sources.items():
            ledger.write_identity(connection, source, marked.identity)
        ledger.append(
            connection,
            mark.version,
            mark.logical_time_us,
            {
                source: ledger.SourceProgress(marked.position, marked.complete_through_us)
                for source, marked in mark.sources.items()
            },
        )
    reach("rebuild.ledger_written")
    store.checkpoint()
    seconds = round(time.monotonic() - begun, 1)
    report("rebuild_finished", version=mark.version, rows=rows, seconds=seconds)


def _restore(store: HotStore, lake: Lake, table: LakeTable, identity: str, mark: Mark) -> int:
    restored = logged_table(table.properties[LAYOUT])
    schema = restored.schema
    with store.transaction() as connection:
        create(connection, Captured(restored, identity, mark.frozen.get(schema.name, "")))
    store.checkpoint()  # layout and rows never share a write-ahead log
    names, current = quoted_list(schema.column_names), quote_table(schema.name)
    log = change_log(restored, identity)
    with log_rows(lake, table, log, mark.version) as rows, store.transaction() as connection:
        try:
            done = connection.execute(
                f"INSERT INTO {current} ({names}) SELECT {names} FROM ({standing(rows, schema)}) "
                f"WHERE CASE WHEN _weight = 1 THEN true ELSE error('{_WEIGHT}') END"
            ).fetchone()
        except duckdb.InvalidInputException as error:
            if _WEIGHT in str(error):
                raise _contradicts(
                    log.name, "a row ends that never began, or stands twice"
                ) from error
            raise
        twice = connection.execute(
            f"SELECT count(*) - count(DISTINCT ({quoted_list(schema.key)})) FROM {current}"
        ).fetchone()
        if twice and twice[0]:
            raise _contradicts(log.name, f"{twice[0]} of its keys stand more than once")
    store.checkpoint()
    return int(done[0]) if done else 0


def _restore_own(connection: duckdb.DuckDBPyConnection, lake: Lake, mark: Mark) -> None:
    """What Upwell knows about itself, as of the mark; of its own versions the newest suffices."""
    for name in OWN:
        table = lake.table(name)
        if table is not None:
            fill(connection, lake, table, own_log(connection, name), mark.version)


def _contradicts(log: str, how: str) -> IntegrityError:
    return IntegrityError(
        "lake_contradicts_itself",
        f"Rebuilding the hot store from {log} in the lake: {how}.",
        where=log,
        next_step="Run `upwell scrub`: it tells what is damaged and repairs what can be.",
    )


def begin_logs_anew(store: HotStore) -> None:
    """Let every change log begin with what stands, for a lake that holds nothing of it yet.

    What a log held before was only in the lake that is gone. The rows' version, position and time
    are those of the newest version: that is what is known of them.
    """
    layouts = captured_tables(store.writer)
    store.checkpoint()
    for name, schema in layouts.items():
        source = source_of(name)
        known = ledger.progress(store.writer, source)
        columns = quoted_list(schema.column_names)
        log = quote_table(log_name(name))
        at = known.complete_through_us
        with store.transaction() as connection:
            connection.execute(f"DELETE FROM {log}")
            connection.execute(
                f"INSERT INTO {log} ({columns}, _version, _position, _committed_at, _received_at, "
                f"_weight) SELECT {columns}, ?, ?, make_timestamptz(?::BIGINT), "
                f"make_timestamptz(?::BIGINT), 1 FROM {quote_table(name)}",
                [ledger.latest_version(connection), known.position, at, at],
            )
            renew_log(connection, name)
    with store.transaction() as connection:
        ledger.write_fact(connection, ledger.DURABLE, "0")
    store.checkpoint()
