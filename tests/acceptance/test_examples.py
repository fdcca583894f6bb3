"""The examples do what their READMEs say: they load, follow, and show the totals of their files.

Loader, plain computation and comparison run as users run them. Their numbers are made by
``check.py`` from the files and compared with the pages by ``compare.py``; that the comparison finds
a difference is tested too.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.acceptance.running import ShopProject, eventually, free_port, release, running
from upwell.demo.server import Server
from upwell.sources.postgres.checksum import wal_position

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
DATA = ROOT.parent / "shared" / "data"
#: Whole in the torture suite; otherwise a start, and a quarter year while Upwell follows.
FIRST_DAYS, DAYS = "2010-12-12", "2011-02-28"


@dataclass(frozen=True)
class Example:
    """An example's project in a folder and a database of its own."""

    name: str
    source: str
    project: ShopProject

    def run(self, script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        return run(EXAMPLES / self.name / script, *arguments)

    def load(self, *arguments: object) -> None:
        done = self.run("load.py", *arguments, "--url", self.project.url)
        assert done.returncode == 0, done.stderr

    def compare(self, *files: object, filters: int = 2) -> subprocess.CompletedProcess[str]:
        """The pages under up to so many filters, with all that is loaded, against the files."""
        every = expectations(self.name, *files)
        expected = [each for each in every if len(each["where"]) <= filters]
        self.catch_up()
        return run(EXAMPLES / "compare.py", self.project.address, given=json.dumps(expected))

    def catch_up(self) -> None:
        """Wait until engine and web have all that the database has committed."""
        reached = wal_position(self.project.url)
        engine = self.project.engine
        eventually(lambda: engine.ask("checksums")["positions"][self.source] >= reached)
        version = engine.ask("status")["version"]
        eventually(lambda: self.project.board("all")["version"] >= version)

    def is_proved(self) -> bool:
        models = self.project.engine.ask("prove")["models"]
        return bool(models) and all(model["holds"] for model in models)


def run(
    script: Path, *arguments: object, given: str | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        input=given,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def expectations(name: str, *files: object) -> list[dict[str, Any]]:
    """What ``check.py`` expects of the pages."""
    done = run(EXAMPLES / name / "check.py", *files, "--json")
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data; skips the test where it is absent."""
    if not DATA.exists():
        reason = f"real data is not in {DATA}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return DATA


@pytest.fixture(scope="session")
def olist_files(data: Path) -> list[Path]:
    """The folders of the sample of Olist."""
    return [data / name for name in ("olist-1k", "olist-full-tables", "olist-10k-truncated")]


@pytest.fixture(scope="session")
def retail_files(data: Path) -> Path:
    """The archive of the daily files of Online Retail."""
    return data / "uci-online-retail-2011-by-day.tar.gz"


def make_database(server: Server) -> str:
    """The address of a new database."""
    name = f"example_{uuid4().hex[:12]}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"create database {name}".encode())
    return server.url_of(name)


def make_example(name: str, server: Server, folder: Path) -> Example:
    """A copy of the example's project that is served on a free port."""
    shutil.copytree(EXAMPLES / name, folder, ignore=shutil.ignore_patterns(".upwell"))
    settings = folder / "upwell.yaml"
    address = f"127.0.0.1:{free_port()}"
    text = re.sub(r"127\.0\.0\.1:832\d", address, settings.read_text())
    settings.write_text(text)
    source = {"olist": "olist", "online-retail": "retail"}[name]
    return Example(name, source, ShopProject(folder, make_database(server), f"http://{address}"))


@pytest.fixture
def olist(postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Example]:
    example = make_example("olist", postgres, tmp_path / "olist")
    monkeypatch.setenv("OLIST_URL", example.project.url)
    yield example
    release(example.project)


@pytest.fixture
def retail(postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Example]:
    example = make_example("online-retail", postgres, tmp_path / "retail")
    monkeypatch.setenv("RETAIL_URL", example.project.url)
    yield example
    release(example.project)


def totals_of_readme(name: str) -> list[str]:
    """The table at the end of an example's README."""
    text = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
    return text.strip().rpartition("\n\n")[2].splitlines()


def totals_of(output: str) -> list[str]:
    """The table that ``compare.py`` prints."""
    return output.partition("\n\n")[0].splitlines()


# ── Olist ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.postgres
def test_every_total_of_olist_is_that_of_its_files(olist: Example, olist_files: list[Path]) -> None:
    olist.load(*olist_files)
    with running(olist.project):
        same = olist.compare(*olist_files)
        assert same.returncode == 0, same.stdout + same.stderr
        assert totals_of(same.stdout) == totals_of_readme("olist")

        with olist.project.connect() as connection:
            connection.execute(
                "update order_items set price = price + 0.01 where (order_id, item_no) = "
                "(select order_id, item_no from order_items order by price desc limit 1)"
            )
        other = olist.compare(*olist_files, filters=0)
        assert other.returncode == 1
        assert "sales: revenue is 136278.94, not 136278.93" in other.stderr

        olist.load(*olist_files)
        assert olist.compare(*olist_files, filters=0).returncode == 0
        assert olist.is_proved()


# ── Online Retail ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.postgres
def test_days_that_are_loaded_while_upwell_follows_add_up(
    retail: Example, retail_files: Path
) -> None:
    retail.load(retail_files, "--until", FIRST_DAYS)
    with running(retail.project):
        retail.load(retail_files, "--until", DAYS)
        same = retail.compare(retail_files, "--until", DAYS, filters=1)
        assert same.returncode == 0, same.stdout + same.stderr
        assert retail.is_proved()


@pytest.mark.postgres
@pytest.mark.torture
def test_every_total_of_online_retail_is_that_of_its_files(
    retail: Example, retail_files: Path
) -> None:
    retail.load(retail_files, "--until", FIRST_DAYS)
    with running(retail.project):
        retail.load(retail_files)
        same = retail.compare(retail_files)
        assert same.returncode == 0, same.stdout + same.stderr
        assert totals_of(same.stdout) == totals_of_readme("online-retail")
        assert retail.is_proved()


def test_the_totals_of_online_retail_stand_in_its_readme(retail_files: Path) -> None:
    expected = expectations("online-retail", retail_files)
    readme = (EXAMPLES / "online-retail" / "README.md").read_text(encoding="utf-8")
    rows = [row.split(" | ") for row in totals_of_readme("online-retail")[2:]]
    written = {
        (row[0].lstrip("| "), row[1]): [cell.strip(" |") for cell in row[2:]] for row in rows
    }
    whole = [each for each in expected if not each["where"]]
    assert len(whole) == len(written)
    for each in whole:
        plain, ours = written[each["dashboard"], each["metric"].replace("_", " ")]
        assert plain == ours
        assert float(plain.replace(",", "")) == float(each["value"])
    for each in expected:
        if each["where"].keys() == {"kind"} and each["metric"] == "lines":
            assert re.search(rf"\| {each['value']:,} \|.*\*\*{each['where']['kind']}\*\*", readme)


@pytest.fixture
def week(tmp_path: Path, retail_files: Path) -> Path:
    """A folder of the first files."""
    folder = tmp_path / "week"
    folder.mkdir()
    with tarfile.open(retail_files) as archive:
        for name in ("2010-12-01", "2010-12-02", "2010-12-03", "2010-12-05"):
            file = archive.extractfile(f"data/retail-data/by-day/{name}.csv")
            assert file is not None
            (folder / f"{name}.csv").write_bytes(file.read())
    return folder


def count(url: str) -> tuple[int, int]:
    """How many lines and files a database holds."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "select (select count(*) from invoice_lines), (select count(*) from loaded_files)"
        ).fetchone()
    assert row is not None
    return row


@pytest.mark.postgres
def test_a_day_is_loaded_once_by_however_many_loaders(postgres: Server, week: Path) -> None:
    url = make_database(postgres)
    script = EXAMPLES / "online-retail" / "load.py"
    assert run(script, week, "--url", url, "--until", "2010-12-01").returncode == 0
    assert count(url) == (3108, 1)
    command = [sys.executable, str(script), str(week), "--url", url]
    loaders = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    outputs = [loader.communicate(timeout=60) for loader in loaders]
    assert all(loader.returncode == 0 for loader in loaders), outputs
    assert count(url) == (3108 + 2109 + 2202 + 2725, 4)
    again = run(script, week, "--url", url, "--days-per-second", "0.01")
    assert again.stdout.count("already loaded") == 4  # and does not wait for them


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("found", "replaced", "reason"),
    [
        ("17850.0", "17850.5", "customer 17850.5 is no whole number"),
        (",2.55,", ",2.5501,", "price 2.5501 has more than 3 decimals"),
        ("InvoiceNo,", "Invoice,", "does not begin with the header"),
        (",United Kingdom\n", "\n", "line 2: 7 fields, not 8"),
        ("2010-12-02 ", "2010-02-30 ", "out of range"),
    ],
)
def test_a_day_that_cannot_be_read_is_refused_whole(
    postgres: Server, week: Path, found: str, replaced: str, reason: str
) -> None:
    url = make_database(postgres)
    spoilt = week / ("2010-12-02.csv" if "2010" in found else "2010-12-01.csv")
    spoilt.write_text(spoilt.read_text(encoding="utf-8").replace(found, replaced, 1), "utf-8")
    done = run(EXAMPLES / "online-retail" / "load.py", week, "--url", url)
    assert done.returncode == 1
    assert reason in done.stderr
    assert count(url) == ((3108, 1) if "2010" in found else (0, 0))


@pytest.mark.postgres
def test_a_folder_without_days_is_refused(postgres: Server, tmp_path: Path) -> None:
    (tmp_path / "invoices.csv").write_text("InvoiceNo\n")
    url = make_database(postgres)
    done = run(EXAMPLES / "online-retail" / "load.py", tmp_path, "--url", url)
    assert done.returncode == 1
    assert "no file named after its day" in done.stderr


@pytest.mark.postgres
def test_a_file_that_changed_after_it_was_loaded_is_refused(postgres: Server, week: Path) -> None:
    url, script = make_database(postgres), EXAMPLES / "online-retail" / "load.py"
    assert run(script, week, "--url", url, "--until", "2010-12-01").returncode == 0
    first = week / "2010-12-01.csv"
    first.write_text(first.read_text(encoding="utf-8").replace("2.55", "2.56"), "utf-8")
    done = run(script, week, "--url", url)
    assert done.returncode == 1
    assert "2010-12-01.csv was loaded before with other content" in done.stderr
    assert count(url) == (3108, 1)


# ── the server ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.postgres
def test_the_examples_server_keeps_its_databases(open_folder: Path) -> None:
    folder, port = open_folder / "examples", free_port()
    command = [sys.executable, str(EXAMPLES / "server.py"), "--dir", str(folder)]
    for there in (False, True):
        with subprocess.Popen(
            [*command, "--port", str(port)], stdout=subprocess.PIPE, text=True
        ) as server:
            assert server.stdout is not None
            names = {server.stdout.readline().split()[0] for _ in range(2)}
            with psycopg.connect(f"postgresql://postgres@127.0.0.1:{port}/retail") as connection:
                assert connection.execute("show wal_level").fetchone() == ("logical",)
                found = connection.execute("select to_regclass('kept') is not null").fetchone()
                assert found == (there,)
                connection.execute("create table if not exists kept ()")
            server.send_signal(signal.SIGTERM)
        assert server.returncode == 0
        assert names == {"olist", "retail"}


def test_projects_loaders_and_server_agree_on_the_address() -> None:
    port = re.search(r"PORT = (\d+)", (EXAMPLES / "server.py").read_text())
    assert port is not None
    for name, database in (("olist", "olist"), ("online-retail", "retail")):
        url = f"postgresql://postgres@127.0.0.1:{port[1]}/{database}"
        settings = (EXAMPLES / name / "upwell.yaml").read_text()
        loader = (EXAMPLES / name / "load.py").read_text()
        assert f":-{url}}}" in settings
        assert f'URL = "{url}"' in loader
