"""The lake's clock: rounds that make what is committed durable, in a thread of their own.

A round begins every so often, or sooner when much was logged. It reads the hot store at one version
and never waits for the engine, nor the engine for it. Only when it has ended may the sources forget
what is in it, and the hot store drop its part of the change logs. While the lake is away everything
else goes on; the sources keep their logs meanwhile, and boards say so.

What the lake shows as it stands follows on a slower clock: see ``publishing.py``.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import duckdb
import structlog

from upwell.core.errors import UpwellError
from upwell.core.schema import source_of
from upwell.core.sql import quote_table
from upwell.ingest.tables import captured, change_logs
from upwell.publishing import Publishing
from upwell.store import ledger
from upwell.store.hot import HotStore
from upwell.store.lake.care import Care
from upwell.store.lake.logged import OWN, Logged, own_log
from upwell.store.lake.mark import FORMAT, FORMAT_WITH_FROZEN, Mark, MarkedSource
from upwell.store.lake.tables import OvertakenError
from upwell.store.lake.writer import LakeWriter

log = structlog.get_logger(__name__)

RETRY_SECONDS = (1.0, 60.0)
_LOOK_SECONDS = 0.5
#: A source that keeps much log for us waits no longer than this.
_HURRIED_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a round begins: after so long, or so many bytes logged, whichever comes first."""

    seconds: float = 30.0
    megabytes: float = 64.0


class Durability:
    """Makes rounds for as long as its block lasts, or until closed; a last one then.

    ``logged_bytes`` gives how much was logged since the start, roughly; ``is_hurried`` says whether
    a source keeps much log until the next round. In the rounds' thread are called: ``await_gap``
    before each step, so that it slows nothing urgent down; ``on_durable`` after each round;
    ``on_trouble`` with why nothing becomes durable just now (an empty text: it does); and
    ``on_lost`` once, if another engine has taken the lake over.
    """

    def __init__(
        self,
        store: HotStore,
        writer: LakeWriter,
        *,
        care: Care,
        pace: Pace,
        publishing: Publishing,
        logged_bytes: Callable[[], int],
        is_hurried: Callable[[], bool] = lambda: False,
        await_gap: Callable[[], None] = lambda: None,
        on_durable: Callable[[Mark], None],
        on_trouble: Callable[[str], None],
        on_lost: Callable[[UpwellError], None],
    ) -> None:
        self._store = store
        self._writer = writer
        self._care = care
        self._pace = pace
        self._publishing = publishing
        self._unpublished = ""
        self._logged_bytes = logged_bytes
        self._is_hurried = is_hurried
        self._await_gap = await_gap
        self._on_durable = on_durable
        self._on_trouble = on_trouble
        self._on_lost = on_lost
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upwell-lake")

    @property
    def mark(self) -> Mark:
        """Through which version everything is durable."""
        return self._writer.mark

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Make a last round and end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    # ── the thread ───────────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        try:
            self._try_until_done(self._writer.take_over)
            while self._wait():
                self._try_until_done(self._round)
                self._await_gap()
                self._try(self._care.after_round)
            self._try(self._round)
        except OvertakenError as error:
            self._on_lost(error)

    def _wait(self) -> bool:
        """Until a round is due; False when there is to be none but the last."""
        begun, logged = time.monotonic(), self._logged_bytes()
        while not self._stop.wait(_LOOK_SECONDS):
            waited = time.monotonic() - begun
            due = waited >= self._pace.seconds or (
                waited >= _HURRIED_SECONDS and self._is_hurried()
            )
            full = self._logged_bytes() - logged >= self._pace.megabytes * 2**20
            if due or full:
                return True
        return False

    def _try_until_done(self, work: Callable[[], None]) -> None:
        pause = RETRY_SECONDS[0]
        while not self._try(work) and not self._stop.is_set():
            self._stop.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries
            pause = min(2 * pause, RETRY_SECONDS[1])

    def _try(self, work: Callable[[], None]) -> bool:
        try:
            work()
        except OvertakenError:
            raise
        except Exception as error:
            is_known = isinstance(error, UpwellError)
            what = error.in_a_line if isinstance(error, UpwellError) else _unexpected(error)
            self._on_trouble(f"{what} The sources keep their logs until it can be.")
            log.warning("round_failed", what=what, exc_info=not is_known)
            return False  # a thread that died of a surprise would leave nothing durable, unsaid
        self._on_trouble(self._unpublished)
        return True

    def _round(self) -> None:
        with self._store.view() as connection:
            mark, logs = look(connection)
            if mark.version > self._writer.mark.version or mark.logs != self._writer.mark.logs:
                self._flush(connection, logs, mark)
            if not self._stop.is_set():  # whoever stops does not want to wait for it
                self._unpublished = self._publishing.after_round(
                    connection, mark.version, self._await_gap
                )

    def _flush(
        self, connection: duckdb.DuckDBPyConnection, logs: Sequence[Logged], mark: Mark
    ) -> None:
        begun = time.monotonic()
        written = self._writer.flush(connection, logs, mark, self._await_gap)
        log.info(
            "round_ended",
            version=mark.version,
            bytes=written,
            seconds=round(time.monotonic() - begun, 3),
            thread_cpu_seconds=round(time.thread_time(), 3),  # of all rounds and care so far
        )
        self._on_durable(mark)


def _unexpected(error: Exception) -> str:
    return f"Writing the lake: {type(error).__name__}: {error}".splitlines()[0].rstrip(".") + "."


def look(connection: duckdb.DuckDBPyConnection) -> tuple[Mark, list[Logged]]:
    """What the store holds at the version ``connection`` sees: the mark of it, and the logs."""
    version = ledger.latest_version(connection)
    logs = change_logs(connection)
    sources = {source_of(each.name) for each in logs}
    frozen = {name: each.frozen for name, each in captured(connection).items() if each.frozen}
    mark = Mark(
        format=FORMAT_WITH_FROZEN if frozen else FORMAT,
        lineage=ledger.read_fact(connection, ledger.LINEAGE) or "",
        version=version,
        logical_time_us=ledger.logical_time_us(connection),
        sources={
            source: MarkedSource(
                known.position,
                known.complete_through_us,
                ledger.read_identity(connection, source) or "",
            )
            for source in sorted(sources)
            if (known := ledger.progress(connection, source)).position
        },
        logs={each.name: each.identity for each in logs},
        frozen=frozen,
    )
    return mark, [*logs, *(own_log(connection, name) for name in OWN)]


def trim(connection: duckdb.DuckDBPyConnection, mark: Mark) -> None:
    """Drop from the hot store's logs what is in the lake by ``mark``."""
    for name in mark.logs:
        found = connection.execute(
            f"SELECT 1 FROM {quote_table(name)} WHERE _version <= ? LIMIT 1", [mark.version]
        ).fetchall()
        if found:
            connection.execute(
                f"DELETE FROM {quote_table(name)} WHERE _version <= ?", [mark.version]
            )
    ledger.write_fact(connection, ledger.DURABLE, str(mark.version))
