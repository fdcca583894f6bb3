"""Values of 100 MB come through whole, and take a few times their size of memory, not more."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from upwell.core.sql import connect
from upwell.sources.postgres.checksum import wal_position

from .conftest import Database
from .replica import Replica, reached

pytestmark = pytest.mark.postgres

MADE = """
    create table large (id int primary key, n int, note text, raw bytea, document jsonb);
    alter table large alter note set storage external, alter raw set storage external,
        alter document set storage external;
"""


def values(mebibytes: int) -> dict[str, tuple[str, str]]:
    """Type and value of each column: so many hexadecimal digits."""
    digits = f"repeat(md5('a'), {mebibytes << 15})"
    return {
        "note": ("text", digits),
        "raw": ("bytea", f"convert_to({digits}, 'UTF8')"),
        "document": ("jsonb", f"to_jsonb({digits})"),
    }


@pytest.mark.parametrize("mebibytes", [5, pytest.param(100, marks=pytest.mark.torture)])
def test_large_texts_bytes_and_documents_are_stored_whole(
    database_18: Database, mebibytes: int
) -> None:
    database_18.run(MADE)
    for number, (name, (_, value)) in enumerate(values(mebibytes).items()):
        database_18.run(f"insert into large (id, {name}) values ({number}, {value})")
    replica = Replica()
    position = database_18.read_into(replica, "large")
    database_18.run("insert into large select id + 10, n, note, raw, document from large")
    database_18.run("update large set n = 1")  # which sends none of them again
    stream = database_18.stream(position)
    replica.follow(stream, reached(wal_position(database_18.url)))
    with connect(zone="UTC") as connection:
        replica.store(connection, "shop.large")
        found = connection.execute(
            "SELECT md5(coalesce(note, CAST(raw AS VARCHAR), document[2:-2])), "
            "strlen(document) FROM stored ORDER BY id"
        ).fetchall()
    digits = hashlib.md5(b"a").hexdigest() * (mebibytes << 15)  # noqa: S324
    expected = hashlib.md5(digits.encode()).hexdigest()  # noqa: S324
    quoted = (mebibytes << 20) + 2
    assert found == 2 * [(expected, None), (expected, None), (expected, quoted)]


@pytest.mark.torture
@pytest.mark.parametrize("way", ["copy", "stream"])
@pytest.mark.parametrize("beside", ["", ", beside int[]"], ids=["binary", "text"])
@pytest.mark.parametrize("column", values(100))
def test_a_value_of_100_mb_takes_a_few_times_its_size(
    database_18: Database, column: str, beside: str, way: str
) -> None:
    """A bytea of 100 MB is 200 MB of text."""
    kind, value = values(100)[column]
    database_18.run(f"create table large (id int primary key, v {kind}{beside})")
    database_18.run("alter table large alter v set storage external")
    position = database_18.start("large")
    database_18.run(f"insert into large (id, v) values (1, {value})")
    program = [sys.executable, "-m", "tests.sources.postgres.reading_large", way]
    answer = subprocess.run(
        [*program, database_18.url, database_18.slot, position],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    size, more = map(int, answer.stdout.split())
    assert size >= 100 << 20
    is_hexadecimal = way == "stream" and beside and column == "raw"
    assert more < size * (11 if is_hexadecimal else 6)
