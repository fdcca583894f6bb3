"""Events of the binary log: what stands in each, but for rows.

Pure. Numbers and layouts are those of MySQL 8.4 and MariaDB 11; every length is checked before it
is followed, and what contradicts the format is an ``IntegrityError``.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa

from upwell.core.protocols import Operation
from upwell.sources.mysql.places import number_of
from upwell.sources.mysql.wires import length_encoded
from upwell.sources.postgres.frames import corrupt

QUERY, ROTATE, FORMAT, XID, LOADED, TABLE_MAP, INCIDENT = 2, 4, 15, 16, 18, 19, 26
HEARTBEATS = (27, 41)
GTID, ANONYMOUS_GTID, GTID_TAGGED = 33, 34, 42
XA_PREPARE, PARTIAL_UPDATE, TRANSACTION_PAYLOAD = 38, 39, 40
MARIADB_GTID, QUERY_COMPRESSED = 162, 165
#: Type → what it does, in which version of the event, and whether its rows are compressed.
ROWS = {
    23: (Operation.INSERT, 1, False),
    24: (Operation.UPDATE, 1, False),
    25: (Operation.DELETE, 1, False),
    30: (Operation.INSERT, 2, False),
    31: (Operation.UPDATE, 2, False),
    32: (Operation.DELETE, 2, False),
    166: (Operation.INSERT, 1, True),
    167: (Operation.UPDATE, 1, True),
    168: (Operation.DELETE, 1, True),
    169: (Operation.INSERT, 2, True),
    170: (Operation.UPDATE, 2, True),
    171: (Operation.DELETE, 2, True),
}
#: What tells us nothing: variables and files of statements, notes, lists of earlier GTIDs.
SILENT = frozenset((3, 5, 9, 11, 13, 14, 17, 27, 28, 29, 35, 36, 37, 41, 160, 161, 163, 164))
IGNORABLE = 0x80  # a flag: whoever does not know the event may leave it out

HEADER = struct.Struct("<IBIIIH")
HEADER_BYTES = HEADER.size
CHECKSUM = struct.Struct("<I")
CHECKSUM_BYTES = 4
_FILE_BYTES = 13
_QUERY_HEAD = struct.Struct("<IIBHH")
#: The largest transaction a server compresses into one event.
_MOST_PAYLOAD_BYTES = 1 << 30
STANDALONE = 1  # flag of MariaDB's GTID event: one statement, without a commit behind it


class Beginning(NamedTuple):
    """A transaction's GTID; ``committed_at_us`` where the event knows it, else 0.

    ``has_begun``: what follows is within it. Else the next statement says so, or is all of it.
    """

    gtid: str
    has_begun: bool
    committed_at_us: int = 0


@dataclass(frozen=True, slots=True)
class RowsHead:
    """Whose rows an event has, whether they are whole, and where they begin."""

    table: int
    columns: int
    is_full: bool
    rows_at: int


def parse_rotate(body: bytes) -> tuple[int, int]:
    """Number of the next file, and where reading goes on there."""
    if len(body) < 9:
        corrupt("a change of log file without a file")
    try:
        return number_of(body[8:].decode()), int.from_bytes(body[:8], "little")
    except ValueError:
        corrupt("a change to a log file whose name has no number")


def is_checksummed(body: bytes) -> bool:
    """Whether the events behind this description of the format end in a CRC32.

    ``body`` has the description's own checksum.
    """
    if len(body) < 62:
        corrupt("a description of the format that is too short")
    algorithm = body[-CHECKSUM_BYTES - 1]
    if algorithm > 1:
        corrupt("a checksum of unknown kind")
    return algorithm == 1


def parse_query(body: bytes, kind: int) -> tuple[str, str]:
    """Database of the session, and the statement. ``LOADED`` says of which file before it."""
    if len(body) < _QUERY_HEAD.size:
        corrupt("a statement that is too short")
    _, _, database_bytes, _, status_bytes = _QUERY_HEAD.unpack_from(body)
    at = _QUERY_HEAD.size + status_bytes + (_FILE_BYTES if kind == LOADED else 0)
    statement_at = at + database_bytes + 1
    if statement_at > len(body):
        corrupt("a statement longer than its event")
    statement = body[statement_at:]
    if kind == QUERY_COMPRESSED:
        statement = uncompressed(statement)
    return _text(body[at : at + database_bytes]), _text(statement)


def parse_mariadb_gtid(body: bytes, server: int) -> Beginning:
    """Domain, server and sequence number, as MariaDB writes them: ``0-1-7``."""
    if len(body) < 13:
        corrupt("a GTID that is too short")
    sequence, domain, flags = struct.unpack_from("<QIB", body)
    return Beginning(f"{domain}-{server}-{sequence}", not flags & STANDALONE)


def parse_gtid(body: bytes, kind: int) -> Beginning:
    """Server and number, as MySQL writes them; an anonymous transaction has none."""
    if kind == GTID_TAGGED:
        return Beginning("", has_begun=False)
    if len(body) < 25:
        corrupt("a GTID that is too short")
    gtid = ""
    if kind == GTID:
        gtid = f"{uuid.UUID(bytes=body[1:17])}:{int.from_bytes(body[17:25], 'little')}"
    committed_at_us = 0
    if len(body) >= 49 and body[25] == 2:
        committed_at_us = int.from_bytes(body[42:49], "little") & (1 << 55) - 1
    return Beginning(gtid, has_begun=False, committed_at_us=committed_at_us)


def parse_rows_head(body: memoryview, operation: Operation, version: int) -> RowsHead:
    """The part of a row event before its rows."""
    at = 8
    if version == 2:
        at += max(2, int.from_bytes(body[8:10], "little"))
    try:
        columns, size = length_encoded(bytes(body[at : at + 9]), 0)
    except IndexError:
        corrupt("rows that end before they begin")
    at += size
    bitmap_bytes = (columns + 7) // 8
    images = 2 if operation is Operation.UPDATE else 1
    bitmaps = bytes(body[at : at + images * bitmap_bytes])
    if not 0 < columns <= 4096 or len(bitmaps) != images * bitmap_bytes:
        corrupt("rows that end before they begin")
    table = int.from_bytes(body[:6], "little")
    full = (1 << columns) - 1
    is_full = all(
        int.from_bytes(bitmaps[image * bitmap_bytes : (image + 1) * bitmap_bytes], "little") & full
        == full
        for image in range(images)
    )
    return RowsHead(table, columns, is_full, at + len(bitmaps))


def uncompressed(data: bytes) -> bytes:
    """MariaDB's compression: a byte of kind and size, the length, then zlib."""
    kind = data[0] if data else 0
    width = kind & 7
    length = int.from_bytes(data[1 : 1 + width], "big")
    if kind & 0xF0 != 0x80 or not 1 <= width <= 4 or length > _MOST_PAYLOAD_BYTES:
        corrupt("a compressed event that cannot be read")
    machine = zlib.decompressobj()
    try:
        plain = machine.decompress(data[1 + width :], length + 1)
    except zlib.error:
        corrupt("a compressed event that cannot be read")
    if len(plain) != length or not machine.eof:
        corrupt("a compressed event of another length than it says")
    return plain


