"""Runs a statement in a child process that holds only the tables the statement may see.

The child is given its tables through a pipe, opens no socket and no file, inherits no environment,
and lives under limits of memory, processor time and output. It ends after one statement.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from upwell.core.errors import EnvironmentFault, UsageError

HEADER = struct.Struct("<q")
#: Field metadata of a result: the column's type as SQL spells it.
SQL_TYPE = b"sql_type"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one statement may use."""

    memory: str = "1GB"
    seconds: int = 60


def run_confined(
    sql: str,
    tables: Mapping[str, pa.Table],
    *,
    zone: str,
    models: Sequence[tuple[str, str, Mapping[str, int]]] = (),
    limits: Limits = Limits(),
) -> pa.Table:
    """The result of ``sql`` over ``tables`` (named as in SQL); fields carry ``SQL_TYPE``.

    ``models`` (name, query, what it binds) are computed from the tables before, in their order.

    Raises UsageError with DuckDB's words where the statement fails or goes over its limits.
    """
    request = {
        "sql": sql,
        "zone": zone,
        "memory": limits.memory,
        "seconds": limits.seconds,
        "tables": list(tables),
        "models": list(models),
    }
    child = subprocess.Popen(
        [sys.executable, "-I", "-m", "upwell.serve.reader.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={},
    )
    try:
        output, complaint = child.communicate(
            b"".join(_request_parts(request, tables)), timeout=limits.seconds + 5
        )
    except subprocess.TimeoutExpired as error:
        raise _over_time(limits) from error
    finally:
        child.kill()
        child.wait()
    if child.returncode == 0:
        with pa.ipc.open_stream(output) as reader:
            return reader.read_all()
    if child.returncode == UsageError.exit:
        raise UsageError(
            "query_failed",
            f"Running a query: {complaint.decode(errors='replace').strip()}",
            next_step="Mend the statement; `upwell status` lists tables and models.",
        )
    if child.returncode < 0:
        raise _over_time(limits)
    raise EnvironmentFault(
        "reader_failed",
        f"Running a query: the reader ended with {child.returncode}: "
        f"{complaint.decode(errors='replace').strip()[-500:]}",
        next_step="Try again; if it stays, report it with this text.",
    )


def _request_parts(
    request: Mapping[str, object], tables: Mapping[str, pa.Table]
) -> Iterator[bytes | memoryview]:
    head = json.dumps(request).encode()
    yield HEADER.pack(len(head))
    yield head
    for table in tables.values():
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        body = sink.getvalue()
        yield HEADER.pack(body.size)
        yield memoryview(body)


def _over_time(limits: Limits) -> UsageError:
    return UsageError(
        "query_over_limit",
        f"Running a query: it was stopped at its limit of {limits.seconds} s.",
        next_step="Filter earlier or aggregate in a model.",
    )
