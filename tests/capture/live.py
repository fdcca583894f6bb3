"""An engine on a real database, in this process, beside people who keep changing it."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, Self

import duckdb
import psycopg
import pyarrow as pa

from upwell.answers import checksums
from upwell.copying import Budget
from upwell.core.policy import OnChange
from upwell.core.position import Position
from upwell.core.protocols import (
    Checksum,
    CopiedRows,
    Copy,
    CopyPlan,
    KeyRange,
    Source,
    SourceTable,
    TableSnapshot,
)
from upwell.core.sql import quote_table, quoted_list
from upwell.engine import Engine
from upwell.feed.hub import FeedHub
from upwell.following import LogPolicy
from upwell.models import Models
from upwell.project.values import Model
from upwell.sources.postgres import PostgresSource
from upwell.sources.postgres.checksum import row_checksums
from upwell.sources.postgres.tables import sql_name
from upwell.start import begin_following, layouts_ahead, open_source
from upwell.store import ledger
from upwell.store.hot import HotStore
from upwell.table_states import TableStates
from upwell.wiring import SourceSetting

PATIENCE_SECONDS = 60.0


class Counted:
    """A source that counts the parts which are read, and may be told to read slowly."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.look, self.begin, self.follow_only = source.look, source.begin, source.follow_only
        self.checksum_sql, self.has_ordered_keys = source.checksum_sql, source.has_ordered_keys
        self.stream, self.release, self.close = source.stream, source.release, source.close
        self.parts_read: list[str] = []
        self.pause_seconds = 0.0

    @property
    def name(self) -> str:
        return self._source.name

    def copy(self) -> Copy:
        return _CountedCopy(self._source.copy(), self)


@dataclass
class _CountedCopy:
    copy: Copy
    source: Counted

    def plan(self, table: SourceTable, part_bytes: int) -> CopyPlan:
        return self.copy.plan(table, part_bytes)

    def read(self, table: SourceTable, part: str) -> CopiedRows:
        time.sleep(self.source.pause_seconds)
        rows = self.copy.read(table, part)
        self.source.parts_read.append(f"{table.name} {part}")
        return rows

    def compare(
        self, table: SourceTable, keys: KeyRange, stored: Checksum
    ) -> CopiedRows | Position:
        found = self.copy.compare(table, keys, stored)
        if isinstance(found, CopiedRows):
            self.source.parts_read.append(f"{table.name} {keys}")
        return found

    def read_rows(self, table: SourceTable, keys: pa.Table) -> CopiedRows:
        return self.copy.read_rows(table, keys)

    def close(self) -> None:
        self.copy.close()


def opened_postgres(live: Live, identity: str | None) -> Source:
    return PostgresSource("shop", live.url, live.tables, slot=live.slot, known=identity)


