"""Whatever a database looks like and is called, its draft holds together."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.project.draft.surveys import SEEN_AT, WISHES, written
from upwell.core.errors import EnvironmentFault
from upwell.project.draft import propose
from upwell.project.draft.names import KEYWORDS
from upwell.project.survey import Family, SeenColumn, SeenForeignKey, SeenTable, Survey

#: Names that mean something, names that SQL knows otherwise, and names nobody should have given.
TELLING = [
    "id", "order_id", "customer_id", "quantity", "unit_price", "amount", "discount", "order_date",
    "created_at", "status", "category", "name", "title", "country", "total", "profit", "orders",
    "order_items", "customers", "products", "categories", "payments", "sales",
]  # fmt: skip
HOSTILE = [
    'quo"te', "with blank", "Mixed", "mixed", "order", "select", "rowid", "é", "заказы", "名前",
    "a'b", "semi;colon", "-- dash", "/* c", "new\nline", "_weight_", "1st", "%", "😀", "a\\b",
    "key: x", "true", "null", "main", "upwell", "shop", "#x", "{y}", "*", "x" * 63,
]  # fmt: skip
NAMES = st.one_of(
    st.sampled_from(TELLING),
    st.sampled_from(HOSTILE),
    st.sampled_from(sorted(KEYWORDS)),
    st.text(
        st.characters(exclude_characters="\0.", exclude_categories=["Cs", "Cc"]),
        min_size=1,
        max_size=12,
    ),
)
KINDS: list[tuple[Family, str, str]] = [
    ("number", "integer", "INTEGER"),
    ("number", "real", "FLOAT"),
    ("number", "numeric", "VARCHAR"),
    ("number", "numeric(10,2)", "DECIMAL(10,2)"),
    ("number", "bigint", "BIGINT"),
    ("text", "text", "VARCHAR"),
    ("truth", "boolean", "BOOLEAN"),
    ("time", "date", "DATE"),
    ("time", "timestamp without time zone", "TIMESTAMP"),
    ("time", "timestamp with time zone", "TIMESTAMPTZ"),
    ("other", "bytea", "BLOB"),
]


@st.composite
def columns(draw: st.DrawFn, name: str) -> SeenColumn:
    family, declared, stored = draw(st.sampled_from(KINDS))
    latest = draw(st.sampled_from([None, SEEN_AT, datetime(1998, 5, 6, tzinfo=UTC)]))
    return SeenColumn(
        name=name,
        declared=declared,
        stored=stored,
        family=family,
        is_nullable=draw(st.booleans()),
        distinct=draw(st.sampled_from([None, 1, 3, 40, 5000])),
        null_share=draw(st.sampled_from([None, 0.0, 0.9])),
        common=tuple(draw(st.lists(st.sampled_from(["0", "0.5", "12", "cancelled", "a'b"])))),
        earliest=latest,
        latest=latest,
    )


@st.composite
def tables(draw: st.DrawFn, name: str) -> SeenTable:
    names = draw(st.lists(NAMES, min_size=1, max_size=8, unique_by=str.lower))
    found = [draw(columns(each)) for each in names]
    return SeenTable(
        name=name,
        kind="a table",
        rows=draw(st.sampled_from([None, 0, 9, 5000, 3_000_000])),
        rows_are_exact=draw(st.booleans()),
        size_bytes=0,
        columns=tuple(found),
        key=tuple(names[: draw(st.integers(1, min(2, len(names))))]),
    )


@st.composite
def surveys(draw: st.DrawFn) -> Survey:
    named = st.builds(
        lambda schema, name: f"{schema}.{name}" if schema else name,
        st.sampled_from(["", "", "", "sales", "Other Schema"]),
        NAMES.filter(lambda name: name.isprintable()),
    )
    names = draw(st.lists(named, min_size=1, max_size=5, unique=True))
    found = [draw(tables(name)) for name in names]
    return Survey(
        "shop", "18.0", "UTC", SEEN_AT, tuple(draw(_referring(each, found)) for each in found)
    )


@st.composite
def _referring(draw: st.DrawFn, table: SeenTable, among: list[SeenTable]) -> SeenTable:
    keys = []
    for target in draw(st.lists(st.sampled_from(among), max_size=3)):
        if len(target.key) == 1:
            column = draw(st.sampled_from(table.columns))
            keys.append(
                SeenForeignKey((column.name,), target.name, target.key, draw(st.booleans()))
            )
    return SeenTable(
        table.name, table.kind, table.rows, table.rows_are_exact, table.size_bytes, table.columns,
        table.key, tuple(keys),
    )  # fmt: skip


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(surveys())
def test_the_draft_of_any_database_passes_validation(survey: Survey) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            proposal = propose(survey, WISHES)
        except EnvironmentFault:  # every key is called rowid
            return
        written(proposal, Path(folder))
