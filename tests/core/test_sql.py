"""The SQL door against DuckDB itself: whatever goes in comes out as the same name or value."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from upwell.core import sql

names = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1)
# Hostile on purpose: quotes, dots, comments, semicolons.
hostile = st.text(st.sampled_from("\"'.;-/*\\$ aA\n%"), min_size=1, max_size=12)

shared_connection = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


@pytest.fixture(scope="module")
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = sql.connect(zone="Europe/London", threads=1)
    yield connection
    connection.close()


def one(connection: duckdb.DuckDBPyConnection, statement: str) -> object:
    row = connection.execute(statement).fetchone()
    assert row is not None
    return row[0]


@shared_connection
@given(names | hostile)
def test_a_quoted_name_is_that_name(duck: duckdb.DuckDBPyConnection, name: str) -> None:
    description = duck.execute(f"SELECT 1 AS {sql.quote(name)}").description
    assert description is not None
    assert description[0][0] == name


@shared_connection
@given(names | hostile, names | hostile)
def test_a_quoted_table_name_has_the_schema_before_its_first_dot(
    duck: duckdb.DuckDBPyConnection, schema: str, table: str
) -> None:
    schema = schema.replace(".", "_") + "_"  # never the name of a schema that is there
    duck.execute("BEGIN")
    try:
        duck.execute(f"CREATE SCHEMA {sql.quote(schema)}")
        duck.execute(f"CREATE TABLE {sql.quote_table(f'{schema}.{table}')} (x INTEGER)")
        found = duck.execute(
            "SELECT schema_name, table_name FROM duckdb_tables() WHERE NOT internal"
        ).fetchall()
        assert found == [(schema, table)]
    finally:
        duck.execute("ROLLBACK")


@shared_connection
@given(names | hostile | st.just(""))
def test_a_text_literal_is_that_text(duck: duckdb.DuckDBPyConnection, value: str) -> None:
    assert one(duck, f"SELECT {sql.literal(value)}") == value


@shared_connection
@given(st.integers(-(2**63), 2**63 - 1))
def test_an_integer_literal_is_that_integer(duck: duckdb.DuckDBPyConnection, value: int) -> None:
    assert one(duck, f"SELECT {sql.literal(value)}") == value


def test_a_name_without_a_dot_is_a_table_alone() -> None:
    assert sql.quote_table("orders") == '"orders"'


@pytest.mark.parametrize("door", [sql.quote, sql.literal])
def test_a_nul_character_is_refused(door: object) -> None:
    assert callable(door)
    with pytest.raises(ValueError, match="NUL"):
        door("a\0b")


def test_a_list_of_names_is_quoted_one_by_one() -> None:
    assert sql.quoted_list(["a", 'b"c']) == '"a", "b""c"'
    assert sql.quoted_list(["a", "b"], prefix="t") == 't."a", t."b"'


def test_null_equals_null_in_a_null_safe_join(duck: duckdb.DuckDBPyConnection) -> None:
    condition = sql.null_safe_equal(["a", "b"], "l", "r")
    rows = "(VALUES (1, NULL), (NULL, NULL), (1, 1)) AS {}(a, b)"
    joined = one(
        duck, f"SELECT count(*) FROM {rows.format('l')} JOIN {rows.format('r')} ON {condition}"
    )
    assert joined == 3


def test_a_connection_has_the_business_zone_and_loads_no_extension(
    duck: duckdb.DuckDBPyConnection,
) -> None:
    assert one(duck, "SELECT current_setting('TimeZone')") == "Europe/London"
    for setting in sql.LOCKED_DOWN:
        assert one(duck, f"SELECT current_setting({sql.literal(setting)})") is False


def test_an_unknown_zone_is_refused() -> None:
    with pytest.raises(duckdb.Error, match="Nowhere"):
        sql.connect(zone="Nowhere/Land")


@pytest.mark.parametrize(
    ("texts", "longest", "method"),
    [("fsst", 40, "FSST"), ("fsst", 300_000, "Uncompressed"), ("uncompressed", 40, "Uncompressed")],
)
def test_texts_are_stored_as_they_are_whatever_packs_them(
    tmp_path: Path, texts: sql.TextCompression, longest: int, method: str
) -> None:
    """FSST has no way to store very long ones: DuckDB must find another by itself."""
    file = str(tmp_path / "texts.duckdb")
    column = sql.column_definition("text", "VARCHAR", texts=texts)
    with sql.connect(file, zone="UTC") as connection:
        connection.execute(f"CREATE TABLE t (id BIGINT, {column})")
        connection.execute(
            "INSERT INTO t SELECT i, CASE WHEN i % 7 > 0 THEN 'order ' || hash(i) END "
            "FROM range(20_000) AS r(i)"
        )
        connection.execute("INSERT INTO t VALUES (-1, ?)", ["x" * longest])
        rows = connection.execute("FROM t ORDER BY id").fetchall()
    with sql.connect(file, zone="UTC") as connection:
        assert connection.execute("FROM t ORDER BY id").fetchall() == rows
        methods = connection.execute(
            "SELECT DISTINCT compression FROM pragma_storage_info('t') "
            "WHERE segment_type = 'VARCHAR'"
        ).fetchall()
    assert methods == [(method,)]