@dataclass
class Live:
    """``start`` and ``stop`` an engine over ``tables`` of the database at ``url``.

    ``opened`` opens the source, as the one of an identity; ``theirs`` gives its own checksums.
    """

    path: Path
    url: str
    slot: str
    tables: Sequence[str]
    models: Mapping[str, str] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    policies: Mapping[str, OnChange] = field(default_factory=dict)
    log_policy: LogPolicy = field(default_factory=LogPolicy)
    reconcile_seconds: float = 0.0
    events: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    opened: Callable[[Live, str | None], Source] = opened_postgres
    theirs: Callable[[str, str, Sequence[str]], Mapping[str, Checksum]] = row_checksums

    def start(self, *, pause_seconds: float = 0.0) -> None:
        self.store = HotStore(self.path / "hot.duckdb", zone="UTC")
        ledger.prepare(self.store.writer)

        def report(event: str, **facts: object) -> None:
            self.events.append((event, facts))

        def opened(identity: str | None) -> Counted:
            return Counted(self.opened(self, identity))

        names = frozenset(sql_name("shop", table) for table in self.tables)
        setting = SourceSetting(
            "shop",
            opened,
            names,
            self.budget,
            self.log_policy,
            reconcile_seconds=self.reconcile_seconds,
        )
        source = open_source(self.store, setting)
        assert isinstance(source, Counted)
        self.source = source
        self.source.pause_seconds = pause_seconds
        self.states = TableStates(self.store, self.policies)
        models = [
            Model(name=name, path=Path(f"models/{name}.sql"), sql=sql, description="", key=())
            for name, sql in self.models.items()
        ]
        self.built = Models(self.store, models, report)
        self.built.check(layouts_ahead(self.states, {"shop": source}, [setting]))
        self.following = begin_following(self.store, self.states, source, setting, report)
        self.hub = FeedHub(
            self.store.view,
            version=ledger.latest_version(self.store.writer),
            schema_of=lambda name: self.states.layouts.get(name) or self.built.schemas[name],
        )
        self.engine = Engine(
            self.store, self.hub, [self.following], self.states, self.built, report=report
        )
        self._stop = threading.Event()
        self.failure: BaseException | None = None

        def work() -> None:
            try:
                self.engine.run(self._stop)
            except BaseException as error:  # noqa: BLE001 - raised where it is waited for
                self.failure = error

        self._thread = threading.Thread(target=work)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self.source.close()
        self.store.close()

    @contextlib.contextmanager
    def running(self, *, pause_seconds: float = 0.0) -> Iterator[Live]:
        self.start(pause_seconds=pause_seconds)
        try:
            yield self
        finally:
            self.stop()

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            if self.failure is not None:
                raise self.failure
            assert time.monotonic() < deadline, (what, self.hub.trouble, self.events[-5:])
            time.sleep(0.01)

    def wait_until_settled(self) -> None:
        """Until every table is followed and every model has a result."""

        def is_settled() -> bool:
            known = self.states.layouts.keys() - self.states.still.keys()
            tables = {sql_name("shop", table) for table in self.tables}
            are_built = self.built.schemas.keys() == self.models.keys()
            return known == tables and not dict(self.states.copying) and are_built

        self.wait(is_settled, "settled")

    def wait_until_equal(self, tables: Sequence[str] | None = None) -> None:
        """Until the source's rows, which do not change now, are those stored."""
        wanted = self.theirs(self.url, "shop", tables or self.tables)

        def is_equal() -> bool:
            with self.store.view() as connection:
                try:
                    layouts = {name: self.states.layouts[name] for name in wanted}
                    found = checksums(connection, layouts, self.source.checksum_sql)
                except Exception:  # noqa: BLE001 - a table may just take its place
                    return False
            return found == {name: [str(each) for each in both] for name, both in wanted.items()}

        self.wait(is_equal, "equal")

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with contextlib.closing(self.store.reader()) as reader:
            return reader.execute(query).fetchall()

    def is_log_whole(self, table: str) -> bool:
        """Whether a current table is the sum of its change log."""
        schema = self.states.layouts[table]
        names, log = quoted_list(schema.column_names), quote_table(f"{table}__log")
        summed = f"(SELECT {names} FROM {log} GROUP BY ALL HAVING sum(_weight) <> 0)"
        current = f"(SELECT {names} FROM {quote_table(table)})"
        return not self.rows(
            f"({summed} EXCEPT ALL {current}) UNION ALL ({current} EXCEPT ALL {summed})"
        )

    def damage(self, *statements: str) -> None:
        """Change what is stored as nothing of ours would."""
        is_done = threading.Event()

        def work(connection: duckdb.DuckDBPyConnection) -> None:
            for statement in statements:
                connection.execute(statement)
            is_done.set()

        self.engine.submit(work)
        self.wait(is_done.is_set, "damage")

    def followed(self, table: str) -> list[tuple[object, ...]]:
        """What a new follower of the feed gets."""
        messages = self.hub.follow([table], None)
        snapshot = next(messages)
        assert isinstance(snapshot, TableSnapshot)
        return [tuple(row.values()) for row in snapshot.rows.to_pylist()]


class Till(Protocol):
    """Who writes to a table: a connection, and how its server says things."""

    statements: Mapping[str, str]

    def change(self, statements: Sequence[str]) -> int:
        """One transaction; how many rows it changed. 0 if the table is being altered just now."""
        ...

    def close(self) -> None: ...


class PostgresTill:
    statements: Mapping[str, str] = MappingProxyType(
        {
            "touch": "update {table} set n = {number} where id = {key}",
            "text": "update {table} set big = '{big}' where id = {key}",
            "insert": "insert into {table} values ({key}, {number}, 'new', '{big}') "
            "on conflict do nothing",
            "delete": "delete from {table} where id = {key}",
            "move": "update {table} set id = {other} where id = {key} "
            "and not exists (select from {table} where id = {other})",
        }
    )

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)

    def change(self, statements: Sequence[str]) -> int:
        try:
            with self._connection.transaction():
                return sum(self._connection.execute(each.encode()).rowcount for each in statements)
        except psycopg.Error:
            return 0  # a table that is being altered: somebody else's business

    def close(self) -> None:
        self._connection.close()


class Workload:
    """Changes a table of ``id, n, note, big`` at random until told to stop."""

    def __init__(
        self,
        url: str,
        table: str,
        *,
        seed: int,
        keys: int = 5_000,
        till: Callable[[str], Till] = PostgresTill,
    ) -> None:
        self._till = till(url)
        self._table = table
        self._random = random.Random(seed)
        self._keys = keys
        self._stop = threading.Event()
        self.changes = 0
        self.pause_seconds = 0.0
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with contextlib.closing(self._till):
            while not self._stop.is_set():
                statements = [self._statement() for _ in range(self._random.randint(1, 4))]
                self.changes += self._till.change(statements)
                time.sleep(self.pause_seconds)

    def _statement(self) -> str:
        kind = self._random.choice(["touch", "touch", "touch", "text", "insert", "delete", "move"])
        return self._till.statements[kind].format(
            table=self._table,
            key=self._random.randrange(self._keys),
            number=self._random.randrange(10**6),
            big="".join(self._random.choices("abcdefghij", k=3000)),
            other=self._random.randrange(self._keys, 2 * self._keys),
        )
