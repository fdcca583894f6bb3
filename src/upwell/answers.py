"""What the engine answers when another process asks: status, explanations, proofs, checksums.

Every answer is read on a connection of its own, at one version, and never waits for the loop.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import duckdb
import msgspec

from upwell.core.errors import Unavailable, UsageError
from upwell.core.histogram import Histogram
from upwell.core.schema import Column, TableSchema, source_of
from upwell.core.sql import count_rows, quote_table
from upwell.engine import Engine
from upwell.feed.hub import FeedHub
from upwell.ingest.tables import captured, change_logs, log_name
from upwell.models import Models
from upwell.store import drift, freshness, ledger
from upwell.store.hot import HotStore
from upwell.table_states import TableStates, paused
from upwell.transform.explain import explain, text
from upwell.transform.plan import Plan
from upwell.transform.refresh import MODEL_FAILURES, prove

Question = dict[str, Any]
Answer = Callable[[Question], Any]


def answers(
    store: HotStore,
    hub: FeedHub,
    engine: Engine,
    models: Models,
    tables: TableStates,
    *,
    identity: str,
) -> dict[str, Answer]:
    """Every question the engine answers, by name."""

    def on_identity(_question: Question) -> Any:
        return {"store": identity}

    def on_status(_question: Question) -> Any:
        with store.view(whole=False) as connection:
            return status(connection, hub, engine, models, tables)

    def on_explain(question: Question) -> Any:
        return explained(models.plan, question["name"])

    def on_prove(question: Question) -> Any:
        with store.view() as connection:
            return proofs(connection, models.plan, question.get("names") or (), models.held)

    def on_checksums(_question: Question) -> Any:
        # Positions are read first: the tables then hold at least everything up to them.
        positions = {each.name: each.position for each in engine.followings}
        still = tables.still
        layouts = {name: each for name, each in tables.layouts.items() if name not in still}
        found: dict[str, list[str]] = {}
        with store.view() as connection:
            for each in engine.followings:
                mine = {name: layouts[name] for name in tables.names(each.name) & layouts.keys()}
                found |= checksums(connection, mine, each.source.checksum_sql)
        return {"positions": positions, "tables": found}

    def on_logs(_question: Question) -> Any:
        with store.view() as connection:
            return {each.name: each.identity for each in change_logs(connection)}

    def on_observe(question: Question) -> Any:
        seen = Histogram.decode(question["histogram"])
        minute_us, dashboard = int(question["minute_us"]), str(question["dashboard"])
        engine.submit(lambda connection: freshness.record(connection, dashboard, minute_us, seen))
        return {}

    def on_resync(question: Question) -> Any:
        followed = [name for name in tables.layouts if not tables.is_paused(name)]
        names = question.get("names") or sorted(followed)
        for name in names:
            if name not in tables.layouts:
                raise _unknown_table(name, tables.layouts)
            if tables.is_paused(name):
                raise _paused("Comparing", name, f"`upwell resume {name}` compares it as well.")
        engine.upkeep.resync(names, anew=bool(question.get("anew")))
        return {"names": list(names)}

    def on_pause(question: Question) -> Any:
        names = list(dict.fromkeys(question["names"]))
        for name in names:
            _check_pausable(name, tables)
        engine.upkeep.pause(names)
        return {"names": names}

    def on_resume(question: Question) -> Any:
        names = list(dict.fromkeys(question["names"]))
        for name in names:
            _check_resumable(name, tables, engine)
        engine.upkeep.resync(names)
        return {"names": names}

    def on_gauges(_question: Question) -> Any:
        now_us = time.time_ns() // 1000
        compared = engine.reconciling.latest
        return {
            "version": hub.version,
            "durable_version": engine.durable.version if engine.has_lake else None,
            "tables_still": len(tables.still),
            "tables_read": len(tables.copying),
            "models_held": len(models.held),
            "tables": [
                {
                    "name": name,
                    "compared_ms_ago": (now_us - compared[name].compared_at_us) // 1000
                    if name in compared
                    else None,
                    "rows_differed": engine.reconciling.differed.get(name, 0),
                }
                for name in sorted(tables.layouts)
            ],
            "sources": [
                {
                    "name": each.name,
                    "age_ms": (now_us - each.complete_through_us) // 1000,
                    "burden": msgspec.to_builtins(each.burden),
                    "failover": msgspec.to_builtins(each.failover),
                    "is_followed": each.stream is not None,
                }
                for each in engine.followings
            ],
        }

    def on_readings(_question: Question) -> Any:
        return {
            "waiting": sorted(engine.upkeep.waiting),
            "readings": {
                name: msgspec.to_builtins(each) for name, each in engine.upkeep.readings.items()
            },
        }

    return {
        "identity": on_identity,
        "status": on_status,
        "explain": on_explain,
        "prove": on_prove,
        "layouts": lambda _question: msgspec.to_builtins(list(tables.layouts.values())),
        "logs": on_logs,
        "checksums": on_checksums,
        "observe": on_observe,
        "resync": on_resync,
        "pause": on_pause,
        "resume": on_resume,
        "readings": on_readings,
        "gauges": on_gauges,
    }


def status(
    connection: duckdb.DuckDBPyConnection,
    hub: FeedHub,
    engine: Engine,
    models: Models,
    tables: TableStates,
) -> dict[str, Any]:
    """Health in numbers; ages in milliseconds, times on our clock."""
    now_us = time.time_ns() // 1000
    still, copying = tables.still, dict(tables.copying)
    sources = [
        {
            "name": following.name,
            "position": following.position,
            "age_ms": (now_us - following.complete_through_us) // 1000,
            "trouble": "\n".join(following.troubles),
            "burden": msgspec.to_builtins(following.burden),
            "failover": msgspec.to_builtins(following.failover),
        }
        for following in engine.followings
    ]
    contents = _contents(connection, models.plan, tables.layouts, still)
    return {
        "running": True,
        "version": hub.version,
        "trouble": hub.trouble,
        "durable_version": engine.durable.version if engine.has_lake else None,
        "sources": sources,
        "reading": [
            {
                "name": name,
                "parts": each.parts,
                "stored": each.stored,
                "estimated_rows": each.estimated_rows,
                "is_followed": tables.is_compared(name),
            }
            for name, each in sorted(copying.items())
        ],
        **contents,
    }


def stored_status(
    connection: duckdb.DuckDBPyConnection, plan: Plan, layouts: Mapping[str, TableSchema]
) -> dict[str, Any]:
    """The same of a store that no engine holds."""
    now_us = time.time_ns() // 1000
    sources = []
    for name in sorted({source_of(table) for table in layouts}):
        known = ledger.progress(connection, name)
        age_ms = (now_us - known.complete_through_us) // 1000
        sources.append(
            {
                "name": name,
                "position": known.position,
                "age_ms": age_ms,
                "trouble": "not running",
                "burden": None,
                "failover": None,
            }
        )
    return {
        "running": False,
        "version": ledger.latest_version(connection),
        "trouble": "Upwell does not run: nothing is taken in.",
        "durable_version": int(ledger.read_fact(connection, ledger.DURABLE) or 0) or None,
        "sources": sources,
        "reading": [],
        **_contents(
            connection,
            plan,
            layouts,
            {name: each.frozen for name, each in captured(connection).items()},
        ),
    }


def _contents(
    connection: duckdb.DuckDBPyConnection,
    plan: Plan,
    layouts: Mapping[str, TableSchema],
    still: Mapping[str, str],
) -> dict[str, Any]:
    comparisons = _comparisons(connection)
    return {
        "tables": [
            {
                "name": name,
                "rows": count_rows(connection, name),
                "trouble": still.get(name, ""),
                "is_paused": still.get(name) == paused(name),
                **(comparisons.get(name) or _NEVER_COMPARED),
            }
            for name in sorted(layouts)
        ],
        "models": [
            {
                "name": model.name,
                "rows": count_rows(connection, model.name),
                "refresh": explain(plan, model.name).refresh,
            }
            for model in plan.models
        ],
        "changes": ledger.changes(connection),
        "quarantined": count_rows(connection, "upwell.quarantine"),
    }


#: What is known of a table that was never compared with its source.
_NEVER_COMPARED = {"compared_at_us": None, "compare_at_us": None, "differed": None}


def _comparisons(connection: duckdb.DuckDBPyConnection) -> dict[str, dict[str, Any]]:
    """When tables were compared with their source, are to be next, and last differed from it."""
    try:
        latest, due = drift.latest(connection), drift.due(connection)
        differed = drift.latest_that_differed(connection)
    except duckdb.CatalogException:
        return {}  # a store that an older Upwell left
    return {
        name: {
            "compared_at_us": latest[name].compared_at_us if name in latest else None,
            "compare_at_us": due.get(name),
            "differed": {
                "at_us": differed[name].compared_at_us,
                "rows": differed[name].rows_differing,
                "version": differed[name].version,
            }
            if name in differed
            else None,
        }
        for name in latest.keys() | due.keys()
    }


def explained(plan: Plan, name: str) -> dict[str, Any]:
    """How a model refreshes, as facts and as a text for people."""
    _check_models(plan, [name])
    explanation = explain(plan, name)
    return {**msgspec.to_builtins(explanation), "text": text(explanation)}


def proofs(
    connection: duckdb.DuckDBPyConnection,
    plan: Plan,
    names: Sequence[str],
    held: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Incremental against full, for the models named or for all.

    A model that is held, or whose text fails on the data, does not hold; ``reason`` says why.
    """
    _check_models(plan, names)
    chosen = names or [model.name for model in plan.models]
    return {
        "version": ledger.latest_version(connection),
        "models": [_proof(connection, plan, name, held.get(name, "")) for name in chosen],
    }


