"""Brings a store to the point from which the engine goes on: opened, its sources begun.

Every step finds out what is already done, so that starting again after any crash is the same as
starting. A store that does not open is set aside and made anew, from the lake or the sources.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from functools import partial

import structlog

from upwell.core.errors import EnvironmentFault, IntegrityError, ProjectError, Unavailable
from upwell.core.faults import reach
from upwell.core.position import BEGINNING
from upwell.core.protocols import Source
from upwell.core.schema import TableSchema
from upwell.following import Following
from upwell.ingest import copies
from upwell.ingest.tables import refuse_our_names
from upwell.models import Report
from upwell.rebuild import begin_logs_anew, rebuild
from upwell.store import ledger
from upwell.store.hot import HotStore, set_aside
from upwell.store.lake.lake import Lake
from upwell.store.lake.mark import Mark
from upwell.store.lake.writer import read_mark
from upwell.store.place import StatePlace
from upwell.table_states import TableStates
from upwell.wiring import SourceSetting

log = structlog.get_logger(__name__)


def open_store(
    place: StatePlace, *, zone: str, report: Report, lake: Lake | None = None
) -> HotStore:
    """The hot store, made anew from the lake, or empty where there is none, if it cannot serve.

    That is where it is missing, damaged, or behind the lake or of another line than it (somebody
    put another file in its place). Raises IntegrityError where the lake contradicts itself.
    """
    mark = read_mark(lake) if lake is not None else Mark()
    try:
        store = _prepared(place, zone)
    except IntegrityError as error:
        _set_store_aside(place, error.what, "damaged", report)
        store = _prepared(place, zone)
    if lake is None:
        return store
    if mark.sources:
        version = ledger.latest_version(store.writer)
        if version and not (why := _unfit(store, mark)):
            return store
        if version:
            store.close()
            _set_store_aside(place, why, "stale", report)
            store = _prepared(place, zone)
        rebuild(store, lake, mark, report)
    elif int(ledger.read_fact(store.writer, ledger.DURABLE) or 0):
        report("lake_begun_anew", lake=lake.root)
        begin_logs_anew(store)
    return store


def _unfit(store: HotStore, mark: Mark) -> str:
    """Why a store cannot go on beside a lake; empty if it can."""
    version = ledger.latest_version(store.writer)
    if ledger.read_fact(store.writer, ledger.LINEAGE) != mark.lineage:
        return "Opening the hot store: it was not made with this project's lake."
    if version < mark.version:
        return f"Opening the hot store: it ends at version {version}, the lake at {mark.version}."
    return ""


def _set_store_aside(place: StatePlace, why: str, how: str, report: Report) -> None:
    moved = set_aside(place.hot_store, how)
    log.error("store_set_aside", what=why, moved_to=str(moved))
    report("store_set_aside", why=why, moved_to=str(moved))


def _prepared(place: StatePlace, zone: str) -> HotStore:
    store = HotStore(place.hot_store, zone=zone)
    try:
        ledger.prepare(store.writer)
    except BaseException:
        store.close()
        raise
    return store


def open_source(store: HotStore, setting: SourceSetting) -> Source:
    """Open a source, as the one whose rows are stored if there are any."""
    return setting.open(ledger.read_identity(store.writer, setting.name))


def layouts_ahead(
    tables: TableStates, sources: Mapping[str, Source], settings: Iterable[SourceSetting]
) -> dict[str, TableSchema]:
    """The layouts the models will find, before anything is read: so that a model that does not
    hold is told at once, not after a long reading. Raises what keeps a new table from being read.
    """
    layouts: dict[str, TableSchema] = {}
    for setting in settings:
        source, known = sources[setting.name], tables.names(setting.name)
        states = [state for name in known if (state := tables.state_of(name)) is not None]
        layouts |= {state.name: state.schema for state in states if state.name in setting.tables}
        try:
            looked = source.look(states)
        except (Unavailable, EnvironmentFault):
            if not known:
                raise
            continue  # what is stored is what is served
        for name, error in looked.unfit.items():
            if name not in known or isinstance(error, ProjectError):
                raise error
        layouts |= {name: each.schema for name, each in looked.tables.items()}
    return layouts


def begin_following(
    store: HotStore,
    tables: TableStates,
    source: Source,
    setting: SourceSetting,
    report: Report,
) -> Following:
    """Where to go on with a source; what has to be read of it is written down.

    A source that is away goes on: tables that are new wait until it is there.
    """
    known = ledger.progress(store.writer, source.name)
    if known.position == BEGINNING:
        known = _begin(store, tables, source, report)
    following = Following(
        source,
        known.position,
        known.complete_through_us,
        setting.budget,
        setting.log_policy,
        setting.reconcile_seconds,
        ledger.begun_version(store.writer, source.name),
        partial(tables.succeed, source.name),
        partial(tables.note_parted, source.name),
    )
    parted = ledger.parted(store.writer, source.name)
    if parted is not None:
        following.stop(
            IntegrityError(
                parted["code"], parted["what"], where=parted["where"], next_step=parted["next"]
            )
        )
    gone = tables.names(source.name) - setting.tables
    if gone:
        tables.forget(gone)
        report("tables_forgotten", source=source.name, tables=sorted(gone))
    following.joining |= setting.tables - tables.names(source.name)
    following.joining |= tables.waiting(source.name)
    compared = {name for name, each in tables.copying.items() if each.is_by_keys}
    # Whether such a table came into the source's log just before the stop is not known.
    following.published_late += sorted(compared & tables.absent & tables.names(source.name))
    for name in tables.still_of_other_terms(setting.terms):
        report("privacy_changed", table=name)
        following.joining.add(name)
    return following


def _begin(
    store: HotStore, tables: TableStates, source: Source, report: Report
) -> ledger.SourceProgress:
    """Have the source keep its log from now on, and all its tables read."""
    looked = source.look()
    for error in looked.unfit.values():
        raise error
    for table in looked.tables.values():
        refuse_our_names(table.schema)
    report("source_begun", source=source.name, tables=sorted(looked.tables))
    beginning = source.begin(list(looked.tables.values()))
    reach("start.source_begun")
    progress = ledger.SourceProgress(beginning.position, beginning.at_us)
    with store.relayout() as connection:
        for table in looked.tables.values():
            copies.begin(connection, table)
        ledger.write_identity(connection, source.name, beginning.identity)
        version = ledger.latest_version(connection) + 1
        ledger.append(connection, version, time.time_ns() // 1000, {source.name: progress})
    reach("copy.begun")
    tables.read_again()
    return progress
