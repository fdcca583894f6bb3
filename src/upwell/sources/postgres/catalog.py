"""The captured tables as the source's catalogue describes them.

Reads only; locks nothing. The primary key comes from here and nowhere else. A table that cannot be
followed faithfully is refused before anything is set up: in a publication, a table without a key
would make UPDATE and DELETE fail in the source itself.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import LiteralString

import psycopg
from psycopg.rows import class_row

from upwell.core.errors import EnvironmentFault, UpwellError, UsageError
from upwell.sources.postgres.datatypes import TEXT_OID, Aliases, data_type
from upwell.sources.postgres.relations import (
    Relation,
    find_relations,
    indistinct_columns,
    is_of_rights,
    unfit,
)
from upwell.sources.postgres.tables import (
    CapturedColumn,
    CapturedTable,
    Partition,
    split_name,
    sql_name,
)
from upwell.sources.postgres.wal import lsn_of

_COLUMNS: LiteralString = """
    select attrelid::bigint as oid, attname as name, atttypid::bigint as type,
           atttypmod as modifier, format_type(atttypid, atttypmod) as type_name,
           xmin::text::bigint as written_in,
           not attnotnull as nullable, attnum::int as number,
           case when atthasmissing then (attmissingval::text::text[])[1] end as filled_with,
           atthasdef or attidentity <> '' as has_default
      from pg_attribute
     where attrelid = any (%s::oid[]) and attnum > 0 and not attisdropped and attgenerated = ''
     order by attrelid, attnum
"""
#: What stands in rows of before a column was added is told of tables that have rows.
_FILLED: LiteralString = """
    select attname::text, array_agg(distinct (attmissingval::text::text[])[1])
      from pg_attribute
     where attrelid = any (%s::oid[]) and atthasmissing and not attisdropped
     group by attname
"""
_HAVE_ROWS: LiteralString = """
    select oid::bigint from unnest(%s::oid[]) as t(oid) where pg_relation_size(oid) > 0
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
        select oid, oid, -1 from pg_type
         where typtype in ('b', 'e') and typcategory <> 'A' and oid >= 16384
    )
    select b.oid::bigint, b.modifier,
           case when t.typtype = 'e' or t.typsend::text in ('textsend', 'citextsend')
                then %s::bigint else b.base::bigint end
      from based b join pg_type t on t.oid = b.base
"""
#: Types below this number are compiled into the server, and stand for no others.
_FIRST_MADE = 10_000
_LOG_END: LiteralString = """
    select case when pg_is_in_recovery() then '0/0' else pg_current_wal_insert_lsn()::text end