def _proof(
    connection: duckdb.DuckDBPyConnection, plan: Plan, name: str, reason: str
) -> dict[str, Any]:
    if not reason:
        try:
            found = prove(
                connection, plan, name, logical_time_us=ledger.logical_time_us(connection)
            )
            return {**msgspec.to_builtins(found), "holds": found.holds, "reason": ""}
        except MODEL_FAILURES as error:
            connection.rollback()  # the failure ended the transaction
            connection.begin()
            reason = str(error)
    nothing = {
        "rows": 0,
        "missing": 0,
        "unexpected": 0,
        "seconds": 0.0,
        "columns": [],
        "sample": [],
    }
    return {"model": name, **nothing, "holds": False, "reason": reason}


def _check_models(plan: Plan, names: Sequence[str]) -> None:
    known = [model.name for model in plan.models]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise UsageError(
                "unknown_model",
                f"Looking for the model {name}: there is none of that name.",
                where=name,
                next_step=f"Did you mean {near[0]}?" if near else f"There are: {', '.join(known)}.",
            )


def checksums(
    connection: duckdb.DuckDBPyConnection,
    layouts: Mapping[str, TableSchema],
    checksum_sql: Callable[[TableSchema, str], str],
) -> dict[str, list[str]]:
    """Rows and row checksum of current tables of one source, whose query for them is
    ``checksum_sql``; as text, since JSON's numbers end at 2^53.
    """
    found = {}
    for name, schema in layouts.items():
        row = connection.execute(checksum_sql(schema, quote_table(name))).fetchone()
        found[name] = [str(value) for value in row or ()]
    return found


