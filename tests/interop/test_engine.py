"""A real engine's lake, as pyiceberg and DuckDB alone read it, is what ``upwell query`` says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from tests.interop.questions import Question, assert_same
from tests.interop.readers import (
    Reader,
    catalog_of_folder,
    planned,
    with_pyiceberg,
    with_read_parquet,
)
from tests.interop.shop import LakeOfShop, lake_of_shop
from upwell.demo.server import Server

pytestmark = pytest.mark.postgres


@pytest.fixture
def shop(postgres: Server, tmp_path: Path) -> Iterator[LakeOfShop]:
    with lake_of_shop(postgres, tmp_path / "project") as shop:
        yield shop


def assert_agrees(shop: LakeOfShop, answers: Mapping[Question, pa.Table], *readers: Reader) -> None:
    catalog = catalog_of_folder(shop.folder)
    for question, expected in answers.items():
        for read in readers:
            assert assert_same(read(catalog, question), expected) > 5, question
    catalog.close()


def test_plain_readers_agree_with_query(shop: LakeOfShop) -> None:
    answers = shop.questions()
    of_logs = {each: rows for each, rows in answers.items() if each.table.endswith("__log")}
    assert_agrees(shop, of_logs, with_pyiceberg)
    shop.merge()
    shop.publish()
    assert_agrees(shop, answers, with_pyiceberg, with_read_parquet)
    assert_the_guide_holds(shop, answers)


def assert_the_guide_holds(shop: LakeOfShop, answers: Mapping[Question, pa.Table]) -> None:
    """What people are told to write gives what it is said to give."""
    guide = (Path(__file__).parents[2] / "docs/howto/lake-readers.md").read_text()
    known: dict[str, Any] = {}
    exec(block(guide, "python").replace("/srv/shop", str(shop.folder.parent)), known)  # noqa: S102
    assert_same(known["rows"], answers[Question("main.order_categories")])
    with duckdb.connect() as connection:
        connection.execute("CREATE SCHEMA shop; CREATE SCHEMA upwell")
        for table in ("shop.orders__log", "upwell.versions"):
            files = planned(known["catalog"], Question(table))
            connection.execute(f"CREATE VIEW {table} AS FROM read_parquet({files})")
        standing = connection.execute(block(guide, "sql")).to_arrow_table()
    assert_same(standing, answers[Question("shop.orders")].select(standing.column_names))
    known["catalog"].close()


def block(guide: str, language: str) -> str:
    """The first piece of code in a language."""
    return guide.partition(f"```{language}\n")[2].partition("```")[0]
