"""Models built from nothing, by their full queries. The only place where models cause DDL.

A model has one visible relation in ``main``: a table, or a view over hidden ones. Building drops
whatever an earlier version of the model left, hidden relations included. Runs inside the caller's
transaction; the source tables must be there.
"""

from __future__ import annotations

from collections.abc import Collection

import duckdb

from upwell.core.sql import quote, quote_table, quoted_list
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
    name = quote_table(node.name)
    match node.kind:
        case Linear(stored=False) | Outer():
            connection.execute(f"CREATE VIEW {name} AS {sql.full(node.kind, node.column_names)}")
        case Linear():
            connection.execute(f"CREATE TABLE {name} AS {sql.full(node.kind, node.column_names)}")
        case Keyed(key_columns=keys):
            query = sql.full(node.kind, node.column_names)
            connection.execute(f"CREATE TABLE {name} AS {query} ORDER BY {quoted_list(keys)}")
        case Aggregate(state=state):
            connection.execute(f"CREATE TABLE {quote_table(state)} AS {sql.full_state(node.kind)}")
            shown = sql.visible(node.kind, node.column_names, quote_table(state))
            connection.execute(f"CREATE VIEW {name} AS {shown}")
        case Recompute(reads_clock=reads_clock):
            connection.execute(
                f"CREATE TABLE {name} AS {sql.full(node.kind, node.column_names)}",
                {LOGICAL_TIME: logical_time_us} if reads_clock else None,
            )
