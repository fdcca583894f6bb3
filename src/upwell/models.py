"""The models of a project in their store: planned, built, refreshed or held at what they were.

A model is *held* at its last good result where it cannot be kept fresh: it fails on the data, it
does not hold over the tables as they are now, or a table it reads stands still. It is *missing*
where there is no result yet. Both carry the reason, and end when ``renew`` can build the model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import duckdb
import msgspec
import structlog

from upwell.core.errors import ProjectError
from upwell.core.faults import reach
from upwell.core.schema import TableSchema
from upwell.project.values import Model
from upwell.store import ledger
from upwell.store.hot import HotStore
from upwell.transform.plan import ModelPlan, Plan, plan_those_that_hold
from upwell.transform.refresh import MODEL_FAILURES, ModelFailedError, Refresher, build, drop

log = structlog.get_logger(__name__)

Report = Callable[..., None]
"""Told of progress: the event's name, then facts about it."""

Work = Callable[[duckdb.DuckDBPyConnection], None]
MakeVersion = Callable[[Work, frozenset[str]], None]
"""Has some work done in the transaction of a version of its own, whose news is that these relations
are there anew.
"""

_RESULTS = "model results"


class Result(msgspec.Struct, frozen=True):
    """A model's result as it stands in the store: of what text it is, and its layout."""

    text: str
    schema: TableSchema


@dataclass(frozen=True, slots=True)
class Ground:
    """What the models stand on: the stored tables' layouts; which of these stand still, and which
    are not there yet, each with the reason.
    """

    layouts: Mapping[str, TableSchema]
    still: Mapping[str, str] = field(default_factory=dict)
    awaited: Mapping[str, str] = field(default_factory=dict)