def payload_events(body: bytes) -> Iterator[tuple[int, int, bytes]]:
    """The events of a compressed transaction (MySQL 8): start and end of each in the bytes."""
    fields: dict[int, int] = {}
    at = 0
    try:
        while True:
            field, at = length_encoded(body, at)
            if field == 0:
                break
            size, at = length_encoded(body, at)
            fields[field], _ = length_encoded(body[at : at + size], 0)
            at += size
    except IndexError:
        corrupt("a compressed transaction without its head")
    plain = _inflated(body[at:], fields.get(2, 255), fields.get(3, 0))
    place = 0
    while place < len(plain):
        if place + HEADER_BYTES > len(plain):
            corrupt("a compressed transaction that ends too early")
        size = int.from_bytes(plain[place + 9 : place + 13], "little")
        if size < HEADER_BYTES or place + size > len(plain):
            corrupt("a compressed transaction that ends too early")
        yield place, place + size, plain
        place += size


def _inflated(data: bytes, kind: int, size: int) -> bytes:
    if kind == 255:  # not compressed
        return data
    if kind != 0 or not 0 < size <= _MOST_PAYLOAD_BYTES:
        corrupt("a transaction compressed in an unknown way")
    try:
        plain: bytes = pa.Codec("zstd").decompress(data, size, asbytes=True)
    except (pa.ArrowInvalid, OSError):
        corrupt("a compressed transaction that cannot be read")
    return plain


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")
