"""Models built from nothing, by their full queries. The only place where models cause DDL.

A model has one visible relation in ``main``: a table, or a view over hidden ones. Building drops
whatever an earlier version of the model left, hidden relations included. Runs inside the caller's
transaction; the source tables must be there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import duckdb

from upwell.core.schema import Column
from upwell.core.sql import column_definition, quote, quote_table, quoted_list
from upwell.transform.plan import sql
from upwell.transform.plan.bind import LOGICAL_TIME
from upwell.transform.plan.nodes import (
    HIDDEN,
    Aggregate,
    Keyed,
    Linear,
    Node,
    Outer,
    Plan,
    Recompute,
)


def build(
    connection: duckdb.DuckDBPyConnection,
    plan: Plan,
    names: Collection[str],
    logical_time_us: int,
) -> None:
    """Build the models called ``names``, in the plan's order, as of a logical time.

    What reads a rebuilt model must be rebuilt with it: fingerprints say so. Raises ``KeyError`` for
    a name that is not in the plan.
    """
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(HIDDEN)}")
    for unknown in set(names) - {model.name for model in plan.models}:
        raise KeyError(unknown)
    for model in plan.models:
        if model.name in names:
            drop(connection, model.name)
            for node in model.nodes:
                _build_node(connection, node, logical_time_us)


def drop(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Drop a model with its hidden relations, whatever plan made them."""
    found = connection.execute(
        "SELECT table_schema, table_name, table_type FROM information_schema.tables"
        " WHERE table_catalog = current_database()"
        " AND (table_schema = 'main' AND table_name = $name OR table_schema = $hidden"
        " AND (starts_with(table_name, $name || '/') OR starts_with(table_name, $name || '#')))",
        {"name": name, "hidden": HIDDEN},
    ).fetchall()
    for schema, table, kind in found:
        what = "VIEW" if kind == "VIEW" else "TABLE"
        connection.execute(f"DROP {what} {quote(schema)}.{quote(table)}")


def _build_node(connection: duckdb.DuckDBPyConnection, node: Node, logical_time_us: int) -> None:
    query = sql.full(node.kind, node.column_names)
    match node.kind:
        case Linear(stored=False) | Outer():
            connection.execute(f"CREATE VIEW {quote_table(node.name)} AS {query}")
        case Linear():
            _store(connection, node.name, node.columns, query)
        case Keyed(key_columns=keys):
            _store(connection, node.name, node.columns, f"{query} ORDER BY {quoted_list(keys)}")
        case Aggregate(state=state):
            columns = [Column(*each) for each in sql.state_types(node.kind).items()]
            _store(connection, state, columns, sql.full_state(node.kind))
            shown = sql.visible(node.kind, node.column_names, quote_table(state))
            connection.execute(f"CREATE VIEW {quote_table(node.name)} AS {shown}")
        case Recompute(reads_clock=reads_clock):
            parameters = {LOGICAL_TIME: logical_time_us} if reads_clock else None
            _store(connection, node.name, node.columns, query, parameters)


def _store(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    columns: Sequence[Column],
    query: str,
    parameters: dict[str, int] | None = None,
) -> None:
    """A table of a query's rows."""
    definitions = ", ".join(column_definition(each.name, each.type) for each in columns)
    connection.execute(f"CREATE TABLE {quote_table(name)} ({definitions})")
    connection.execute(f"INSERT INTO {quote_table(name)} BY NAME {query}", parameters)
