"""Decoder of a query's rows as the server sends them (text protocol), by columns.

Bytes in, Arrow out, no I/O. A packet a row, each value behind its length. A row with a value that
the stored type cannot hold is set apart with its reason; it is never stored with a hole.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from upwell.core.protocols import Int64s, RefusedRows
from upwell.sources.mysql import texts
from upwell.sources.mysql.datatypes import DataType
from upwell.sources.mysql.images import Values
from upwell.sources.mysql.packets import Packet, Packets, ServerNotice, notice_of
from upwell.sources.mysql.views import LittleViews, padded
from upwell.sources.postgres.frames import corrupt

#: A record batch is made of about this many bytes.
BATCH_BYTES = 8 << 20
_NULL, _SHORT, _MEDIUM, _LONG = 0xFB, 0xFC, 0xFD, 0xFE
_END, _ERROR = 0xFE, 0xFF


class CopyDecoder:
    """The state of one query's answer. ``failure`` is set when the server ended it with an error.

    ``first`` is the number of the first row's packet.
    """

    def __init__(self, names: Sequence[str], types: Sequence[DataType], first: int) -> None:
        self._names = list(names)
        self._types = list(types)
        self._packets = Packets(first)
        self._rows: list[Packet] = []
        self.batches: list[pa.RecordBatch] = []
        self.refused: list[RefusedRows] = []
        self.failure: ServerNotice | None = None
        self.is_done = False

    def feed(self, data: bytes) -> None:
        """Take in bytes as they came."""
        for packet in self._packets.feed(data):
            payload = self._packets.bytes_of(packet)
            first = payload[0] if len(payload) else 0
            if self.is_done:
                corrupt("rows behind the end of an answer")
            if first == _ERROR:
                self.failure = notice_of(bytes(payload))
                self.is_done = True
            elif first == _END and len(payload) < 9:
                self.is_done = True
            else:
                self._rows.append(packet)
        if self.is_done or self._packets.held_bytes >= BATCH_BYTES:
            self._decode()

    def _decode(self) -> None:
        """All rows so far; those in bytes of their own are decoded alone, in their order."""
        rows, self._rows = self._rows, []
        run: list[Packet] = []
        for packet in rows:
            own = packet[2]
            if own is None:
                run.append(packet)
                continue
            self._decode_run(run)
            run = []
            self._batch(LittleViews(padded([own])), np.array([0]), np.array([len(own)]))
        self._decode_run(run)
        self._packets.drop_walked()

    def _decode_run(self, run: Sequence[Packet]) -> None:
        if run:
            places = np.array([each[:2] for each in run], np.int64)
            places -= self._packets.dropped
            self._batch(LittleViews(self._packets.buffer.bytes), places[:, 0], places[:, 1])

    def _batch(self, views: LittleViews, starts: Int64s, ends: Int64s) -> None:
        arrays: list[pa.Array] = []
        refusals: list[tuple[str, np.ndarray[tuple[int], np.dtype[np.bool_]], list[str]]] = []
        places = starts
        for name, kind in zip(self._names, self._types, strict=True):
            values, places = _values(views, places, ends)
            decoded = texts.decode(views, values, kind)
            arrays.append(decoded.array)
            if decoded.raw:
                refusals.append((refusal_reason(name, kind), decoded.refused, decoded.raw))
        if (places != ends).any():
            corrupt("bytes left over behind a row")
        batch = pa.RecordBatch.from_arrays(arrays, names=self._names)
        is_refused = np.zeros(len(starts), np.bool_)
        for reason, rows, raw in refusals:
            is_refused |= rows
            self.refused.append(RefusedRows(reason, raw, batch.filter(pa.array(rows))))
        kept = batch.filter(pa.array(~is_refused)) if refusals else batch
        if kept.num_rows:
            self.batches.append(kept)


def refusal_reason(name: str, kind: DataType) -> str:
    """Why a value is not stored, the same from the log and from a copy."""
    return f"{name}: {kind.stored} cannot hold this value"


def _values(views: LittleViews, places: Int64s, ends: Int64s) -> tuple[Values, Int64s]:
    """One column's values in the rows at ``places``, and where they end."""
    if (places >= ends).any():
        corrupt("a row that ends before its last column")
    first = views.bytes[places]
    lengths = first.astype(np.int64)
    starts = places + 1
    present = first != _NULL
    if (first >= _NULL).any():
        for sign, width in ((_SHORT, 2), (_MEDIUM, 3), (_LONG, 8)):
            rows = first == sign
            if rows.any():
                starts = np.where(rows, places + 1 + width, starts)
                if (starts > ends).any():
                    corrupt("a value longer than its row")
                numbers = views.u8[np.where(rows, places + 1, 0)] & np.uint64((1 << 8 * width) - 1)
                lengths = np.where(rows, numbers.astype(np.int64), lengths)
        lengths = np.where(present, lengths, 0)
        if (first == _ERROR).any():
            corrupt("a value of unknown length")
    behind = starts + lengths
    if (behind > ends).any() or (lengths < 0).any():
        corrupt("a value longer than its row")
    return Values(starts, lengths, present), behind
