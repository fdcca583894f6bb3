"""The confined child: reads tables and one statement from standard input, writes the result.

It imports as little as possible, limits itself before it looks at the statement, and locks DuckDB:
no file, no network, no extension, no setting can be reached from SQL afterwards.
"""

from __future__ import annotations

import json
import resource
import sys
from typing import IO, Any

import duckdb
import pyarrow as pa

from upwell.core.sql import connect, literal, quote, quote_table
from upwell.serve.reader.confined import HEADER, SQL_TYPE

_ADDRESS_SPACE_BYTES = 16 << 30
_DENIED = 2


def main() -> int:
    """Exit code 0 with the result on standard output, or 2 with the reason on standard error."""
    stdin = sys.stdin.buffer
    request = json.loads(_part(stdin))
    _limit(int(request["seconds"]))
    connection = connect(zone=request["zone"], threads=2)
    for name in request["tables"]:
        _load(connection, name, _part(stdin))
    _lock(connection, request["memory"])
    try:
        for name, query, bound in request["models"]:
            connection.execute(f"CREATE TABLE {quote(name)} AS {query}", bound or None)
        answer = connection.execute(request["sql"])
        types = [str(column[1]) for column in answer.description or ()]
        result = _with_types(answer.to_arrow_table(), types)
    except duckdb.Error as error:
        sys.stderr.write(str(error))
        return _DENIED
    with pa.ipc.new_stream(sys.stdout.buffer, result.schema) as writer:
        writer.write_table(result)
    return 0


def _part(stream: IO[bytes]) -> bytes:
    (size,) = HEADER.unpack(stream.read(HEADER.size))
    return stream.read(int(size))


def _limit(seconds: int) -> None:
    for limit, value in (
        (resource.RLIMIT_CPU, 2 * seconds),  # two threads may run for all of the time
        (resource.RLIMIT_AS, _ADDRESS_SPACE_BYTES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 16),
    ):
        resource.setrlimit(limit, (value, value))


def _load(connection: duckdb.DuckDBPyConnection, name: str, body: bytes) -> None:
    with pa.ipc.open_stream(body) as reader:
        rows: Any = reader.read_all()
    schema, dot, _ = name.partition(".")
    if dot:
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(schema)}")
    connection.register("_given", rows)
    connection.execute(f"CREATE TABLE {quote_table(name)} AS FROM _given")
    connection.unregister("_given")


def _with_types(result: pa.Table, types: list[str]) -> pa.Table:
    """The result with every column's SQL type beside its Arrow type, and no name twice."""
    fields: list[pa.Field] = []
    taken: set[str] = set()
    for field, type_name in zip(result.schema, types, strict=True):
        name, number = field.name, 0
        while name in taken:
            number += 1
            name = f"{field.name}_{number}"
        taken.add(name)
        fields.append(pa.field(name, field.type, metadata={SQL_TYPE: type_name}))
    return result.rename_columns([field.name for field in fields]).cast(pa.schema(fields))


def _lock(connection: duckdb.DuckDBPyConnection, memory: str) -> None:
    for name, value in (
        ("memory_limit", literal(memory)),
        ("temp_directory", "''"),
        ("enable_external_access", "false"),
        ("lock_configuration", "true"),
    ):
        connection.execute(f"SET {name} = {value}")


if __name__ == "__main__":
    sys.exit(main())
