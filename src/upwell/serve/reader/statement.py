"""What a user's statement is, before it is run: one SELECT, and over which tables.

DuckDB's own parser judges, so that nothing is read here that is understood differently there. This
is a courtesy to the user and a saving of copies, not the wall: the wall is the child's confinement.
"""

from __future__ import annotations

import re

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
            raise UsageError(
                "not_a_select",
                "Running a query: it must be exactly one SELECT statement.",
                next_step="Data changes in the source database; models change in models/*.sql.",
            )
        named = parser.get_table_names(sql, qualified=True)
    except duckdb.Error as error:
        raise UsageError(
            "query_does_not_parse",
            f"Running a query: {error}",
            next_step="Names with capitals or spaces need double quotes, texts single quotes.",
        ) from error
    finally:
        parser.close()
    return tuple(sorted({_plain(name) for name in named}))


_PART = re.compile(r'"((?:[^"]|"")*)"|([^".\s]+)')


def _plain(reference: str) -> str:
    """``"My Tab".t AS x`` → ``My Tab.t``: DuckDB gives names as they are written, alias and all."""
    parts, at = [], 0
    while found := _PART.match(reference, at):
        parts.append(found[1].replace('""', '"') if found[1] is not None else found[2])
        at = found.end() + 1
        if reference[found.end() : at] != ".":
            break
    return ".".join(parts)
