"""The captured tables as the server describes them, and why one of them cannot be followed.

Reads only. A table that cannot be followed faithfully has a reason and a remedy here. The most
surprising one: rows that a foreign key deletes or changes (ON DELETE CASCADE, SET NULL) are in no
log, because replicas do the same by themselves.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from upwell.core.errors import EnvironmentFault, UpwellError, UsageError
from upwell.sources.mysql.datatypes import Kind
from upwell.sources.mysql.server import Server
from upwell.sources.mysql.session import Row, Session
from upwell.sources.mysql.tables import CapturedColumn, CapturedTable, split_name, sql_name

_TABLE = """
    SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, ENGINE FROM information_schema.TABLES
     WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s
"""
_NAMES = """
    SELECT TABLE_NAME FROM information_schema.TABLES
     WHERE TABLE_SCHEMA = %s AND TABLE_TYPE = 'BASE TABLE'
"""
_COLUMNS = """
    SELECT COLUMN_NAME, COLUMN_TYPE, CHARACTER_SET_NAME, IS_NULLABLE, COLUMN_DEFAULT, EXTRA,
           GENERATION_EXPRESSION
      FROM information_schema.COLUMNS
     WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s ORDER BY ORDINAL_POSITION
"""
_UNIQUE = """
    SELECT INDEX_NAME, COLUMN_NAME, SUB_PART, NULLABLE FROM information_schema.STATISTICS
     WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s AND NON_UNIQUE = 0
     ORDER BY INDEX_NAME <> 'PRIMARY', INDEX_NAME, SEQ_IN_INDEX
"""
#: A foreign key of our table that changes our rows; hidden in the catalogue from mere readers.
_CASCADES = re.compile(r"CONSTRAINT (.+?) FOREIGN KEY .*? ON (?:DELETE|UPDATE) (CASCADE|SET \w+)")
#: What stands beside the source's own columns where changes are kept.
_OUR_COLUMNS = (b"_version", b"_position", b"_committed_at", b"_received_at", b"_weight")


@dataclass(frozen=True, slots=True)
class Catalog:
    """Tables that can be followed, and why the others cannot, by their names in SQL."""

    tables: Mapping[str, CapturedTable]
    unfit: Mapping[str, UpwellError] = field(default_factory=dict)


def read_catalog(session: Session, server: Server, source: str, names: Sequence[str]) -> Catalog:
    """The tables ``names`` of the server, as they stand."""
    tables: dict[str, CapturedTable] = {}
    unfit: dict[str, UpwellError] = {}
    for name in names:
        called = sql_name(source, name, session.address.database)
        try:
            tables[called] = read_table(session, server, called, name)
        except (EnvironmentFault, UsageError) as error:
            if error.code == "no_right" and "SHOW CREATE" not in error.what:
                raise
            unfit[called] = error
    return Catalog(tables, unfit)


def table_names(session: Session) -> list[str]:
    """The tables of the URL's database."""
    return sorted(_text(row[0]) for row in session.rows(_NAMES, [session.address.database]))


def read_table(session: Session, server: Server, called: str, name: str) -> CapturedTable:
    """One table. Raises why it cannot be followed."""
    database, relation = split_name(name, session.address.database)
    found = session.rows(_TABLE, [database, relation])
    if not found:
        raise _missing(session, name)
    database, relation, kind, engine = (str(value) for value in found[0])
    if kind != "BASE TABLE" or engine != "InnoDB":
        raise _of_wrong_kind(database, relation, kind, engine)
    columns = tuple(_column(row, server) for row in session.rows(_COLUMNS, [database, relation]))
    for column in columns:
        _require_readable(database, relation, column)
    key = _key(session.rows(_UNIQUE, [database, relation]), columns)
    if not key:
        raise _keyless(database, relation)
    table = CapturedTable(called, database, relation, columns, key)
    for problem in _cascades(session, table):
        raise problem
    for problem in _indistinct_columns(table):
        raise problem
    return table


def _column(row: Row, server: Server) -> CapturedColumn:
    name, words, charset, nullable, default, extra, expression = row
    return CapturedColumn(
        name=_text(name),
        words=_text(words),
        charset=_text(charset or ""),
        is_nullable=_text(nullable) == "YES",
        default=_default(default, _text(extra or ""), server),
        extra=_text(extra or ""),
        expression=_text(expression or ""),
    )


