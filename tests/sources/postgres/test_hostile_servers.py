"""Servers that stall, lie or flood, at any step: one of our errors, soon, and nothing is left."""

from __future__ import annotations

import contextlib
import gc
import resource
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from upwell.core.errors import IntegrityError, Unavailable, UpwellError
from upwell.sources.postgres.channel import Channel, await_data, open_channel
from upwell.sources.postgres.copyout import CopyDecoder
from upwell.sources.postgres.datatypes import data_type
from upwell.sources.postgres.pgoutput import Decoder
from upwell.sources.postgres.receiver import Receiver
from upwell.sources.postgres.session import BoundedConnection, session

from .fakes import (
    COPY_BOTH,
    COPY_OUT,
    GREETING,
    RUBBISH,
    FakeServer,
    Fault,
    Kind,
    answer,
    error,
    eventually,
)
from .recording import frame, keepalive, log_data

#: Instead of a minute.
PATIENCE_SECONDS = 0.6
#: What takes longer hangs: libpq itself gives a connection two seconds at least.
SOON_SECONDS = 10.0

IDENTITY = answer(systemid=b"7", timeline=b"1", xlogpos=b"0/10", dbname=b"d")
TRANSACTION = b"".join(
    log_data(message)
    for message in (
        b"B" + struct.pack(">QqI", 100, 0, 1),
        b"C" + struct.pack(">BQQq", 0, 100, 120, 0),
    )
)
STREAM = COPY_BOTH + keepalive(50) + TRANSACTION
ROWS = COPY_OUT + frame(b"PGCOPY\n\xff\r\n\0" + bytes(8))
ROWS += frame(struct.pack(">HI", 1, 4) + bytes(4)) + frame(b"\xff\xff") + frame(b"", b"c")
ROWS += frame(b"COPY 1\0", b"C") + frame(b"I", b"Z")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedConnection, "answer_seconds", PATIENCE_SECONDS)


def threads_and_files() -> tuple[int, int]:
    gc.collect()
    return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = threads_and_files()
    yield
    eventually(
        lambda: all(now <= then for now, then in zip(threads_and_files(), before, strict=True))
    )


@contextmanager
def soon() -> Iterator[None]:
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < SOON_SECONDS


def follow(url: str) -> None:
    """All steps of following a server, up to its first transaction."""
    channel = open_channel(url, replication=True)
    try:
        channel.query("IDENTIFY_SYSTEM")
        channel.start_copy("START_REPLICATION")
    except BaseException:
        channel.close()
        raise
    receiver = Receiver(channel, 0, silence_seconds=PATIENCE_SECONDS, now_us=lambda: 0)
    decoder = Decoder((), {}, 0)
    try:
        while not decoder.is_ready:
            failure = receiver.failure
            data = receiver.take(1 << 20)
            decoder.feed(data)
            if decoder.ended is not None:
                raise Unavailable("ended", decoder.ended.message)
            if failure is not None and not data:
                raise failure
            receiver.wait(0.05)
        decoder.take()
    finally:
        with soon():
            receiver.close()


def copy(url: str) -> None:
    """All steps of copying a table."""
    channel = open_channel(url, replication=False)
    decoder = CopyDecoder(["a"], [data_type(23, -1, {})])
    try:
        channel.query("BEGIN")
        channel.start_copy("COPY")
        deadline = time.monotonic() + PATIENCE_SECONDS
        list(decoder.feed(channel.receive()))
        while not decoder.is_ready:
            await_data(channel, deadline)
            list(decoder.feed(channel.receive()))
    finally:
        with soon():
            channel.close()


def ask(url: str) -> None:
    """An ordinary session."""
    with session(url) as connection:
        connection.execute("select 1").fetchone()


Dialogue = Callable[[str], None]
DIALOGUES: dict[str, tuple[Dialogue, tuple[bytes, ...]]] = {
    "follow": (follow, (IDENTITY, STREAM)),
    "copy": (copy, (answer(), ROWS)),
    "ask": (ask, (answer(), answer(a=b"1"))),
}


