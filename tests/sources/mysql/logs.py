"""Logs as a server would send them, made by hand: for what no server here sends."""

from __future__ import annotations

import struct
import uuid
import zlib
from typing import Literal, overload

from upwell.sources.mysql.tables import CapturedColumn, CapturedTable

SERVER = uuid.UUID("3e11fa47-71ca-11e1-9e33-c80aa9429562")


class Writer:
    """Events behind one another, each with its checksum, as packets."""

    def __init__(self) -> None:
        self.sent = b""
        self._number = 0

    def send(self, event: bytes) -> None:
        """``event`` has its header, whose length counts the checksum."""
        self.send_packet(b"\0" + event + struct.pack("<I", zlib.crc32(event)))

    def send_packet(self, payload: bytes) -> None:
        self._number = self._number + 1 & 0xFF
        self.sent += len(payload).to_bytes(3, "little") + bytes([self._number]) + payload


def event(kind: int, body: bytes, *, end: int = 0, seconds: int = 1_700_000_000) -> bytes:
    """An event that ends at ``end`` of its file; its checksum comes when it is sent."""
    return struct.pack("<IBIIIH", seconds, kind, 1, 19 + len(body) + 4, end, 0) + body


def format_event() -> bytes:
    return event(15, struct.pack("<H50sIB", 4, b"8.4.0", 0, 19) + bytes(40) + b"\1")


def gtid(number: int, *, committed_at_us: int = 0, end: int = 0) -> bytes:
    """As MySQL 8 writes it."""
    body = b"\1" + SERVER.bytes + struct.pack("<qBqq", number, 2, 0, 1)
    return event(33, body + committed_at_us.to_bytes(7, "little"), end=end)


def query(text: str, *, database: str = "shop", end: int = 0) -> bytes:
    head = struct.pack("<IIBHH", 1, 0, len(database), 0, 0)
    return event(2, head + database.encode() + b"\0" + text.encode(), end=end)


def xid(end: int) -> bytes:
    return event(16, struct.pack("<Q", 1), end=end)


def table_map(database: str = "shop", table: str = "orders") -> bytes:
    """``id int, name varchar(50) in utf8mb4, n int``."""
    names = bytes([len(database)]) + database.encode() + b"\0"
    names += bytes([len(table)]) + table.encode() + b"\0"
    return event(19, bytes([9, 0, 0, 0, 0, 0, 1, 0]) + names + b"\x03\x03\x0f\x03\x02\xc8\x00\x06")


def rows(kind: int, *images: bytes, extra: bytes | None = None) -> bytes:
    """A row event of the table mapped above; ``extra`` makes it one of version 2."""
    head = bytes([9, 0, 0, 0, 0, 0, 1, 0])
    if extra is not None:
        head += struct.pack("<H", len(extra) + 2) + extra
    bitmaps = b"\x07\x07" if kind in (24, 31) else b"\x07"
    return event(kind, head + b"\x03" + bitmaps + b"".join(images))


def image(number: int, name: str | None, n: int | None) -> bytes:
    nulls = (2 if name is None else 0) | (4 if n is None else 0)
    row = bytes([nulls]) + struct.pack("<i", number)
    if name is not None:
        row += bytes([len(name.encode())]) + name.encode()
    return row if n is None else row + struct.pack("<i", n)


def orders_table() -> CapturedTable:
    return CapturedTable(
        name="shop.orders",
        database="shop",
        table="orders",
        columns=(
            CapturedColumn("id", "int", is_nullable=False),
            CapturedColumn("name", "varchar(50)", "utf8mb4"),
            CapturedColumn("n", "int"),
        ),
        key=("id",),
    )


@overload
def whole_log(*, as_events: Literal[True]) -> list[bytes]: ...
@overload
def whole_log() -> bytes: ...
def whole_log(*, as_events: bool = False) -> list[bytes] | bytes:
    """Three transactions: an insert of three rows, an update, a delete."""
    made = [
        event(4, struct.pack("<Q", 4) + b"binlog.000001"),
        format_event(),
        gtid(1),
        query("BEGIN"),
        table_map(),
        rows(30, image(1, "eins", 10), image(2, None, None), image(3, "drei", -1), extra=b""),
        xid(1000),
        gtid(2),
        query("BEGIN"),
        table_map(),
        rows(24, image(1, "eins", 10), image(1, "uno", 11)),
        xid(2000),
        gtid(3),
        query("BEGIN"),
        table_map(),
        rows(25, image(2, None, None)),
        query("COMMIT", end=3000),
    ]
    if as_events:
        return made
    writer = Writer()
    for each in made:
        writer.send(each)
    return writer.sent