def visible_schema(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    models: Mapping[str, TableSchema],
    layouts: Mapping[str, TableSchema],
) -> TableSchema:
    """The layout of anything a user may read. Raises UsageError for what is not there or hidden."""
    if name in layouts:
        return layouts[name]
    if name in models:
        return models[name]
    own = [f"upwell.{table}" for table in ledger.TABLES]
    if name in own or name in map(log_name, layouts):
        rows = connection.execute(f"DESCRIBE {quote_table(name)}").fetchall()
        return TableSchema(name, tuple(Column(row[0], row[1]) for row in rows))
    raise _unknown_table(name, [*models, *layouts, *map(log_name, layouts), *own])


def _check_pausable(name: str, tables: TableStates) -> None:
    if name in tables.copying and name not in tables.layouts:
        raise UsageError(
            "table_not_there_yet",
            f"Pausing {name}: it is being read for the first time.",
            where=name,
            next_step="Wait until `upwell status` shows its rows, then pause it.",
        )
    if name not in tables.layouts:
        raise _unknown_table(name, tables.layouts, "Pausing")
    if tables.is_paused(name):
        raise _paused("Pausing", name, f"`upwell resume {name}` lets it go on.", " already")


def _check_resumable(name: str, tables: TableStates, engine: Engine) -> None:
    if name not in tables.layouts:
        raise _unknown_table(name, tables.layouts, "Resuming")
    if not tables.is_paused(name):
        why = tables.still.get(name)
        raise UsageError(
            "not_paused",
            f"Resuming {name}: it is not paused" + (f". {why}" if why else ", it is followed."),
            where=name,
            next_step=f"`upwell resync {name}` compares it with its source.",
        )
    (following,) = [each for each in engine.followings if each.name == source_of(name)]
    if following.stream is None or following.lost is not None:
        raise Unavailable(
            "source_away",
            f"Resuming {name}: its source {following.name} is not followed just now"
            + (f": {following.trouble}" if following.trouble else "."),
            where=name,
            next_step="Try again once `upwell status` shows no trouble of the source; the table "
            "stays paused until then.",
        )


def _paused(doing: str, name: str, next_step: str, already: str = "") -> UsageError:
    return UsageError(
        "paused", f"{doing} {name}: it is paused{already}.", where=name, next_step=next_step
    )


def _unknown_table(name: str, known: Iterable[str], doing: str = "Reading") -> UsageError:
    near = difflib.get_close_matches(name, list(known), n=1)
    return UsageError(
        "unknown_table",
        f"{doing} {name}: there is no such table{' or model' if doing == 'Reading' else ''}.",
        where=name,
        next_step=f"Did you mean {near[0]}?" if near else f"There are: {', '.join(known)}.",
    )
