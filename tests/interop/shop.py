"""The sample shop in PostgreSQL with a table of its types, an engine on it, and the lake it made.

The engine is the real one, as a process. It has ended before anything is compared, so that the
lake and ``upwell query`` are asked about the same version.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pyarrow as pa
from pyiceberg.exceptions import NoSuchTableError

from tests.acceptance.running import (
    ShopProject,
    eventually,
    is_durable,
    is_equal_to_the_shop,
    release,
    running,
    shop_project,
)
from tests.interop.questions import Question, Span, as_found, within
from tests.interop.readers import catalog_of_folder
from upwell.cli.inspect import query
from upwell.core.schema import Column
from upwell.demo.server import Server
from upwell.ingest.tables import log_name
from upwell.project.read import read_project
from upwell.store.hot import open_read_only
from upwell.store.lake.catalog import Access
from upwell.store.lake.compaction import Tiers, compact
from upwell.store.lake.expiry import forgettable
from upwell.store.lake.lake import open_lake
from upwell.store.lake.publish import PUBLISHED, Publication, Published, Publisher
from upwell.store.lake.sweep import Sweeper
from upwell.store.lake.tables import Change
from upwell.store.lake.writer import LakeWriter
from upwell.store.place import StatePlace

LOGGED = ("shop.types", "shop.orders")
#: What is published, by the month of which time, in this order: the last changes between two runs.
SHOWN = {"shop.orders": "placed_at", "order_categories": "placed_at", "shop.types": "moment"}
_DAYS = 40

_TYPES = """
create type mood as enum ('sad', 'gay');
create table types (
    id int primary key, flag boolean, small smallint, big bigint, object oid,
    price numeric(12, 2), exact numeric(38, 10), free numeric, single real, double double precision,
    words text, short varchar(20), fixed char(5), bytes bytea,
    day date, at_noon time, local_time timestamp, moment timestamptz, span interval,
    document json, binary_document jsonb, reference uuid, numbers int[], texts text[],
    feeling mood, address inet
)
"""
_ROWS = """
insert into types values
(1, true, -32768, -9223372036854775808, 4294967295, -0.01, 9999999999999999999999999999.9999999999,
 'NaN', 'NaN', '-Infinity', 'Crème brûlée 漢字 𝄞', '', 'ab', '\\x00ff80', '0001-01-01',
 '23:59:59.999999',
 '1969-12-31 23:59:59.999999', '1969-12-31 23:59:59.999999+00', '1 year 2 days 03:04:05.000006',
 '{"a": [1, null]}', '{"ü": 1.50}', '6f9619ff-8b86-d011-b42d-00c04fc964ff', '{1,NULL,3}',
 '{"a b","c\\"d",NULL}', 'sad', '10.0.0.1/8'),
(2, false, 32767, 9223372036854775807, 0, 9999999999.99, -0.0000000001,
 12345678901234567890.123456789, 1e-45, 'Infinity', E'two\\nlines', 'NULL', '', '', '9999-12-31',
 '00:00:00',
 '2026-03-29 01:30:00.123456', '2026-10-25 01:30:00.123456+01', '-1 second', 'null', 'null',
 '00000000-0000-0000-0000-000000000000', '{}', '{}', 'gay', '2001:db8::/32');
insert into types (id, single, double, day, local_time, moment) values
(3, null, null, 'infinity', 'infinity', '-infinity'),
(4, 0.1, 0.1, '1582-10-04', '1582-10-04 23:59:59.999999', '1582-10-04 23:59:59.999999+00');
insert into types (id) select n from generate_series(5, 500) n
"""
_LATER = """
update types set words = words || '!', price = price - 1 where id in (1, 2);
delete from types where id = 3;
delete from types where id > 400;
alter table types add column gained numeric(9, 3), add column gained_words text;
insert into types (id, moment, gained, gained_words)
    select 1000 + n, timestamptz '2026-01-31 23:59:59.999999+00' + n * interval '1 day', n / 8.0,
    'ü' || n
    from generate_series(0, 99) n;
