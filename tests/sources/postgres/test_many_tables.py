"""A database of very many tables is surveyed, checked and followed with few questions."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.conftest import FAST, binaries_of
from tests.torture_report import Report
from upwell.core.protocols import Stream
from upwell.demo.server import Server
from upwell.sources.postgres import PostgresSource, drift
from upwell.sources.postgres.checkup import check_up
from upwell.sources.postgres.session import session
from upwell.sources.postgres.survey import survey_database

from .conftest import Database

pytestmark = pytest.mark.postgres

MAKE = """
    do $$ begin for i in 1..{count} loop execute format(
        'create table t%s (id int primary key, a text, n numeric(12,2), at timestamptz)', i);
    end loop; end $$
"""
TOUCH = """
    do $$ begin for i in 1..{count} loop execute format('insert into t%s values (1)', i);
    end loop; end $$
"""


def changed(stream: Stream, count: int) -> set[str]:
    """The tables of the next ``count`` changes."""
    found: list[str] = []
    while len(found) < count:
        batch = stream.poll(1.0)
        found += [change.table for change in batch.changes] if batch else []
    assert len(found) == count
    return set(found)


def test_what_is_announced_together_is_asked_about_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each start the log announces every table anew, with its next change."""
    count = 60
    database.run(MAKE.format(count=count))
    names = [f"t{number}" for number in range(1, count + 1)]
    stream = database.stream(database.start(*names))
    opened = stream.poll(0)
    assert opened is None or not opened.changes
    asked: list[str] = []

    def counted(url: str) -> AbstractContextManager[psycopg.Connection]:
        asked.append(url)
        return session(url)

    monkeypatch.setattr(drift, "session", counted)
    database.run(TOUCH.format(count=count))  # in one transaction
    assert changed(stream, count) == {f"shop.{name}" for name in names}
    assert len(asked) == 1


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("count", [1000, 10_000])
def test_as_many_tables_as_nobody_has(open_folder: Path, report: Report, count: int) -> None:
    """Each step's seconds and the most memory, to be seen beside those of a tenth of the tables."""
    settings = {**FAST, "max_locks_per_transaction": "2048"}
    names = [f"t{number}" for number in range(1, count + 1)]
    seen: dict[str, object] = {"tables": count}

    @contextmanager
    def timed(step: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        seen[step] = f"{time.monotonic() - begun:.2f} s"

    folder = open_folder / f"many-{count}"
    with Server(folder, binaries=binaries_of("embedded-18"), settings=settings) as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(MAKE.format(count=count).encode())
            with timed("survey"):
                assert len(survey_database(server.url).tables) == count
            with timed("doctor"):
                checkup = check_up(server.url, None, slot="upwell_many")
            assert len(checkup.checks) >= count
            source = PostgresSource("shop", server.url, names, slot="upwell_many")
            with timed("catalog"):
                tables = list(source.look().tables.values())
            assert len(tables) == count
            with timed("begun"):
                position = source.begin(tables).position
            with timed("copied"):
                copy = source.copy()
                for table in tables:
                    for part in copy.plan(table, 1 << 20).parts:
                        copy.read(table, part)
                copy.close()
            with timed("stream opened"):
                stream = source.stream(position, tables)
            with timed("a few changed"):
                for name in (names[0], names[1], names[-1]):
                    connection.execute(f"insert into {name} values (0)".encode())
                assert len(changed(stream, 3)) == 3
            with timed("all changed"):
                connection.execute(TOUCH.format(count=count).encode())
                assert len(changed(stream, count)) == count
        source.close()
    seen["peak memory"] = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MB"
    report.row(**seen)
