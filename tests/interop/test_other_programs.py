"""Spark, Polars, and DuckDB with its iceberg extension find what the hot store and a query say.

Each lives in an environment of its own that is made once and takes some hundred megabytes. Where
one cannot be made its test is skipped, and says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pytest

from tests.interop import iceberg_rest
from tests.interop.everything import SHOWN, EverythingLake
from tests.interop.outside import ask_duckdb, ask_polars, ask_spark
from tests.interop.questions import Question, assert_same
from tests.interop.readers import catalog_of_folder
from tests.interop.shop import LakeOfShop, lake_of_shop
from tests.store.lake.seaweed import Seaweed
from upwell.demo.server import Server

pytestmark = [pytest.mark.torture, pytest.mark.timeout(1200)]


#: Fewer rows would be none worth comparing.
_MANY = 100
Types = Mapping[str, str] | None


@dataclass
class Asked:
    """Questions to be put to a program, by names for them, and what the answers must be."""

    questions: dict[str, tuple[str, Question]] = field(default_factory=dict)
    expected: dict[str, tuple[pa.Table, Types]] = field(default_factory=dict)

    def add(
        self,
        catalog: str,
        question: Question,
        rows: pa.Table,
        types: Mapping[str, str] | None = None,
    ) -> None:
        """A question about a table of the lake that is known by the name ``catalog``."""
        name = f"{catalog}{len(self.questions)}"
        self.questions[name] = catalog, question
        self.expected[name] = rows, types

    def of_everything(self, catalog: str, lake: EverythingLake, *, shown: bool) -> None:
        for question in (*lake.of_logs(), *(SHOWN if shown else ())):
            self.add(catalog, question, lake.expected(question), lake.types(question))

    def of_shop(self, catalog: str, shop: LakeOfShop) -> None:
        for question, rows in shop.questions().items():
            self.add(catalog, question, rows)

    def without(self, unwanted: Callable[[Question], bool]) -> Asked:
        """The other questions."""
        names = [name for name, (_, asked) in self.questions.items() if not unwanted(asked)]
        return Asked(
            {name: self.questions[name] for name in names},
            {name: self.expected[name] for name in names},
        )

    def statements(self, *, quote: str = '"', instant: str = "TIMESTAMPTZ") -> dict[str, str]:
        """The questions in a dialect of SQL."""
        return {
            name: question.sql(f"{catalog}.{question.table}", quote=quote, instant=instant)
            for name, (catalog, question) in self.questions.items()
        }

    def metadata_files(self, lakes: Mapping[str, Path]) -> dict[str, str]:
        """For each question the file that describes its table, in lakes in folders."""
        files = {}
        for catalog, folder in lakes.items():
            tables = catalog_of_folder(folder)
            for name, (of, question) in self.questions.items():
                if of == catalog:
                    files[name] = tables.load_table(question.table).metadata_location
            tables.close()
        return files

    def check(self, answers: Mapping[str, pa.Table]) -> int:
        """Fail unless every answer is the expected one; how many rows were compared."""
        rows = 0
        for name, (expected, types) in self.expected.items():
            found = assert_same(answers[name], expected, types)
            assert found > 2, self.questions[name]
            rows += found
        return rows


Folders = tuple[Asked, Mapping[str, Path]]


@pytest.fixture(scope="module")
def folders(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folders]:
    """Lakes in folders, and what is asked about them.

    ``grown`` has old files that lack columns; ``merged`` few files and no old snapshots; ``shop``
    is the work of an engine.
    """
    asked, tmp_path = Asked(), tmp_path_factory.mktemp("lakes")
    with lake_of_shop(postgres, tmp_path / "project", publishes=True) as shop:
        asked.of_shop("shop", shop)
        for name in ("grown", "merged"):
            (tmp_path / name).mkdir()
            lake = EverythingLake(tmp_path / name)
            lake.begin()
            lake.go_on()
            lake.grow()
            if name == "merged":
                lake.publish()
                lake.merge()
            asked.of_everything(name, lake, shown=name == "merged")
            lake.close()
        yield (
            asked,
            {name: tmp_path / name / "lake" for name in ("grown", "merged")}
            | {"shop": shop.folder},
        )


@contextmanager
def catalogs_of(folders: Mapping[str, Path]) -> Iterator[dict[str, str]]:
    """The addresses of REST catalogs of lakes in folders."""
    with ExitStack() as served:
        yield {
            name: served.enter_context(iceberg_rest.serving(folder))
            for name, folder in folders.items()
        }


@pytest.mark.postgres
def test_spark_reads_lakes_in_folders(folders: Folders, tmp_path: Path) -> None:
    asked, lakes = folders
    statements = asked.statements(quote="`", instant="TIMESTAMP")
    with catalogs_of(lakes) as catalogs:
        answers = ask_spark(tmp_path / "answers", catalogs, statements)
    assert answers.refused == {}
    assert asked.check(answers.rows) > _MANY


@pytest.mark.postgres
def test_duckdb_reads_lakes_in_folders(folders: Folders, tmp_path: Path) -> None:
    """By their catalogs, and table by table without one."""
    asked, lakes = folders
    scans = {
        f"scanned-{name}": asked.questions[name][1].sql(f"iceberg_scan('{file}')")
        for name, file in asked.metadata_files(lakes).items()
    }
    with catalogs_of(lakes) as catalogs:
        attach = [
            attached("", name, f"ENDPOINT '{address}', AUTHORIZATION_TYPE 'none'")
            for name, address in catalogs.items()
        ]
        answers = ask_duckdb(tmp_path / "answers", attach, asked.statements() | scans)
    assert asked.check(answers) > _MANY
    scanned = {name: answers[f"scanned-{name}"] for name in asked.questions}
    assert asked.check(scanned) > _MANY


@pytest.mark.postgres
def test_polars_reads_lakes_in_folders(folders: Folders, tmp_path: Path) -> None:
    asked, lakes = folders
    asked = asked.without(lambda question: bool(question.standing or question.span))
    answers = ask_polars(tmp_path / "answers", asked.metadata_files(lakes))
    assert asked.check(answers) > _MANY


def test_duckdb_reads_a_lake_in_a_bucket(seaweed: Seaweed, tmp_path: Path) -> None:
    address, access = seaweed.address(), seaweed.access
    lake = EverythingLake(tmp_path, address, access)
    lake.begin()
    lake.grow()
    lake.publish()
    lake.merge()
    asked = Asked()
    asked.of_everything("lake", lake, shown=True)
    lake.close()
    key, secret = f"'{access.access_key}'", f"'{access.secret_key}'"
    files = {
        "KEY_ID": key,
        "SECRET": secret,
        "ENDPOINT": f"'{urlsplit(access.endpoint).netloc}'",
        "REGION": "'us-east-1'",
        "URL_STYLE": "'path'",
        "USE_SSL": "false",
    }
    tables = {
        "CLIENT_ID": key,
        "CLIENT_SECRET": secret,
        "OAUTH2_SERVER_URI": f"'{access.catalog}/v1/oauth/tokens'",
    }
    attach = [
        f"CREATE SECRET files (TYPE s3, {options(files)})",
        f"CREATE SECRET tables (TYPE iceberg, {options(tables)})",
        attached(urlsplit(address).netloc, "lake", f"SECRET tables, ENDPOINT '{access.catalog}'"),
    ]
    answers = ask_duckdb(tmp_path / "answers", attach, asked.statements())
    assert asked.check(answers) > _MANY


def attached(warehouse: str, name: str, reached: str) -> str:
    """SQL by which DuckDB knows a catalog. ``main`` is no namespace to it unless this is said."""
    return f"ATTACH '{warehouse}' AS {name} (TYPE iceberg, DEFAULT_SCHEMA 'main', {reached})"


def options(named: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in named.items())
