"""``init`` and ``doctor`` at the command line: what they ask, refuse, write and hide."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from upwell.cli import main as command_line
from upwell.core.errors import Exit
from upwell.demo.server import Server

pytestmark = pytest.mark.postgres

SCHEMA = """
    create table customers (id int primary key, country text);
    create table orders (id int primary key, customer_id int not null references customers,
                         placed_at timestamptz not null, paid_at timestamptz not null,
                         total numeric(10, 2) not null);
    create table refunds (id int primary key, refunded_at timestamptz not null,
                          amount numeric(10, 2) not null);
    create table keyless (n int);
    insert into customers values (1, 'France'), (2, 'Peru');
    insert into orders select n, 1 + n % 2, now(), now(), n from generate_series(1, 9) n;
"""


@pytest.fixture(scope="module")
def url(postgres: Server) -> Iterator[str]:
    """A small shop's database."""
    name = f"little_shop_{uuid4().hex[:8]}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"create database {name}".encode())
    address = postgres.url_of(name)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
    yield address
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"drop database {name}".encode())


@pytest.fixture(autouse=True)
def _own_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code and answer of a verb with ``--json``."""
    with pytest.raises(SystemExit) as ended:
        command_line.main([*arguments, "--json"])
    return int(ended.value.code or 0), dict(json.loads(capsys.readouterr().out))


def test_a_draft_is_written_once_and_never_over_what_is_there(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "my shop"
    code, said = call(capsys, "init", str(folder), "--from", url)
    assert code == Exit.DONE
    assert said["data"]["fact"] == "orders"
    assert [each["table"] for each in said["data"]["left_out"]] == ["keyless"]
    assert said["data"]["next"] == [f"upwell run --project '{folder}'"]
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert sorted(said["data"]["files"]) == sorted(str(path.relative_to(folder)) for path in before)
    code, said = call(capsys, "init", str(folder), "--from", url)
    assert (code, said["error"]["code"]) == (Exit.USAGE, "project_exists")
    (folder / "upwell.yaml").unlink()
    code, said = call(capsys, "init", str(folder), "--from", url)
    assert (code, said["error"]["code"]) == (Exit.USAGE, "file_in_the_way")
    assert not (folder / "upwell.yaml").exists()


def test_no_password_is_written_or_printed_and_the_export_is_told(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = url.replace("postgres@", "postgres:hunter2@")
    with pytest.raises(SystemExit):
        command_line.main(["init", str(tmp_path / "a"), "--from", secret, "--yes"])
    out, err = capsys.readouterr()
    assert "hunter2" not in out + err
    assert "export LITTLE_SHOP_" in out
    for path in (tmp_path / "a").rglob("*"):
        assert path.is_dir() or "hunter2" not in path.read_text()


def test_a_variable_that_holds_the_address_is_named_and_need_not_be_exported(
    url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MY_SHOP", url)
    _, said = call(capsys, "init", str(tmp_path / "a"), "--from", url)
    assert [each for each in said["data"]["next"] if "export" in each] == []
    assert 'url: "${MY_SHOP}"' in (tmp_path / "a" / "upwell.yaml").read_text()


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (["--from", "/"], ("from_folder", Exit.USAGE)),
        (["--from", ""], ("url_empty", Exit.USAGE)),
        (["--from", "mysql://x"], ("from_mysql", Exit.USAGE)),
        (["--from", "postgresql://me:hunter2@127.0.0.1:1/x"], ("", Exit.ENVIRONMENT)),
        (["--tables", "oders"], ("table_unknown", Exit.USAGE)),
        (["--tables", "keyless"], ("table_without_key", Exit.ENVIRONMENT)),
        (["--fact", "customers"], ("fact_without_time", Exit.USAGE)),
        (["--time", "sold_at"], ("time_unknown", Exit.USAGE)),
        (["--zone", "Europe/Lodnon"], ("zone_unknown", Exit.USAGE)),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: list[str],
    refusal: tuple[str, Exit],
) -> None:
    given = change if change[0] == "--from" else ["--from", url, *change]
    ended, said = call(capsys, "init", str(tmp_path / "a"), *given)
    code, exit_code = refusal
    assert ended == exit_code
    assert said["error"]["code"] == code or not code
    assert said["error"]["next"]
    assert "hunter2" not in json.dumps(said)
    assert not (tmp_path / "a").exists()


def test_on_a_terminal_it_asks_and_takes_the_answers(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "asked"
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "upwell.cli.main", "init", str(folder), "--from", url],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        close_fds=True,
    ) as process:
        os.close(theirs)
        said = answered(ours, [("Number", "2"), ("zone", "Asia/Tokyo")])
    os.close(ours)
    assert process.returncode == 0, said
    assert "Asia/Tokyo" in (folder / "upwell.yaml").read_text()
    assert (folder / "dashboards" / "refunds.yaml").exists()


def answered(terminal: int, answers: list[tuple[str, str]]) -> str:
    """Waits for each question in turn and answers it; all that was said until the end."""
    said, seen = "", 0
    while True:
        try:
            chunk = os.read(terminal, 4096).decode(errors="replace")
        except OSError:  # Linux's way of saying that the other side has ended
            return said
        if not chunk:
            return said
        said += chunk
        if answers and answers[0][0] in said[seen:] and said.rstrip(" ").endswith(":"):
            seen = len(said)
            os.write(terminal, answers.pop(0)[1].encode() + b"\n")


def command_line_ends(code: Exit, *arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.main(list(arguments))
    assert ended.value.code == code


def test_the_doctor_answers_by_its_exit_code(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = call(capsys, "doctor", url)
    assert (code, said["data"]["fit"]) == (Exit.DONE, True)
    (source,) = said["data"]["sources"]
    assert {"table_without_key", "no_disk_guard"} <= {each["code"] for each in source["checks"]}
    code, said = call(capsys, "doctor", url, "--tables", "orders,keyless")
    assert (code, said["data"]["fit"]) == (Exit.NO, False)
    code, _ = call(capsys, "doctor", "postgresql://127.0.0.1:1/x")
    assert code == Exit.ENVIRONMENT
    code, said = call(capsys, "doctor", "--project", str(tmp_path))
    assert (code, said["error"]["code"]) == (Exit.USAGE, "no_database_named")


def test_the_doctor_shows_people_every_remedy(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    command_line_ends(Exit.NO, "doctor", url, "--tables", "keyless")
    assert 'ALTER TABLE "public"."keyless" ADD PRIMARY KEY' in capsys.readouterr().out


def test_one_remedy_stands_below_all_that_it_is_for(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create view seen as select 1; create view seen_too as select 2")
        command_line_ends(Exit.NO, "doctor", url, "--tables", "seen,seen_too")
        connection.execute("drop view seen, seen_too")
    said = capsys.readouterr().out
    assert said.count("is a view") == 2
    assert said.count("name the tables behind it") == 1


def test_a_servers_spelling_of_utc_is_not_what_people_read(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        name = connection.info.dbname
        for zone, written in (("Etc/UTC", "UTC"), ("Asia/Tokyo", "Asia/Tokyo")):
            connection.execute(f"alter database {name} set timezone = '{zone}'".encode())
            _, said = call(capsys, "init", str(tmp_path / written), "--from", url)
            assert said["data"]["zone"] == written
        connection.execute(f"alter database {name} reset timezone".encode())


def test_the_doctor_warns_of_secrets_that_are_none(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command_line_ends(Exit.DONE, "init", str(tmp_path / "shop"), "--from", url)
    file = tmp_path / "shop/secret url"
    file.write_text(url)
    file.chmod(0o644)
    settings = tmp_path / "shop/upwell.yaml"
    text = re.sub(r"url: .*", "url: 'file:secret url'", settings.read_text())
    settings.write_text(text + "\nlake: {access_key: me, secret_key: hidden}\n")
    capsys.readouterr()
    code, said = call(capsys, "doctor", "--project", str(tmp_path / "shop"))
    secrets = said["data"]["secrets"]
    assert (code, said["data"]["fit"]) == (Exit.DONE, True)
    assert [each["code"] for each in secrets] == ["secret_written_out", "secret_open_to_all"]
    assert secrets[0]["subject"].startswith("upwell.yaml:")
    assert secrets[1]["next_step"] == f"chmod 600 '{file}'"
    file.chmod(0o600)
    settings.write_text(text)
    assert call(capsys, "doctor", "--project", str(tmp_path / "shop"))[1]["data"]["secrets"] == []


def test_the_doctor_takes_a_reference_to_a_url(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "url").write_text(url)
    monkeypatch.setenv("SOME_SHOP", url)
    for reference in ("${SOME_SHOP}", f"file:{tmp_path / 'url'}"):
        assert call(capsys, "doctor", reference)[0] == Exit.DONE
    code, said = call(capsys, "doctor", "file:not-there")
    assert (code, said["error"]["code"]) == (Exit.USAGE, "reference_unresolved")


def test_the_doctor_prints_the_role_script_of_a_project_and_nothing_else(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "shop")
    command_line_ends(Exit.DONE, "init", folder, "--from", url)
    capsys.readouterr()
    _, said = call(capsys, "doctor", "--project", folder, "--role-script", "reader")
    (script,) = said["data"]["scripts"]
    (granted,) = re.findall("^GRANT SELECT ON (.*) TO", script["sql"], re.MULTILINE)
    assert '"public"."orders"' in granted
    command_line_ends(Exit.DONE, "doctor", "--project", folder, "--role-script", "reader")
    assert capsys.readouterr().out == script["sql"]
    code, said = call(capsys, "doctor", url, "--role-script", "reader")
    assert (code, said["error"]["code"]) == (Exit.USAGE, "role_script_of_project")
