"""Ways to damage what a server sends: the wire breaks, or the server means harm.

Each takes the messages of a recording and gives bytes, and how many messages before the damage
are as they were.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from random import Random

from .recording import frame, log_data

Damage = Callable[[Random, Sequence[bytes]], tuple[bytes, int]]

_LENGTHS = (
    0,
    1,
    3,
    4,
    5,
    0x7FFF,
    0x8000,
    0xFFFF,
    1 << 20,
    1 << 30,
    0x7FFFFFFF,
    1 << 31,
    0xFFFFFFFF,
)
_NUMBERS = (0, 1, -1, 1 << 62, -(1 << 62), (1 << 63) - 1, -(1 << 63), -(1 << 63) + 1)
_LETTERS = b"BCORYTIUDMSEAcbtunNKOdwkZXpr\0\xff"
_HEAD_BYTES = 5
#: CopyData, its length, ``w`` and three numbers.
_LOG_HEAD_BYTES = 30


def _joined(before: Sequence[bytes], *rest: bytes) -> tuple[bytes, int]:
    return b"".join([*before, *rest]), len(before)


def flipped(chance: Random, messages: Sequence[bytes]) -> tuple[bytes, int]:
    """One to fifty bits, anywhere."""
    damaged = bytearray(b"".join(messages))
    bits = [chance.randrange(8 * len(damaged)) for _ in range(chance.choice((1, 1, 1, 2, 5, 50)))]
    for bit in bits:
        damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged), _message_at(messages, min(bits) // 8)


def overwritten(chance: Random, messages: Sequence[bytes]) -> tuple[bytes, int]:
    """A number in place of some bytes, anywhere."""
    damaged = bytearray(b"".join(messages))
    number = _number(chance)
    at = chance.randrange(len(damaged) - len(number))
    damaged[at : at + len(number)] = number
    return bytes(damaged), _message_at(messages, at)


def overwritten_within(chance: Random, messages: Sequence[bytes]) -> tuple[bytes, int]:
    """As before, behind the head of one message: its frame holds, its content does not."""
    index = chance.randrange(len(messages))
    damaged = bytearray(messages[index])
    number = _number(chance)
    at = chance.randrange(_HEAD_BYTES, len(damaged) + 1)
    damaged[at : at + len(number)] = number
    letter, payload = bytes(damaged[:1]), bytes(damaged[_HEAD_BYTES:])
    return _joined(messages[:index], frame(payload, letter), *messages[index + 1 :])


def cut(chance: Random, messages: Sequence[bytes]) -> tuple[bytes, int]:
    """The stream ends in the middle."""
    whole = b"".join(messages)
    at = chance.randrange(len(whole))
    return whole[:at], _message_at(messages, at)


def missing(chance: Random, messages: Sequence[bytes]) -> tuple[bytes, int]:
    """Some bytes in the middle never came."""
    whole = b"".join(messages)
    at = chance.randrange(len(whole))
    return whole[:at] + whole[at + chance.randint(1, 40) :], _message_at(messages, at)


def resized(chance: Random, messages: Sequence[bytes]) -> tuple[bytes, int]:
    """A message is shorter or longer than it should be, and its frame says so."""
    index = chance.randrange(len(messages))
    letter, payload = messages[index][:1], messages[index][_HEAD_BYTES:]
    by = chance.randint(1, 12)
    changed = payload[:-by] if chance.random() < 0.5 else payload + chance.randbytes(by)
    return _joined(messages[:index], frame(changed, letter), *messages[index + 1 :])


def claimed(chance: Random, messages: Sequence[bytes]) -> tuple[bytes, int]:
    """A message claims a length that it does not have."""
    index = chance.randrange(len(messages))
    head = messages[index][:1] + struct.pack(">I", chance.choice(_LENGTHS))
    rest = messages[index][_HEAD_BYTES:]
    return _joined(messages[:index], head + rest, *messages[index + 1 :])


def retyped(chance: Random, messages: Sequence[bytes]) -> tuple[bytes, int]:
    """A message says it is one of another kind, on the outside or within."""
    index = chance.randrange(len(messages))
    damaged = bytearray(messages[index])
    at = chance.choice((0, _HEAD_BYTES, _LOG_HEAD_BYTES))
    damaged[min(at, len(damaged) - 1)] = chance.choice(_LETTERS)
    return _joined(messages[:index], bytes(damaged), *messages[index + 1 :])


def dropped(chance: Random, messages: Sequence[bytes]) -> tuple[bytes, int]:
    index = chance.randrange(len(messages))
    return _joined(messages[:index], *messages[index + chance.choice((1, 1, 3)) :])


def doubled(chance: Random, messages: Sequence[bytes]) -> tuple[bytes, int]:
    index = chance.randrange(len(messages))
    again = messages[index : index + chance.choice((1, 1, 4))]
    where = chance.randint(index + 1, len(messages))
    return _joined(messages[:where], *again, *messages[where:])


def swapped(chance: Random, messages: Sequence[bytes]) -> tuple[bytes, int]:
    first, second = sorted(chance.sample(range(len(messages)), 2))
    changed = list(messages)
    changed[first], changed[second] = changed[second], changed[first]
    return _joined(changed[:first], *changed[first:])


def hostile(chance: Random, messages: Sequence[bytes]) -> tuple[bytes, int]:
    """Whole messages that no server would send, somewhere in between."""
    index = chance.randint(0, len(messages))
    relations = [each for each in messages if each[_LOG_HEAD_BYTES : _LOG_HEAD_BYTES + 1] == b"R"]
    oid = chance.choice(relations)[31:35] if relations else bytes(4)
    return _joined(messages[:index], *_hostile(chance, oid), *messages[index:])


def _hostile(chance: Random, oid: bytes) -> list[bytes]:
    lsn, other = (chance.choice(_NUMBERS) for _ in range(2))
    begin = log_data(b"B" + struct.pack(">qqI", lsn, other, 1))
    commit = log_data(b"C" + struct.pack(">Bqqq", 0, lsn, other, chance.choice(_NUMBERS)))
    count = chance.choice((0, 1, 2, 1600, 0xFFFF))
    column = bytes([chance.randint(0, 1)]) + b"c\xc3\0" + struct.pack(">Ii", 1700, 1 << 30)
    named = b"public\0" + chance.choice((b"a\0", b"a", b"\xff\xfe\0"))
    relation = b"R" + oid + named + b"d" + struct.pack(">H", count) + column * min(count, 1700)
    tuples = b"N" + struct.pack(">H", count) + b"n" * count
    value = b"b" + struct.pack(">I", chance.choice(_LENGTHS)) + _numeric(chance)
    choices = (
        [begin, begin],
        [commit],
        [begin, commit],
        [log_data(relation)],
        [begin, log_data(relation), log_data(b"I" + oid + tuples), commit],
        [log_data(b"I" + struct.pack(">I", 999_999) + tuples)],
        [log_data(b"I" + oid + b"N" + struct.pack(">H", 1) + value)],
        [log_data(b"T" + struct.pack(">IB", chance.choice(_LENGTHS), 0) + oid)],
        [frame(chance.randbytes(chance.randint(0, 60)), bytes([chance.randrange(256)]))],
        [frame(b"SNOTICE\0Mendless\0\0", b"N")] * 300,
        [frame(b"a\0b\0", b"S")] * 300,
        [frame(chance.randbytes(20))],
        [frame(b"")] * 50,
        [frame(struct.pack(">cQqB", b"k", chance.choice(_LENGTHS) << 32, 0, 1))],
        [chance.randbytes(chance.randint(1, 2000))],
    )
    return list(chance.choice(choices))


def _numeric(chance: Random) -> bytes:
    count = chance.choice((0, 1, 2, 0x7FFF, -1))
    sign = chance.choice((0, 0x4000, 0xC000, 0xD000, 0xF000, 0x1234))
    weight = chance.choice((0, 0x7FFF, -0x8000, 7))
    head = struct.pack(">hhHH", count, weight, sign, chance.choice((0, 2, 0x3FFF, 0xFFFF)))
    return head + chance.randbytes(2 * max(count, 0))


def _number(chance: Random) -> bytes:
    wide = chance.choice(_NUMBERS)
    choices = (
        struct.pack(">q", wide),
        struct.pack(">I", chance.choice(_LENGTHS)),
        struct.pack(">H", chance.choice(_LENGTHS) & 0xFFFF),
        bytes([chance.choice(_LETTERS)]),
        _numeric(chance)[:20],
        b"\xc3\x28\xff",
    )
    return chance.choice(choices)


def _message_at(messages: Sequence[bytes], byte: int) -> int:
    """The index of the message that a byte of the stream stands in."""
    end = 0
    for index, message in enumerate(messages):
        end += len(message)
        if byte < end:
            return index
    return len(messages)


DAMAGES: tuple[Damage, ...] = (
    flipped,
    overwritten,
    overwritten_within,
    cut,
    missing,
    resized,
    claimed,
    retyped,
    dropped,
    doubled,
    swapped,
    hostile,
)
