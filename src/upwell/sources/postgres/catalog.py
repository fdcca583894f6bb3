"""The captured tables as the source's catalogue describes them.

Reads only; locks nothing. The primary key comes from here and nowhere else. A table that cannot be
followed faithfully is refused before anything is set up: in a publication, a table without a key
would make UPDATE and DELETE fail in the source itself.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg.rows import class_row

from upwell.core.errors import EnvironmentFault, UpwellError, UsageError
from upwell.core.sql import quote
from upwell.sources.postgres.datatypes import TEXT_OID, Aliases, data_type
from upwell.sources.postgres.tables import CapturedColumn, CapturedTable, split_name, sql_name

_RELATIONS: LiteralString = """
    select c.oid::bigint as oid, n.nspname as namespace, c.relname as relation,
           c.relkind::text as kind, c.relpersistence::text as persistence,
           c.relispartition as is_partition, c.relreplident::text as identity,
           row_security_active(c.oid) as hides_rows,
           coalesce(pg_relation_filenode(c.oid), 0)::bigint as file,
           has_schema_privilege(n.oid, 'USAGE') and has_table_privilege(c.oid, 'SELECT')
               as is_readable,
           coalesce((select array_agg(a.attname::text order by k.place)
              from pg_index i
             cross join unnest(i.indkey) with ordinality as k(attnum, place)
              join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
             where i.indrelid = c.oid and i.indisprimary and k.place <= i.indnkeyatts), '{}')
               as key,
           exists (select from pg_index i
                    where i.indrelid = c.oid and i.indisprimary and not i.indimmediate)
               as is_deferrable,
           coalesce((select array_agg(a.attname::text)
              from pg_index i
              join pg_attribute a on a.attrelid = c.oid and a.attnum = any (i.indkey)
             where i.indrelid = c.oid and i.indisreplident), '{}') as identity_columns
      from pg_class c
      join pg_namespace n on n.oid = c.relnamespace
     where (n.nspname, c.relname) in (select * from unnest(%s::text[], %s::text[]))
       and c.relkind not in ('i', 'I', 't')
"""
_COLUMNS: LiteralString = """
    select attrelid::bigint as oid, attname as name, atttypid::bigint as type,
           atttypmod as modifier, not attnotnull as nullable, attnum::int as number,
           atthasmissing as is_filled, atthasdef or attidentity <> '' as has_default
      from pg_attribute
     where attrelid = any (%s::oid[]) and attnum > 0 and not attisdropped and attgenerated = ''
     order by attrelid, attnum
"""
#: Domains led back to what they are made of; enums and text-like extension types to text.
_ALIASES: LiteralString = """
    with recursive domain(oid, base, modifier) as (
        select oid, typbasetype, typtypmod from pg_type where typtype = 'd'
         union all
        select d.oid, t.typbasetype,
               case when d.modifier >= 0 then d.modifier else t.typtypmod end
          from domain d join pg_type t on t.oid = d.base
         where t.typtype = 'd'
    ), based(oid, base, modifier) as (
        select oid, base, modifier from domain
         where base not in (select oid from pg_type where typtype = 'd')
         union all
        select oid, oid, -1 from pg_type where typtype <> 'd' and oid >= 16384
    )
    select b.oid::bigint, b.modifier,
           case when t.typtype = 'e' or t.typsend::text in ('textsend', 'citextsend')
                then %s::bigint else b.base::bigint end
      from based b join pg_type t on t.oid = b.base
