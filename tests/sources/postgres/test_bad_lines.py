"""A line that dies, stalls, trickles or breaks is noticed; then all goes on, and no row is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from upwell.core.errors import Unavailable
from upwell.core.position import Position
from upwell.core.protocols import SourceTable
from upwell.sources.postgres import PostgresSource, channel, session
from upwell.sources.postgres import copy as copying
from upwell.sources.postgres import stream as streaming
from upwell.sources.postgres.checksum import row_checksums, wal_position
from upwell.sources.postgres.session import BoundedConnection
from upwell.sources.postgres.stream import PostgresStream

from .conftest import Database
from .fakes import Proxy, eventually
from .replica import Replica, error_of

pytestmark = pytest.mark.postgres

#: Instead of a minute.
PATIENCE_SECONDS = 1.0
#: What a close may take, whatever the other end does.
SOON_SECONDS = 4.0
TABLE = "create table a (id int primary key, t text); insert into a select generate_series(1, 9)"


@dataclass
class Follower:
    """Follows table ``a`` over a bad line, as the engine does: it goes on where it was."""

    database: Database
    source: PostgresSource
    tables: Sequence[SourceTable]
    position: Position
    replica: Replica
    stream: PostgresStream | None = None
    troubles: int = 0

    def catch_up(self) -> None:
        """Until everything that was committed is here, through however many troubles."""
        aim = wal_position(self.database.url)
        deadline = time.monotonic() + 40
        while self.position < aim:
            assert time.monotonic() < deadline
            try:
                self.step()
            except Unavailable:
                self.let_go()
                threading.Event().wait(0.05)
        checksum = row_checksums(self.database.url, "shop", ["a"])["shop.a"]
        assert self.replica.checksum("shop.a") == checksum

    def step(self) -> None:
        self.stream = self.stream or self.source.stream(self.position, self.tables)
        batch = self.stream.poll(0.2)
        if batch is not None:
            self.replica.apply(batch)
            self.position = batch.position
            self.stream.acknowledge(batch.position)

    def step_until_trouble(self) -> Unavailable:
        def run() -> None:
            until = time.monotonic() + 20
            while time.monotonic() < until:
                self.step()

        error = error_of(run)
        assert isinstance(error, Unavailable)
        return error

    def let_go(self) -> None:
        self.troubles += 1
        if self.stream is not None:
            begun = time.monotonic()
            self.stream.close()
            assert time.monotonic() - begun < SOON_SECONDS
        self.stream = None


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedConnection, "answer_seconds", PATIENCE_SECONDS)
    monkeypatch.setattr(copying, "PART_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(channel, "_CANCEL_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(session, "_SHORT_ANSWER_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(streaming, "SILENCE_SECONDS", PATIENCE_SECONDS)


@pytest.fixture
def line(database_18: Database) -> Iterator[Proxy]:
    threads = threading.active_count()
    with Proxy(database_18.server.port) as proxy:
        yield proxy
        proxy.break_lines()
    eventually(lambda: threading.active_count() <= threads)


@pytest.fixture
def follower(database_18: Database, line: Proxy) -> Iterator[Follower]:
    database_18.run(TABLE)
    replica = Replica()
    position = database_18.read_into(replica, "a")
    over_line = PostgresSource(
        "shop",
        f"postgresql://postgres@127.0.0.1:{line.port}/{database_18.name}?connect_timeout=2",
        ["a"],
        slot=database_18.slot,
        is_sole_follower=True,
    )
    made = Follower(database_18, over_line, database_18.tables(), position, replica)
    yield made
    made.let_go()
    over_line.close()


def test_a_line_that_is_dead_and_looks_alive_is_given_up_and_all_goes_on(
    follower: Follower, line: Proxy
) -> None:
    database = follower.database
    database.run("insert into a select generate_series(10, 99)")
    follower.catch_up()
    line.swallows = True
    threading.Event().wait(0.2)
    database.run("update a set t = 'said to nobody' where id % 2 = 0")
    begun = time.monotonic()
    error = follower.step_until_trouble()
    assert error.code == "connection_silent"
    assert time.monotonic() - begun < SOON_SECONDS
    line.swallows = False
    follower.let_go()
    database.run("delete from a where id % 3 = 0; insert into a values (1000, 'x')")
    # The server still believes in the dead line: its follower is ended for the new one.
    follower.catch_up()
    assert follower.troubles >= 1


def test_a_message_that_trickles_in_is_not_waited_for(follower: Follower, line: Proxy) -> None:
    follower.catch_up()
    follower.database.run("insert into a values (50, repeat('long', 1000))")
    follower.catch_up()
    line.breathes = 0.04
    follower.database.run("insert into a values (51, repeat('long', 1000))")
    assert "has not come whole" in follower.step_until_trouble().what
    line.breathes = 0.0
    follower.let_go()
    follower.catch_up()


def test_a_line_that_breaks_again_and_again_loses_and_doubles_nothing(
    follower: Follower, line: Proxy
) -> None:
    database = follower.database
    follower.catch_up()
    for time_of in range(8):
        database.run(
            f"insert into a select {time_of} * 1000 + 100 + i from generate_series(1, 50) i"
        )
        if time_of % 2:
            follower.step()
        line.break_lines()
        database.run(f"update a set t = 'after {time_of}' where id % 7 = 0")
        database.run(f"delete from a where id % 13 = {time_of}")
        follower.catch_up()
    assert follower.troubles >= 4


@pytest.mark.parametrize("step", [0, 1, 2, 3, 5])
def test_a_server_that_stalls_while_a_stream_is_opened_is_given_up(
    follower: Follower, line: Proxy, step: int
) -> None:
    """At each connection of those that opening makes."""
    accepted = line.accepted

    def hold_then() -> None:
        eventually(lambda: line.accepted > accepted + step or follower.stream is not None)
        line.holds = True

    holding = threading.Thread(target=hold_then)
    if step == 0:
        line.holds = True
    else:
        holding.start()
    follower.step_until_trouble()
    follower.let_go()
    if step:
        holding.join()
    line.holds = False
    follower.catch_up()


def test_a_copy_that_stalls_in_the_middle_is_given_up_and_the_next_is_whole(
    database_18: Database, line: Proxy
) -> None:
    database_18.run("create table a (id int primary key, t text)")
    database_18.run("insert into a select i, repeat('x', 1000) from generate_series(1, 50000) i")
    url = f"postgresql://postgres@127.0.0.1:{line.port}/{database_18.name}?connect_timeout=2"
    (table,) = database_18.source("a", url=url).look().tables.values()
    copy = database_18.copy()
    (part,) = copy.plan(table, 1 << 30).parts
    line.holds_behind = line.carried + (5 << 20)
    begun = time.monotonic()
    assert error_of(lambda: copy.read(table, part)).code == "source_slow"
    assert time.monotonic() - begun < PATIENCE_SECONDS + SOON_SECONDS
    line.holds, line.holds_behind = False, None
    assert sum(batch.num_rows for batch in copy.read(table, part).rows) == 50_000
