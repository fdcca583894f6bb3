"""A user's statement reaches the tables it was given and nothing else, whatever it says.

The attacks go straight to the child, past the parser's courtesy in front of it.
"""

from __future__ import annotations

import datetime as dt
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from upwell.core.errors import UsageError
from upwell.serve.reader.confined import SQL_TYPE, Limits, run_confined

TABLES = {"shop.orders": pa.table({"id": [1, 2], "total": [Decimal("1.50"), None]})}


def run(sql: str, **limits: Any) -> pa.Table:
    return run_confined(sql, TABLES, zone="Europe/London", limits=Limits(**limits))


#: What stands in for {secret} is a file that exists; for {target} one that must not.
ATTACKS = {
    "read a file as CSV": "select * from read_csv('{secret}')",
    "read a file by its name": "select * from '{secret}'",
    "read a file as text": "select * from read_text('{secret}')",
    "read a file as bytes": "select * from read_blob('{secret}')",
    "list a folder": "select * from glob('/etc/*')",
    "write a file": "copy (select 1) to '{target}'",
    "write a database": "attach '{target}'; create table target.t as select 1",
    "export everything": "export database '{target}'",
    "attach a database": "attach '{secret}' as other",
    "attach over the network": "attach 'https://127.0.0.1:1/x.duckdb'",
    "read over the network": "select * from read_csv('https://127.0.0.1:1/x.csv')",
    "load an extension": "load httpfs",
    "install an extension": "install httpfs",
    "unlock the configuration": "set lock_configuration = false",
    "give itself memory": "set memory_limit = '100GB'",
    "open the files": "set enable_external_access = true",
    "open the files by pragma": "pragma enable_external_access = true",
    "spill to a folder": "pragma temp_directory = '/tmp'",
    "read the environment": "select getenv('HOME')",
    "keep a secret": "create secret s (type s3, key_id 'a', secret 'b')",
    "read by a macro": "create macro m() as table select * from read_text('{secret}'); from m()",
    "read after a harmless one": "select 1; select * from read_text('{secret}')",
    "reach Python's variables": "select * from rows",
    "read settings from a file": "import database '{secret}'",
    "log to a file": "pragma log_query_path = '{target}'",
    "profile to a file": "set profiling_output = '{target}'",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_statement_can(attack: str, tmp_path: Path) -> None:
    secret, target = tmp_path / "secret", tmp_path / "target"
    secret.write_text("the-secret-words\n")
    with pytest.raises(UsageError) as caught:
        run(ATTACKS[attack].format(secret=secret, target=target))
    assert "the-secret-words" not in str(caught.value)
    assert not target.exists()
    assert caught.value.next_step


def test_nothing_of_the_surroundings_is_in_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "the-secret-words")
    found = run(
        "select string_agg(concat(name, '=', value), chr(10)) as all from duckdb_settings()"
    )
    assert "the-secret-words" not in found.column("all")[0].as_py()


def test_a_result_has_its_values_and_sql_types_exactly() -> None:
    found = run(
        "select id, total, timestamptz '2026-03-29 00:30:00+00' as at,"
        " 170141183460469231731687303715884105727 as huge, 0.1::float as real,"
        " uuid '00000000-0000-0000-0000-000000000001' as u, [1, null] as many, null as nothing"
        " from shop.orders order by id"
    )
    types = [field.metadata[SQL_TYPE].decode() for field in found.schema]
    assert types[:4] == ["BIGINT", "DECIMAL(3,2)", "TIMESTAMP WITH TIME ZONE", "HUGEINT"]
    assert types[4:7] == ["FLOAT", "UUID", "INTEGER[]"]
    first = found.to_pylist()[0]
    assert first["id"] == 1
    assert first["total"] == Decimal("1.50")
    assert first["at"] == dt.datetime(2026, 3, 29, 0, 30, tzinfo=dt.UTC)
    assert str(first["huge"]).startswith("1701411834604692")
    assert first["many"] == [1, None]
    assert found.to_pylist()[1]["total"] is None


def test_times_are_shown_in_the_zone_of_the_business() -> None:
    found = run("select strftime(timestamptz '2026-07-01 12:00:00+00', '%H:%M') as at")
    assert found.column("at").to_pylist() == ["13:00"]


def test_a_statement_is_stopped_at_its_limit_of_time() -> None:
    begun = time.monotonic()
    with pytest.raises(UsageError) as caught:
        run("select count(*) from range(10000000000) a, range(1000) b", seconds=1)
    assert caught.value.code == "query_over_limit"
    assert time.monotonic() - begun < 10  # the promise itself is a time


def test_a_statement_is_stopped_at_its_limit_of_memory() -> None:
    with pytest.raises(UsageError, match="Out of Memory"):
        run("select list(range order by random()) from range(20000000)", memory="50MB")


def test_a_wrong_statement_is_told_in_the_words_of_duckdb() -> None:
    with pytest.raises(UsageError, match="totl") as caught:
        run("select totl from shop.orders")
    assert caught.value.code == "query_failed"


def test_columns_of_one_name_are_told_apart() -> None:
    assert run("select 1 as a, 2 as a, 3 as a_1").to_pylist() == [{"a": 1, "a_1": 2, "a_1_1": 3}]
