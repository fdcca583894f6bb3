"""Everything that following a database needs, looked at one by one, each with the exact remedy.

The rules are those by which a run refuses (``fitness``, ``catalog``), so that what is fit here
starts. Reads only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from upwell.sources.checkup import Check, Checkup, TableSize, Verdict
from upwell.sources.mysql.catalog import Catalog, read_catalog, table_names
from upwell.sources.mysql.fitness import Rule, server_rules
from upwell.sources.mysql.server import meet
from upwell.sources.mysql.session import Session, session
from upwell.sources.mysql.tables import sql_name
from upwell.sources.mysql.url import parse_url

_SIZE = """
    SELECT TABLE_ROWS, COALESCE(DATA_LENGTH, 0) FROM information_schema.TABLES
     WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s
"""
_SOURCE = "source"  # names in SQL begin with one; here nobody sees it


def check_up(url: str, tables: Sequence[str] | None) -> Checkup:
    """Look at the server and at ``tables`` (None: all of the database).

    A table that was not named and cannot be captured is a warning: nobody asked for it. Raises what
    ``session`` raises.
    """
    with session(parse_url(url)) as opened:
        server = meet(opened)
        checks = [_of_rule(rule) for rule in server_rules(opened, server)]
        names = table_names(opened) if tables is None else tables
        catalog = read_catalog(opened, server, _SOURCE, names)
        checks += _of_tables(opened, catalog, names, "fault" if tables else "warning")
        if not catalog.tables and tables is None:
            checks.append(_nothing_fit(opened, names))
        return Checkup(tuple(checks), tuple(_sizes(opened, catalog)))


def _of_rule(rule: Rule) -> Check:
    if rule.holds:
        return Check(rule.code, "ok", "", rule.good)
    return Check(rule.code, "warning" if rule.is_advice else "fault", "", rule.bad, rule.next_step)


def _of_tables(
    opened: Session, catalog: Catalog, names: Sequence[str], against: Verdict
) -> Iterator[Check]:
    for name in names:
        called = sql_name(_SOURCE, name, opened.address.database)
        if called in catalog.tables:
            key = f"key ({', '.join(catalog.tables[called].key)})"
            yield Check("table_fit", "ok", name, key)
        else:
            unfit = catalog.unfit[called]
            yield Check(unfit.code, against, name, unfit.what, unfit.next_step)


def _nothing_fit(opened: Session, names: Sequence[str]) -> Check:
    if names:
        said = "no table can be captured"
        return Check("nothing_to_capture", "fault", "", said, "see the remedies of the tables")
    said = f"the database {opened.address.database} has no tables, or none that this user may see"
    step = "correct the database in the URL, or GRANT SELECT on its tables"
    return Check("no_tables", "fault", "", said, step)


def _sizes(opened: Session, catalog: Catalog) -> Iterator[TableSize]:
    for table in catalog.tables.values():
        rows, size_bytes = opened.row(_SIZE, [table.database, table.table])
        is_home = table.database == opened.address.database
        name = table.table if is_home else f"{table.database}.{table.table}"
        yield TableSize(name, None if rows is None else int(rows), int(size_bytes))
