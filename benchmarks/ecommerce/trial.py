"""A store with the nine models in it: versions made of batches and measured, beside full recompute.

A version is made as the engine makes it: one transaction with ingest, the models and the ledger, on
one thread, in the memory the engine allows itself. Full recompute is given all cores and more
memory, so that it is at its best.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from benchmarks.ecommerce.shop import LAYOUTS, TABLES
from benchmarks.ecommerce.statements import Announced, Statement, Watched
from upwell.core.protocols import SourceBatch
from upwell.core.sql import literal
from upwell.ingest.apply import Ingest
from upwell.project.values import Model
from upwell.store import ledger
from upwell.store.hot import HotStore
from upwell.transform.plan import plan_models
from upwell.transform.refresh import Refresher, build, prove

MEMORY = "2GB"
MEMORY_OF_FULL = "12GB"


@dataclass(frozen=True, slots=True)
class Version:
    """What one version took, in milliseconds: take in, refresh all models, commit.

    ``cpu_ms`` is of all three. ``rows_out``: how many rows of models came or went.
    """

    take_in_ms: float
    models_ms: float
    commit_ms: float
    models_cpu_ms: float
    cpu_ms: float
    ms_of: dict[str, float]
    statements: tuple[Statement, ...]
    queries: int
    rows_out: int


@dataclass(frozen=True, slots=True)
class Full:
    """What recomputing took, in milliseconds of wall clock and of processor, by model."""

    ms_of: dict[str, float]
    cpu_ms: float

    @property
    def ms(self) -> float:
        return sum(self.ms_of.values())


class Trial:
    """The models of a shop kept fresh over an open ``store``, which it does not close.

    ``plan`` is what is kept fresh, ``connection`` the store's writer, to look things up between
    versions.
    """

    def __init__(self, store: HotStore, models: list[Model]) -> None:
        self._store = store
        self.connection = store.writer
        self._version = ledger.latest_version(store.writer)
        self.plan = plan_models(models, TABLES)
        names = [model.name for model in self.plan.models]
        with self._at_its_best(), store.transaction() as connection:
            build(connection, self.plan, names, 0)
        store.checkpoint()
        self._ingest = Ingest(store.writer, LAYOUTS)
        self._watched = Watched(store.writer)
        told = replace(self.plan, models=Announced.to(self._watched.begin, self.plan.models))
        self._refresher = Refresher(self._watched, told)  # type: ignore[arg-type]  # notes, and passes on

    def apply(self, batch: SourceBatch) -> Version:
        """Make one version of a batch."""
        self._version += 1
        self._watched.reset()
        cpu, begun = time.process_time(), time.perf_counter()
        with self._store.transaction() as connection:
            deltas = self._ingest.apply(batch, self._version)
            models_cpu, taken_in = time.process_time(), time.perf_counter()
            changed = self._refresher.apply(deltas, self._version)
            models_cpu, refreshed = time.process_time() - models_cpu, time.perf_counter()
            progress = ledger.SourceProgress(batch.position, batch.complete_through_us)
            ledger.append(connection, self._version, self._version, {"shop": progress})
        committed = time.perf_counter()
        return Version(
            take_in_ms=(taken_in - begun) * 1e3,
            models_ms=(refreshed - taken_in) * 1e3,
            commit_ms=(committed - refreshed) * 1e3,
            models_cpu_ms=models_cpu * 1e3,
            cpu_ms=(time.process_time() - cpu) * 1e3,
            ms_of={name: took * 1e3 for name, took in self._watched.seconds_of.items()},
            statements=tuple(self._watched.statements),
            queries=len(self._watched.queries),
            rows_out=sum(delta.num_rows for delta in changed.values()),
        )

    def recompute(self) -> Full:
        """Run the text of every model anew, into tables that are thrown away."""
        ms_of, cpu = {}, time.process_time()
        with self._at_its_best():
            for model in self.plan.models:
                begun = time.perf_counter()
                self.connection.execute(f"CREATE OR REPLACE TEMP TABLE _full AS {model.query}")
                ms_of[model.name] = (time.perf_counter() - begun) * 1e3
            cpu = time.process_time() - cpu
            self.connection.execute("DROP TABLE _full")
        return Full(ms_of, cpu * 1e3)

    def wrong_models(self) -> list[str]:
        """The models that do not equal their full query, row for row."""
        with self._at_its_best():
            proofs = [
                prove(self.connection, self.plan, model.name, logical_time_us=self._version)
                for model in self.plan.models
            ]
        return [proof.model for proof in proofs if not proof.holds]

    def settle(self) -> None:
        """Fold the log in, as the engine does when idle."""
        self._store.checkpoint()

    @contextmanager
    def _at_its_best(self) -> Iterator[None]:
        self._allow(os.cpu_count() or 1, MEMORY_OF_FULL)
        try:
            yield
        finally:
            self._allow(1, MEMORY)

    def _allow(self, threads: int, memory: str) -> None:
        self._store.use_threads(threads)
        self.connection.execute(f"SET memory_limit = {literal(memory)}")
