"""The engine's process, wired by hand: sources, store, models, engine, feed.

Nothing here decides anything about data; it opens, connects and closes, in the order that recovery
needs. ``python -m upwell.engine_process FOLDER`` is a child of the supervisor.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from upwell.answers import answers, visible_schema
from upwell.app import run_child
from upwell.core.errors import Unavailable
from upwell.core.schema import TableSchema
from upwell.durability import Durability, Pace, trim
from upwell.engine import Durable, Engine
from upwell.feed.channel import FeedServer
from upwell.feed.hub import FeedHub
from upwell.ingest.tables import log_name
from upwell.models import Models
from upwell.project.values import Project
from upwell.project_lake import find_project_lake, project_lake_held
from upwell.publishing import Publishing, published_tables, seen_layouts
from upwell.reconciling import no_lake
from upwell.start import begin_following, layouts_ahead, open_source, open_store
from upwell.store import ledger
from upwell.store.hot import HotStore, faults_named
from upwell.store.lake.care import Care
from upwell.store.lake.logged import Logged
from upwell.store.lake.mark import Mark
from upwell.store.lake.publish import Publisher
from upwell.store.lake.reading import marked_rows
from upwell.store.lake.writer import LakeWriter
from upwell.store.place import StatePlace
from upwell.supervise import report
from upwell.table_states import TableStates
from upwell.wiring import check_project, source_settings

#: The loop comes back from DuckDB some hundred times a version and waits for Python's lock each
#: time; with the usual 5 ms a version took a tenth longer beside a busy receiver.
SWITCH_SECONDS = 0.0005


def run_engine(project: Project, stop: threading.Event) -> None:
    """Follow the sources and serve the feed until ``stop``."""
    sys.setswitchinterval(SWITCH_SECONDS)
    place = StatePlace(project.folder)
    with faults_named(place.hot_store), ExitStack() as closing:
        writer, hold = closing.enter_context(project_lake_held(project))
        store = open_store(
            place,
            zone=project.settings.time.zone,
            report=report,
            lake=writer.lake if writer is not None else None,
        )
        closing.callback(store.close)
        settings = source_settings(project)
        sources = {setting.name: open_source(store, setting) for setting in settings}
        for source in sources.values():
            closing.callback(source.close)
        policies = {name: each for one in settings for name, each in one.policies.items()}
        tables = TableStates(store, policies)
        models = Models(store, project.models.values(), report)
        check_project(project, models, layouts_ahead(tables, sources, settings))
        followings = [
            begin_following(store, tables, sources[setting.name], setting, report)
            for setting in settings
        ]
        hub = FeedHub(
            store.view,
            version=ledger.latest_version(store.writer),
            schema_of=partial(_schema_of, store, models, tables),
        )
        identity = ledger.read_fact(store.writer, "store") or ""

        engine = Engine(
            store,
            hub,
            followings,
            tables,
            models,
            has_lake=writer is not None,
            log_in_lake=partial(_log_in_lake, project) if writer is not None else no_lake,
            on_ready=lambda: report("ready", version=hub.version),
            report=report,
        )
        handlers = answers(store, hub, engine, models, tables, identity=identity)
        server = FeedServer(place.socket, hub, store=identity, handlers=handlers)
        closing.callback(server.stop)
        hold.listen(engine.fail)
        durability = _durability(project, store, writer, engine)
        if durability is None:
            engine.run(stop)
        else:
            with durability:
                engine.run(stop, finish=durability.close)


@contextmanager
def _log_in_lake(project: Project, log: Logged) -> Iterator[tuple[str, int]]:
    """Read through a connection of its own: the writer's is the rounds' thread's."""
    lake = find_project_lake(project)
    if lake is None:
        with no_lake(log) as nothing:
            yield nothing
        return
    with marked_rows(lake, log) as found:
        yield found


def _durability(
    project: Project, store: HotStore, writer: LakeWriter | None, engine: Engine
) -> Durability | None:
    setting = project.settings.lake
    if setting is None or writer is None:
        return None

    def on_durable(mark: Mark) -> None:
        positions = {source: marked.position for source, marked in mark.sources.items()}
        engine.became_durable(Durable(mark.version, positions))
        engine.submit(partial(trim, mark=mark))

    if writer.mark.sources:
        on_durable(writer.mark)
    return Durability(
        store,
        writer,
        care=Care(writer, {log_name(table): days for table, days in setting.history_days.items()}),
        pace=Pace(setting.commit_seconds, setting.commit_megabytes),
        publishing=Publishing(
            Publisher(writer),
            published_tables(project, setting),
            seen_layouts,
            seconds=setting.publish_minutes * 60,
        ),
        logged_bytes=lambda: engine.logged_bytes,
        is_hurried=lambda: engine.is_source_waiting,
        await_gap=engine.await_gap,
        on_durable=on_durable,
        on_trouble=engine.note_lake_trouble,
        on_lost=engine.fail,
    )


def _schema_of(store: HotStore, models: Models, tables: TableStates, name: str) -> TableSchema:
    awaited = {**models.missing, **tables.ground.awaited}
    if name in awaited:
        raise Unavailable("not_there_yet", f"{name} is not there yet: {awaited[name]}", where=name)
    connection = store.reader()
    try:
        return visible_schema(connection, name, models.schemas, tables.layouts)
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(run_child(run_engine, sys.argv[1]))
