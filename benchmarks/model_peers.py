"""Two models of the e-commerce database kept fresh by other systems, over the very same batches.

Each system runs in a process of its own, with the same base tables. Every round gives one batch to
all, each round beginning with another of them. A batch is a hundred changes: new, changed and
deleted order items, and products that change category. After the first batch and after the last one
both models of each system are compared with recomputed ones.

`python -m benchmarks.model_peers` measures and prints the page. A system that cannot run here is
not run, and the page says why. pg_ivm is built from its source, the repository sraoss/pg_ivm, in a
folder that is given or that ``PG_IVM_SOURCE`` names. About 8 minutes at a million items, on two
cores; Pathway wants 3 GB.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.contenders.child import REQUIREMENTS, Child, System
from benchmarks.contenders.truth import CHANGED_ITEMS, CHANGED_PRODUCTS, Truth
from benchmarks.folders import passing_folder
from benchmarks.pages import Page, Table, render
from benchmarks.peers import HERE, NotRunError
from benchmarks.series import spread

SEED = 7
UPWELL = "Upwell"


@dataclass(slots=True)
class Measured:
    """What a system took, batch by batch, and how many rows it had wrong."""

    start_seconds: float = 0.0
    batches: list[dict[str, float]] = field(default_factory=list)
    wrong: list[dict[str, int]] = field(default_factory=list)
    memory_mb: float = 0.0
    not_run: str = ""


def systems(pg_ivm_source: Path | None) -> list[System]:
    """All that are compared. pg_ivm is built from its source."""
    source = [str(pg_ivm_source)] if pg_ivm_source else []
    return [
        System(UPWELL, "upwell", is_at_home=True),
        System("recompute in DuckDB", "recompute", is_at_home=True),
        System("dbt-duckdb, usual filter", "dbt"),
        System("dbt-duckdb, filter over all tables", "dbt", ("all_tables",)),
        System("SQLMesh", "sqlmesh"),
        System("Pathway", "pathway"),
        System("pg_ivm", "pg_ivm", source, is_at_home=True, needs=("make", "cc")),
    ]


def model_peers(
    items: int = 1_000_000,
    rounds: int = 5,
    only: Sequence[str] = (),
    pg_ivm_source: Path | None = None,
) -> Page:
    """All systems, or those whose titles are in ``only``, over one size of shop."""
    source = pg_ivm_source or _source_named()
    chosen = [each for each in systems(source) if not only or each.title in only]
    measured = {each.title: Measured() for each in chosen}
    with passing_folder() as folder, ExitStack() as closing:
        truth = Truth(folder, items, SEED)
        children: dict[str, Child] = {}
        for number, system in enumerate(chosen):
            outcome = measured[system.title]
            with _noted(system.title, outcome):
                if system.module == "pg_ivm" and not system.options:
                    raise NotRunError("its source is not here, see PG_IVM_SOURCE")
                child = closing.enter_context(Child(system, folder / f"system-{number}"))
                outcome.start_seconds = child.start(truth.base)
                children[system.title] = child
                _tell(f"{system.title}: started in {outcome.start_seconds:.0f} s")
        for number in range(rounds + 1):
            _give_batch(truth, children, measured, shift=number, compare=number in {0, rounds})
            _tell(f"batch {number} of {rounds}")
        for title, child in children.items():
            measured[title].memory_mb = child.memory_mb()
    return _page(items, rounds, measured, _versions(source))


def _give_batch(
    truth: Truth,
    children: Mapping[str, Child],
    measured: Mapping[str, Measured],
    *,
    shift: int,
    compare: bool,
) -> None:
    """One batch to every system that still runs, beginning with another one each time."""
    batch = truth.next_batch()
    titles = list(children)
    shift %= max(len(titles), 1)
    for title in (*titles[shift:], *titles[:shift]):
        outcome, child = measured[title], children[title]
        if not outcome.not_run:
            with _noted(title, outcome):
                outcome.batches.append(child.refresh(batch))
                if compare:
                    outcome.wrong.append(truth.wrong_rows(child.export()))


@contextmanager
def _noted(title: str, measured: Measured) -> Iterator[None]:
    """What keeps a system from running is noted, and the others go on."""
    try:
        yield
    except NotRunError as error:
        measured.not_run = str(error)
        _tell(f"{title}: not run: {error}")


# ── the page ─────────────────────────────────────────────────────────────────────────────────────


def _page(
    items: int, rounds: int, measured: Mapping[str, Measured], versions: Mapping[str, str]
) -> Page:
    heads = (
        "system",
        "first load and models, s",
        "time to fresh, ms",
        "of it base tables, ms",
        "CPU ms",
        "times Upwell's time",
        "memory, MiB",
        "wrong rows of fact, hourly after one batch",
        f"after {rounds + 1} batches",
    )
    return Page(
        "Two models, a join of five tables (`fact`) and an aggregate over it (`hourly`), kept "
        "fresh by several systems after batches of a hundred changes. Time to fresh runs from the "
        "batch at hand, as columns, to both models being fresh; it includes the base tables.",
        f"`benchmarks/ecommerce`, {items:,} order items, seed {SEED}; a batch holds "
        f"{CHANGED_ITEMS} order items (new, changed and deleted) and {CHANGED_PRODUCTS} products "
        f"that change category. Median (least–greatest) of {rounds} batches after one that is not "
        "measured, the systems interleaved.",
        "benchmarks/model_peers.py",
        [Table(heads, [_row(title, each, measured) for title, each in measured.items()])],
        versions=versions,
        notes=(_WRONG, _KEPT, _WARM),
    )


_WRONG = (
    "A wrong row is a key whose row is missing, other than recomputed, or there although it should "
    "not be. The mean, which systems round differently, is not compared."
)
_KEPT = (
    "Upwell keeps its change log and commits to disk within the time; recomputing, dbt and SQLMesh "
    "write to a DuckDB file; Pathway holds everything in memory and keeps nothing; pg_ivm works "
    "inside the database's own transactions, here without waiting for the disk."
)
_WARM = (
    "dbt and SQLMesh run inside a warm process with their project loaded: what a scheduler adds is "
    "not in the figures."
)


def _row(title: str, measured: Measured, others: Mapping[str, Measured]) -> tuple[str, ...]:
    if measured.not_run:
        return (title, f"not run: {measured.not_run}", *[""] * 7)
    batches = measured.batches[1:]
    upwell = others.get(UPWELL)
    times = "—"
    if upwell is not None and not upwell.not_run:
        pairs = zip(batches, upwell.batches[1:], strict=True)
        times = spread([_fresh_ms(one) / _fresh_ms(other) for one, other in pairs]).show(",.1f")
    return (
        title,
        f"{measured.start_seconds:.0f}",
        spread([_fresh_ms(each) for each in batches]).show(),
        spread([each["take_in_ms"] for each in batches]).show(),
        spread([each["cpu_ms"] for each in batches]).show(),
        times,
        f"{measured.memory_mb:,.0f}",
        *(f"{wrong['fact']:,}, {wrong['hourly']:,}" for wrong in measured.wrong),
    )


def _fresh_ms(figures: Mapping[str, float]) -> float:
    return figures["take_in_ms"] + figures["refresh_ms"]


def _source_named() -> Path | None:
    folder = os.environ.get("PG_IVM_SOURCE")
    return Path(folder) if folder else None


def _versions(pg_ivm_source: Path | None) -> dict[str, str]:
    """The versions of what is not ours; DuckDB is the same for all."""
    pins = (HERE / REQUIREMENTS).read_text(encoding="utf-8")
    found = dict(re.findall(r"^([a-z-]+)==(\S+)$", pins, re.MULTILINE))
    del found["duckdb"]
    if pg_ivm_source is not None:
        control = (pg_ivm_source / "pg_ivm.control").read_text(encoding="utf-8")
        (found["pg_ivm"],) = re.findall(r"default_version = '(.+)'", control)
    return found


def _tell(what: str) -> None:
    sys.stderr.write(f"  {what}\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.model_peers", description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5, help="measured batches")
    parser.add_argument("--system", action="append", default=[], help="only this; repeatable")
    parser.add_argument("--pg-ivm-source", type=Path, help="folder of sraoss/pg_ivm")
    given = parser.parse_args(arguments)
    page = model_peers(given.items, given.rounds, given.system, given.pg_ivm_source)
    print(render("model peers", page))


if __name__ == "__main__":
    main()
