"""``doctor`` and ``init`` on MySQL: what they check, and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mariadb import Server
from tests.sources.mysql.conftest import Database, drop_database, make_database
from upwell.cli import main as command_line
from upwell.core.errors import Exit

pytestmark = pytest.mark.mariadb


@pytest.fixture
def shop(mariadb: Server) -> Iterator[Database]:
    made = make_database(mariadb)
    made.run(
        "create table customers (id int primary key)",
        "create table keyless (n int)",
        "create table bought (id int primary key, customer int,"
        " foreign key (customer) references customers (id) on delete cascade)",
    )
    yield made
    drop_database(made)


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code and answer of a verb with ``--json``."""
    with pytest.raises(SystemExit) as ended:
        command_line.main([*arguments, "--json"])
    return int(ended.value.code or 0), dict(json.loads(capsys.readouterr().out))


def test_doctor_names_what_stands_against_each_table(
    shop: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    code, answer = call(capsys, "doctor", shop.url)
    (source,) = answer["data"]["sources"]
    found = {each["code"]: each for each in source["checks"]}
    assert (code, source["fit"]) == (Exit.DONE, True)
    assert found["table_fit"]["subject"] == "customers"
    assert found["table_without_key"]["verdict"] == "warning"
    assert "ADD PRIMARY KEY" in found["table_without_key"]["next_step"]
    assert found["foreign_key_cascades"]["subject"] == "bought"
    assert found["binlog_format_not_row"]["verdict"] == "ok"
    assert [table["table"] for table in source["tables"]] == ["customers"]


def test_a_table_that_was_named_and_is_unfit_is_a_fault(
    shop: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    code, answer = call(capsys, "doctor", shop.url, "--tables", "customers,keyless")
    assert code == Exit.NO
    verdicts = {each["subject"]: each["verdict"] for each in answer["data"]["sources"][0]["checks"]}
    assert (verdicts["customers"], verdicts["keyless"]) == ("ok", "fault")


def test_a_database_without_tables_is_not_fit(
    shop: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.run("drop table bought, keyless, customers")
    code, answer = call(capsys, "doctor", shop.url)
    assert code == Exit.NO
    assert "no_tables" in {each["code"] for each in answer["data"]["sources"][0]["checks"]}


def test_init_says_that_it_does_not_draft_from_mysql(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "mysql://reader:secret@localhost/shop"
    code, answer = call(capsys, "init", str(tmp_path / "shop"), "--from", url)
    assert (code, answer["error"]["code"]) == (Exit.USAGE, "from_mysql")
    assert "docs/howto/mysql.md" in answer["error"]["next"]
    assert "secret" not in json.dumps(answer)
