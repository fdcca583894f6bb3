"""One reading of the whole log in a process of its own: ``python -m benchmarks.mysql_receivers``.

The clock starts when the log has been asked for and stops when its last row is where the kind
brings it; processor time is of the process, or of the tool it runs. One line of JSON tells both.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa

from upwell.core.position import Position
from upwell.core.protocols import TableChanges
from upwell.sources.mysql import MySQLSource
from upwell.sources.mysql.checksum import checksum_sql
from upwell.sources.mysql.dump import open_dump
from upwell.sources.mysql.places import parse_position
from upwell.sources.mysql.receiver import Receiver
from upwell.sources.mysql.server import log_files, meet
from upwell.sources.mysql.session import session
from upwell.sources.mysql.url import parse_url

_BATCH_SECONDS = 0.05  # as the engine spaces its versions: else batches are tiny
_IDLE_SECONDS, _SIGN_OF_LIFE_BYTES = 2.0, 200
Told = dict[str, object]


def receive_bare(url: str, first: Position, _last: Position) -> Told:
    """Reads and throws away, until nothing but signs of life has come for a while."""
    address = parse_url(url)
    with session(address) as opened:
        server = meet(opened)
    place, gtid = parse_position(first)
    receiver = Receiver(open_dump(address, server, place, gtid))
    begun, cpu = time.monotonic(), time.process_time()
    received, ended = 0, begun
    told: Told = {}
    while time.monotonic() - ended < _IDLE_SECONDS:
        receiver.wait(0.1)
        data = receiver.take(1 << 30)
        if len(data) > _SIGN_OF_LIFE_BYTES:
            received, ended = received + len(data), time.monotonic()
            told = {"seconds": ended - begun, "cpu_seconds": time.process_time() - cpu}
    receiver.close()
    return told | {"bytes": received}


def receive_decoded(url: str, first: Position, last: Position) -> Told:
    """Upwell's stream; what it gave is summed up when the clock has stopped."""
    source = MySQLSource("sales", url, ["sales"])
    tables = list(source.look().tables.values())
    stream = source.stream(first, tables)
    begun, cpu = time.monotonic(), time.process_time()
    position, kept = first, []
    batches = 0
    while position < last:
        time.sleep(_BATCH_SECONDS)
        batch = stream.poll(1.0)
        if batch is not None:
            batches += 1
            position = batch.position
            kept += [change.rows for change in batch.changes if isinstance(change, TableChanges)]
    told: Told = {"seconds": time.monotonic() - begun, "cpu_seconds": time.process_time() - cpu}
    source.close()
    with duckdb.connect() as store:
        store.execute("SET TimeZone = 'UTC'")
        store.register("kept", pa.concat_tables(kept))
        found = store.execute(checksum_sql(tables[0].schema, "kept")).fetchone()
    assert found is not None  # noqa: S101 - an aggregate has one row
    return told | {"checksum": [found[0], str(found[1])], "batches": batches}


def run_tool(url: str, first: Position, *, raw: bool) -> Told:
    """``mariadb-binlog`` from the same place to the log's end."""
    address = parse_url(url)
    with session(address) as opened:
        name = log_files(opened)[0][0]
    place, _ = parse_position(first)
    command = ["mariadb-binlog", "--no-defaults", "--read-from-remote-server", "--to-last-log"]
    command += [f"--socket={address.socket}", "--user=root"]
    with tempfile.TemporaryDirectory(prefix="upwell-bench-") as folder:
        if raw:
            command += ["--raw", f"--result-file={folder}/"]
        else:
            command += ["--base64-output=decode-rows", "-v", f"--start-position={place.offset}"]
        begun = time.monotonic()
        subprocess.run([*command, name], check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - begun
        written = sum(file.stat().st_size for file in Path(folder).iterdir())
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = usage.ru_utime + usage.ru_stime
    return {"seconds": seconds, "cpu_seconds": cpu, "bytes": written}


def main() -> None:
    """Run one kind."""
    receive: dict[str, Callable[[str, Position, Position], Told]] = {
        "bare": receive_bare,
        "decoded": receive_decoded,
        "tool-raw": lambda url, first, _: run_tool(url, first, raw=True),
        "tool-values": lambda url, first, _: run_tool(url, first, raw=False),
    }
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mysql_receivers")
    parser.add_argument("kind", choices=tuple(receive))
    parser.add_argument("--url", required=True)
    parser.add_argument("--first", required=True, type=Position)
    parser.add_argument("--last", required=True, type=Position)
    given = parser.parse_args()
    sys.stdout.write(json.dumps(receive[given.kind](given.url, given.first, given.last)) + "\n")


if __name__ == "__main__":
    main()
