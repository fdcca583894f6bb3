"""The SQL that makes a role which may follow some tables, and nothing more.

An owner of the tables who may make roles runs it, in one transaction, as often as they like: what
the role was granted for tables that are no longer named is taken back. The publication is made
here too, so that the role need own nothing. Made without asking the database, which may not know
the role yet; what depends on its version, on RDS or on row-level security the script finds out.

The script refuses a role that has more rights already, and warns of what everybody (PUBLIC) may do
and so this role as well. No password is in it.
"""

from __future__ import annotations

from collections.abc import Sequence

from upwell.core.sql import literal, quote
from upwell.sources.postgres.replication import PUBLISHED
from upwell.sources.postgres.tables import split_name

_HEAD = """\
-- Role {role} for Upwell: follows {count} of database {database}, and may do nothing else.
-- Run it in that database as a superuser, or as an owner of the tables who may make such roles:
--   psql --set ON_ERROR_STOP=1 --file THIS_FILE "postgresql://postgres@host/{database}"
-- It may be run again, as after a change of `tables` in upwell.yaml.
BEGIN;
"""
_FOOT = """\
COMMIT;
-- Then, in psql: \\password {role}
-- PostgreSQL has no finer right than REPLICATION: whoever has it may read the log of every database
-- that it may connect to, and copy the whole server where pg_hba.conf lets it. So in pg_hba.conf:
--   hostssl  {database}  {role}  ADDRESS/32  scram-sha-256
--   host  all,replication  {role}  all  reject
"""
#: The tables, by regclass literals, and what is below them.
_WITH_PARTITIONS = """\
ARRAY(
    SELECT t::oid FROM unnest(ARRAY[{0}]) AS t
     UNION SELECT p.relid::oid FROM unnest(ARRAY[{0}]) AS t CROSS JOIN pg_partition_tree(t) AS p
  )"""
#: Run as a DO block.
_ROLE = """
DECLARE
  held record;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {name}) THEN
    CREATE ROLE {role};
  END IF;
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = {name}
              AND (rolsuper OR rolcreaterole OR rolcreatedb))
    OR EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid
                WHERE m.member = to_regrole({quoted}) AND r.rolname <> 'rds_replication')
    OR EXISTS (SELECT FROM pg_class WHERE relowner = to_regrole({quoted})) THEN
    RAISE EXCEPTION 'role % is there already, with more rights than Upwell needs', {name}
      USING HINT = 'name another role';
  END IF;
  ALTER ROLE {role} LOGIN;
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_replication') THEN
    GRANT rds_replication TO {role};
  ELSE
    ALTER ROLE {role} REPLICATION;
  END IF;
  -- Row-level security would hide rows from the copy, though never from the log.
  IF EXISTS (SELECT FROM pg_class WHERE relrowsecurity AND oid = ANY ({relations})) THEN
    ALTER ROLE {role} BYPASSRLS;
  END IF;
  FOR held IN
    SELECT DISTINCT c.oid::regclass AS relation
      FROM pg_class c CROSS JOIN aclexplode(c.relacl) a WHERE a.grantee = to_regrole({quoted})
  LOOP
    EXECUTE format('REVOKE ALL ON %s FROM {role_in_format}', held.relation);
  END LOOP;
END
"""
#: The rows of a partitioned table are copied from its partitions. What comes later needs no right:
#: its rows are in the log.
_PARTITIONS = """
DECLARE
  leaf record;
BEGIN
  FOR leaf IN
    SELECT oid::regclass AS relation, relnamespace::regnamespace AS namespace
      FROM pg_class WHERE oid = ANY ({relations}) AND relispartition
  LOOP
    EXECUTE format('GRANT USAGE ON SCHEMA %s TO {role_in_format}', leaf.namespace);
    EXECUTE format('GRANT SELECT ON %s TO {role_in_format}', leaf.relation);
  END LOOP;
END
"""
_PUBLICATION = """
BEGIN
  IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = {name}) THEN
    CREATE PUBLICATION {publication};
  END IF;
END
"""
_WARNINGS = """
DECLARE
  other record;
BEGIN
  FOR other IN
    SELECT c.oid::regclass AS relation,
           has_table_privilege({name}, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE') AS is_written
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
       AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
       AND has_schema_privilege({name}, n.oid, 'USAGE')
       AND (has_table_privilege({name}, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
            OR (has_table_privilege({name}, c.oid, 'SELECT') AND c.oid <> ALL ({relations})))
  LOOP
    RAISE WARNING 'everybody (PUBLIC) may % %, and so may this role',
      CASE WHEN other.is_written THEN 'change' ELSE 'read' END, other.relation;
  END LOOP;
  FOR other IN
    SELECT nspname FROM pg_namespace
     WHERE nspname !~ '^pg_' AND has_schema_privilege({name}, oid, 'CREATE')
  LOOP
    RAISE WARNING 'everybody (PUBLIC) may make tables in schema %, and so may this role',
      other.nspname USING HINT = format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', other.nspname);
  END LOOP;
END
"""


def role_script(role: str, *, database: str, tables: Sequence[str], publication: str) -> str:
    """The script for ``tables``, named as in the database (``orders``, ``sales.orders``)."""
    names = [split_name(table) for table in tables]
    relations = [f"{quote(schema)}.{quote(table)}" for schema, table in names]
    words = {
        "role": quote(role),
        "name": literal(role),
        "quoted": literal(quote(role)),
        "role_in_format": quote(role).replace("%", "%%").replace("'", "''"),
        "relations": _WITH_PARTITIONS.format(", ".join(map(_regclass, relations))),
    }
    listed = ", ".join(relations)
    only = ", ".join(f"ONLY {relation}" for relation in relations)
    published = quote(publication)
    schemas = ", ".join(dict.fromkeys(quote(schema) for schema, _ in names))
    count = "one table" if len(names) == 1 else f"{len(names)} tables"
    shown = {"role": _commented(quote(role)), "database": _commented(quote(database))}
    return "\n".join(
        [
            _HEAD.format(count=count, **shown),
            _do(_ROLE.format(**words)),
            f"GRANT CONNECT ON DATABASE {quote(database)} TO {quote(role)};",
            f"GRANT USAGE ON SCHEMA {schemas} TO {quote(role)};",
            f"GRANT SELECT ON {listed} TO {quote(role)};",
            _do(_PARTITIONS.format(**words)),
            _do(_PUBLICATION.format(name=literal(publication), publication=published)),
            f"ALTER PUBLICATION {published} SET TABLE {only};",
            f"ALTER PUBLICATION {published} SET ({PUBLISHED});",
            "",
            _do(_WARNINGS.format(**words)),
            _FOOT.format(**shown),
        ]
    )


def _regclass(relation: str) -> str:
    return f"{literal(relation)}::regclass"


def _do(body: str) -> str:
    """A block to be run, quoted by a tag that is not in it."""
    tag = "$upwell$"
    while tag in body:
        tag = f"{tag[:-1]}_$"
    return f"DO {tag}{body}{tag};\n"


def _commented(name: str) -> str:
    """A name inside a comment, which ends with its line."""
    return " ".join(name.split())
