"""What a user's statement is, before it is run: one SELECT, and over which tables.

DuckDB's own parser judges, so that nothing is read here that is understood differently there. This
is a courtesy to the user and a saving of copies, not the wall: the wall is the child's confinement.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import duckdb

from upwell.core.errors import UsageError
from upwell.core.sql import LOCKED_DOWN


def tables_named(sql: str) -> tuple[str, ...]:
    """The tables one SELECT reads, as ``orders`` or ``shop.orders``.

    Raises UsageError for what does not parse, is not exactly one statement, or is not a SELECT.
    """
    parser = duckdb.connect(config=dict(LOCKED_DOWN))
    try:
        statements = parser.extract_statements(sql)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise _not_a_select()
        row = parser.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchone()
    except duckdb.Error as error:
        raise UsageError(
            "query_does_not_parse",
            f"Running a query: {error}",
            next_step="Names with capitals or spaces need double quotes, texts single quotes.",
        ) from error
    finally:
        parser.close()
    tree = json.loads(row[0]) if row else {"error": True}
    if tree["error"]:
        raise _not_a_select()
    return tuple(sorted(set(_tables_in(tree["statements"], frozenset()))))


def _tables_in(part: Any, named: frozenset[str]) -> Iterator[str]:
    """The stored tables in a part of the tree; ``named`` are the WITH queries it sees, folded."""
    if isinstance(part, list):
        for each in part:
            yield from _tables_in(each, named)
    elif isinstance(part, dict):
        if part.get("type") == "BASE_TABLE":
            table, schema = part["table_name"], part["schema_name"]
            if schema or table.casefold() not in named:
                yield ".".join(filter(None, (part["catalog_name"], schema, table)))
            return
        if part.get("type") == "RECURSIVE_CTE_NODE":
            named |= {part["cte_name"].casefold()}
        for query in part.get("cte_map", {}).get("map", ()):
            yield from _tables_in(query["value"], named)  # sees those before it, not itself
            named |= {query["key"].casefold()}
        for name, each in part.items():
            if name != "cte_map":
                yield from _tables_in(each, named)


def _not_a_select() -> UsageError:
    return UsageError(
        "not_a_select",
        "Running a query: it must be exactly one SELECT statement.",
        next_step="Data changes in the source database; models change in models/*.sql.",
    )
