"""Nine models over an e-commerce database: kept fresh by deltas, against recomputing them.

`python -m benchmarks.models` measures and prints the page; ``--profile`` shows instead where the
time goes, statement by statement. What is measured is the engine's own path over a store in a file:
ingest, models and ledger in one transaction. After each case every model is compared with its full
query, row for row, and the table says whether they agreed.

About 4 minutes at 1 M items, 20 at 10 M, on two cores.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.ecommerce.changes import Case, batch_of, cases
from benchmarks.ecommerce.outcome import Measured, Outcome, growth_table, tables, verdicts
from benchmarks.ecommerce.shop import open_copy, read_models
from benchmarks.ecommerce.statements import Cost, costs
from benchmarks.ecommerce.trial import MEMORY, MEMORY_OF_FULL, Trial, Version
from benchmarks.pages import Page, Table, render

SEED = 7
SIZES = (1_000_000, 10_000_000)
#: Where generated shops stay for the next time: 60 MB at ten million items, a trial some GB more.
KEPT = Path(tempfile.gettempdir()) / "upwell-benchmark-shops"

_SHOWN_STATEMENTS = 15
_SHOWN_CHARACTERS = 300


def models(
    sizes: Sequence[int] = SIZES, runs: int = 5, only: Sequence[str] = (), kept: Path = KEPT
) -> Page:
    """Every case, or those named in ``only``, over every size of shop."""
    outcomes = [_measure(items, _chosen(runs, only), kept) for items in sizes]
    growth = [growth_table(outcomes[0], outcomes[-1])] if len(outcomes) > 1 else []
    return Page(
        "Nine models over an e-commerce database, refreshed after one batch, against recomputing "
        "the same nine queries. A refresh runs as in the engine, on one thread, in one transaction "
        f"with ingest and ledger, in {MEMORY} of memory; recomputing is given all cores and "
        f"{MEMORY_OF_FULL}, and finds what each query reads already computed.",
        f"`benchmarks/ecommerce`, {' and '.join(f'{size:,}' for size in sizes)} order items, seed "
        f"{SEED}. Of the items in a batch 70 % are new, 20 % changed, 10 % deleted; a single one "
        "is changed. Median (least–greatest); before each case one more batch is not measured, "
        "`1 region` excepted.",
        "benchmarks/models.py",
        [*(table for outcome in outcomes for table in tables(outcome)), *growth],
        notes=tuple(verdicts(outcomes)),
    )


def profile(items: int, runs: int = 5, only: Sequence[str] = (), kept: Path = KEPT) -> Page:
    """Where the time of each case goes: by model and kind of statement, and the costliest ones."""
    random = np.random.default_rng(SEED)
    found = []
    with _trial(items, kept) as trial:
        for case in _chosen(runs, only):
            trial.settle()
            found += _profile_tables(case.name, list(_versions(trial, case, random)))
    return Page(
        "What the refresh of nine models spends its time on, as DuckDB's client sees it.",
        f"`benchmarks/ecommerce`, {items:,} order items, seed {SEED}.",
        "benchmarks/models.py --profile",
        found,
    )


def _chosen(runs: int, only: Sequence[str]) -> list[Case]:
    return [case for case in cases(runs) if not only or case.name in only]


def _measure(items: int, chosen: Sequence[Case], kept: Path) -> Outcome:
    random = np.random.default_rng(SEED)
    with _trial(items, kept) as trial:
        trial.recompute()
        full, measured = [trial.recompute()], []
        for case in chosen:
            trial.settle()
            versions = list(_versions(trial, case, random))
            full.append(trial.recompute())
            measured.append(Measured(case.name, versions, trial.wrong_models()))
            _tell(f"{items:,} items: {case.name}, {measured[-1].ms:.1f} ms")
    return Outcome(items, full, measured)


@contextmanager
def _trial(items: int, kept: Path) -> Iterator[Trial]:
    """The models over a shop of their own, built."""
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept) as folder:
        store = open_copy(items, Path(folder), kept)
        try:
            _tell(f"{items:,} items: building the models")
            yield Trial(store, read_models())
        finally:
            store.close()


def _versions(trial: Trial, case: Case, random: np.random.Generator) -> Iterator[Version]:
    """The measured versions of a case, after the one that warms up."""
    for run in range(case.runs + case.warms_up):
        version = trial.apply(batch_of(case.draw(trial.connection, random), number=run))
        if run >= case.warms_up:
            yield version


# ── the profile ──────────────────────────────────────────────────────────────────────────────────


def _profile_tables(case: str, versions: Sequence[Version]) -> list[Table]:
    statements = [each for version in versions for each in version.statements]
    runs = len(versions)
    total_ms = sum(version.models_ms for version in versions) / runs
    stated_ms = sum(each.seconds for each in statements) * 1e3 / runs
    heads = ("times a version", "CPU ms a version", "ms a version", "ms each")
    kinds = costs(statements, lambda statement: statement.kind)
    shapes = costs(statements, lambda statement: statement.shape)[:_SHOWN_STATEMENTS]
    return [
        Table(
            ("model", "kind", *heads),
            [(each.model, each.what, *_figures(each, runs)) for each in kinds],
            title=f"{case}: by model and kind",
            about=f"{total_ms:.1f} ms a version, {total_ms - stated_ms:.1f} of it outside DuckDB.",
        ),
        Table(
            ("model", *heads, "statement"),
            [(each.model, *_figures(each, runs), _short(each.what)) for each in shapes],
            title=f"{case}: the costliest statements",
        ),
    ]


def _figures(cost: Cost, runs: int) -> tuple[str, str, str, str]:
    ms = cost.seconds * 1e3
    return (
        f"{cost.times / runs:.1f}",
        f"{cost.cpu_seconds * 1e3 / runs:.2f}",
        f"{ms / runs:.2f}",
        f"{ms / cost.times:.2f}",
    )


def _short(statement: str) -> str:
    text = statement if len(statement) <= _SHOWN_CHARACTERS else f"{statement[:_SHOWN_CHARACTERS]}…"
    return f"`{text.replace('|', chr(0xA6))}`"  # a bar would end the table's cell


def _tell(what: str) -> None:
    sys.stderr.write(f"  {what}\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure or profile, and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=SIZES, help="sizes, rising")
    parser.add_argument("--runs", type=int, default=5, help="measured batches a case")
    parser.add_argument("--case", action="append", default=[], help="only this one; repeatable")
    parser.add_argument("--kept", type=Path, default=KEPT, help="folder for generated shops")
    parser.add_argument("--profile", action="store_true", help="statement by statement")
    given = parser.parse_args(arguments)
    if given.profile:
        for items in given.items:
            print(render("profile", profile(items, given.runs, given.case, given.kept)))
    else:
        print(render("models", models(given.items, given.runs, given.case, given.kept)))


if __name__ == "__main__":
    main()
