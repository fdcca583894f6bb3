"""A whole run with no more rights than it needs, and what it says while they are taken away."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.acceptance.running import (
    ShopProject,
    eventually,
    is_equal_to_the_shop,
    number,
    running,
    shop_project,
    trouble,
)
from tests.acceptance.verbs import answered, edit
from tests.conftest import FAST, binaries_of
from tests.golden_numbers.shop import fill
from upwell.core.errors import Exit
from upwell.demo.server import Server

ROLE = "upwell reader"
PASSWORDS = ("first @/%", "second :?")


@pytest.fixture(scope="module")
def reader(open_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShopProject]:
    """A shop whose project runs, and logs in with the role of the printed script, by SCRAM."""
    with Server(
        open_folder / "trust", binaries=binaries_of("debian-15"), settings=FAST, password="admin"
    ) as server:
        project = shop_project(server, tmp_path_factory.mktemp("trust") / "project")
        with project.connect() as connection:
            fill(connection)
            outcome = answered(project.folder, "doctor", "--role-script", ROLE)
            assert outcome.exit == Exit.DONE
            (script,) = outcome.data["scripts"]
            connection.execute(script["sql"].encode())
            give_password(connection, project, PASSWORDS[0])
            url = project.url.replace("//postgres:admin@", "//upwell%20reader:${file:password}@")
            written = f"${{SHOP_URL:-{project.url}}}"
            edit(project, "upwell.yaml", lambda text: text.replace(written, url))
            assert answered(project.folder, "doctor").data["fit"]
            with running(project):
                yield project


def give_password(connection: psycopg.Connection[Any], project: ShopProject, password: str) -> None:
    alter = sql.SQL("alter role {} password {}")
    connection.execute(alter.format(sql.Identifier(ROLE), sql.Literal(password)))
    (project.folder / "password").write_text(password)


@pytest.mark.postgres
def test_the_role_of_the_printed_script_suffices_for_a_whole_run(reader: ShopProject) -> None:
    with reader.connect() as connection:
        connection.execute("update products set name = name || '!'")
    assert is_equal_to_the_shop(reader)
    assert number(reader.board(), "orders") is not None


#: What is taken from the role, how it is given back, and what status and boards say between.
TAKEN = {
    "the right to follow": (
        f'alter role "{ROLE}" noreplication',
        f'alter role "{ROLE}" replication',
        "may not read the log of changes",
    ),
    "the right to log in": (
        f'alter role "{ROLE}" nologin',
        f'alter role "{ROLE}" login',
        "not permitted to log in",
    ),
    "the right to read a table": (
        f'revoke select on customers from "{ROLE}"',
        f'grant select on customers to "{ROLE}"',
        "customers may not be read by this role",
    ),
    "the password": (
        f"alter role \"{ROLE}\" password 'taken'",
        "",
        "password authentication failed",
    ),
}


@pytest.mark.postgres
def test_a_role_that_loses_its_rights_is_told_and_goes_on_when_they_are_back(
    reader: ShopProject,
) -> None:
    with reader.connect() as connection:
        for taken, given, said in TAKEN.values():
            connection.execute(taken.encode())
            connection.execute(_CUT_OFF)
            connection.execute("update customers set full_name = full_name || '!'")
            await_trouble(reader, said)
            assert number(reader.board(), "orders") is not None
            if given:
                connection.execute(given.encode())
            else:
                give_password(connection, reader, PASSWORDS[1])
            eventually(lambda: not trouble(reader))
            assert is_equal_to_the_shop(reader)
    assert_nothing_was_read_anew(reader)


@pytest.mark.postgres
def test_a_right_that_is_taken_without_ending_the_connection_is_no_loss(
    reader: ShopProject,
) -> None:
    """The table's next change is announced anew in the log, and looked up in the catalogue."""
    with reader.connect() as connection:
        connection.execute(f'revoke select on customers from "{ROLE}"'.encode())
        connection.execute("update customers set full_name = full_name || '!'")
        await_trouble(reader, "customers may not be read")
        connection.execute(f'grant select on customers to "{ROLE}"'.encode())
        eventually(lambda: not trouble(reader))
        assert is_equal_to_the_shop(reader)
    assert_nothing_was_read_anew(reader)


def assert_nothing_was_read_anew(project: ShopProject) -> None:
    """A right that comes back is no reason to read a table again, nor to let it stand still."""
    log = (project.folder / ".upwell/log/engine.log").read_text()
    assert "source_unavailable" in log
    assert "table_read_anew" not in log
    assert "table_frozen" not in log


def await_trouble(project: ShopProject, said: str) -> None:
    """Until status and open boards say why numbers stand still."""
    eventually(lambda: said in trouble(project))
    address = f"{project.address}/live?dashboard=sales"
    with urllib.request.urlopen(address, timeout=20) as events:  # noqa: S310 - loopback
        for line in events:
            if line.startswith(b"data:") and said.encode() in line:
                return


_CUT_OFF = f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{ROLE}'"