update orders set gift_note = 'für dich', updated_at = now() where id % 7 = 0;
update products set category = 'Moved', updated_at = now() where id % 5 = 0;
delete from payments where id % 11 = 0
"""


@dataclass(frozen=True)
class LakeOfShop:
    """A project whose engine has ended, and its lake."""

    project: ShopProject

    @property
    def folder(self) -> Path:
        return self.project.folder / "lake"

    def questions(self) -> dict[Question, pa.Table]:
        """What is asked of a reader, with what ``upwell query`` says.

        Whole change logs; what stands by them; what is published, by spans of time too.
        """
        names = {*LOGGED, *map(log_name, LOGGED), *SHOWN}
        said = {name: self.ask(f"SELECT * FROM {name}") for name in names}
        now = datetime.now(UTC)
        lately = Span("placed_at", now - timedelta(days=35), now - timedelta(days=10))
        winter = Span.of("moment", "2026-02-10", "2026-03-01")
        asked = {Question(log_name(name)): said[log_name(name)] for name in LOGGED}
        for name in LOGGED:
            standing = tuple(said[name].column_names)
            asked[Question(log_name(name), standing=standing)] = said[name]
        asked |= {Question(lake_name(name)): said[name] for name in SHOWN}
        for name, time in SHOWN.items():
            span = lately if time == lately.column else winter
            asked[Question(lake_name(name), span=span)] = within(said[name], span)
        return {question: as_found(rows) for question, rows in asked.items()}

    def ask(self, sql: str) -> pa.Table:
        """The answer of ``upwell query``."""
        written = io.TextIOWrapper(io.BytesIO())
        with redirect_stdout(written):
            query(self.project.folder, sql, output="arrow")
        written.seek(0)
        with pa.ipc.open_stream(written.buffer) as reader:
            return reader.read_all()

    def publish(self) -> None:
        """Show tables as they stand, without waiting for an engine that does."""
        with self._writing() as writer:
            connection = open_read_only(StatePlace(self.project.folder).hot_store, zone="UTC")
            for name, time in SHOWN.items():
                described = connection.execute(f"DESCRIBE {name}").fetchall()
                columns = tuple(Column(row[0], row[1]) for row in described)
                Publisher(writer).publish(connection, Published(name, columns, time), Publication())
            connection.close()

    def merge(self) -> None:
        """Few files, one snapshot a log, and nothing on the disk that no table names."""
        tiers = Tiers(files=2, growth=1.5)
        with self._writing() as writer:
            lake, through, epoch = writer.lake, writer.mark.version, writer.epoch
            for name in map(log_name, LOGGED):
                table = lake.table(name)
                assert table is not None
                assert len(table.files) > 1
                while compact(lake.objects, table, through=through, epoch=epoch, tiers=tiers):
                    pass
                table.commit(Change(forgotten=forgettable(table, kept=1)), epoch=epoch)
                assert len(table.files) == 1
            assert Sweeper(lake, keep_seconds=0).sweep(epoch).deleted

    @contextmanager
    def _writing(self) -> Iterator[LakeWriter]:
        lake = open_lake(str(self.folder), Path(), Access())
        writer = LakeWriter(lake, read_project(self.project.folder, environment={}).settings.name)
        writer.take_over()
        yield writer
        lake.close()


def lake_name(table: str) -> str:
    """Where a table or model is found in the lake."""
    return table if "." in table else f"main.{table}"


@contextmanager
def lake_of_shop(server: Server, folder: Path, *, publishes: bool = False) -> Iterator[LakeOfShop]:
    """A shop of forty days that was followed while it changed and its tables gained columns.

    ``publishes``: the engine has published everything, in a second run of it.
    """
    project = shop_project(server, folder, days_of_history=_DAYS)
    settings = folder / "upwell.yaml"
    text = settings.read_text().replace("tables: [", "tables: [types, ")
    shown = ", ".join(SHOWN) if publishes else ""
    months = ", ".join(f"{name}: {time}" for name, time in SHOWN.items()) if publishes else ""
    settings.write_text(
        f"{text}\nlake: {{uri: lake, commit_seconds: 1, publish: [{shown}], "
        f"publish_by_month: {{{months}}}}}\n"
    )
    with project.connect() as connection:
        run(connection, _TYPES, _ROWS)
    try:
        with running(project, "engine"):
            eventually(lambda: is_equal_to_the_shop(project) and is_durable(project))
            with project.connect() as connection:
                run(connection, *_LATER.split(";"))
            eventually(lambda: is_equal_to_the_shop(project) and is_durable(project))
            version = int(project.engine.ask("status")["version"])
        if publishes:
            with running(project, "engine"):
                eventually(lambda: published_version(project) >= version)
        yield LakeOfShop(project)
    finally:
        release(project)


def run(connection: psycopg.Connection[object], *statements: str) -> None:
    for statement in statements:
        connection.execute(statement.encode())


def published_version(project: ShopProject) -> int:
    """Through which version everything was published; 0 before it is there."""
    catalog = catalog_of_folder(project.folder / "lake")
    try:
        table = catalog.load_table(lake_name(list(SHOWN)[-1]))
        return int(table.properties.get(PUBLISHED, "0"))
    except NoSuchTableError:
        return 0
    finally:
        catalog.close()
