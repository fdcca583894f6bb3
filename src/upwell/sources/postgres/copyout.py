"""Decoder of a table copied out in binary (COPY … TO STDOUT), by columns.

Bytes in, Arrow out, no I/O. The server sends one CopyData message a row. A row with a value that
the stored type cannot hold is set apart with its reason; it is never stored with a hole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from upwell.core.protocols import Int64s, Refusal, RefusedRows
from upwell.sources.postgres import frames
from upwell.sources.postgres.buffer import ByteBuffer
from upwell.sources.postgres.columns import BINARY, NULL, Values, decode
from upwell.sources.postgres.datatypes import OTHER, DataType, Kind
from upwell.sources.postgres.frames import corrupt
from upwell.sources.postgres.pgoutput import ServerNotice, ending
from upwell.sources.postgres.views import Views

#: A record batch is made of about this many bytes, or this many rows.
BATCH_BYTES = 8 << 20
BATCH_ROWS = 1 << 16

_TEXT = DataType(Kind.TEXT, "VARCHAR", pa.string())
_SIGNATURE = b"PGCOPY\n\xff\r\n\0"
_HEADER_BYTES = 19
_MESSAGE_HEAD_BYTES = 5


class CopyDecoder:
    """The state of one table's copy. ``failure`` is set when the server ended it with an error.

    The server says at its end how many rows it sent; another number is an ``IntegrityError``.
    """

    def __init__(self, names: Sequence[str], types: Sequence[DataType]) -> None:
        self._names = list(names)
        self._types = [_TEXT if kind == OTHER else kind for kind in types]  # selected as text
        self._buffer = ByteBuffer()
        self._walked = 0
        self._needed = 0
        self._counted = 0
        self._starts: list[Int64s] = []
        self._ends: list[Int64s] = []
        self._rows = 0
        self._has_header = False
        self._is_copied = False
        self.refused: list[RefusedRows] = []
        self.failure: ServerNotice | None = None
        self.is_ready = False  # the server takes the next statement

    def feed(self, data: bytes) -> Iterator[pa.RecordBatch]:
        """Take in bytes as they came; gives record batches as they fill."""
        self._buffer.append(data)
        self._walk()
        if self._is_copied or self._buffer.filled >= BATCH_BYTES or self._rows >= BATCH_ROWS:
            yield from self._batches()

    def _walk(self) -> None:
        buffer = self._buffer
        while not self.is_ready and buffer.filled >= self._needed:
            if not self._is_copied:
                openings = (len(self._types),)
                found = frames.split(
                    buffer.bytes, self._walked, buffer.filled, openings, passed=b"NSA"
                )
                self._walked, self._needed = found.next, found.needs
                self._keep(found.starts, found.ends)
                if not found.is_control:
                    return
            self._needed = self._walked + _MESSAGE_HEAD_BYTES
            if buffer.filled < self._needed:
                return
            message = frames.control(buffer.bytes, self._walked, buffer.filled)
            if message is None:
                return
            letter, payload, self._walked = message
            self._end(letter, payload)

    def _end(self, letter: str, payload: bytes) -> None:
        """A message of those that end a copy: it is over, it is complete, we may ask again."""
        if letter == "d" or (letter == "Z" and not self._is_copied):
            corrupt("rows after the end of a copy, or none at all")
        self._is_copied |= letter in "cE"
        self.is_ready = letter == "Z"
        if letter == "E":
            self.failure = ending(letter, payload)
        if letter == "C" and payload != b"COPY %d\0" % self._counted:
            said = payload.rstrip(b"\0").decode(errors="replace")
            corrupt(f"{self._counted} rows came of a copy that ended as {said}")

    def _keep(self, starts: Int64s, ends: Int64s) -> None:
        """Rows only: the header before the first and the mark after the last are left out."""
        if len(starts) == 0:
            return
        if not self._has_header:
            self._has_header = True
            head = self._buffer.bytes[starts[0] : ends[0]].tobytes()
            extension = int.from_bytes(head[15:_HEADER_BYTES], "big")
            if not head.startswith(_SIGNATURE) or len(head) < _HEADER_BYTES + extension:
                corrupt("a copy without its header")
            starts = starts.copy()
            starts[0] += _HEADER_BYTES + extension
        sizes = ends - starts
        is_mark = (sizes == 2) & (self._buffer.bytes[starts] == 0xFF)
        is_row = (sizes > 0) & ~is_mark
        self._starts.append(starts[is_row])
        self._ends.append(ends[is_row])
        self._rows += int(is_row.sum())
        self._counted += int(is_row.sum())

    def _batches(self) -> Iterator[pa.RecordBatch]:
        starts = np.concatenate([np.empty(0, np.int64), *self._starts])
        ends = np.concatenate([np.empty(0, np.int64), *self._ends])
        views = Views(self._buffer.bytes)
        made = [
            self._record_batch(views, starts[at : at + BATCH_ROWS], ends[at : at + BATCH_ROWS])
            for at in range(0, len(starts), BATCH_ROWS)
        ]
        self._starts, self._ends, self._rows = [], [], 0
        self._buffer.drop(self._walked)
        self._needed -= self._walked
        self._walked = 0
        yield from (batch for batch in made if batch.num_rows)

    def _record_batch(self, views: Views, starts: Int64s, ends: Int64s) -> pa.RecordBatch:
        if (ends - starts < 2).any() or (views.u2[starts] != len(self._types)).any():
            corrupt("a copied row with another number of columns than its table")
        places = starts + 2
        arrays: list[pa.Array] = []
        refusals: list[Refusal] = []
        for kind in self._types:
            if (places + 4 > ends).any():
                corrupt("a copied row that ends before its last column")
            lengths = views.i4[places].astype(np.int64)
            is_null = lengths == -1
            lengths[is_null] = 0
            begins = places + 4
            places = begins + lengths
            if (lengths < 0).any() or (places > ends).any():
                corrupt("a copied value longer than its row")
            kinds = np.where(is_null, NULL, BINARY).astype(np.uint8)
            decoded = decode(views, Values(kinds, begins, lengths), kind)
            arrays.append(decoded.array)
            if decoded.refusal is not None:
                column, refusal = self._names[len(arrays) - 1], decoded.refusal
                reason = f"{column}: {refusal.reason}"
                refusals.append(Refusal(reason, refusal.rows, refusal.raw, column))
        if (places != ends).any():
            corrupt("bytes left over behind a copied row")
        return self._without_refused(
            pa.RecordBatch.from_arrays(arrays, names=self._names), refusals
        )

    def _without_refused(
        self, batch: pa.RecordBatch, refusals: Sequence[Refusal]
    ) -> pa.RecordBatch:
        if not refusals:
            return batch
        is_refused = np.zeros(batch.num_rows, np.bool_)
        for refusal in refusals:
            is_refused |= refusal.rows
            rows = batch.filter(pa.array(refusal.rows))
            self.refused.append(RefusedRows(refusal.reason, refusal.raw, rows, refusal.column))
        return batch.filter(pa.array(~is_refused))
