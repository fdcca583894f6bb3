"""The relations of a database, and why one of them cannot be followed.

Reads the catalogue only; locks nothing. A table that cannot be followed faithfully has a reason and
a remedy here: in a publication, a table without a key would make UPDATE and DELETE fail in the
source itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import LiteralString

import psycopg
from psycopg.rows import class_row

from upwell.core.errors import EnvironmentFault, UpwellError
from upwell.core.sql import quote
from upwell.sources.postgres.tables import CapturedTable

_RELATIONS: LiteralString = """
    select c.oid::bigint as oid, n.nspname as namespace, c.relname as relation,
           c.relkind::text as kind, c.relpersistence::text as persistence,
           c.relispartition as is_partition, c.relreplident::text as identity,
           row_security_active(c.oid) as hides_rows,
           c.relfilenode::bigint as file,
           has_schema_privilege(n.oid, 'USAGE') as is_reachable,
           has_table_privilege(c.oid, 'SELECT') as is_readable,
           pg_get_userbyid(c.relowner)::text as owner,
           pg_has_role(c.relowner, 'USAGE') as is_owned,
           c.reltuples::bigint as estimated_rows, c.relpages as pages,
           coalesce((select array_agg(a.attname::text order by k.place)
              from pg_index i
             cross join unnest(i.indkey) with ordinality as k(attnum, place)
              join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
             where i.indrelid = c.oid and i.indisprimary and i.indisvalid
               and k.place <= i.indnkeyatts), '{}')
               as key,
           exists (select from pg_index i
                    where i.indrelid = c.oid and i.indisprimary and not i.indimmediate)
               as is_deferrable,
           exists (select from pg_index i
                     join pg_attribute a on a.attrelid = c.oid
                      and a.attnum = any ((i.indkey::int2[])[0 : i.indnkeyatts - 1])
                    where i.indrelid = c.oid and i.indisprimary and a.attgenerated <> '')
               as is_key_generated,
           coalesce((select array_agg(a.attname::text)
              from pg_index i
              join pg_attribute a on a.attrelid = c.oid and a.attnum = any (i.indkey)
             where i.indrelid = c.oid and i.indisreplident), '{}') as identity_columns
      from pg_class c
      join pg_namespace n on n.oid = c.relnamespace
"""
_OF_NAMES: LiteralString = """
     where (n.nspname, c.relname) in (select * from unnest(%s::text[], %s::text[]))
       and c.relkind not in ('i', 'I', 't')
"""
#: What somebody made: neither the server's own relations nor an extension's.
_OF_PEOPLE: LiteralString = """
     where c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relpersistence <> 't'
       and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
       and not exists (select from pg_depend d
                        where d.classid = 'pg_class'::regclass and d.objid = c.oid
                          and d.deptype = 'e')
     order by n.nspname <> 'public', n.nspname, c.relname
"""
#: What is below partitioned tables, on every level. The rows of one that is being detached are none
#: of the whole any more, though its changes still come.
_BELOW: LiteralString = """
    with recursive below(root, oid, attached_in, is_leaving) as (
        select inhparent, inhrelid, xmin::text::bigint, inhdetachpending
          from pg_inherits where inhparent = any (%s::oid[])
         union all
        select b.root, i.inhrelid, i.xmin::text::bigint, b.is_leaving or i.inhdetachpending
          from below b join pg_inherits i on i.inhparent = b.oid
    )
    select root::bigint, oid::bigint, attached_in, is_leaving from below order by root, oid
