"""What the cases came to, as tables, and what that says about the budgets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.ecommerce.shop import MODELS
from benchmarks.ecommerce.trial import Full, Version
from benchmarks.pages import Table
from benchmarks.series import Spread, spread

ONE_CHANGE, MANY_CHANGES = "1 fact change", "10k recent"

#: Budgets: how many times dearer recomputing is, at the largest size; the floor of a model; the
#: growth of one change from the smallest size to the largest.
TIMES_CHEAPER = {ONE_CHANGE: 100, MANY_CHANGES: 15}
MS_A_MODEL = 6
GROWTH = 1.3


@dataclass(frozen=True, slots=True)
class Measured:
    """The versions of one case over one size of shop; ``wrong`` models differ from recompute."""

    case: str
    versions: Sequence[Version]
    wrong: Sequence[str]

    def spread(self, figure: Callable[[Version], float]) -> Spread:
        return spread([figure(version) for version in self.versions])

    @property
    def ms(self) -> float:
        """Median of what refreshing all models took."""
        return self.spread(_models_ms).median


@dataclass(frozen=True, slots=True)
class Outcome:
    """One size of shop: every case, and the recomputations made in between."""

    items: int
    full: Sequence[Full]
    measured: Sequence[Measured]

    @property
    def full_ms(self) -> float:
        return spread([each.ms for each in self.full]).median

    def case(self, name: str) -> Measured | None:
        return next((each for each in self.measured if each.case == name), None)


def tables(outcome: Outcome) -> list[Table]:
    """All models together, then each of them."""
    return [_together(outcome), _by_model(outcome)]


def growth_table(small: Outcome, large: Outcome) -> Table:
    """How much more each case takes over more items."""
    rows = [("recompute all nine", small.full_ms, large.full_ms)]
    for each in small.measured:
        other = large.case(each.case)
        if other is not None:
            rows.append((each.case, each.ms, other.ms))
    return Table(
        ("batch", f"{small.items:,} items, ms", f"{large.items:,} items, ms", "growth"),
        [(name, f"{one:,.1f}", f"{more:,.1f}", f"{more / one:.2f} ×") for name, one, more in rows],
        title=f"Growth over {large.items / small.items:.0f} times the items",
    )


def verdicts(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """One sentence a budget that the outcomes answer; all of them hold at the largest size."""
    smallest, largest = outcomes[0], outcomes[-1]
    at = f"at {largest.items:,} items"
    for name, budget in TIMES_CHEAPER.items():
        if measured := largest.case(name):
            times = largest.full_ms / measured.ms
            word = _word(reached=times >= budget)
            yield f"{name} {at}: 1/{times:.0f} of recomputing; budget 1/{budget}: {word}."
    if floor := largest.case(ONE_CHANGE):
        each = floor.ms / len(MODELS)
        word = _word(reached=each <= MS_A_MODEL)
        yield f"A model at the floor {at}: {each:.1f} ms; budget {MS_A_MODEL} ms: {word}."
        before = smallest.case(ONE_CHANGE)
        if before is not None and smallest is not largest:
            times = floor.ms / before.ms
            word = _word(reached=times <= GROWTH)
            yield (
                f"{ONE_CHANGE}, {smallest.items:,} → {largest.items:,} items: {times:.2f} ×; "
                f"budget {GROWTH} ×: {word}."
            )


def _together(outcome: Outcome) -> Table:
    full = spread([each.ms for each in outcome.full])
    cpu = spread([each.cpu_ms for each in outcome.full])
    unmeasured = [""] * 5
    rows = [("recompute all nine", full.show(), cpu.show(), "1 ×", *unmeasured)]
    rows += [_row(each, outcome.full_ms) for each in outcome.measured]
    return Table(
        (
            "batch",
            "nine models, ms",
            "CPU ms",
            "recompute is dearer",
            "ingest ms",
            "commit ms",
            "statements",
            "rows came and went",
            "equal to recompute",
        ),
        rows,
        title=f"{outcome.items:,} order items",
    )


def _row(measured: Measured, full_ms: float) -> tuple[str, ...]:
    def median(figure: Callable[[Version], float]) -> float:
        return measured.spread(figure).median

    return (
        measured.case,
        measured.spread(_models_ms).show(",.1f"),
        measured.spread(lambda version: version.models_cpu_ms).show(),
        f"{full_ms / measured.ms:,.1f} ×",
        f"{median(lambda version: version.take_in_ms):,.1f}",
        f"{median(lambda version: version.commit_ms):,.1f}",
        f"{median(lambda version: version.queries):.0f}",
        f"{median(lambda version: version.rows_out):,.0f}",
        f"NO: {', '.join(measured.wrong)}" if measured.wrong else "all nine",
    )


def _by_model(outcome: Outcome) -> Table:
    rows = [("recompute", *(f"{_full_ms_of(outcome, name):,.0f}" for name in MODELS))]
    rows += [
        (each.case, *(f"{_ms_of(each, name):,.1f}" for name in MODELS)) for each in outcome.measured
    ]
    return Table(
        ("batch", *MODELS), rows, title=f"{outcome.items:,} order items: median ms of each model"
    )


def _ms_of(measured: Measured, model: str) -> float:
    return measured.spread(lambda version: version.ms_of.get(model, 0.0)).median


def _full_ms_of(outcome: Outcome, model: str) -> float:
    return spread([full.ms_of[model] for full in outcome.full]).median


def _models_ms(version: Version) -> float:
    return version.models_ms


def _word(*, reached: bool) -> str:
    return "reached" if reached else "missed"
