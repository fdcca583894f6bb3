"""Brings a store to the point from which the engine goes on: opened, filled, its models built.

Every step finds out what is already done, so that starting again after any crash is the same as
starting. A store that does not open is set aside and made anew from the sources.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import duckdb
import structlog

from upwell.core.errors import IntegrityError, ProjectError, Unavailable
from upwell.core.faults import reach
from upwell.core.position import BEGINNING
from upwell.core.protocols import Source
from upwell.core.schema import TableSchema
from upwell.engine import Following
from upwell.ingest import tables
from upwell.ingest.load import load_snapshot
from upwell.rebuild import begin_logs_anew, rebuild
from upwell.store import ledger
from upwell.store.hot import HotStore, set_aside
from upwell.store.lake.lake import Lake
from upwell.store.lake.mark import Mark
from upwell.store.lake.writer import read_mark
from upwell.store.place import StatePlace
from upwell.transform.plan import ModelPlan, Plan
from upwell.transform.refresh import MODEL_FAILURES, build, drop
from upwell.wiring import SourceSetting

log = structlog.get_logger(__name__)

Report = Callable[..., None]
"""Told of progress: the event's name, then facts about it."""


class StoppedError(Exception):
    """Told to stop before there was anything to serve."""


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


@dataclass(frozen=True, slots=True)
class Begun:
    """A source as found at the start: how far it was taken in, if it was with these tables."""

    source: Source
    known: ledger.SourceProgress | None
    stored: frozenset[str]


def open_source(store: HotStore, setting: SourceSetting) -> Begun:
    """Open a source and see whether it goes on or begins.

    It begins anew where its tables are others, or have other columns than what is stored: how old
    rows read under a new layout, only the source knows. One that is away goes on: what is stored is
    what is served.
    """
    known = ledger.progress(store.writer, setting.name)
    stored = {
        name: layout
        for name, layout in tables.captured_tables(store.writer).items()
        if name.partition(".")[0] == setting.name
    }
    goes_on = known.position != BEGINNING and stored.keys() == setting.tables
    identity = ledger.read_identity(store.writer, setting.name) if goes_on else None
    source = setting.open(identity)
    if goes_on:
        with contextlib.suppress(Unavailable):
            goes_on = all(_is_alike(schema, stored[schema.name]) for schema in source.tables)
    return Begun(source, known if goes_on else None, frozenset(stored))


def _is_alike(one: TableSchema, other: TableSchema) -> bool:
    def columns(schema: TableSchema) -> set[tuple[str, str]]:
        return {(column.name, column.type) for column in schema.columns}

    return one.key == other.key and columns(one) == columns(other)


def layouts_ahead(store: HotStore, begun: Sequence[Begun]) -> dict[str, TableSchema]:
    """The layouts the models will find, before anything is read: so that a model that does not
    hold is told at once, not after a long snapshot.
    """
    layouts = tables.captured_tables(store.writer)
    for each in begun:
        if each.known is not None:
            continue  # also where the source is away: what is stored is what is served
        for name in each.stored:
            del layouts[name]
        layouts |= {schema.name: schema for schema in each.source.tables}
    return layouts


def begin_following(
    store: HotStore, begun: Begun, report: Report, stop: threading.Event
) -> Following:
    """Where to go on with a source; takes its snapshot first where it begins.

    Raises StoppedError when ``stop`` is set while a snapshot is taken; nothing of it is left then,
    neither here nor at the source.
    """
    source, known = begun.source, begun.known
    if known is None:
        known = _take_snapshot(store, source, begun.stored, report, stop)
    return Following(source, known.position, known.complete_through_us)


