"""Whatever comes: the right values or one of our errors, in bounded time and memory."""

from __future__ import annotations

import pickle
import re
import struct
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.torture_report import Report
from upwell.core.errors import IntegrityError
from upwell.sources.postgres.copyout import CopyDecoder
from upwell.sources.postgres.pgoutput import Decoder

from .conftest import Database
from .fuzzing import read, same
from .recording import Recording, frame, record_copy, record_logs

ROOT = Path(__file__).parents[3]
FEEDS = pytest.mark.parametrize("make", [lambda: Decoder((), {}, 0), lambda: CopyDecoder([], [])])


@pytest.fixture
def recordings(database_18: Database) -> list[Recording]:
    return [*record_logs(database_18), record_copy(database_18)]


def fuzz(
    recordings: Sequence[Recording], folder: Path, *, seed: int, seconds: float
) -> tuple[int, str]:
    """The number of cases, and how they ended."""
    file = folder / "recordings"
    file.write_bytes(pickle.dumps(recordings))
    command = [sys.executable, "-m", "tests.sources.postgres.fuzzing"]
    ended = subprocess.run(
        [*command, str(file), str(seed), str(seconds)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=seconds + 100,
        check=False,
    )
    last = ended.stdout.splitlines()[-1:]
    assert ended.returncode == 0, f"{last}: {ended.stderr[-4000:]}"
    found = re.fullmatch(r"cases (\d+) \{(.*)\}", last[0])
    assert found is not None
    return int(found[1]), found[2]


@pytest.mark.postgres
def test_damaged_streams_are_read_rightly_or_refused(
    recordings: list[Recording], tmp_path: Path
) -> None:
    cases, _ = fuzz(recordings, tmp_path, seed=1, seconds=4)
    assert cases > 50


@pytest.mark.postgres
@pytest.mark.torture
@pytest.mark.timeout(400)
def test_damaged_streams_are_read_rightly_or_refused_for_minutes(
    recordings: list[Recording], tmp_path: Path, report: Report
) -> None:
    seed = time.time_ns() // 1_000_000_000
    cases, ended = fuzz(recordings, tmp_path, seed=seed, seconds=240)
    report.row(seed=seed, times=cases, ended=ended.replace("'", ""))


@pytest.mark.postgres
def test_a_stream_that_comes_byte_by_byte_gives_what_it_gives_at_once(
    recordings: list[Recording],
) -> None:
    for recording in recordings:
        stream = b"".join(recording.messages)
        whole = list(read(recording, [stream]))
        singly = list(read(recording, [stream[at : at + 1] for at in range(len(stream))]))
        assert len(whole) > 5
        assert len(singly) == len(whole)
        assert all(map(same, singly, whole))


@pytest.mark.postgres
@pytest.mark.parametrize("change", ["dropped", "doubled", "cut off"])
def test_a_copy_that_ends_with_other_rows_than_it_says_is_refused(
    recordings: list[Recording], change: str
) -> None:
    copy = recordings[-1]
    messages = list(copy.messages)
    if change == "doubled":
        messages.insert(3, messages[3])
    else:
        del messages[3 : 4 if change == "dropped" else -3]
    with pytest.raises(IntegrityError, match="rows came of a copy that ended as COPY 12"):
        list(read(copy, [b"".join(messages)]))


@FEEDS
def test_a_claimed_length_takes_no_memory_before_its_bytes_have_come(make: type) -> None:
    decoder = make()
    tracemalloc.start()
    try:
        list(decoder.feed(b"d" + struct.pack(">I", 1 << 30) + bytes(1000)) or ())
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.timeout(30)
@FEEDS
def test_a_long_message_in_small_pieces_is_looked_at_once(make: type) -> None:
    """Looking at all of it again with each piece would take minutes."""
    decoder, size = make(), 48 << 20
    list(decoder.feed(b"d" + struct.pack(">I", size + 6) + b"w") or ())
    piece = b"d\0\0\0" * 2048
    for _ in range(size // len(piece)):
        list(decoder.feed(piece) or ())


@pytest.mark.timeout(30)
@FEEDS
@pytest.mark.parametrize(
    "control", [frame(b"\0", b"N"), frame(b"a\0b\0", b"S"), frame(b"\0", b"N") + frame(b"k" * 18)]
)
def test_endless_notices_and_settings_are_passed_over(make: type, control: bytes) -> None:
    """Searching the rest again behind each of them would take minutes."""
    decoder = make()
    try:
        list(decoder.feed(control * 100_000) or ())
    except IntegrityError:
        assert isinstance(decoder, CopyDecoder)  # a keepalive is no row


@pytest.mark.timeout(30)
def test_a_copy_that_does_not_come_to_its_end_takes_no_more_rows() -> None:
    decoder = CopyDecoder([], [])
    list(decoder.feed(frame(b"", b"c") * 100_000))
    with pytest.raises(IntegrityError, match="after the end"):
        list(decoder.feed(frame(b"\0\0")))