"""
_NAMES: LiteralString = """
    select n.nspname, c.relname
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where c.relkind = 'r' and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
"""
#: What stands beside the source's own columns where changes are kept.
_OUR_COLUMNS = (b"_version", b"_position", b"_committed_at", b"_received_at", b"_weight")
_KINDS = {
    "p": "a partitioned table",
    "v": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
    "S": "a sequence",
    "c": "a composite type",
}


@dataclass(frozen=True, slots=True)
class Catalog:
    """The captured tables as they stand, and the types that are not built in."""

    tables: tuple[CapturedTable, ...]
    aliases: Aliases


@dataclass(frozen=True, slots=True)
class _Relation:
    oid: int
    namespace: str
    relation: str
    kind: str
    persistence: str
    is_partition: bool
    identity: str
    hides_rows: bool
    file: int
    is_readable: bool
    key: list[str]
    is_deferrable: bool
    identity_columns: list[str]


@dataclass(frozen=True, slots=True)
class _Attribute:
    oid: int
    name: str
    type: int
    modifier: int
    nullable: bool
    number: int
    is_filled: bool
    has_default: bool


def read_catalog(connection: psycopg.Connection, source: str, names: Sequence[str]) -> Catalog:
    """The tables ``names`` of the database, in that order.

    Raises ``UsageError`` for a table that is not there and ``EnvironmentFault`` for one that cannot
    be captured.
    """
    relations = [_relation(connection, name) for name in names]
    aliases = {
        oid: (base, modifier)
        for oid, modifier, base in connection.execute(_ALIASES, [TEXT_OID]).fetchall()
    }
    columns: dict[int, list[CapturedColumn]] = {relation.oid: [] for relation in relations}
    cursor = connection.cursor(row_factory=class_row(_Attribute))
    for row in cursor.execute(_COLUMNS, [list(columns)]):
        kind = data_type(row.type, row.modifier, aliases)
        columns[row.oid].append(
            CapturedColumn(
                name=row.name,
                type=kind,
                nullable=row.nullable,
                number=row.number,
                declared=(row.type, row.modifier),
                is_filled=row.is_filled,
                has_default=row.has_default,
            )
        )
    tables = tuple(
        CapturedTable(
            oid=relation.oid,
            namespace=relation.namespace,
            relation=relation.relation,
            name=sql_name(source, name),
            columns=tuple(columns[relation.oid]),
            key=tuple(relation.key),
            file=relation.file,
        )
        for name, relation in zip(names, relations, strict=True)
    )
    for table in tables:
        _require_own_names(table)
    return Catalog(tables, aliases)


def _require_own_names(table: CapturedTable) -> None:
    """DuckDB takes ``Name`` and ``name`` for one column; ours beside them have names too."""
    name = f"{table.namespace}.{table.relation}"
    taken = dict.fromkeys(_OUR_COLUMNS, "a column that Upwell adds")
    for column in table.columns:
        folded = column.name.encode().lower()  # ASCII letters alone, as DuckDB does
        if folded in taken:
            raise EnvironmentFault(
                "column_name_taken",
                f"{name} has a column {column.name}, which could not be told from {taken[folded]}",
                where=name,
                next_step=f"ALTER TABLE {table.quoted} RENAME COLUMN {quote(column.name)} TO …",
            )
        taken[folded] = f"its column {column.name}"


def _relation(connection: psycopg.Connection, name: str) -> _Relation:
    namespace, relation = split_name(name)
    cursor = connection.cursor(row_factory=class_row(_Relation))
    found = cursor.execute(_RELATIONS, [[namespace], [relation]]).fetchone()
    if found is None:
        raise _missing(connection, name)
    for problem in _unfit(found):
        raise problem
    return found


def _missing(connection: psycopg.Connection, name: str) -> UsageError:
    """The error for a table that is not there, with the name that was probably meant."""
    known = [
        relation if namespace == "public" else f"{namespace}.{relation}"
        for namespace, relation in connection.execute(_NAMES).fetchall()
    ]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    listed = f"there are: {', '.join(sorted(known)[:20])}" if known else "there are no tables"
    return UsageError(
        "table_unknown",
        f"the source database has no table {name}",
        where=name,
        next_step=f"did you mean {near[0]}?" if near else listed,
    )


def _unfit(relation: _Relation) -> Iterator[UpwellError]:
    """Why a table cannot be captured, each reason with its remedy."""
    name = f"{relation.namespace}.{relation.relation}"
    key, identity = ", ".join(relation.key), relation.identity

    def fault(code: str, what: str, next_step: str) -> EnvironmentFault:
        return EnvironmentFault(code, f"{name} {what}", where=name, next_step=next_step)

    if relation.kind != "r":
        kind = _KINDS.get(relation.kind, "no table")
        what = f"is {kind}; only ordinary tables have a log of changes"
        yield fault("table_kind", what, "name the tables behind it")
        return
    if relation.persistence != "p":
        what = "is unlogged or temporary; its changes are not in the log"
        yield fault("table_unlogged", what, f"ALTER TABLE {name} SET LOGGED")
    if not relation.key:
        what = "has no primary key, so its rows cannot be told apart"
        yield fault("table_without_key", what, f"ALTER TABLE {name} ADD PRIMARY KEY (…)")
    if relation.is_deferrable:
        what = f"has a deferrable primary key ({key}), which tells no rows apart in the log"
        yield fault("key_deferrable", what, f"make the primary key of {name} NOT DEFERRABLE")
    if identity == "n" or (
        identity == "i" and not set(relation.key) <= set(relation.identity_columns)
    ):
        what = f"does not log its key ({key}) with its changes: replica identity"
        yield fault("replica_identity", what, f"ALTER TABLE {name} REPLICA IDENTITY DEFAULT")
    if not relation.is_readable:
        what = "may not be read by this role"
        yield fault("no_select_right", what, f"GRANT SELECT ON {name} TO the role in the URL")
    if relation.hides_rows:
        what = "hides rows from this role (row-level security)"
        yield fault("row_security", what, "ALTER ROLE … BYPASSRLS for the role in the URL")
