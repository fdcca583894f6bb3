"""What columns hold, without reading much: the server's own statistics, else a bounded sample.

Never a full scan of a big table: tables up to ``SMALL_BYTES`` are read whole, of bigger ones a few
hundred pages spread over the table and the last pages, where the newest rows mostly are. Tables are
looked at in groups, one statement each. A group that waits for a lock, or for long, is given up and
said to be: what is unknown makes a draft less fitting, not wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import LiteralString

import psycopg

from upwell.core.sql import literal, quote
from upwell.project.survey import Family
from upwell.sources.postgres.relations import Relation
from upwell.sources.postgres.tables import own_rows

SMALL_BYTES = 8 << 20
_GROUP = 40
_PAGES = 200
_LAST_PAGES = 8
_SAMPLE_ROWS = 20_000
_COMMON = 6
_LONGEST = 80  # letters of a value that count

_STATISTICS: LiteralString = """
    select a.attrelid::bigint, a.attname::text, s.null_frac::float8, s.n_distinct::float8,
           (s.most_common_vals::text::text[])[1:6], bounds.bounds[1],
           bounds.bounds[array_upper(bounds.bounds, 1)]
      from pg_stats s
     cross join lateral (select s.histogram_bounds::text::text[]) as bounds(bounds)
      join pg_namespace n on n.nspname = s.schemaname
      join pg_class c on c.relnamespace = n.oid and c.relname = s.tablename
      join pg_attribute a on a.attrelid = c.oid and a.attname = s.attname
      join pg_type t on t.oid = a.atttypid
     where c.oid = any (%s::oid[]) and s.inherited = (c.relkind = 'p')
       and t.typcategory in ('S', 'B', 'E', 'N', 'D')
"""
#: Of a partitioned table, of all that is below it.
_SIZES: LiteralString = """
    with recursive below(root, oid) as (
        select c.oid, c.oid from pg_class c where c.oid = any (%s::oid[])
         union all
        select b.root, i.inhrelid
          from below b join pg_inherits i on i.inhparent = b.oid
          join pg_class c on c.oid = b.root and c.relkind = 'p'
    )
    select root::bigint, sum(pg_relation_size(oid))::bigint from below group by root
