"""One reading of the whole log in a process of its own: ``python -m benchmarks.receivers KIND …``.

The clock starts when the server has begun to send and stops when the last row is where the kind
brings it; processor time is of all threads of the process in between. One line of JSON tells both,
with what shows whether the run was right.

- ``bare``: reads from the socket in blocks of 64 KiB and counts the rows; stores nothing.
- ``decoded``: Upwell's source alone, batches of Arrow columns that nobody stores.
- ``upwell``: the engine as it runs, without models: change log, current table and position, all
  committed.
- ``rows``: psycopg, one conversion a value, Arrow batches into a DuckDB table.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.rowwise import receive_rows
from benchmarks.sales import PUBLICATION, TABLE
from upwell.core.position import Position
from upwell.core.protocols import TableChanges, VersionEnd
from upwell.core.sql import quote_table
from upwell.engine import VERSION_SECONDS, Engine
from upwell.feed.hub import FeedHub
from upwell.following import Following
from upwell.ingest import tables
from upwell.models import Models
from upwell.read_ahead import ReadAhead
from upwell.sources.postgres.channel import open_channel
from upwell.sources.postgres.checksum import checksum_sql
from upwell.sources.postgres.replication import start_replication
from upwell.sources.postgres.session import session
from upwell.sources.postgres.source import PostgresSource
from upwell.sources.postgres.wal import lsn_of
from upwell.store import ledger
from upwell.store.hot import HotStore
from upwell.table_states import TableStates

_BLOCK_BYTES = 64 << 10
#: A block may stay short at the stream's end: then this long is waited for the rest.
_BLOCK_PATIENCE_US = 10_000


@dataclass(frozen=True)
class Reading:
    """What to read: the log behind ``slot`` from ``first`` on, to its last row."""

    url: str
    slot: str
    first: Position
    rows: int
    transactions: int


class Meter:
    """Wall and processor time from ``start`` to ``stop``."""

    def start(self) -> None:
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def stop(self) -> None:
        self.seconds = time.monotonic() - self._wall
        self.cpu_seconds = time.process_time() - self._cpu


class BlockCounter:
    """How often some bytes occur in a stream that comes in blocks, across their borders too."""

    def __init__(self, wanted: bytes) -> None:
        self._wanted = wanted
        self._border = len(wanted) - 1
        self._end = b""
        self.found = self.size = 0

    def add(self, block: bytes | memoryview) -> None:
        """The stream's next block."""
        data = bytes(block)
        self.size += len(data)
        self.found += data.count(self._wanted)
        self.found += (self._end + data[: self._border]).count(self._wanted)
        self._end = (self._end + data[-self._border :])[-self._border :]


def receive_bare(reading: Reading, meter: Meter) -> dict[str, object]:
    """Counts the eight bytes with which every insert begins, across the blocks' borders too."""
    with session(reading.url) as connection:
        row = connection.execute("select %s::regclass::oid::bigint", [f"public.{TABLE}"]).fetchone()
        columns = connection.execute(
            "select count(*) from pg_attribute where attrelid = %s::regclass and attnum > 0",
            [f"public.{TABLE}"],
        ).fetchone()
    assert row is not None and columns is not None  # noqa: S101, PT018 - both have one row
    opening = struct.pack(">cIcH", b"I", row[0], b"N", columns[0])
    channel = open_channel(reading.url, replication=True)
    lsn = lsn_of(reading.first)
    start_replication(channel, reading.slot, PUBLICATION, lsn, binary=True)
    meter.start()
    counter = BlockCounter(opening)
    counter.add(channel.receive())
    wire = socket.socket(fileno=os.dup(channel.fileno()))
    wire.setblocking(True)
    patience = struct.pack("ll", 0, _BLOCK_PATIENCE_US)
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
    block = bytearray(_BLOCK_BYTES)
    while counter.found < reading.rows:
        try:
            count = wire.recv_into(block, flags=socket.MSG_WAITALL)
        except BlockingIOError:
            continue
        if not count:
            raise EOFError(f"the server ended the stream after {counter.found} rows")
        counter.add(memoryview(block)[:count])
    meter.stop()
    return {"rows": counter.found, "bytes": counter.size}


