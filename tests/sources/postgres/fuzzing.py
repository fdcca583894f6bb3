"""Holds the decoders to their word over damaged streams, in a process with little memory.

A damaged stream gives, before the damage, exactly the values it gives undamaged; then values or one
of our errors. Any other exception, a value that is none, a case that takes long or asks for much
memory ends the process; the last line it has printed names the case.

``python -m tests.sources.postgres.fuzzing FILE SEED SECONDS``: a pickled list of recordings.
"""

from __future__ import annotations

import faulthandler
import pickle
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import pyarrow as pa

from upwell.core.errors import UpwellError
from upwell.core.protocols import LayoutChange, TableChanges, Truncation
from upwell.sources.postgres.columns import BinaryUnsupportedError
from upwell.sources.postgres.copyout import CopyDecoder
from upwell.sources.postgres.pgoutput import Decoder

from .damage import DAMAGES
from .recording import Recording

#: What a case may take, far above what it needs.
MEMORY_BYTES = 512 << 20
CASE_SECONDS = 20

#: A transaction's changes; or, of a copy, one row.
Given = tuple[object, ...]


def read(recording: Recording, pieces: Sequence[bytes]) -> Iterator[Given]:
    """What the decoder gives for the recording's kind of stream."""
    if recording.name == "copy":
        yield from _copied(recording, pieces)
        return
    catalog = recording.catalog
    decoder = Decoder(catalog.tables, {}, 0, batch_bytes=1)
    for piece in pieces:
        decoder.feed(piece)
        while (batch := decoder.take()) is not None:
            yield (batch.lsn, *(_plain(change) for change in batch.changes))


def same(one: Given, other: Given) -> bool:
    """Equal in every value; tables compare as Arrow does."""
    if len(one) != len(other):
        return False
    for left, right in zip(one, other, strict=True):
        if isinstance(left, tuple) and isinstance(right, tuple):
            if not same(left, right):
                return False
        elif isinstance(left, pa.Table):
            if not (isinstance(right, pa.Table) and left.equals(right)):
                return False
        elif left != right:
            return False
    return True


def _plain(change: TableChanges | Truncation | LayoutChange) -> Given:
    if isinstance(change, LayoutChange):
        return (change.table, change.why)
    if isinstance(change, Truncation):
        return (change.table, change.transaction)
    change.rows.validate(full=True)
    old = change.old_keys if change.old_keys is not None else pa.table({})
    old.validate(full=True)
    refused = tuple((each.reason, tuple(each.raw)) for each in change.refusals)
    return (change.table, change.operations.tobytes(), change.rows, old, *refused)


def _copied(recording: Recording, pieces: Sequence[bytes]) -> Iterator[Given]:
    columns = recording.catalog.tables[0].columns
    decoder = CopyDecoder([column.name for column in columns], [column.type for column in columns])
    for piece in pieces:
        for batch in decoder.feed(piece):
            batch.validate(full=True)
            whole = pa.table(batch)
            yield from ((whole.slice(row, 1),) for row in range(len(whole)))


def main(file: str, seed: str, seconds: str) -> None:
    recordings: list[Recording] = pickle.loads(Path(file).read_bytes())  # noqa: S301 - our own
    undamaged = [_undamaged(recording) for recording in recordings]
    _limit_memory()
    outcomes: Counter[str] = Counter()
    case, until = int(seed), time.monotonic() + float(seconds)
    while time.monotonic() < until:
        chance = Random(case)
        choice = chance.randrange(len(recordings))
        damage = DAMAGES[case % len(DAMAGES)]
        sys.stdout.write(f"case {case}: {recordings[choice].name}, {damage.__name__}" + "\n")
        sys.stdout.flush()
        faulthandler.dump_traceback_later(CASE_SECONDS, exit=True)
        stream, intact = damage(chance, recordings[choice].messages)
        outcomes[_outcome(recordings[choice], undamaged[choice], stream, intact, chance)] += 1
        faulthandler.cancel_dump_traceback_later()
        case += 1
    sys.stdout.write(f"cases {case - int(seed)} {dict(outcomes)}\n")


def _undamaged(recording: Recording) -> list[tuple[int, Given]]:
    """What the recording gives, each with the number of messages that it takes."""
    given = list(read(recording, [b"".join(recording.messages)]))
    if recording.name == "copy":
        return [(index + 1, row) for index, row in enumerate(given)]
    commits = [index + 1 for index, each in enumerate(recording.messages) if each[30:31] == b"C"]
    return list(zip(commits, given, strict=True))


def _outcome(
    recording: Recording,
    undamaged: Sequence[tuple[int, Given]],
    stream: bytes,
    intact: int,
    chance: Random,
) -> str:
    cuts = sorted(chance.randrange(len(stream) + 1) for _ in range(chance.randint(0, 3)))
    pieces = [stream[at:end] for at, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    given: list[Given] = []
    outcome = "read"
    try:
        given += read(recording, pieces)
    except (UpwellError, BinaryUnsupportedError) as error:
        outcome = type(error).__name__
    for (needed, expected), got in zip(undamaged, given, strict=False):
        if needed <= intact and not same(expected, got):
            raise AssertionError(f"other values before the damage: {got} for {expected}")
    return outcome


def _limit_memory() -> None:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    size = next(line for line in status.splitlines() if line.startswith("VmSize"))
    most = (int(size.split()[1]) << 10) + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    main(*sys.argv[1:])