class Models:
    """See the module. Changed by the engine's thread alone; any thread may read."""

    def __init__(self, store: HotStore, models: Iterable[Model], report: Report) -> None:
        self._store = store
        self._models = list(models)
        self._report = report
        self._results = read_results(store.writer)
        self._held: Mapping[str, str] = MappingProxyType({})
        self.missing: Mapping[str, str] = {
            model.name: "it is not built yet"
            for model in self._models
            if model.name not in self._results
        }
        self.plan = Plan((), ())
        self.refresher = Refresher(store.writer, self.plan)

    @property
    def held(self) -> Mapping[str, str]:
        """Models that stay at their last good result, and why."""
        return {**self._held, **self.refresher.held}

    @property
    def schemas(self) -> Mapping[str, TableSchema]:
        """The layouts of the models that have a result."""
        return {name: result.schema for name, result in self._results.items()}

    def check(self, layouts: Mapping[str, TableSchema]) -> Plan:
        """The plan over these layouts. Raises ProjectError for a model that does not hold.

        One whose text is that of its result may be wrong now only because a table changed: it is
        let through, to be held.
        """
        plan, refused = plan_those_that_hold(self._models, list(layouts.values()))
        texts = {model.name: _digest(model) for model in self._models}
        for name, error in refused.items():
            result = self._results.get(name)
            if result is None or result.text != texts[name]:
                raise error
        return plan

    def renew(self, ground: Ground, make_version: MakeVersion, anew: Collection[str] = ()) -> None:
        """Plan over the tables as they are; build what is new, changed, or reads a table that is
        there ``anew``; drop what is gone.

        Raises ProjectError for a model that fails on the data and of which there is no result.
        """
        plan, refused = plan_those_that_hold(self._models, list(ground.layouts.values()))
        reasons = {name: _reason(error, ground, refused) for name, error in refused.items()}
        built = ledger.built_models(self._store.writer)
        for name in self._results.keys() - {model.name for model in self._models}:
            self._drop(name, make_version)
        self._results = read_results(self._store.writer)
        changed = set(anew)
        stale = [
            model.name
            for model in plan.models
            if built.get(model.name) != model.fingerprint or changed & set(model.reads)
        ]
        if stale:
            self._report("models_started", models=stale)
            self._store.checkpoint()
        for model in plan.models:
            reason = _stands_still(model, ground, reasons)
            is_fresh = built.get(model.name) == model.fingerprint
            if not reason and not (is_fresh and not changed & set(model.reads)):
                reason = self._build(plan, model, make_version)
                changed.add(model.name)
            if reason:
                reasons[model.name] = reason
        live = tuple(model for model in plan.models if model.name not in reasons)
        self.plan = plan
        self.refresher = Refresher(self._store.writer, Plan(plan.tables, live))
        self._held = {name: why for name, why in reasons.items() if name in self._results}
        self.missing = {name: why for name, why in reasons.items() if name not in self._results}
        self._note_built(live)
        if stale:
            self._store.checkpoint()
            self._report("models_finished", models=[name for name in stale if name not in reasons])

    def unbuild_readers(self, connection: duckdb.DuckDBPyConnection, table: str) -> None:
        """Have the models that read a table built anew by the next ``renew``, also behind a crash;
        in the transaction that puts other rows into it.
        """
        readers = {model.name for model in self.plan.models if table in model.reads}
        built = ledger.built_models(connection)
        kept = {name: of for name, of in built.items() if name not in readers}
        ledger.write_built_models(connection, kept)

    def hold(self, failure: ModelFailedError) -> None:
        """Leave a model and its readers at their last good result.

        Raises the failure again where holding did not help, so that this cannot go on for ever.
        """
        if failure.model in self.refresher.held:
            raise failure
        self.refresher.hold(failure.model, failure.reason)
        held = self.refresher.held
        self._note_built([each for each in self.plan.models if each.name not in held])
        log.error("model_held", model=failure.model, why=failure.reason)

    def _build(self, plan: Plan, model: ModelPlan, make_version: MakeVersion) -> str:
        """Build one model; the reason why its last good result is kept instead, if it is."""

        def work(connection: duckdb.DuckDBPyConnection) -> None:
            at_us = ledger.logical_time_us(connection)
            build(connection, plan, [model.name], logical_time_us=at_us)
            reach("start.model_built")
            built = ledger.built_models(connection)
            ledger.write_built_models(connection, {**built, model.name: model.fingerprint})
            results = {**self._results, model.name: Result(_digest(model.model), model.schema)}
            _write_results(connection, results)

        try:
            make_version(work, frozenset([model.name]))
        except MODEL_FAILURES as error:
            if model.name in self._results:
                return str(error)
            raise ProjectError(
                "model_fails",
                f"Building {model.name}: it fails on the data there is: {error}",
                where=str(model.model.path),
                next_step="Mend the model, for instance with TRY_CAST, or the data it stumbles "
                "over.",
            ) from error
        self._results = read_results(self._store.writer)
        return ""

    def _drop(self, name: str, make_version: MakeVersion) -> None:
        def work(connection: duckdb.DuckDBPyConnection) -> None:
            drop(connection, name)
            built = ledger.built_models(connection)
            ledger.write_built_models(
                connection, {each: of for each, of in built.items() if each != name}
            )
            kept = {each: of for each, of in self._results.items() if each != name}
            _write_results(connection, kept)

        make_version(work, frozenset([name]))
        self._results = read_results(self._store.writer)

    def _note_built(self, live: Iterable[ModelPlan]) -> None:
        """Only what is kept fresh counts as built; the rest is built when it can be."""
        fresh = {model.name: model.fingerprint for model in live}
        if fresh != ledger.built_models(self._store.writer):
            with self._store.transaction() as connection:
                ledger.write_built_models(connection, fresh)


def read_results(connection: duckdb.DuckDBPyConnection) -> dict[str, Result]:
    """The models that have a result in the store, by name."""
    recorded = ledger.read_fact(connection, _RESULTS)
    return msgspec.json.decode(recorded, type=dict[str, Result]) if recorded else {}


def _write_results(connection: duckdb.DuckDBPyConnection, results: Mapping[str, Result]) -> None:
    ledger.write_fact(connection, _RESULTS, msgspec.json.encode(results).decode())


def _digest(model: Model) -> str:
    return hashlib.sha256(f"{model.sql}\0{','.join(model.key)}".encode()).hexdigest()


def _reason(error: ProjectError, ground: Ground, refused: Iterable[str]) -> str:
    if error.code == "unknown_table":
        reasons = {**{name: f"it reads {name}" for name in refused}, **ground.awaited}
        for name, why in reasons.items():
            if f"reads {name}," in error.what:
                return why
    return error.what


def _stands_still(model: ModelPlan, ground: Ground, reasons: Mapping[str, str]) -> str:
    """Why a model cannot be kept fresh though it holds; empty if it can."""
    for name in model.reads:
        if name in ground.still:
            return ground.still[name]
        if name in reasons:
            return f"it reads {name}"
    return ""