def steps(answers: tuple[bytes, ...]) -> list[int]:
    """How much has been sent when each of the parts begins, and in the middle of each."""
    sizes = [len(GREETING), *map(len, answers)]
    begins = [sum(sizes[:index]) for index in range(len(sizes))]
    middles = [begin + size // 2 for begin, size in zip(begins, sizes, strict=True)]
    return sorted([*begins, *middles, 1, 5, sum(sizes) - 1])


@pytest.mark.parametrize("name", DIALOGUES)
def test_a_server_of_good_will_is_understood(name: str) -> None:
    dialogue, answers = DIALOGUES[name]
    with FakeServer(answers=answers) as server:
        dialogue(server.url)


@pytest.mark.parametrize("kind", ["stall", "rubbish", "trickle"])
@pytest.mark.parametrize("name", DIALOGUES)
def test_whatever_happens_at_a_step_ends_soon_with_a_named_error(name: str, kind: Kind) -> None:
    """At all steps at once: who waits for a server keeps nobody else from running."""
    dialogue, answers = DIALOGUES[name]

    def fail_at(step: int) -> UpwellError:
        with FakeServer(answers=answers, fault=Fault(kind, step)) as server:
            return failure_of(dialogue, server.url)

    places = steps(answers)
    with soon(), ThreadPoolExecutor(len(places)) as pool:
        for failed in pool.map(fail_at, places):
            assert failed.next_step or failed.code == "ended"


def failure_of(dialogue: Dialogue, url: str) -> UpwellError:
    with pytest.raises(UpwellError) as caught:
        dialogue(url)
    return caught.value


@pytest.mark.parametrize("name", DIALOGUES)
def test_a_server_that_closes_behind_any_byte_is_noticed(name: str) -> None:
    dialogue, answers = DIALOGUES[name]
    size = len(GREETING) + sum(map(len, answers))
    # Of a copy, all has come once the server is ready again; of a session, once it has answered.
    for after in range(0, size - len(frame(b"I", b"Z")), 3):
        with FakeServer(answers=answers, fault=Fault("close", after)) as server:
            failure_of(dialogue, server.url)


@pytest.mark.parametrize("name", DIALOGUES)
@pytest.mark.parametrize("said", [b"", b"S", RUBBISH], ids=["nothing", "yes", "rubbish"])
def test_a_server_that_answers_badly_to_the_wish_for_tls_is_refused(name: str, said: bytes) -> None:
    dialogue, answers = DIALOGUES[name]
    with FakeServer(answers=answers, answers_tls=said) as server, soon():
        assert failure_of(dialogue, f"{server.url}&sslmode=require").next_step


@pytest.mark.parametrize("name", DIALOGUES)
@pytest.mark.parametrize(
    "endless",
    [
        frame(b"SNOTICE\0C00000\0Magain\0\0", b"N") * 500,
        frame(b"application_name\0again\0", b"S") * 500,
        frame(struct.pack(">I", 1) + b"channel\0again\0", b"A") * 500,
    ],
    ids=["notices", "settings", "notifications"],
)
@pytest.mark.parametrize("step", [0, 1])
def test_a_server_that_talks_without_end_is_not_listened_to_for_ever(
    name: str, step: int, endless: bytes
) -> None:
    """In place of the first answer, or of the second; what it says takes no memory."""
    dialogue, answers = DIALOGUES[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with FakeServer(answers=(*answers[:step], endless), goes_on=lambda: endless) as server, soon():
        assert failure_of(dialogue, server.url).code in ("source_slow", "source_unavailable")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10


@pytest.mark.parametrize("name", DIALOGUES)
def test_a_greeting_without_end_is_not_listened_to_for_ever(name: str) -> None:
    dialogue, _ = DIALOGUES[name]
    setting = frame(b"application_name\0again\0", b"S") * 500
    greeting = GREETING[:9] + setting  # authenticated, and never ready
    with FakeServer(greeting=greeting, goes_on=lambda: setting) as server, soon():
        assert failure_of(dialogue, server.url).code == "source_unavailable"


@pytest.mark.parametrize("name", DIALOGUES)
def test_an_error_of_a_hundred_megabytes_is_cut_short(name: str) -> None:
    dialogue, answers = DIALOGUES[name]
    with FakeServer(answers=(answers[0], error(b"x" * (100 << 20)))) as server:
        assert len(str(failure_of(dialogue, server.url))) < 3000


@pytest.mark.parametrize("name", DIALOGUES)
def test_a_greeting_of_a_hundred_megabytes_is_refused(name: str) -> None:
    dialogue, _ = DIALOGUES[name]
    with FakeServer(greeting=error(b"x" * (100 << 20))) as server, soon():
        assert len(str(failure_of(dialogue, server.url))) < 3000


LIES = (
    answer(unexpected=b"1"),
    answer(systemid=b"\xff\xfe"),
    COPY_BOTH,
    COPY_OUT,
    frame(b"", b"I") + frame(b"I", b"Z"),
    frame(b"DELETE 7\0", b"C") + frame(b"I", b"Z"),
    frame(b"", b"T"),
    frame(b"\xff\xff", b"D"),
    b"T\x7f\xff\xff\xff",
    b"E\x7f\xff\xff\xff",
    b"W\x7f\xff\xff\xff",
    b"",
)


@pytest.mark.parametrize("name", DIALOGUES)
@pytest.mark.parametrize("step", [0, 1])
def test_a_server_that_answers_something_else_is_refused_or_read(name: str, step: int) -> None:
    dialogue, answers = DIALOGUES[name]

    def believe(lie: bytes) -> None:
        with (
            FakeServer(answers=(*answers[:step], lie, *answers[step + 1 :])) as server,
            contextlib.suppress(UpwellError),
        ):
            dialogue(server.url)

    with soon(), ThreadPoolExecutor(len(LIES)) as pool:
        list(pool.map(believe, LIES))


@pytest.mark.parametrize("tls", ["disable", "prefer"])
def test_a_statement_that_is_not_waited_for_is_cancelled(tls: str) -> None:
    """Whoever reads the answer: we, or the client library."""
    with FakeServer(answers=(b"",)) as server:
        channel = open_channel(f"{server.url}&gssencmode={tls}", replication=False)
        with soon(), pytest.raises(Unavailable, match="in time"):
            channel.start_copy("COPY")
        channel.close()
        eventually(lambda: server.cancels == 1)


def test_an_answer_of_another_type_than_its_value_is_refused() -> None:
    text, number = (struct.pack(">IHiH", *each, -1, 0) for each in ((25, 0xFFFF), (23, 4)))
    lie = answer(a=b"no number").replace(text, number)
    with FakeServer(answers=(answer(), lie)) as server, pytest.raises(IntegrityError) as caught:
        ask(server.url)
    assert "could not query the source database" in caught.value.what


def nothing() -> bytes:
    """What a server says that is busy with itself."""
    threading.Event().wait(0.1)
    return b""


def fill(channel: Channel) -> None:
    """Send until nothing is taken any more."""
    while True:
        channel.send(bytes(1 << 16), timeout_seconds=0.2)


@pytest.mark.parametrize("replication", [True, False])
def test_what_a_server_does_not_take_is_given_up(replication: bool) -> None:
    """It answers, and from then on reads nothing."""
    with FakeServer(answers=(COPY_BOTH,), goes_on=nothing) as server:
        channel = open_channel(server.url, replication=replication)
        channel.start_copy("START_REPLICATION")
        with soon(), pytest.raises(Unavailable, match="takes nothing"):
            fill(channel)
        channel.close()


def test_a_receiver_whose_server_takes_nothing_closes_soon() -> None:
    with FakeServer(answers=(COPY_BOTH,), goes_on=nothing) as server:
        channel = open_channel(server.url, replication=True)
        channel.start_copy("START_REPLICATION")
        with contextlib.suppress(Unavailable):
            fill(channel)
        receiver = Receiver(channel, 0, silence_seconds=60, now_us=lambda: 0)
        with soon():
            receiver.close()
