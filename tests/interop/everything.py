"""A table with every type the lake knows, each with the values that readers get wrong.

``shop.everything`` is written in rounds: a table as it began, one that gained columns, and one
whose files were merged, whose old snapshots are forgotten and whose old files are gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from tests.interop.questions import Question, Span
from tests.lake_shop import PROJECT, LakeShop
from upwell.core.schema import Column, TableSchema
from upwell.core.sql import quote, quote_table
from upwell.ingest.tables import log_name, widen
from upwell.store.lake.catalog import Access
from upwell.store.lake.compaction import Tiers, compact
from upwell.store.lake.expiry import forgettable
from upwell.store.lake.lake import open_lake
from upwell.store.lake.mark import LEDGER
from upwell.store.lake.publish import Publication, Published, Publisher
from upwell.store.lake.sweep import Sweeper
from upwell.store.lake.tables import Change, LakeTable
from upwell.store.lake.writer import LakeWriter

NAME = "shop.everything"
LOG = log_name(NAME)
#: The month of this time parts the table where it is published.
TIME = "moment"


@dataclass(frozen=True, slots=True)
class Kind:
    """A column: its type in the hot store, the one that a reader must find (as DuckDB names it),
    and values, as texts.
    """

    name: str
    stored: str
    found: str
    values: tuple[str, ...]


_TEXTS = (
    "",
    "NULL",
    "  blanks at both ends  ",
    "Crème brûlée, 漢字, Ελληνικά, עברית",
    "\U0001d11e and e\N{COMBINING ACUTE ACCENT}",
    'two\nlines,\ta tab, a quote " and \\',
)
_DAYS = (
    "0001-01-01",
    "1582-10-04",  # Spark once read what lies before the Gregorian calendar as other days
    "1582-10-15",
    "1969-12-31",
    "1970-01-01",
    "2026-02-28",
    "9999-12-31",
    "infinity",
    "-infinity",
)
_TIMES = (
    "0001-01-01 00:00:00",
    "1582-10-04 23:59:59.999999",
    "1899-12-31 23:59:59.000001",
    "1969-12-31 23:59:59.999999",
    "1970-01-01 00:00:00",
    "2026-03-29 01:30:00.123456",  # not on London's clocks
    "2026-10-25 01:30:00",  # twice on London's clocks
    "9999-12-31 23:59:59.999999",
)
_FOREVER = ("infinity", "-infinity")
_FLOATS = ("nan", "inf", "-inf", "0.0", "-0.0", "0.1", "-1.5")

KINDS = (
    Kind("id", "INTEGER", "INTEGER", ()),  # the key: filled in
    Kind("flag", "BOOLEAN", "BOOLEAN", ("true", "false")),
    Kind("tiny", "TINYINT", "INTEGER", ("-128", "127")),
    Kind("small", "SMALLINT", "INTEGER", ("-32768", "32767")),
    Kind("whole", "INTEGER", "INTEGER", ("-2147483648", "2147483647")),
    Kind("utiny", "UTINYINT", "INTEGER", ("0", "255")),
    Kind("usmall", "USMALLINT", "INTEGER", ("0", "65535")),
    Kind("uwhole", "UINTEGER", "BIGINT", ("0", "4294967295")),
    Kind("big", "BIGINT", "BIGINT", (f"{-(2**63)}", f"{2**63 - 1}", "9007199254740993")),
    Kind("ubig", "UBIGINT", "DECIMAL(20,0)", ("0", f"{2**64 - 1}")),
    Kind("huge", "HUGEINT", "DECIMAL(38,0)", ("9" * 38, "-" + "9" * 38, "1")),
    Kind("single", "FLOAT", "FLOAT", (*_FLOATS, "1.401298464324817e-45", "3.4028235e38")),
    Kind("double", "DOUBLE", "DOUBLE", (*_FLOATS, "5e-324", "1.7976931348623157e308")),
    Kind("price", "DECIMAL(9,2)", "DECIMAL(9,2)", ("0.00", "-0.01", "9999999.99")),
    Kind("rate", "DECIMAL(18,17)", "DECIMAL(18,17)", ("3.14159265358979323", "-1")),
    Kind("exact", "DECIMAL(38,10)", "DECIMAL(38,10)", ("9" * 28 + "." + "9" * 10, "-0.0000000001")),
    Kind("Über die Größe, in %", "VARCHAR", "VARCHAR", _TEXTS),
    Kind("bytes", "BLOB", "BLOB", ("", "\\x00\\xFF\\x80", "abc")),
    Kind("day", "DATE", "DATE", _DAYS),
    Kind("local_time", "TIMESTAMP", "TIMESTAMP", (*_TIMES, *_FOREVER)),
    Kind(
        TIME,
        "TIMESTAMPTZ",
        "TIMESTAMP WITH TIME ZONE",
        (*(f"{each}+00" for each in _TIMES), *_FOREVER),
    ),
    Kind(
        "uuid",
        "UUID",
        "VARCHAR",
        ("00000000-0000-0000-0000-000000000000", "6f9619ff-8b86-d011-b42d-00c04fc964ff"),
    ),
    Kind("document", "VARCHAR", "VARCHAR", ('{"a": [1, null], "ü": "\\u0000"}', "null")),
    Kind("array", "VARCHAR", "VARCHAR", ('{1,NULL,"a b"}', "{}")),  # as PostgreSQL prints it
    Kind("list", "INTEGER[]", "VARCHAR", ("[]", "[1, NULL, 3]")),
    Kind("struct", 'STRUCT(a INTEGER, "b c" VARCHAR)', "VARCHAR", ("{'a': 1, 'b c': x}",)),
    Kind("clock", "TIME", "VARCHAR", ("00:00:00", "23:59:59.999999")),  # not every reader's
    Kind("span", "INTERVAL", "VARCHAR", ("1 year 2 days 03:04:05.000006", "-1 second")),
)
#: What the table gains between two rounds.
GAINED = (
    Kind("gained_text", "VARCHAR", "VARCHAR", _TEXTS),
    Kind("gained_price", "DECIMAL(12,3)", "DECIMAL(12,3)", ("1.234",)),
    Kind("gained_time", "TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE", (f"{_TIMES[3]}+00",)),
    Kind("gained_number", "BIGINT", "BIGINT", ("1",)),
)
LOG_TYPES = {
    "_version": "BIGINT",
    "_position": "VARCHAR",
    "_committed_at": "TIMESTAMP WITH TIME ZONE",
    "_received_at": "TIMESTAMP WITH TIME ZONE",
    "_weight": "BIGINT",
}
LEDGER_TYPES = {
    "version": "BIGINT",
    "source": "VARCHAR",
    "position": "VARCHAR",
    "complete_through": "TIMESTAMP WITH TIME ZONE",
    "logical_time": "TIMESTAMP WITH TIME ZONE",
    "transactions": "BIGINT",
    "changes": "BIGINT",
}
#: What is published: as a whole, and by spans that begin or end within a month or with one, lie
#: before 1970, or reach into the years before Gregory.
SHOWN = (
    Question(NAME),
    Question(NAME, span=Span.of(TIME, "2026-03-15", "2026-10-25 01:30")),
    Question(NAME, span=Span.of(TIME, "1900-01-01", "1970-01-01")),
    Question(NAME, span=Span.of(TIME, "1970-01-01", "1980-01-01")),
    Question(NAME, span=Span.of(TIME, "1500-01-01", "1582-10-10")),
)


def schema(*, grown: bool = False) -> TableSchema:
    """The layout of ``shop.everything``, before or after it gained columns."""
    columns = tuple(Column(each.name, each.stored) for each in (*KINDS, *(GAINED if grown else ())))
    return TableSchema(NAME, columns, ("id",))


Row = tuple[str | int | None, ...]


def rows(first: int, kinds: tuple[Kind, ...]) -> list[Row]:
    """Rows from the key ``first`` on: each value of each type stands in one, and one is empty."""
    count = max(len(each.values) for each in kinds)
    filled: list[Row] = [
        (first + number, *(each.values[number % len(each.values)] for each in kinds[1:]))
        for number in range(count)
    ]
    return [*filled, (first + count, *(None for _ in kinds[1:]))]


_NOWHERE = Access()


class EverythingLake:
    """A hot store, and a lake at ``uri`` that is brought from one state to the next."""

    def __init__(self, folder: Path, uri: str = "lake", access: Access = _NOWHERE) -> None:
        self._grown = False
        self.shop = LakeShop(folder, (schema(),))
        self.writer = LakeWriter(open_lake(uri, folder, access), PROJECT)
        self.writer.take_over()

    def begin(self) -> None:
        """Rounds in which rows come, change and go."""
        for number in range(2):
            come = rows(100 * number, KINDS)
            self._round(come)
            changed, gone = come[:4], come[4:6]
            later = [
                (key, *values) for (key, *_), (_, *values) in zip(changed, gone * 2, strict=True)
            ]
            self._round(later, [*changed, *gone])

    def go_on(self) -> None:
        """Rounds of one row each: so many commits that their manifests are merged."""
        for row in rows(500, KINDS)[:8]:
            self._round([row])

    def grow(self) -> None:
        """The table gains columns: rounds with values in them. Older files lack them."""
        with self.shop.store.transaction() as connection:
            widen(connection, schema(), schema(grown=True))
        self._grown = True
        for number in range(3):
            self._round(rows(1000 + 100 * number, (*KINDS, *GAINED)))

    def merge(self) -> None:
        """Few files, one snapshot a table, and nothing on the disk that no table names."""
        for table in self.writer.tables():
            while self._compact(table):
                pass
            table.commit(Change(forgotten=forgettable(table, kept=1)), epoch=self.writer.epoch)
        assert Sweeper(self.writer.lake, keep_seconds=0).sweep(self.writer.epoch).deleted

    def publish(self) -> None:
        """Show the table as it stands, parted by the month of its time."""
        published = Published(NAME, schema(grown=True).columns, TIME)
        with self.shop.store.reader() as connection:
            Publisher(self.writer).publish(connection, published, Publication())

    def of_logs(self) -> list[Question]:
        """The change logs, what stands by one, and the ledger."""
        image = tuple(each.name for each in self._kinds)
        return [Question(LOG), Question(LOG, standing=image), Question(LEDGER)]

    def types(self, question: Question) -> dict[str, str]:
        """The types that a reader must find, as DuckDB names them."""
        if question.table == LEDGER:
            return LEDGER_TYPES
        found = {each.name: each.found for each in self._kinds}
        is_log = question.table.endswith("__log") and not question.standing
        return {**found, **LOG_TYPES} if is_log else found

    @property
    def _kinds(self) -> tuple[Kind, ...]:
        return (*KINDS, *GAINED) if self._grown else KINDS

    def expected(self, question: Question) -> pa.Table:
        """The answer as the hot store has it: what stands is what its current table holds."""
        table = NAME if question.standing else question.table
        columns = ", ".join(
            f"CAST({quote(name)} AS {found}) AS {quote(name)}"
            for name, found in self.types(question).items()
        )
        rows = Question("", span=question.span).sql(quote_table(table))
        with self.shop.store.reader() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            return connection.execute(f"SELECT {columns} FROM ({rows})").to_arrow_table()

    def files(self, name: str) -> int:
        """Of how many data files a table is made."""
        table = self.writer.lake.table(name)
        return 0 if table is None else len(table.files)

    def close(self) -> None:
        self.writer.lake.close()
        self.shop.store.close()

    def _round(self, come: Sequence[Row], gone: Sequence[Row] = ()) -> None:
        self.shop.write(come, gone, schema=schema(grown=self._grown))
        self.shop.flush(self.writer)

    def _compact(self, table: LakeTable) -> bool:
        return bool(
            compact(
                self.writer.lake.objects,
                table,
                through=self.writer.mark.version,
                epoch=self.writer.epoch,
                tiers=Tiers(files=4),
            )
        )
