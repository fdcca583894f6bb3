"""Whether the followed tables are there, and in the publication, as they were.

The log says nothing of a table that was dropped, or taken out of the publication: its rows would
stand for ever as if they were fresh, and those of a new one in its place would never come. Nor
does it say what becomes of a partition as such: that it comes with rows, goes, or is truncated.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import LiteralString

import psycopg

_PRESENT: LiteralString = """
    with recursive below(oid, attached_in) as (
        select i.inhrelid, i.xmin::text::bigint
          from pg_inherits i join pg_class c on c.oid = i.inhparent and c.relkind = 'p'
         where i.inhparent = any (%(oids)s::oid[])
         union all
        select i.inhrelid, i.xmin::text::bigint
          from below b join pg_inherits i on i.inhparent = b.oid
    )
    select (select to_jsonb(p)::text from pg_publication p where p.pubname = %(publication)s),
           (select array_agg(to_jsonb(r)::text order by r.prrelid)
              from pg_publication p join pg_publication_rel r on r.prpubid = p.oid
             where p.pubname = %(publication)s),
           (select array_agg(array[oid::bigint, relnamespace::bigint] order by oid)
              from pg_class where oid = any (%(oids)s::oid[])),
           (select array_agg(relname order by oid)
              from pg_class where oid = any (%(oids)s::oid[])),
           (select array_agg(array[oid::bigint, relfilenode::bigint, attached_in] order by oid)
              from pg_class join below using (oid))
"""


class Presence:
    """Of the tables with these OIDs, as they are when it is first looked at them."""

    def __init__(self, publication: str, oids: Iterable[int]) -> None:
        self._parameters = {"publication": publication, "oids": list(oids)}
        self._first: tuple[object, ...] | None = None
        self.has_changed = False

    def look(self, connection: psycopg.Connection) -> None:
        """Find out whether it is another one now."""
        found = connection.execute(_PRESENT, self._parameters).fetchone()
        self._first = self._first or found
        self.has_changed |= found != self._first