"""
_OF_OIDS: LiteralString = " where c.oid = any (%s::oid[])"
#: What stands beside the source's own columns where changes are kept.
_OUR_COLUMNS = (b"_version", b"_position", b"_committed_at", b"_received_at", b"_weight")
#: The codes of what is wrong with a table itself, rather than with the rights of the role.
FAULTS_OF_TABLES = frozenset(
    {
        "table_kind",
        "table_unlogged",
        "table_without_key",
        "key_deferrable",
        "key_generated",
        "replica_identity",
        "partition_unlogged",
        "partition_of_another",
        "column_name_taken",
    }
)
KINDS = {
    "r": "a table",
    "p": "a partitioned table",
    "v": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
    "S": "a sequence",
    "c": "a composite type",
}


@dataclass(frozen=True, slots=True)
class Relation:
    """A table, view or the like as ``pg_class`` has it; ``estimated_rows`` is -1 for unknown.

    ``partitions`` are all relations below a partitioned table; those that are partitioned
    themselves hold no rows. Of a partition it is known which transaction ``attached_in`` was, and
    whether it is being detached.
    """

    oid: int
    namespace: str
    relation: str
    kind: str
    persistence: str
    is_partition: bool
    identity: str
    hides_rows: bool
    file: int
    is_reachable: bool
    is_readable: bool
    owner: str
    is_owned: bool
    estimated_rows: int
    pages: int
    key: list[str]
    is_deferrable: bool
    is_key_generated: bool
    identity_columns: list[str]
    partitions: list[Relation] = field(default_factory=list)
    attached_in: int = 0
    is_leaving: bool = False

    @property
    def is_partitioned(self) -> bool:
        return self.kind == "p"

    @property
    def leaves(self) -> list[Relation]:
        """The tables in which a partitioned one's rows lie."""
        return [each for each in self.partitions if not each.is_partitioned]

    @property
    def may_be_read(self) -> bool:
        return self.is_reachable and self.is_readable

    @property
    def quoted(self) -> str:
        """The relation's name in SQL for PostgreSQL."""
        return f"{quote(self.namespace)}.{quote(self.relation)}"


def find_relations(
    connection: psycopg.Connection, names: Sequence[tuple[str, str]]
) -> Mapping[tuple[str, str], Relation]:
    """Those of these relations that there are, by schema and name."""
    cursor = connection.cursor(row_factory=class_row(Relation))
    namespaces, relations = [name for name, _ in names], [name for _, name in names]
    found = cursor.execute(_RELATIONS + _OF_NAMES, [namespaces, relations]).fetchall()
    _add_partitions(connection, found)
    return {(each.namespace, each.relation): each for each in found}


def list_relations(connection: psycopg.Connection) -> Sequence[Relation]:
    """All that people made in this database: ``public`` first, then by name."""
    cursor = connection.cursor(row_factory=class_row(Relation))
    found = cursor.execute(_RELATIONS + _OF_PEOPLE).fetchall()
    _add_partitions(connection, found)
    return found


def _add_partitions(connection: psycopg.Connection, relations: Sequence[Relation]) -> None:
    roots = {each.oid: each for each in relations if each.is_partitioned}
    if not roots:
        return
    below = connection.execute(_BELOW, [list(roots)]).fetchall()
    cursor = connection.cursor(row_factory=class_row(Relation))
    found = cursor.execute(_RELATIONS + _OF_OIDS, [[oid for _, oid, *_ in below]]).fetchall()
    by_oid = {each.oid: each for each in found}
    for root, oid, attached_in, is_leaving in below:
        if oid in by_oid:  # else it went between the two questions
            partition = replace(by_oid[oid], attached_in=attached_in, is_leaving=is_leaving)
            roots[root].partitions.append(partition)


