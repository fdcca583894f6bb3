"""Feed messages as rows of one Arrow schema, since a Flight stream has one.

An envelope is (version, kind, table, payload). Small facts travel as JSON, tables as Arrow IPC. A
snapshot may be larger than one message should be, so it comes in parts: the first names the
schema, ``more`` says whether another part follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
import numpy as np
import pyarrow as pa

from upwell.core.protocols import (
    FeedMessage,
    Heartbeat,
    SourceTime,
    TableDelta,
    TableSnapshot,
    VersionEnd,
)
from upwell.core.schema import TableSchema

SCHEMA = pa.schema(
    [
        pa.field("version", pa.int64(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("facts", pa.binary(), nullable=False),
        pa.field("payload", pa.large_binary(), nullable=False),
    ]
)

#: Rows of a snapshot in one envelope.
PART_ROWS = 65_536


class _DeltaFacts(msgspec.Struct, frozen=True):
    table: str


class _SnapshotFacts(msgspec.Struct, frozen=True):
    schema: TableSchema
    more: bool


class _EndFacts(msgspec.Struct, frozen=True):
    logical_time_us: int
    times: list[SourceTime]
    trouble: str


class _HeartbeatFacts(msgspec.Struct, frozen=True):
    times: list[SourceTime]
    trouble: str


def encode(message: FeedMessage) -> Iterator[pa.RecordBatch]:
    """One message as one envelope, a snapshot as several."""
    match message:
        case TableSnapshot(version, schema, rows):
            yield from _snapshot_parts(version, schema, rows)
        case TableDelta(version, table, batch):
            yield _envelope(version, "delta", _DeltaFacts(table), _to_ipc(batch))
        case VersionEnd(version, logical_time_us, times, committed_at_us, trouble):
            facts = _EndFacts(logical_time_us, list(times), trouble)
            yield _envelope(version, "end", facts, committed_at_us.astype("<i8").tobytes())
        case Heartbeat(version, times, trouble):
            yield _envelope(version, "heartbeat", _HeartbeatFacts(list(times), trouble), b"")


def decode(envelopes: Iterable[pa.RecordBatch]) -> Iterator[FeedMessage]:
    """The messages again; a snapshot is given whole."""
    parts: list[pa.Table] = []
    for envelope in envelopes:
        for row in envelope.to_pylist():
            version, facts, payload = row["version"], row["facts"], row["payload"]
            match row["kind"]:
                case "snapshot":
                    about = msgspec.json.decode(facts, type=_SnapshotFacts)
                    parts.append(_from_ipc(payload))
                    if not about.more:
                        yield TableSnapshot(version, about.schema, pa.concat_tables(parts))
                        parts = []
                case "delta":
                    table = msgspec.json.decode(facts, type=_DeltaFacts).table
                    yield TableDelta(version, table, _from_ipc(payload))
                case "end":
                    end = msgspec.json.decode(facts, type=_EndFacts)
                    commits = np.frombuffer(payload, "<i8").astype(np.int64)
                    yield VersionEnd(
                        version, end.logical_time_us, tuple(end.times), commits, end.trouble
                    )
                case "heartbeat":
                    beat = msgspec.json.decode(facts, type=_HeartbeatFacts)
                    yield Heartbeat(version, tuple(beat.times), beat.trouble)
                case kind:
                    raise ValueError(f"the feed carries no message of kind {kind!r}")


def _snapshot_parts(version: int, schema: TableSchema, rows: pa.Table) -> Iterator[pa.RecordBatch]:
    starts = range(0, max(rows.num_rows, 1), PART_ROWS)
    for start in starts:
        facts = _SnapshotFacts(schema, more=start != starts[-1])
        yield _envelope(version, "snapshot", facts, _to_ipc(rows.slice(start, PART_ROWS)))


def _envelope(
    version: int, kind: str, facts: msgspec.Struct, payload: bytes | pa.Buffer
) -> pa.RecordBatch:
    columns = [[version], [kind], [msgspec.json.encode(facts)], [payload]]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def _to_ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _from_ipc(payload: bytes) -> pa.Table:
    with pa.ipc.open_stream(payload) as reader:
        return reader.read_all()
