"""Stores as a run leaves them, for tests of what reads them."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import duckdb
from structlog.testing import capture_logs

from upwell.core.protocols import Source, SourceTable
from upwell.core.schema import TableSchema
from upwell.engine import Engine
from upwell.feed.hub import FeedHub
from upwell.ingest import tables
from upwell.ingest.tables import Captured
from upwell.models import Models
from upwell.project.values import Model
from upwell.start import begin_following
from upwell.store import ledger
from upwell.store.hot import HotStore
from upwell.table_states import TableStates
from upwell.wiring import SourceSetting


def silent(_event: str, **_facts: object) -> None:
    """Progress is told to nobody."""


def create(connection: duckdb.DuckDBPyConnection, schema: TableSchema) -> None:
    """A captured table, empty."""
    tables.create(connection, Captured(SourceTable(schema, ""), tables.new_log()))


def take_in(store: HotStore, source: Source, models: Sequence[Model] = ()) -> None:
    """Read a source's tables, build the models, and stop."""
    found = source.look().tables
    setting = SourceSetting(source.name, lambda _identity: source, frozenset(found))
    states = TableStates(store)
    hub = FeedHub(
        store.view,
        version=ledger.latest_version(store.writer),
        schema_of=states.layouts.__getitem__,
    )
    following = begin_following(store, states, source, setting, silent)
    engine = Engine(store, hub, [following], states, Models(store, models, silent))
    stop = threading.Event()

    def stop_when_done() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not is_done():
            time.sleep(0.005)
        stop.set()

    def is_done() -> bool:
        followed = {name: states.state_of(name) for name in states.layouts.keys() - states.still}
        terms = {name: each.terms for name, each in followed.items() if each is not None}
        return terms == {name: each.terms for name, each in found.items()} and not states.copying

    threading.Thread(target=stop_when_done).start()
    with capture_logs():  # what is printed is the tests' own
        engine.run(stop)
    assert states.layouts.keys() == found.keys()