"""
_NAMES: LiteralString = """
    select n.nspname, c.relname
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where c.relkind in ('r', 'p') and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
"""


@dataclass(frozen=True, slots=True)
class Catalog:
    """The captured tables as they stand.

    ``log_end``: whatever made them what they are lies before it in the log. ``unfit`` says why
    others cannot be captured, by name in SQL: ``UsageError`` for one that is not
    there, ``EnvironmentFault`` for any other reason.
    """

    tables: tuple[CapturedTable, ...]
    log_end: int = 0
    unfit: Mapping[str, UpwellError] = field(default_factory=dict)

    def require_rights(self, names: Iterable[str]) -> None:
        """Raise ``EnvironmentFault`` where one of these tables may not be read by this role."""
        for name in names:
            error = self.unfit.get(name)
            if error is not None and is_of_rights(error):
                raise error

    def only(self, names: Collection[str]) -> Catalog:
        """The same of some tables alone. Raises as ``require_rights`` does."""
        self.require_rights(names)
        wanted = set(names)
        return replace(self, tables=tuple(each for each in self.tables if each.name in wanted))


@dataclass(frozen=True, slots=True)
class _Attribute:
    oid: int
    name: str
    type: int
    modifier: int
    type_name: str
    written_in: int
    nullable: bool
    number: int
    filled_with: str | None
    has_default: bool


def read_catalog(
    connection: psycopg.Connection,
    source: str,
    names: Sequence[str],
    seen: Container[int] | None = None,
) -> Catalog:
    """The tables ``names`` of the database, in that order, and why some cannot be captured.

    Of partitions that were not ``seen`` before, by OID, it is found out whether they have rows.
    """
    found = find_relations(connection, [split_name(name) for name in names])
    relations: dict[str, Relation] = {}
    unfit_tables: dict[str, UpwellError] = {}
    for name in names:
        try:
            relations[name] = _fit(connection, found, name)
        except (EnvironmentFault, UsageError) as error:
            unfit_tables[sql_name(source, name)] = error
    for problem in _within_others(relations):
        unfit_tables[sql_name(source, problem.where)] = problem
        del relations[problem.where]
    columns = read_columns(connection, [each.oid for each in relations.values()])
    tables = []
    for name, relation in relations.items():
        table = captured(relation, sql_name(source, name), columns[relation.oid])
        if relation.is_partitioned:
            table = _with_partitions(connection, table, relation, seen)
        for problem in indistinct_columns(table):
            unfit_tables[table.name] = problem
            break
        else:
            tables.append(table)
    row = connection.execute(_LOG_END).fetchone()
    log_end = lsn_of(row[0]) if row else 0
    return Catalog(tuple(tables), log_end, unfit_tables)


def _within_others(relations: Mapping[str, Relation]) -> list[UpwellError]:
    """Tables that are partitions of others among these: the log gives their changes once."""
    roots = {part.oid: root for root, each in relations.items() for part in each.partitions}
    return [
        EnvironmentFault(
            "partition_of_another",
            f"{name} is a partition of {roots[relation.oid]}, which is captured with all of them",
            where=name,
            next_step=f"take {name} out of upwell.yaml, or {roots[relation.oid]}",
        )
        for name, relation in relations.items()
        if relation.oid in roots
    ]


def _with_partitions(
    connection: psycopg.Connection,
    table: CapturedTable,
    relation: Relation,
    seen: Container[int] | None,
) -> CapturedTable:
    oids = [each.oid for each in relation.leaves]
    new = [] if seen is None else [oid for oid in oids if oid not in seen]
    have_rows = {oid for (oid,) in connection.execute(_HAVE_ROWS, [new])} if new else set()
    filled: dict[str, list[str]] = dict(connection.execute(_FILLED, [oids]).fetchall())
    columns = tuple(
        # Where they differ a partition came with its rows, which is told of as that.
        replace(each, filled_with=filled[each.name][0])
        if len(filled.get(each.name, ())) == 1
        else each
        for each in table.columns
    )
    partitions = (
        Partition(
            each.oid,
            each.namespace,
            each.relation,
            each.file,
            each.attached_in,
            is_leaf=not each.is_partitioned,
            is_leaving=each.is_leaving,
            has_rows=each.oid in have_rows,
        )
        for each in relation.partitions
    )
    return replace(
        table,
        columns=columns,
        logs_whole_rows=all(each.identity == "f" for each in (relation, *relation.leaves)),
        is_partitioned=True,
        partitions=tuple(partitions),
    )


def read_aliases(connection: psycopg.Connection) -> Aliases:
    """The types that behave as built-in ones."""
    rows = connection.execute(_ALIASES, [TEXT_OID]).fetchall()
    return {oid: (base, modifier) for oid, modifier, base in rows}


def read_columns(
    connection: psycopg.Connection, oids: Sequence[int]
) -> Mapping[int, Sequence[CapturedColumn]]:
    """The columns of each of these relations."""
    columns: dict[int, list[CapturedColumn]] = {oid: [] for oid in oids}
    cursor = connection.cursor(row_factory=class_row(_Attribute))
    rows = cursor.execute(_COLUMNS, [list(columns)]).fetchall()
    is_all_compiled_in = all(row.type < _FIRST_MADE for row in rows)
    aliases = {} if is_all_compiled_in else read_aliases(connection)
    for row in rows:
        columns[row.oid].append(
            CapturedColumn(
                name=row.name,
                type=data_type(row.type, row.modifier, aliases),
                nullable=row.nullable,
                number=row.number,
                declared=(row.type, row.modifier),
                written_in=row.written_in,
                type_name=row.type_name,
                filled_with=row.filled_with,
                has_default=row.has_default,
            )
        )
    return columns


def captured(relation: Relation, name: str, columns: Sequence[CapturedColumn]) -> CapturedTable:
    """The relation as a captured table called ``name`` in our SQL."""
    return CapturedTable(
        oid=relation.oid,
        namespace=relation.namespace,
        relation=relation.relation,
        name=name,
        columns=tuple(columns),
        key=tuple(relation.key),
        file=relation.file,
        logs_whole_rows=relation.identity == "f",
    )


def _fit(
    connection: psycopg.Connection, found: Mapping[tuple[str, str], Relation], name: str
) -> Relation:
    relation = found.get(split_name(name))
    if relation is None:
        raise _missing(connection, name)
    for problem in unfit(relation):
        raise problem
    return relation


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