def unfit(relation: Relation) -> Iterator[UpwellError]:
    """Why a relation cannot be captured, each reason with its remedy."""
    name = f"{relation.namespace}.{relation.relation}"
    key, table = ", ".join(relation.key), relation.quoted

    def fault(code: str, what: str, next_step: str) -> EnvironmentFault:
        return EnvironmentFault(code, f"{name} {what}", where=name, next_step=next_step)

    if relation.kind not in ("r", "p"):
        kind = KINDS.get(relation.kind, "no table")
        what = f"is {kind}; only tables have a log of changes"
        yield fault("table_kind", what, "name the tables behind it")
        return
    if relation.persistence != "p":
        what = "is unlogged or temporary; its changes are not in the log"
        yield fault("table_unlogged", what, f"ALTER TABLE {table} SET LOGGED")
    if not relation.key:
        what = "has no primary key, so its rows cannot be told apart"
        yield fault("table_without_key", what, f"ALTER TABLE {table} ADD PRIMARY KEY (…)")
    if relation.is_deferrable:
        what = f"has a deferrable primary key ({key}), which tells no rows apart in the log"
        yield fault("key_deferrable", what, f"make the primary key of {table} NOT DEFERRABLE")
    if relation.is_key_generated:
        what = f"has a generated column in its primary key ({key}), which the log leaves out"
        step = f"give {table} a primary key of ordinary columns"
        yield fault("key_generated", what, step)
    for each in (relation, *relation.leaves) if relation.key else ():
        if each.kind in ("r", "p") and not _logs_key(each, relation.key):
            of = "" if each is relation else f" in partition {each.quoted}"
            what = f"does not log its key ({key}) with its changes{of}: replica identity"
            step = f"ALTER TABLE {each.quoted} REPLICA IDENTITY DEFAULT"
            yield fault("replica_identity", what, step)
    for each in relation.leaves:
        if each.kind != "r" or each.persistence != "p":
            kind = "unlogged" if each.kind == "r" else KINDS.get(each.kind, "no table")
            what = f"has a partition whose changes are not in the log: {each.quoted} is {kind}"
            yield fault("partition_unlogged", what, f"detach {each.quoted}, or make it a table")
    if not relation.is_reachable:
        step = f"GRANT USAGE ON SCHEMA {quote(relation.namespace)} TO the role in the URL"
        yield fault("no_schema_right", "is in a schema that this role may not use", step)
    if not relation.is_readable:
        what = "may not be read by this role"
        yield fault("no_select_right", what, f"GRANT SELECT ON {table} TO the role in the URL")
    if relation.hides_rows:
        what = "hides rows from this role (row-level security)"
        yield fault("row_security", what, "ALTER ROLE … BYPASSRLS for the role in the URL")


def _logs_key(relation: Relation, key: Sequence[str]) -> bool:
    """Whether updates and deletes say which row they are of."""
    match relation.identity:
        case "d":
            logged = relation.key
        case "i":
            logged = relation.identity_columns
        case _:
            return relation.identity == "f"
    return bool(logged) and set(key) <= set(logged)


def unreadable_partitions(relation: Relation) -> Iterator[UpwellError]:
    """Partitions that this role may not read: rows are copied from these, not from the whole.

    It may follow their changes all the same, so one that comes later stops nothing.
    """
    for each in relation.leaves:
        if each.may_be_read and not each.hides_rows:
            continue
        step = f"GRANT USAGE ON SCHEMA {quote(each.namespace)} TO the role in the URL"
        if each.is_reachable:
            step = f"GRANT SELECT ON {each.quoted} TO the role in the URL"
        if each.hides_rows:
            step = "ALTER ROLE … BYPASSRLS for the role in the URL"
        yield EnvironmentFault(
            "no_partition_right",
            f"{relation.namespace}.{relation.relation} has partition {each.quoted}, whose rows "
            "this role may not read",
            where=each.quoted,
            next_step=step,
        )


def is_of_rights(error: UpwellError | None) -> bool:
    """Whether a table is well, and this role may just not read it: that can be given back."""
    return isinstance(error, EnvironmentFault) and error.code not in FAULTS_OF_TABLES


def indistinct_columns(table: CapturedTable) -> Iterator[UpwellError]:
    """DuckDB takes ``Name`` and ``name`` for one column; ours beside them have names too."""
    name = f"{table.namespace}.{table.relation}"
    taken = dict.fromkeys(_OUR_COLUMNS, "a column that Upwell adds")
    for column in table.columns:
        folded = column.name.encode().lower()  # ASCII letters alone, as DuckDB does
        if folded in taken:
            yield EnvironmentFault(
                "column_name_taken",
                f"{name} has a column {column.name}, which could not be told from {taken[folded]}",
                where=name,
                next_step=f"ALTER TABLE {table.quoted} RENAME COLUMN {quote(column.name)} TO …",
            )
        taken[folded] = f"its column {column.name}"
