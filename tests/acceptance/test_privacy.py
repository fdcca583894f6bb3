"""What a project leaves out is stored nowhere, and what it stores is what the rules say."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import psycopg
import pytest

from tests.acceptance.leaks import leaking_files, leaking_tables
from tests.acceptance.running import ShopProject, eventually, is_durable, running, trouble
from tests.acceptance.verbs import answered, edit, upwell
from upwell.core.errors import Exit
from upwell.sources.postgres.checksum import wal_position

#: A word that stands only in what must not be stored.
CANARY = "kanarienvogel"
KEY = "0123456789abcdef0123456789abcdef"
RULES = """
    privacy:
      people: {drop: [note], hash: [email, tax], rows: "region <> 'nowhere'"}
"""
MAKE = f"""
    create table people (
        id int primary key, region text, email text, tax numeric(6, 2), note text, story text
    );
    alter table people alter story set storage external;
    insert into people values
        (1, 'here', '{CANARY}1', 1.50, '{CANARY}', 'one'),
        (2, 'nowhere', '{CANARY}2', 2, '{CANARY}', '{CANARY}'),
        (3, 'here', null, null, null, null),
        (4, 'here', '{CANARY}4', 'NaN', '{CANARY}', 'four'),
        (5, 'nowhere', '{CANARY}5', 5, '{CANARY}', repeat('long', 3000));
"""


def hashed(text: str) -> str:
    return hmac.new(KEY.encode(), text.encode(), hashlib.sha256).hexdigest()


@pytest.fixture
def private(shop: ShopProject) -> ShopProject:
    """The shop with people in it, of whom not everything is stored."""
    with shop.connect() as connection:
        connection.execute(MAKE.encode())
    (shop.folder / "key").write_text(KEY)
    edit(
        shop,
        "upwell.yaml",
        lambda text: (
            text.replace("refunds]", "refunds, people]")
            + "\nlake: {commit_seconds: 1}\nprivacy_key: file:key\n"
        ),
    )
    return shop


def add_rules(project: ShopProject, rules: str = RULES) -> None:
    edit(project, "upwell.yaml", lambda text: text.replace("people]\n", f"people]{rules}"))


def query(project: ShopProject, sql: str) -> list[dict[str, Any]]:
    outcome = answered(project.folder, "query", sql)
    assert outcome.exit == Exit.DONE, outcome.output
    return list(outcome.data["rows"])


def await_all(project: ShopProject, connection: psycopg.Connection[Any]) -> None:
    """Until everything that the shop has committed is in, and in the lake."""
    connection.execute("select 1")
    reached = wal_position(project.url)
    eventually(lambda: project.engine.ask("checksums")["positions"]["shop"] >= reached)
    eventually(lambda: is_durable(project))


@pytest.mark.postgres
def test_what_is_left_out_is_stored_nowhere_and_other_rules_read_a_table_anew(
    private: ShopProject,
) -> None:
    add_rules(private)
    with running(private), private.connect() as connection:
        for change in (
            f"insert into people values (6, 'nowhere', '{CANARY}', 6, '{CANARY}', '{CANARY}')",
            f"insert into people values (7, 'here', '{CANARY}7', 7, '{CANARY}', 'seven')",
            f"insert into people values (8, 'here', '{CANARY}8', 'NaN', '{CANARY}', 'eight')",
            "update people set region = 'nowhere' where id = 1",  # leaves
            "update people set region = 'here', story = 'two' where id = 2",  # enters
            "update people set region = 'here' where id = 5",  # enters, without its long story
            "update people set id = 70 where id = 7",
            "delete from people where id = 6",
        ):
            connection.execute(change.encode())
        await_all(private, connection)
        rows = query(private, "select * from shop.people order by id")
        assert rows == [
            {
                "id": 2,
                "region": "here",
                "email": hashed(f"{CANARY}2"),
                "tax": hashed("2.00"),
                "story": "two",
            },
            {"id": 3, "region": "here", "email": None, "tax": None, "story": None},
            {
                "id": 70,
                "region": "here",
                "email": hashed(f"{CANARY}7"),
                "tax": hashed("7.00"),
                "story": "seven",
            },
        ]
        refused = query(private, "select key, reason, raw from upwell.quarantine order by key")
        assert [(row["key"], row["raw"]) for row in refused] == [
            ("id=4", hashed("NaN")),
            ("id=5", ""),
            ("id=8", hashed("NaN")),
        ]
        assert "not stored before" in refused[1]["reason"]
        connection.execute("update people set story = 'short' where id = 5")
        await_all(private, connection)
        found = query(private, "select story from shop.people where id = 5")
        assert found == [{"story": "short"}]
        assert "people" not in trouble(private)
        logged = query(private, "select distinct id, region from shop.people__log order by id")
        assert {row["region"] for row in logged} == {"here"}
    assert leaking_files(private.folder, CANARY) == []
    assert leaking_tables(private.folder, CANARY) == []
    assert leaking_files(private.folder, KEY, but=("key",)) == []
    others = "\n    privacy: {people: {keep: [region], rows: id <> 3}}\n"
    edit(private, "upwell.yaml", lambda text: text.replace(RULES, others))
    with running(private, "engine"), private.connect() as connection:
        connection.execute("update people set region = 'there' where id = 70")
        everybody = [{"id": each, "region": "here"} for each in (1, 2, 4, 5, 8, 70)]
        everybody[0]["region"], everybody[-1]["region"] = "nowhere", "there"
        people = "from shop.people order by id"
        eventually(lambda: answered(private.folder, "query", people).rows == everybody)
        (entry, *_) = query(private, "from shop.people__log limit 1")
        assert {name for name in entry if name[0] != "_"} == {"id", "region"}
        await_all(private, connection)
    log = (private.folder / ".upwell/log/engine.log").read_text()
    anew = [line for line in log.splitlines() if "table_read_anew" in line]
    assert len(anew) == 1, "only the table whose rules changed"
    assert "shop.people" in anew[0]


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("rules", "code"),
    [
        ("{people: {drop: [notes]}}", "privacy_column_unknown"),
        ("{people: {drop: [id]}}", "privacy_key_dropped"),
        ("{people: {rows: region = 5}}", "privacy_rows_invalid"),
        ("{persons: {drop: [note]}}", "project_name_unknown"),
    ],
)
def test_rules_that_do_not_fit_are_told_before_anything_is_read(
    private: ShopProject, rules: str, code: str
) -> None:
    add_rules(private, f"\n    privacy: {rules}\n")
    outcomes = [answered(private.folder, "validate")]
    if code == "privacy_column_unknown":
        outcomes.append(upwell(private.folder, "run"))
    for outcome in outcomes:
        assert (outcome.exit, outcome.error["code"]) == (Exit.USAGE, code), outcome.output
        assert outcome.error["where"].startswith("upwell.yaml:")
        assert outcome.error["next"]
