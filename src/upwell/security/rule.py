"""What of one table is stored, as a project says it, and what that makes of a layout.

Refuses, each with the nearest name: columns that the table does not have, a key column dropped, a
condition that does not fit the columns' types. A layout that lost a named column is refused too:
under another name its values would be stored as they are.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import duckdb

from upwell.core.errors import ProjectError
from upwell.core.schema import TableSchema
from upwell.core.sql import connect, literal, quote
from upwell.security.predicate import Predicate

HASHED_TYPE = "VARCHAR"
_NO_VALUE = "neither number nor time"


@dataclass(frozen=True, slots=True)
class Rule:
    """``drop``: columns never stored. ``keep``: the only ones stored, beside keys and ``hash``.

    ``hash``: columns stored as a keyed hash. ``rows``: the only rows stored. ``where`` is the place
    in the project, for errors.
    """

    drop: tuple[str, ...] = ()
    keep: tuple[str, ...] | None = None
    hash: tuple[str, ...] = ()
    rows: Predicate | None = None
    where: str = ""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A rule fitted to a layout: ``schema`` is what is stored of ``given``."""

    given: TableSchema
    schema: TableSchema
    hashed: frozenset[str]
    dropped: frozenset[str]
    condition: str | None
    condition_columns: tuple[str, ...]


def fit(rule: Rule, schema: TableSchema) -> Fitted:
    """Raises ``ProjectError``."""
    hashed = frozenset(_found(name, "hash", rule, schema) for name in rule.hash)
    dropped = frozenset(_found(name, "drop", rule, schema) for name in rule.drop)
    if rule.keep is not None:
        kept = {_found(name, "keep", rule, schema) for name in rule.keep}
        dropped = frozenset(schema.column_names) - kept - hashed - set(schema.key)
    for name in schema.key:
        if name in dropped:
            raise ProjectError(
                "privacy_key_dropped",
                f"{schema.name} cannot be stored without {name}: it is in its key, which tells "
                "rows apart",
                where=rule.where,
                next_step=f"hash it instead: hash: [{name}]",
            )
    condition: str | None = None
    names: tuple[str, ...] = ()
    if rule.rows is not None:
        spelled = {name: _found(name, "rows", rule, schema) for name in rule.rows.columns}
        names = tuple(dict.fromkeys(spelled.values()))
        condition = rule.rows.sql(spelled)
        _require_typed(condition, names, rule, schema)
    columns = tuple(
        replace(column, type=HASHED_TYPE) if column.name in hashed else column
        for column in schema.columns
        if column.name not in dropped
    )
    return Fitted(schema, replace(schema, columns=columns), hashed, dropped, condition, names)


def typed_columns(schema: TableSchema, names: Iterable[str]) -> str:
    """Columns of an Arrow table as what they are stored as, for a SELECT list."""
    return ", ".join(
        f"CAST({quote(name)} AS {schema.column(name).type}) AS {quote(name)}" for name in names
    )


def _found(name: str, key: str, rule: Rule, schema: TableSchema) -> str:
    """The column called ``name``, as DuckDB would find it: in whatever case."""
    if name in schema.column_names:
        return name
    folded: Mapping[str, str] = {each.lower(): each for each in schema.column_names}
    if name.lower() in folded:
        return folded[name.lower()]
    near = difflib.get_close_matches(name.lower(), folded, n=1)
    listed = ", ".join(schema.column_names)
    raise ProjectError(
        "privacy_column_unknown",
        f"{schema.name} has no column {name}, which `{key}` names",
        where=rule.where,
        next_step=f"did you mean {folded[near[0]]}?" if near else f"there are: {listed}",
    )


def _require_typed(condition: str, names: Iterable[str], rule: Rule, schema: TableSchema) -> None:
    """Whether the condition fits the types of its columns.

    Tried on a row of NULLs, and on one of texts that are no values of another type: a comparison
    for which every text had to be converted would fail on the first that cannot be.
    """
    rows = " UNION ALL ".join(
        "SELECT " + ", ".join(f"{_probe(schema, name, text)} AS {quote(name)}" for name in names)
        for text in ("NULL", literal(_NO_VALUE))
    )
    with connect(zone="UTC", threads=1) as connection:
        try:
            connection.execute(f"SELECT ({condition}) IS TRUE FROM ({rows})").fetchall()
        except duckdb.Error as error:
            said = str(error).splitlines()[0]
            raise ProjectError(
                "privacy_rows_invalid",
                f"rows of {schema.name} cannot be chosen by `{condition}`: {said}",
                where=rule.where,
                next_step="compare columns with values of their own type: text in quotes, DATE "
                "'2024-01-31', numbers bare",
            ) from error


def _probe(schema: TableSchema, name: str, text: str) -> str:
    of_type = schema.column(name).type
    return f"CAST({text if of_type == 'VARCHAR' else 'NULL'} AS {of_type})"
