"""A password that is given by reference is nowhere in what Upwell writes, prints or answers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from tests.acceptance.leaks import leaking_files, leaking_tables
from tests.acceptance.running import ShopProject, eventually, is_durable, release, shop_project
from tests.acceptance.verbs import edit, processes_of
from tests.conftest import FAST, binaries_of
from tests.golden_numbers.shop import fill
from upwell.cli.main import main
from upwell.demo.server import Server

#: A word that stands nowhere else, in the middle of characters that a URL would have to write out.
CANARY = "kanarienvogel"
OURS = ("secrets/password", "upwell.yaml")
PASSWORD = f"p@{CANARY}/%:?"
VERBS = (
    ("validate",),
    ("status",),
    ("doctor",),
    ("explain", "daily_sales"),
    ("verify",),
    ("query", "select count(*) from shop.orders"),
)
PATHS = (
    *("/", "/dashboards/sales", "/api/v1/dashboards/sales", "/api/v1/openapi.json"),
    *("/healthz", "/readyz", "/metrics", "/not/there"),
)


@pytest.fixture(scope="module")
def server(open_folder: Path) -> Iterator[Server]:
    """A server that asks for the password."""
    binaries = binaries_of("embedded-18")
    with Server(
        open_folder / "secret", binaries=binaries, settings=FAST, password=PASSWORD
    ) as server:
        yield server


@pytest.fixture
def project(server: Server, tmp_path: Path) -> Iterator[ShopProject]:
    """A shop that the project reaches with a password it has in a file."""
    project = shop_project(server, tmp_path / "project")
    with project.connect() as connection:
        fill(connection)
    write_password(project, PASSWORD)
    write_url(project, "postgresql://postgres:${file:secrets/password}@" + address_of(project))
    edit(project, "upwell.yaml", lambda text: text + "\nlake: {commit_seconds: 1}\n")
    yield project
    release(project)


@pytest.mark.postgres
def test_a_password_is_nowhere_in_a_run_that_goes_well(
    project: ShopProject, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = subprocess.Popen(
        [*program(project, "run"), "--json"],
        env={**os.environ, "UPWELL_TEST_RUN": CANARY[::-1]},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        eventually(lambda: is_durable(project) and bool(project.board()))
        said = [*answers_of(project), *commands_of_all(CANARY[::-1])]
        verbs = (*VERBS, ("backup", str(tmp_path / "backup.tar.gz")))
        said += [said_by(project, verb, capsys) for verb in verbs]
    finally:
        run.send_signal(signal.SIGINT)
        output, _ = run.communicate(timeout=20)
    assert run.returncode == 0, output
    said += [output.decode(), *contents_of_archive(tmp_path / "backup.tar.gz")]
    assert len(said) > 25
    assert [text for text in said if CANARY in text] == []
    assert leaking_files(project.folder, CANARY, but=OURS) == []
    assert leaking_tables(project.folder, CANARY) == []


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("url", "given", "is_refused_at_once"),
    [
        ("postgresql://postgres:${file:secrets/password}@{}", "x" + PASSWORD, False),
        ("postgresql://postgres:${file:secrets/password}@127.0.0.1:1/", PASSWORD, False),
        ("postgresql://postgres:${file:secrets/password}@[/", PASSWORD, False),
        ("postgresql://u:" + PASSWORD + "@h/d", PASSWORD, True),
        ("file:secrets/password", PASSWORD, True),
    ],
    ids=["wrong password", "nobody there", "no address", "not written as it must", "no url"],
)
def test_a_password_is_nowhere_in_a_run_that_fails(
    project: ShopProject,
    url: str,
    given: str,
    is_refused_at_once: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_password(project, given)
    if "{}" not in url:
        write_url(project, url)
    said: list[str] = []
    if "{}" in url:
        said.append(output_of(project, "run", "--json"))
        assert '"ok": false' in said[0], said
    verbs = ["doctor", "validate", "status", *(["run"] if is_refused_at_once else [])]
    said += [
        said_by(project, (verb, *form), capsys) for verb in verbs for form in ((), ("--json",))
    ]
    assert all(said)
    assert [text for text in said if CANARY in text] == []
    assert "Traceback" not in "".join(said)
    assert leaking_files(project.folder, CANARY, but=OURS) == []


def write_password(project: ShopProject, password: str) -> None:
    file = project.folder / "secrets/password"
    file.parent.mkdir(exist_ok=True)
    file.write_text(password + "\n")
    file.chmod(0o600)


def write_url(project: ShopProject, url: str) -> None:
    (line,) = re.findall(r"(?m)^ +url: .*$", (project.folder / "upwell.yaml").read_text())
    edit(project, "upwell.yaml", lambda text: text.replace(line, f"    url: '{url}'"))


def address_of(project: ShopProject) -> str:
    return project.url.rpartition("@")[2]


def program(project: ShopProject, *verb: str) -> list[str]:
    command = [sys.executable, "-m", "upwell.cli.main", *verb]
    return [*command, "--project", str(project.folder)]


def output_of(project: ShopProject, *verb: str) -> str:
    done = subprocess.run(
        program(project, *verb),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    )
    return done.stdout.decode()


def said_by(project: ShopProject, verb: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a verb that starts no process says, in this one."""
    with suppress(SystemExit):
        main([*verb, "--project", str(project.folder)])
    return "".join(capsys.readouterr())


def answers_of(project: ShopProject) -> list[str]:
    """What the web server answers, headers and refusals included."""
    answers = []
    for path in PATHS:
        try:
            with urllib.request.urlopen(project.address + path, timeout=10) as reply:  # noqa: S310
                answers.append(f"{reply.headers}{reply.read().decode()}")
        except urllib.error.HTTPError as error:
            answers.append(f"{error.headers}{error.read().decode()}")
            error.close()
    return answers


def commands_of_all(run: str) -> list[str]:
    commands = processes_of(run)
    assert len(commands) >= 3, "the run and its children"
    return commands


def contents_of_archive(archive: Path) -> list[str]:
    with tarfile.open(archive) as opened:
        files = [opened.extractfile(member) for member in opened if member.isfile()]
        return [file.read().decode(errors="replace") for file in files if file is not None]
