"""Looks at a database before a project is drafted: what is there, and what could be captured.

One read-only connection, closed at once, with short timeouts: nobody in the shop waits for it. The
number of statements does not grow with the number of tables but for one look at every forty. Tables
that cannot be captured are described too, each with every reason and its remedy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import LiteralString

import psycopg

from upwell.core.errors import EnvironmentFault, UpwellError
from upwell.project.survey import (
    Family,
    Obstacle,
    SeenColumn,
    SeenForeignKey,
    SeenTable,
    Survey,
)
from upwell.sources.postgres.catalog import captured, read_columns
from upwell.sources.postgres.datatypes import Kind
from upwell.sources.postgres.relations import (
    KINDS,
    Relation,
    indistinct_columns,
    list_relations,
    unfit,
    unreadable_partitions,
)
from upwell.sources.postgres.session import session
from upwell.sources.postgres.statistics import ColumnLook, Place, TableLook, look_at, place_of
from upwell.sources.postgres.tables import CapturedColumn, sql_name

_DATABASE: LiteralString = """
    select current_database()::text, current_setting('server_version'),
           current_setting('TimeZone'), now()
"""
_FOREIGN_KEYS: LiteralString = """
    select k.conrelid::bigint, k.confrelid::bigint,
           array(select a.attname::text from unnest(k.conkey) with ordinality as c(number, place)
                   join pg_attribute a on a.attrelid = k.conrelid and a.attnum = c.number
                  order by c.place),
           array(select a.attname::text from unnest(k.confkey) with ordinality as c(number, place)
                   join pg_attribute a on a.attrelid = k.confrelid and a.attnum = c.number
                  order by c.place),
           k.convalidated and coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true)
      from pg_constraint k
     where k.contype = 'f' and k.conrelid = any (%s::oid[])
     order by k.conrelid, k.conkey
"""
_TYPES: LiteralString = """
    select attrelid::bigint, attname::text, format_type(atttypid, atttypmod)
      from pg_attribute where attrelid = any (%s::oid[]) and attnum > 0 and not attisdropped
