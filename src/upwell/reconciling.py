"""Followed tables are compared with their sources on a clock, without anybody asking.

One table at a time, range of keys by range, gently: the source answers one short statement after
another, with a rest behind each and within the copy budget, and the table is followed as always. A
comparison begins only while all is well: the source is followed and caught up, keeps little of its
log, and nothing else is being read; it is given up when that ends, and begun again later. When each
table is due is kept in the store.

What is reported differed at one and the same moment of both sides. Whether checksums differ is no
more than a hint, since rows change between the two looks; a range for which they do is read, rows
that changed since the comparison began are taken from the stream, and the rest is compared once the
stream has come to the moment of the last reading (``ingest/copied.py``).

Rows that differ are mended in one version, with a line in ``upwell.drift``, in the log, in status
and in the metrics. They are no *trouble*: when people read of them everything is right again.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

import duckdb
import structlog

from upwell.core.errors import EnvironmentFault, Unavailable, UpwellError
from upwell.core.faults import reach
from upwell.core.protocols import SourceTable, SourceTables
from upwell.core.schema import source_of
from upwell.core.sql import count_rows, quote_table, quoted_list
from upwell.following import Following
from upwell.ingest import copies, settle, tables
from upwell.ingest.copied import CopiedTables
from upwell.ingest.copies import Copying
from upwell.ingest.ranges import condition, condition_of_any
from upwell.models import Report
from upwell.store import drift
from upwell.store.drift import Comparison
from upwell.store.hot import HotStore
from upwell.store.lake.logged import Logged
from upwell.table_states import TableStates
from upwell.versions import Versions

log = structlog.get_logger(__name__)

#: A table whose key source and store order differently is compared as a whole, up to this size:
#: reading more rows at once, because one of them changed, is not gentle.
MOST_ROWS_AS_A_WHOLE = 50_000
#: What is due is looked for this often, or several times between two comparisons.
LOOK_SECONDS = 5.0
#: One that could not begin, or was given up, is tried again after this, or half the usual time.
RETRY_SECONDS = 600.0
#: A source that is complete through less than this ago is caught up.
CAUGHT_UP_SECONDS = 60.0
#: Of the log that a source may keep for us, by our cap or its own, so much is near it.
NEAR_CAP = 0.5


LogInLake = Callable[[Logged], AbstractContextManager[tuple[str, int]]]
"""Gives SQL for the rows of a change log that are in the lake, and through which version."""


@contextmanager
def no_lake(of_table: Logged) -> Iterator[tuple[str, int]]:
    """The store has the whole log."""
    yield f"(FROM {quote_table(of_table.name)} WHERE false)", 0


class Reconciling:
    """See the module. Used by the engine's thread; any thread may read.

    ``gently`` holds the table that is compared because of the clock, if there is one. ``latest``
    and ``differed`` give, by table, its last comparison and how many rows have differed since the
    start.
    """

    def __init__(
        self,
        store: HotStore,
        tables: TableStates,
        versions: Versions,
        report: Report,
        log_in_lake: LogInLake = no_lake,
    ) -> None:
        self._store = store
        self._tables = tables
        self._versions = versions
        self._report = report
        self._log_in_lake = log_in_lake
        self._copied = CopiedTables(store.writer)
        self._due = drift.due(store.writer)
        self._look_at: dict[str, float] = {}  # by source
        self.latest = drift.latest(store.writer)
        self.differed: dict[str, int] = {}
        self.gently = {name for name in tables.copying if tables.is_compared(name)}

    def due_us(self, name: str) -> int | None:
        """When a table is to be compared next, microseconds since 1970; None: not by itself."""
        return self._due.get(name)

    def step(self, following: Following, *, is_busy: bool) -> None:
        """Begin or give up what the clock asks for; ``is_busy``: somebody waits for a reading."""
        mine = {name for name in self.gently if self._is_of(following, name)}
        for name in mine - self._tables.copying.keys():
            self.gently.discard(name)  # given up: it changed as a whole, or its layout did
            self._postpone(following, name)
        others = is_busy or bool(self._tables.copying.keys() - self.gently)
        for name in mine & self._tables.copying.keys():
            if others or self._is_near_cap(following):
                self._give_up(following, name)
        if time.monotonic() < self._look_at.get(following.name, 0.0):
            return
        if not following.reconcile_seconds:
            self._plan_none(following)
        elif not (others or self._tables.copying) and self._is_well(following):
            pause = min(LOOK_SECONDS, following.reconcile_seconds / 8)
            self._look_at[following.name] = time.monotonic() + pause
            self._plan(following)
            self._begin_due(following)

    def settle(self, following: Following, copying: Copying) -> Comparison | None:
        """End a comparison: mend what differs, in one version, and write down what was found.

        None if what was read contradicts itself, or the lake cannot be read: the table is as it
        was then, and is compared again.
        """
        name, schema = copying.table.name, copying.table.schema
        ranges = copies.ranges_read(self._store.writer, name)
        within = condition_of_any(schema, ranges)
        if self._copied.doubled(schema, within):
            log.warning("comparison_contradicts_itself", table=name)
            self._tables.end_comparison(name)
            return None
        writer = self._store.writer
        differing = settle.find_differing(writer, schema, within)
        places = sum(settle.is_differing(writer, condition(schema, each)) for each in ranges)
        rows = count_rows(writer, name) + differing.missing - differing.unexpected
        found = Comparison(
            self._versions.next if differing.rows else self._versions.next - 1,
            name,
            self._versions.now_us(),
            copying.parts,
            len(ranges),
            places,
            rows,
            differing.missing,
            differing.unexpected,
            differing.altered,
        )
        try:
            self._write(following, copying, found)
        except UpwellError as error:
            log.error("drift_not_mended", table=name, why=error.in_a_line)  # noqa: TRY400 - told
            self._tables.end_comparison(name)
            return None
        self._note(following, found)
        with suppress(Unavailable), self._store.relayout() as connection:
            settle.clear(connection)  # what stays is cleared behind the next reading
        return found

    def _write(self, following: Following, copying: Copying, found: Comparison) -> None:
        name, schema = copying.table.name, copying.table.schema

        def end(connection: duckdb.DuckDBPyConnection) -> None:
            drift.record(connection, found)
            if following.reconcile_seconds:
                drift.set_due(connection, name, self._next_us(following, found.compared_at_us))
            copies.finish(connection, name)

        if found.rows_differing:
            (of_table,) = [
                each
                for each in tables.change_logs(self._store.writer)
                if each.name == tables.log_name(name)
            ]
            # Rows may differ because the file was damaged, and then not by what the log says.
            with self._log_in_lake(of_table) as (in_lake, through):
                columns = quoted_list([*schema.column_names, "_weight"])
                logged = (
                    f"(SELECT {columns} FROM {in_lake} UNION ALL SELECT {columns} "
                    f"FROM {quote_table(of_table.name)} WHERE _version > {through:d})"
                )

                def mend(connection: duckdb.DuckDBPyConnection) -> None:
                    moment = self._versions.moment(following)
                    settle.mend_differing(connection, schema, moment, logged)
                    tables.note_state(connection, copying.table)
                    self._versions.unbuild_readers(connection, name)
                    end(connection)

                self._versions.make(mend, frozenset([name]))
            reach("reconcile.mended")
        else:
            with self._store.transaction() as connection:
                end(connection)
            settle.forget_differing(self._store.writer)
        self._tables.read_again()

    def _note(self, following: Following, found: Comparison) -> None:
        name, differing = found.source_table, found.rows_differing
        self.gently.discard(name)
        self.latest[name] = found
        self.differed[name] = self.differed.get(name, 0) + differing
        if following.reconcile_seconds:
            self._due[name] = self._next_us(following, found.compared_at_us)
        facts = {
            "table": name,
            "ranges": found.ranges,
            "ranges_read": found.ranges_read,
            "rows": found.rows,
            "differing": differing,
            "version": found.version,
        }
        if differing:
            log.error("drift_mended", **facts)
            self._report("drift_mended", **facts)
        else:
            log.info("comparison_ended", **facts)

    # ── the clock ────────────────────────────────────────────────────────────────────────────────

    def _plan(self, following: Following) -> None:
        """Every table is due once in a while, and all of them not at once."""
        now_us, every_us = self._versions.now_us(), following.reconcile_seconds * 1e6
        mine = {name for name in self._tables.layouts if self._is_of(following, name)}
        for name in mine:
            known = self._due.get(name)
            if known is None:
                spread = zlib.crc32(name.encode()) / 2**32
                self._set_due(name, now_us + int(every_us * spread))
            elif known > now_us + every_us:  # it was to be compared more seldom
                self._set_due(name, now_us + int(every_us))
        gone = {name for name in self._due if self._is_of(following, name)} - mine
        self._forget_due(gone)

    def _plan_none(self, following: Following) -> None:
        self._forget_due({name for name in self._due if self._is_of(following, name)})

    def _begin_due(self, following: Following) -> None:
        now_us = self._versions.now_us()
        still = self._tables.still
        ready = [
            (at_us, name)
            for name, at_us in self._due.items()
            if at_us <= now_us and self._is_of(following, name) and name not in still
        ]
        if not ready or not self._store.try_checkpoint():
            return  # somebody reads for long: to wait for it would hold up what is followed
        _, name = min(ready)
        state = self._tables.state_of(name)
        if state is not None and not self._begin(following, state):
            self._postpone(following, name)

    def _begin(self, following: Following, state: SourceTable) -> bool:
        source = following.source
        try:
            looked = source.look([state])
        except (Unavailable, EnvironmentFault) as error:
            log.warning("comparison_not_begun", table=state.name, why=error.what)
            return False
        now = looked.tables.get(state.name)
        if (
            now is None
            or looked.unlogged(state.name)
            or not is_alike(state, looked)
            or not state.state
        ):
            return False  # what has become of it comes with its log
        as_a_whole = not source.has_ordered_keys(state.schema)
        if as_a_whole and count_rows(self._store.writer, state.name) > MOST_ROWS_AS_A_WHOLE:
            log.info("comparison_not_begun", table=state.name, why="its key has another order")
            return False
        self.gently.add(state.name)
        self._tables.compare(now, as_a_whole=as_a_whole)
        return True

    def _give_up(self, following: Following, name: str) -> None:
        following.copier.forget(name)
        self._tables.end_comparison(name)
        self.gently.discard(name)
        self._postpone(following, name)
        log.info("comparison_given_up", table=name)

    def _postpone(self, following: Following, name: str) -> None:
        if following.reconcile_seconds:
            seconds = min(RETRY_SECONDS, following.reconcile_seconds / 2)
            self._set_due(name, self._versions.now_us() + int(seconds * 1e6))

    def _next_us(self, following: Following, from_us: int) -> int:
        return from_us + int(following.reconcile_seconds * 1e6)

    def _set_due(self, name: str, at_us: int) -> None:
        with self._store.transaction() as connection:
            drift.set_due(connection, name, at_us)
        self._due[name] = at_us

    def _forget_due(self, names: set[str]) -> None:
        if names:
            with self._store.transaction() as connection:
                drift.forget_due(connection, names)
            for name in names:
                del self._due[name]

    # ── what is so ───────────────────────────────────────────────────────────────────────────────

    @staticmethod
    def _is_of(following: Following, name: str) -> bool:
        return source_of(name) == following.name

    def _is_well(self, following: Following) -> bool:
        """Whether a source can be asked for more than its changes."""
        behind_us = self._versions.now_us() - following.complete_through_us
        return (
            following.stream is not None
            and not following.troubles
            and behind_us < CAUGHT_UP_SECONDS * 1e6
            and not self._versions.lake_trouble
            and not self._is_near_cap(following)
        )

    @staticmethod
    def _is_near_cap(following: Following) -> bool:
        burden = following.burden
        if burden is None:
            return False
        caps = (following.log_policy.cap_bytes, burden.limit_bytes)
        least = min(cap for cap in caps if cap is not None)
        return burden.retained_bytes > NEAR_CAP * least


def is_alike(state: SourceTable, looked: SourceTables) -> bool:
    """Whether the rows stored of a table in a state can be compared with it as it is now."""
    now, change = looked.tables.get(state.name), looked.changes.get(state.name)
    is_same = change is None or (change.now.schema == state.schema and not change.why)
    return now is not None and is_same and now.terms == state.terms
