"""Databases as values, for tests that need none that runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from upwell.core.schema import Column, TableSchema
from upwell.project.draft import Proposal, Wishes, files_of, propose
from upwell.project.read import read_project
from upwell.project.survey import Family, SeenColumn, SeenForeignKey, SeenTable, Survey
from upwell.project.values import Project
from upwell.wiring import plan_project

SEEN_AT = datetime(2026, 11, 22, 12, tzinfo=UTC)
RECENTLY = datetime(2026, 11, 22, 11, 30, tzinfo=UTC)
WISHES = Wishes(
    project="my shop",
    source="shop",
    url="postgresql://someone@127.0.0.1:1/shop",
    url_note="a note",
    zone="Europe/London",
)

_STORED: dict[Family, tuple[str, str]] = {
    "number": ("integer", "INTEGER"),
    "text": ("text", "VARCHAR"),
    "truth": ("boolean", "BOOLEAN"),
    "time": ("timestamp with time zone", "TIMESTAMPTZ"),
    "other": ("bytea", "BLOB"),
}


def column(
    name: str,
    family: Family = "number",
    *,
    nullable: bool = False,
    stored: str = "",
    distinct: int | None = None,
    common: Sequence[str] = (),
    latest: datetime | None = None,
) -> SeenColumn:
    declared, usual = _STORED[family]
    return SeenColumn(
        name=name,
        declared=stored.lower() or declared,
        stored=stored or usual,
        family=family,
        is_nullable=nullable,
        distinct=distinct,
        null_share=0.0,
        common=tuple(common),
        earliest=latest,
        latest=latest,
    )


def table(
    name: str,
    *columns: SeenColumn,
    key: Sequence[str] = ("id",),
    to: Sequence[SeenForeignKey] = (),
    rows: int = 1000,
) -> SeenTable:
    return SeenTable(
        name=name,
        kind="a table",
        rows=rows,
        rows_are_exact=True,
        size_bytes=8192,
        columns=columns,
        key=tuple(key),
        foreign_keys=tuple(to),
    )


def reference(column_name: str, target: str, target_column: str = "id") -> SeenForeignKey:
    return SeenForeignKey((column_name,), target, (target_column,))


def survey(*tables: SeenTable) -> Survey:
    return Survey("shop", "18.0", "Europe/London", SEEN_AT, tables)


def shop() -> Survey:
    """Customers, products of categories, orders and their lines."""
    return survey(
        table("categories", column("id"), column("name", "text", distinct=8), rows=8),
        table(
            "customers",
            column("id"),
            column("name", "text", distinct=900),
            column("country", "text", distinct=20),
        ),
        table(
            "order_items",
            column("id"),
            column("order_id"),
            column("product_id", nullable=True),
            column("quantity"),
            column("unit_price", stored="DECIMAL(10,2)"),
            to=[reference("order_id", "orders"), reference("product_id", "products")],
            rows=5000,
        ),
        table(
            "orders",
            column("id"),
            column("customer_id"),
            column("placed_at", "time", latest=RECENTLY),
            column("status", "text", distinct=4, common=["paid", "cancelled"]),
            to=[reference("customer_id", "customers")],
        ),
        table(
            "products",
            column("id"),
            column("name", "text", distinct=77),
            column("category_id"),
            column("unit_price", stored="DECIMAL(10,2)"),
            to=[reference("category_id", "categories")],
            rows=77,
        ),
    )


def changed(given: Survey, name: str, **changes: object) -> Survey:
    """The survey with one table changed."""
    tables = [
        replace(each, **changes) if each.name == name else each  # type: ignore[arg-type]
        for each in given.tables
    ]
    return replace(given, tables=tuple(tables))


def written(proposal: Proposal, folder: Path) -> Project:
    """The draft, read back as a project whose models are planned over the tables of the survey.

    Raises what ``upwell validate`` would say.
    """
    for path, text in files_of(proposal).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    project = read_project(folder, environment={})
    (source,) = project.settings.sources.values()
    layouts = {}
    for name in source.tables:
        seen = proposal.survey.table(name)
        columns = tuple(Column(c.name, c.stored, c.is_nullable) for c in seen.columns)
        schema = TableSchema(f"shop.{seen.relation}", columns, seen.key)
        layouts[schema.name] = schema
    plan_project(project, layouts)
    return project


def drafted(given: Survey, folder: Path, **wishes: object) -> Project:
    """What is proposed of a survey, written and read back."""
    return written(propose(given, replace(WISHES, **wishes)), folder)  # type: ignore[arg-type]
