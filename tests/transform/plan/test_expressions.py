"""SQLGlot reads DuckDB's expressions as DuckDB does: models are taken apart on that ground."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
import sqlglot

from upwell.core.sql import connect

GOLDEN = Path(__file__).parents[2] / "golden"
EXPRESSIONS = (GOLDEN / "expressions.txt").read_text().splitlines()


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    connection = connect(zone="Europe/London", threads=1)
    connection.execute((GOLDEN / "expressions.sql").read_text())
    return connection


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_means_the_same_after_sqlglot(
    connection: duckdb.DuckDBPyConnection, expression: str
) -> None:
    def values(text: str) -> list[tuple[str, str]]:
        query = f"SELECT CAST(({text}) AS VARCHAR), typeof({text}) FROM hostile"
        return connection.execute(query).fetchall()

    again = sqlglot.parse_one(expression, dialect="duckdb").sql(dialect="duckdb")
    assert values(again) == values(expression)