"""
_FAMILIES: Mapping[Kind, Family] = {
    Kind.BOOL: "truth",
    Kind.INT2: "number",
    Kind.INT4: "number",
    Kind.INT8: "number",
    Kind.FLOAT4: "number",
    Kind.FLOAT8: "number",
    Kind.DECIMAL: "number",
    Kind.NUMERIC: "number",
    Kind.TEXT: "text",
    Kind.DATE: "time",
    Kind.TIMESTAMP: "time",
    Kind.TIMESTAMPTZ: "time",
}
_JSON = 114


def survey_database(url: str) -> Survey:
    """The database at ``url`` as it stands. Raises what ``session`` raises."""
    with session(url, keeps_zone=True) as connection:
        connection.execute("SET lock_timeout = '2s'; SET statement_timeout = '20s'")
        row = connection.execute(_DATABASE).fetchone()
        assert row is not None  # noqa: S101 - a SELECT without FROM has one row
        database, version, zone, seen_at = row
        relations = [each for each in list_relations(connection) if not each.is_partition]
        tables, notes = _tables(connection, relations)
        return Survey(database, version, zone, _aware(seen_at), tables, notes)


def _aware(moment: object) -> datetime:
    assert isinstance(moment, datetime)  # noqa: S101 - now() is a timestamptz
    return moment


def _tables(
    connection: psycopg.Connection, relations: Sequence[Relation]
) -> tuple[tuple[SeenTable, ...], tuple[str, ...]]:
    oids = [relation.oid for relation in relations]
    columns = read_columns(connection, oids)
    obstacles = {each.oid: _obstacles(each, columns[each.oid]) for each in relations}
    places = [
        _place(relation, columns[relation.oid])
        for relation in relations
        if relation.kind in ("r", "p") and relation.may_be_read and not relation.hides_rows
    ]
    looks, notes = look_at(connection, places)
    declared: dict[int, dict[str, str]] = {}
    for oid, name, spelled in connection.execute(_TYPES, [oids]):
        declared.setdefault(oid, {})[name] = spelled
    references = _references(connection, relations)
    nothing = TableLook(None, rows_are_exact=False, size_bytes=0, columns={})
    return (
        tuple(
            _table(
                each,
                looks.get(each.oid, nothing),
                columns=[
                    _column(column, declared[each.oid], looks.get(each.oid, nothing).columns)
                    for column in columns[each.oid]
                ],
                foreign_keys=references.get(each.oid, ()),
                obstacles=obstacles[each.oid],
            )
            for each in relations
        ),
        tuple(notes),
    )


def _table(
    relation: Relation,
    look: TableLook,
    *,
    columns: Sequence[SeenColumn],
    foreign_keys: Sequence[SeenForeignKey],
    obstacles: Sequence[Obstacle],
) -> SeenTable:
    return SeenTable(
        name=project_name(relation),
        kind=KINDS.get(relation.kind, "a relation"),
        rows=look.rows,
        rows_are_exact=look.rows_are_exact,
        size_bytes=look.size_bytes,
        columns=tuple(columns),
        key=tuple(relation.key),
        foreign_keys=tuple(foreign_keys),
        obstacles=tuple(obstacles),
    )


def project_name(relation: Relation) -> str:
    """The relation as ``tables`` of a project name it: ``orders``, ``sales.orders``."""
    if relation.namespace == "public":
        return relation.relation
    return f"{relation.namespace}.{relation.relation}"


def _obstacles(relation: Relation, columns: Sequence[CapturedColumn]) -> list[Obstacle]:
    return [
        Obstacle(fault.code, fault.what, fault.next_step) for fault in obstacles(relation, columns)
    ]


def obstacles(relation: Relation, columns: Sequence[CapturedColumn]) -> list[UpwellError]:
    """Every reason why a relation cannot be captured, or cannot be named in a project."""
    name = project_name(relation)
    found = [*unfit(relation)]
    if relation.kind in ("r", "p"):
        found += unreadable_partitions(relation)
        found += indistinct_columns(captured(relation, sql_name("source", name), columns))
        found += _unnameable(relation)
    return found


def _unnameable(relation: Relation) -> list[UpwellError]:
    parts = (relation.namespace, relation.relation)
    if not any("." in part or any(letter < " " for letter in part) for part in parts):
        return []
    name = f"{relation.namespace}.{relation.relation}"
    return [
        EnvironmentFault(
            "table_name_unusual",
            f"{name} has a dot or a control character in its name, which projects cannot write",
            where=name,
            next_step=f"ALTER TABLE {relation.quoted} RENAME TO …",
        )
    ]


def _place(relation: Relation, columns: Sequence[CapturedColumn]) -> Place:
    return place_of(relation, {column.name: _family(column) for column in columns})


def _family(column: CapturedColumn) -> Family:
    if column.declared[0] == _JSON:
        return "other"
    return _FAMILIES.get(column.type.kind, "other")


def _column(
    column: CapturedColumn, declared: Mapping[str, str], looks: Mapping[str, ColumnLook]
) -> SeenColumn:
    look = looks.get(column.name, ColumnLook())
    return SeenColumn(
        name=column.name,
        declared=declared[column.name],
        stored=column.type.stored,
        family=_family(column),
        is_nullable=column.nullable,
        distinct=look.distinct,
        null_share=look.null_share,
        common=look.common,
        earliest=look.earliest,
        latest=look.latest,
    )


def _references(
    connection: psycopg.Connection, relations: Sequence[Relation]
) -> dict[int, list[SeenForeignKey]]:
    names = {relation.oid: project_name(relation) for relation in relations}
    found: dict[int, list[SeenForeignKey]] = {}
    for oid, target, columns, target_columns, is_sure in connection.execute(
        _FOREIGN_KEYS, [list(names)]
    ):
        if target in names:
            key = SeenForeignKey(tuple(columns), names[target], tuple(target_columns), is_sure)
            found.setdefault(oid, []).append(key)
    return found