def _take_snapshot(
    store: HotStore,
    source: Source,
    stored: frozenset[str],
    report: Report,
    stop: threading.Event,
) -> ledger.SourceProgress:
    name = source.name
    schemas = {schema.name: schema for schema in source.tables}
    report("snapshot_started", source=name, tables=sorted(schemas))
    layouts = tables.captured_tables(store.writer)
    with store.transaction() as connection:
        for table in stored - schemas.keys():
            tables.drop(connection, table)
        for table, schema in schemas.items():
            if table in stored and tables.has_grown(layouts[table], schema):
                tables.widen(connection, layouts[table], schema)
            else:  # its log begins anew: rows of two layouts cannot stand in one
                tables.create(connection, schema)
        ledger.write_built_models(connection, {})
        # Until the snapshot is in, the source counts as never read, whatever happens meanwhile.
        never = {name: ledger.SourceProgress(BEGINNING, 0)}
        version = ledger.latest_version(connection) + 1
        ledger.append(connection, version, time.time_ns() // 1000, never)
    store.checkpoint()

    def on_progress(table: str, rows: int, of: int) -> None:
        if stop.is_set():
            raise StoppedError
        reach("start.snapshot_part_loaded")
        report("snapshot_progress", table=table, rows=rows, of=of)

    identity = source.identity
    snapshot = source.snapshot()
    try:
        version = ledger.latest_version(store.writer) + 1
        now_us = time.time_ns() // 1000
        with store.transaction() as connection:
            rows = load_snapshot(
                connection,
                snapshot,
                schemas.values(),
                version=version,
                received_at_us=now_us,
                progress=on_progress,
            )
            progress = ledger.SourceProgress(
                snapshot.position, snapshot.taken_at_us, transactions=0, changes=rows
            )
            ledger.append(connection, version, now_us, {name: progress})
            ledger.write_identity(connection, name, identity)
        reach("start.snapshot_committed")
        snapshot.keep()
    finally:
        snapshot.close()
    reach("start.snapshot_kept")
    store.checkpoint()
    report("snapshot_finished", source=name, rows=rows)
    return progress


def build_models(store: HotStore, plan: Plan, report: Report) -> dict[str, str]:
    """(Re)build every model that is new or whose meaning changed, and drop those that are gone.

    What was built makes a version of its own, so that followers see it as news. A model that fails
    on the data keeps its last good result where it has one of the same shape: these come back, with
    the reason, to be held. Raises ProjectError where there is nothing to keep.
    """
    built = ledger.built_models(store.writer)
    wanted = {model.name: model.fingerprint for model in plan.models}
    stale = [name for name, fingerprint in wanted.items() if built.get(name) != fingerprint]
    gone = [name for name in built if name not in wanted]
    if not stale and not gone:
        return {}
    report("models_started", models=stale)
    store.checkpoint()
    held: dict[str, str] = {}
    for name in gone:
        with store.transaction() as connection:
            drop(connection, name)
            kept = {model: of for model, of in built.items() if model in wanted}
            ledger.write_built_models(connection, kept)
            _append_version(connection, plan)
    for name in stale:
        reason = _build_model(store, plan, name, held)
        if reason:
            held[name] = reason
    store.checkpoint()
    report("models_finished", models=[name for name in stale if name not in held])
    return held


def _build_model(store: HotStore, plan: Plan, name: str, held: Mapping[str, str]) -> str | None:
    """Build one model; the reason why its last good result is kept instead, if it is."""
    model = plan.model(name)
    blocking = held.keys() & set(model.reads)
    if blocking and _has_result(store, model):
        return f"it reads {', '.join(sorted(blocking))}"
    try:
        with store.transaction() as connection:
            build(connection, plan, [name], logical_time_us=time.time_ns() // 1000)
            reach("start.model_built")
            recorded = ledger.built_models(connection)
            ledger.write_built_models(connection, {**recorded, name: model.fingerprint})
            _append_version(connection, plan)
    except MODEL_FAILURES as error:
        if _has_result(store, model):
            return str(error)
        raise ProjectError(
            "model_fails",
            f"Building {name}: it fails on the data there is: {error}",
            where=str(model.model.path),
            next_step="Mend the model, for instance with TRY_CAST, or the data it stumbles over.",
        ) from error
    return None


def _has_result(store: HotStore, model: ModelPlan) -> bool:
    """Whether a result of the model's present shape is stored, from whatever text."""
    found = store.writer.execute(
        "SELECT column_name, data_type FROM information_schema.columns "
        "WHERE table_schema = 'main' AND table_name = ? ORDER BY ordinal_position",
        [model.name],
    ).fetchall()
    return found == [(column.name, column.type) for column in model.schema.columns]


def _append_version(connection: duckdb.DuckDBPyConnection, plan: Plan) -> None:
    """A version in which only models changed, in the transaction that changes them."""
    version = ledger.latest_version(connection) + 1
    sources = {schema.name.partition(".")[0] for schema in plan.tables}
    progresses = {source: ledger.progress(connection, source) for source in sources}
    ledger.append(connection, version, time.time_ns() // 1000, progresses)