"""


@dataclass(frozen=True, slots=True)
class Place:
    """A table to look at; ``columns`` says of each what its values are."""

    oid: int
    quoted: str
    estimated_rows: int
    pages: int
    columns: Mapping[str, Family]
    is_partitioned: bool = False

    @property
    def own(self) -> str:
        """See ``own_rows``."""
        return own_rows(self.quoted, is_partitioned=self.is_partitioned)


def place_of(relation: Relation, columns: Mapping[str, Family]) -> Place:
    """The relation as a place; a partitioned one has what its partitions have."""
    leaves = relation.leaves if relation.is_partitioned else [relation]
    known = [each.estimated_rows for each in leaves if each.estimated_rows >= 0]
    return Place(
        oid=relation.oid,
        quoted=relation.quoted,
        estimated_rows=sum(known) if known or not leaves else -1,
        pages=sum(each.pages for each in leaves),
        columns=columns,
        is_partitioned=relation.is_partitioned,
    )


@dataclass(frozen=True, slots=True)
class ColumnLook:
    """What was found out about a column; see ``project.survey.SeenColumn``."""

    distinct: int | None = None
    null_share: float | None = None
    common: tuple[str, ...] = ()
    earliest: datetime | None = None
    latest: datetime | None = None


@dataclass(frozen=True, slots=True)
class TableLook:
    """What was found out about a table. ``rows`` is None where nothing is known."""

    rows: int | None
    rows_are_exact: bool
    size_bytes: int
    columns: Mapping[str, ColumnLook]


def look_at(
    connection: psycopg.Connection, places: Sequence[Place]
) -> tuple[dict[int, TableLook], list[str]]:
    """Each place by its OID, and what could not be looked at."""
    notes: list[str] = []
    sizes = _sizes(connection, places, notes)
    known = _known_statistics(connection, places)
    looks = {
        place.oid: _estimate(place, sizes[place.oid], known.get(place.oid, {})) for place in places
    }
    asked = [place for place in places if sizes[place.oid] > 0]
    for start in range(0, len(asked), _GROUP):
        group = asked[start : start + _GROUP]
        statement = " UNION ALL ".join(
            _glance(place, sizes[place.oid], sparing=place.oid in known) for place in group
        )
        try:
            rows = connection.execute(statement.encode()).fetchall()
        except (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled):
            names = ", ".join(place.quoted for place in group)
            notes.append(f"not looked into, being locked or slow to answer: {names}")
            continue
        for oid, count, columns in rows:
            looks[oid] = _refine(looks[oid], count, columns)
    return looks, notes


def estimate_sizes(connection: psycopg.Connection, places: Sequence[Place]) -> dict[int, TableLook]:
    """Bytes and rows of each place by its OID, without reading any."""
    sizes = _sizes(connection, places, [])
    return {place.oid: _estimate(place, sizes[place.oid], {}) for place in places}


def _sizes(
    connection: psycopg.Connection, places: Sequence[Place], notes: list[str]
) -> dict[int, int]:
    """Bytes of each table; by its pages at the last VACUUM where a lock is in the way."""
    try:
        found = connection.execute(_SIZES, [[place.oid for place in places]]).fetchall()
    except psycopg.errors.LockNotAvailable:
        notes.append("a table is locked, so sizes are those of the last VACUUM")
        return {place.oid: place.pages * 8192 for place in places}
    return {oid: size or 0 for oid, size in found}


def _known_statistics(
    connection: psycopg.Connection, places: Sequence[Place]
) -> dict[int, dict[str, ColumnLook]]:
    known: dict[int, dict[str, ColumnLook]] = {}
    by_oid = {place.oid: place for place in places}
    for oid, name, null_share, distinct, common, low, high in connection.execute(
        _STATISTICS, [list(by_oid)]
    ):
        place = by_oid[oid]
        is_time = place.columns.get(name) == "time"
        known.setdefault(oid, {})[name] = ColumnLook(
            distinct=round(-distinct * max(place.estimated_rows, 0) if distinct < 0 else distinct),
            null_share=null_share,
            common=tuple(value[:_LONGEST] for value in common or () if value is not None),
            earliest=_moment(low) if is_time else None,
            latest=_moment(high) if is_time else None,
        )
    return known


def _estimate(place: Place, size: int, columns: Mapping[str, ColumnLook]) -> TableLook:
    if size == 0:
        return TableLook(0, rows_are_exact=True, size_bytes=0, columns=columns)
    rows = place.estimated_rows if place.estimated_rows >= 0 else None
    if rows is not None and place.pages:  # as the planner does: by the pages there are now
        rows = round(rows * max(size / 8192 / place.pages, 1))
    return TableLook(rows, rows_are_exact=False, size_bytes=size, columns=columns)


# ── one look ─────────────────────────────────────────────────────────────────────────────────────


def _glance(place: Place, size: int, *, sparing: bool) -> str:
    """SELECT of OID, exact count or NULL, and a JSON array for each column that is looked at.

    ``sparing``: the server knows its values, so only times are asked for, and of the last pages.
    """
    is_small = size <= SMALL_BYTES
    asked = {
        name: family
        for name, family in place.columns.items()
        if family == "time" or (not sparing and family != "other")
    }
    columns = ", ".join(f"{quote(name)} AS c{index}" for index, name in enumerate(asked)) or "1"
    pages = max(size // 8192, 1)
    last = f"SELECT {columns} FROM {place.own} WHERE ctid >= '({pages - _LAST_PAGES},0)'::tid"
    if is_small:
        rows = f"SELECT {columns} FROM {place.own}"
    elif place.is_partitioned:  # whose pages are counted in each partition for itself
        rows = f"{_sampled(place, columns, pages)} LIMIT {_SAMPLE_ROWS}"
    elif sparing:
        rows = f"{last} LIMIT {_SAMPLE_ROWS}"
    else:
        rows = (
            f"({_sampled(place, columns, pages)} LIMIT {_SAMPLE_ROWS}) "
            f"UNION ALL ({last} LIMIT {_SAMPLE_ROWS})"
        )
    found = ", ".join(
        f"jsonb_build_array({literal(name)}, {_aspects(index, family)})"
        for index, (name, family) in enumerate(asked.items())
    )
    counted = "(SELECT count(*) FROM s)" if is_small else "NULL"
    return (
        f"(WITH s AS MATERIALIZED ({rows}) SELECT {place.oid}::bigint, {counted}::bigint, "
        f"ARRAY[{found}]::jsonb[])"
    )


def _sampled(place: Place, columns: str, pages: int) -> str:
    percent = min(100 * _PAGES / pages, 100)
    return f"SELECT {columns} FROM {place.own} TABLESAMPLE SYSTEM ({percent:.6f})"


def _aspects(index: int, family: Family) -> str:
    """Rows, values, distinct ones, the least and the greatest, the most common of a column."""
    column = f"c{index}"
    text = f"left({column}::text, {_LONGEST})"
    ends = "NULL, NULL"
    if family == "time":
        ends = f"(SELECT min({column})::text FROM s), (SELECT max({column})::text FROM s)"
    common = (
        f"(SELECT jsonb_agg(v) FROM (SELECT {text} AS v FROM s WHERE {column} IS NOT NULL "
        f"GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT {_COMMON}) AS common)"
    )
    return (
        f"(SELECT count(*) FROM s), (SELECT count({column}) FROM s), "
        f"(SELECT count(DISTINCT {text}) FROM s), {ends}, "
        f"{common if family != 'time' else 'NULL'}"
    )


def _refine(look: TableLook, count: int | None, columns: Sequence[Sequence[object]]) -> TableLook:
    """The look with what a glance added."""
    rows = look.rows if count is None else count
    merged = dict(look.columns)
    for name, look_at_column in _readings(columns, rows, is_whole=count is not None):
        before = merged.get(name)
        merged[name] = (
            look_at_column
            if before is None
            else replace(
                before,
                earliest=_outer(min, before.earliest, look_at_column.earliest),
                latest=_outer(max, before.latest, look_at_column.latest),
            )
        )
    return replace(look, rows=rows, rows_are_exact=count is not None, columns=merged)


def _readings(
    columns: Sequence[Sequence[object]], rows: int | None, *, is_whole: bool
) -> Iterator[tuple[str, ColumnLook]]:
    for name, seen, filled, distinct, low, high, common in columns:
        assert isinstance(seen, int)  # noqa: S101 - the shape of our own statement
        assert isinstance(filled, int)  # noqa: S101
        assert isinstance(distinct, int)  # noqa: S101
        if not seen:
            continue
        grows = not is_whole and distinct > 0.5 * filled  # mostly unique: more rows, more values
        values = common if isinstance(common, list) else []
        yield (
            str(name),
            ColumnLook(
                distinct=round(distinct * (rows or seen) / seen) if grows else distinct,
                null_share=1 - filled / seen,
                common=tuple(map(str, values)),
                earliest=_moment(low),
                latest=_moment(high),
            ),
        )


def _outer(
    choose: Callable[[list[datetime]], datetime], one: datetime | None, other: datetime | None
) -> datetime | None:
    known = [each for each in (one, other) if each is not None]
    return choose(known) if known else None


def _moment(text: object) -> datetime | None:
    """A date or time as the server prints it; None for infinity and years beyond Python's."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