def _default(default: object, extra: str, server: Server) -> str | None:
    """As an SQL expression, which MariaDB gives and MySQL does not: there a constant is bare."""
    if default is None:
        return None
    text = _text(default)
    if server.is_mariadb:
        return None if text == "NULL" else text
    if "DEFAULT_GENERATED" in extra or re.match(r"CURRENT_TIMESTAMP|b'", text, re.IGNORECASE):
        return f"({text})"
    return "'" + text.replace("'", "''") + "'"


def _key(rows: Sequence[Row], columns: Sequence[CapturedColumn]) -> tuple[str, ...]:
    """The primary key, or else the first unique one of whole columns that are never NULL."""
    keys: dict[str, list[str | None]] = {}
    usable = {each.name for each in columns if not each.is_nullable and not each.is_virtual}
    for index, column, part, _ in rows:
        name = _text(column) if column is not None and part is None else ""
        keys.setdefault(_text(index), []).append(name if name in usable else None)
    for names in keys.values():
        whole = [name for name in names if name is not None]
        if len(whole) == len(names):
            return tuple(whole)
    return ()


def _require_readable(database: str, relation: str, column: CapturedColumn) -> None:
    try:
        kind = column.type.kind
    except ValueError:
        kind = None
    if kind is not None and not (kind is Kind.INET4 and "(" in column.words):
        return
    charset = f" in character set {column.charset}" if column.charset else ""
    raise EnvironmentFault(
        "column_type_unknown",
        f"{database}.{relation} has a column {column.name} of type {column.words}{charset}, which "
        "cannot be read from the log",
        where=f"{database}.{relation}",
        next_step="give the column another type there, or leave the table out of upwell.yaml",
    )


def _cascades(session: Session, table: CapturedTable) -> Iterator[UpwellError]:
    statement = _text(session.row(f"SHOW CREATE TABLE {table.quoted}")[1])
    for line in statement.splitlines():
        match = _CASCADES.search(line)
        if match is not None:
            yield EnvironmentFault(
                "foreign_key_cascades",
                f"{table.database}.{table.table} has the foreign key {match[1]}, which changes its "
                f"rows ({match[2]}): the server's log does not have such changes",
                where=f"{table.database}.{table.table}",
                next_step=f"ALTER TABLE {table.database}.{table.table} DROP FOREIGN KEY {match[1]} "
                "and add it again without; let the shop delete these rows itself",
            )


def _indistinct_columns(table: CapturedTable) -> Iterator[UpwellError]:
    """DuckDB folds ASCII letters alone; ours beside them have names too."""
    name = f"{table.database}.{table.table}"
    taken = dict.fromkeys(_OUR_COLUMNS, "a column that Upwell adds")
    for column in table.schema.columns:
        folded = column.name.encode().lower()
        if folded in taken:
            yield EnvironmentFault(
                "column_name_taken",
                f"{name} has a column {column.name}, which could not be told from {taken[folded]}",
                where=name,
                next_step=f"ALTER TABLE {name} RENAME COLUMN {column.name} TO …",
            )
        taken[folded] = f"its column {column.name}"


def _keyless(database: str, relation: str) -> EnvironmentFault:
    return EnvironmentFault(
        "table_without_key",
        f"{database}.{relation} has neither a primary key nor a unique one that is never NULL: its "
        "rows cannot be told apart",
        where=f"{database}.{relation}",
        next_step=f"ALTER TABLE {database}.{relation} ADD PRIMARY KEY (…)",
    )


def _of_wrong_kind(database: str, relation: str, kind: str, engine: str) -> EnvironmentFault:
    where = f"{database}.{relation}"
    if kind == "BASE TABLE":
        what = f"{where} is kept by {engine}, which cannot be read as it stood at one moment"
        step = f"ALTER TABLE {where} ENGINE = InnoDB"
    else:
        what = f"{where} is no ordinary table but a {kind.lower()}, which has no changes in the log"
        step = "name the tables it is made of, or leave it out of upwell.yaml"
    return EnvironmentFault("table_kind", what, where=where, next_step=step)


def _missing(session: Session, name: str) -> UsageError:
    """The error for a table that is not there, with the name that was probably meant."""
    database, relation = split_name(name, session.address.database)
    known = [_text(row[0]) for row in session.rows(_NAMES, [database])]
    near = difflib.get_close_matches(relation, known, n=1, cutoff=0.5)
    listed = f"there are: {', '.join(sorted(known)[:20])}" if known else "there are no tables"
    return UsageError(
        "table_unknown",
        f"the source database has no table {name}, or hides it from this user",
        where=name,
        next_step=f"did you mean {near[0]}?" if near else f"{listed}; or GRANT SELECT on it",
    )


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