def receive_decoded(reading: Reading, meter: Meter) -> dict[str, object]:
    """Upwell's stream, decoded and forgotten."""
    source = _source(reading)
    stream = source.stream(reading.first, list(source.look().tables.values()))
    meter.start()
    rows = 0
    while rows < reading.rows:
        time.sleep(VERSION_SECONDS[0])  # as the engine spaces its versions: else batches are tiny
        batch = stream.poll(1.0)
        for change in batch.changes if batch else ():
            assert isinstance(change, TableChanges)  # noqa: S101 - nothing is truncated
            rows += change.rows.num_rows
    meter.stop()
    source.close()
    return {"rows": rows}


def receive_upwell(reading: Reading, meter: Meter, folder: Path) -> dict[str, object]:
    """The engine on a store of its own, until its feed has announced the last transaction."""
    source = _source(reading)
    (table,) = source.look().tables.values()
    store = HotStore(folder / "hot.duckdb", zone="UTC")
    ledger.prepare(store.writer)
    with store.transaction() as connection:
        tables.create(connection, tables.Captured(table, tables.new_log()))
    store.checkpoint()
    states = TableStates(store)
    hub = FeedHub(store.view, version=0, schema_of=states.layouts.__getitem__)
    following = Following(source, reading.first)
    engine = Engine(store, hub, [following], states, Models(store, [], _ignore))
    stop = threading.Event()
    running = threading.Thread(target=engine.run, args=(stop,))
    versions, committed = 0, 0
    following.is_published = not source.follow_only([table])
    following.stream = ReadAhead(source.stream(reading.first, [table]))
    meter.start()
    running.start()
    for message in hub.follow([], 0):
        if isinstance(message, VersionEnd):
            versions += 1
            committed += len(message.committed_at_us)
        if committed >= reading.transactions or following.lost or not running.is_alive():
            break
    meter.stop()
    stop.set()
    running.join()
    source.close()
    current, log = quote_table(table.name), quote_table(tables.log_name(table.name))
    kept = store.writer.execute(checksum_sql(table.schema, current)).fetchone()
    logged = store.writer.execute(f"SELECT count(*) FROM {log}").fetchone()
    size = sum(file.stat().st_size for file in folder.iterdir())
    store.close()
    assert kept is not None and logged is not None  # noqa: S101, PT018 - aggregates have one row
    return {
        "rows": logged[0],
        "checksum": [int(kept[0]), str(kept[1])],
        "versions": versions,
        "store_bytes": size,
    }


def receive_row_by_row(reading: Reading, meter: Meter, folder: Path) -> dict[str, object]:
    """See ``rowwise``; the same types in the same kind of file, one table."""
    source = _source(reading)
    (table,) = source.look().tables.values()
    source.close()
    lsn = lsn_of(reading.first)
    return receive_rows(
        reading.url,
        f'START_REPLICATION SLOT "{reading.slot}" LOGICAL {lsn >> 32:X}/{lsn & 0xFFFFFFFF:X} '
        f"(proto_version '1', publication_names '\"{PUBLICATION}\"')",
        table.schema,
        reading.rows,
        folder / "rows.duckdb",
        started=meter.start,
        finished=meter.stop,
    )


def _ignore(_event: str, **_facts: object) -> None:
    """Progress is of no interest here."""


def _source(reading: Reading) -> PostgresSource:
    return PostgresSource("shop", reading.url, [TABLE], slot=reading.slot, publication=PUBLICATION)


Receive = Callable[[Reading, Meter], dict[str, object]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.receivers", description=__doc__)
    parser.add_argument("kind", choices=("bare", "decoded", "upwell", "rows"))
    parser.add_argument("--url", required=True)
    parser.add_argument("--slot", required=True)
    parser.add_argument("--first", required=True, type=Position)
    parser.add_argument("--rows", required=True, type=int)
    parser.add_argument("--transactions", required=True, type=int)
    given = vars(parser.parse_args())
    kind = given.pop("kind")
    meter = Meter()
    with tempfile.TemporaryDirectory(prefix="upwell-bench-") as folder:
        receive: dict[str, Receive] = {
            "bare": receive_bare,
            "decoded": receive_decoded,
            "upwell": partial(receive_upwell, folder=Path(folder)),
            "rows": partial(receive_row_by_row, folder=Path(folder)),
        }
        told = receive[kind](Reading(**given), meter)
    figures = {"seconds": meter.seconds, "cpu_seconds": meter.cpu_seconds}
    sys.stdout.write(json.dumps(figures | told) + "\n")


if __name__ == "__main__":
    main()
