"""Readers that come with pyiceberg alone: its own scan, and DuckDB over the files it plans.

Nothing of ours is in the way: the catalogs are made as any program makes them, and files go through
pyiceberg's default FileIO.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.table import DataScan

from tests.interop.questions import Question, Span
from upwell.store.lake.catalog import Access

Reader = Callable[[Catalog, Question], pa.Table]


def catalog_of_folder(lake: Path) -> SqlCatalog:
    """The catalog of a lake in a folder. Its tables are filed under a name: ours."""
    return SqlCatalog("upwell", uri=f"sqlite:///{lake.resolve() / 'catalog.db'}")


def catalog_of_bucket(access: Access, bucket: str) -> RestCatalog:
    """The catalog of a lake in a bucket."""
    return RestCatalog(
        "anything",
        **{
            "uri": access.catalog,
            "warehouse": bucket,
            "credential": f"{access.access_key}:{access.secret_key}",
            "oauth2-server-uri": f"{access.catalog}/v1/oauth/tokens",
            "s3.endpoint": access.endpoint,
            "s3.access-key-id": access.access_key,
            "s3.secret-access-key": access.secret_key,
            "s3.region": "us-east-1",
        },
    )


def with_pyiceberg(catalog: Catalog, question: Question) -> pa.Table:
    """As pyiceberg's scan gives it; DuckDB only sums up what stands."""
    rows = _scan(catalog, question).to_arrow()
    if not question.standing:
        return rows
    with duckdb.connect() as connection:
        connection.register("rows", rows)
        return connection.execute(question.sql("rows")).to_arrow_table()


def with_read_parquet(catalog: Catalog, question: Question) -> pa.Table:
    """DuckDB over the files that the table is made of, those that the span leaves."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.execute(
            question.sql("read_parquet(?, union_by_name = true)"), [planned(catalog, question)]
        ).to_arrow_table()


def planned(catalog: Catalog, question: Question) -> list[str]:
    """The files that a scan reads. Nothing was ever deleted from one: that needs no second look."""
    tasks = list(_scan(catalog, question).plan_files())
    assert not any(task.delete_files for task in tasks)
    return [task.file.file_path for task in tasks]


def _scan(catalog: Catalog, question: Question) -> DataScan:
    return catalog.load_table(question.table).scan(row_filter=_filter(question.span))


def _filter(span: Span | None) -> str | BooleanExpression:
    if span is None:
        return AlwaysTrue()
    begin, end = span.begin.isoformat(), span.end.isoformat()
    return f"{span.column} >= '{begin}' and {span.column} < '{end}'"
