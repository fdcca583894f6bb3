"""The drafted metrics, the page that shows them, and the requirement that the page answers.

Invariant: every metric is one of the drafted model's columns, every tile and filter one of the
metrics' dimensions, so that what is written holds together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from upwell.project.draft.model import Fields, WideModel
from upwell.project.draft.names import (
    Names,
    identifier,
    label,
    noun,
    one_line,
    plural,
    scalar,
    singular,
    written,
)
from upwell.project.draft.proposal import Board
from upwell.project.draft.roles import Amount
from upwell.project.draft.splits import Split

_MOST_NUMBERS = 4
_MOST_BARS = 4
_MOST_FILTERS = 4


@dataclass(frozen=True, slots=True)
class Metric:
    """A simple metric with its measure, or a ratio of two (``parts``)."""

    name: str
    label: str
    description: str
    agg: str = ""
    expr: str = ""
    parts: tuple[str, str] | None = None
    is_money: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """What the files of one board are made from. ``name`` is that of all of them."""

    name: str
    board: Board
    model: WideModel
    metrics: tuple[Metric, ...]
    dimensions: tuple[tuple[Split, str], ...]

    @property
    def numbers(self) -> list[Metric]:
        """The figures at the head of the page: money first, then what it is made of."""
        return list(self.metrics[:_MOST_NUMBERS])

    @property
    def main(self) -> Metric:
        return self.metrics[0]


def page_of(board: Board, model: WideModel) -> Page:
    """The page of a board."""
    metrics = tuple(_metrics(board, model.fields))
    name = identifier(board.title) or "board"
    return Page(name, board, model, metrics, model.fields.splits)


def _metrics(board: Board, fields: Fields) -> Iterator[Metric]:
    """The measures there are, the one that the page is about first."""
    names = Names()
    event, nouns = board.event.noun, board.event.nouns
    counted = Metric(
        name=names.take(nouns, otherwise="rows"),
        label=label(nouns),
        description=_how_counted(board),
        agg="count_distinct" if board.event.is_distinct else "count",
        expr=fields.event,
    )
    if fields.amount is not None and board.amount is not None:
        money = Metric(
            name=names.take(board.amount_label, otherwise="amount"),
            label=board.amount_label,
            description=_how_summed(board.amount),
            agg="sum",
            expr=fields.amount,
            is_money=True,
        )
        yield money
        yield counted
        yield Metric(
            name=names.take(f"average {event}", otherwise="average"),
            label=label(f"average {event}"),
            description=f"{money.label} divided by {one_line(nouns)}.",
            parts=(money.name, counted.name),
            is_money=True,
        )
        for side, column in zip(fields.sides, board.sides, strict=True):
            text = label(column.name)
            yield Metric(
                names.take(side, otherwise="side"),
                text,
                f"The sum of {one_line(column.name)}.",
                "sum",
                side,
                is_money=True,
            )
    else:
        yield counted
    if fields.quantity is not None:
        description = "Pieces, of everything together."
        yield Metric(names.take("units", otherwise="units"), "Units", description, "sum", "units")
    if fields.customer is not None and board.customers is not None:
        who = _who(board)
        yield Metric(
            names.take(who, otherwise="customers"),
            label(who),
            f"Different {one_line(who)} among the {one_line(nouns)}.",
            "count_distinct",
            fields.customer,
        )


def _who(board: Board) -> str:
    assert board.customers is not None  # noqa: S101 - asked for only where there are some
    at, column = board.customers
    for step in at.table.foreign_keys:
        if step.columns == (column.name,):
            return plural(noun(step.target.rpartition(".")[2]))
    return plural(singular(noun(column.name)).removesuffix(" id"))


def _how_counted(board: Board) -> str:
    several = one_line(board.event.nouns)
    if board.event.is_distinct:
        return f"{_sentence(several)}, each counted once however many rows belong to it."
    return f"{_sentence(several)}, one for each row."


def _how_summed(amount: Amount) -> str:
    """The definition as a reader of the page sees it."""
    price = one_line(label(amount.column.name))
    if amount.quantity is None:
        return f"The sum of {price.lower()}."
    text = f"{one_line(label(amount.quantity.name))} × {price.lower()}"
    return f"{text}{', less discount' if amount.is_lowered else ''}, summed."


def _sentence(text: str) -> str:
    line = one_line(text)
    return line[:1].upper() + line[1:]


# ── files ────────────────────────────────────────────────────────────────────────────────────────


def metrics_file(page: Page) -> str:
    """``metrics/NAME.yaml``."""
    head = [
        "",
        "# A database does not say in which currency it counts; where it is just one, write",
    ]
    head.append("# meta: {format: currency, currency: EUR}")
    money = head if any(metric.is_money for metric in page.metrics) else [""]
    return "\n".join([*_semantic_model(page), *money, "metrics:", *_metric_list(page)]) + "\n"


def _semantic_model(page: Page) -> Iterator[str]:
    board, fields = page.board, page.model.fields
    moment = board.moment
    where = f"{one_line(moment.at.table.name)}.{one_line(moment.column.name)}"
    grain = "hour" if board.has_clock else "day"
    yield "# What the columns of the model mean. A number is defined here once, for every page."
    yield "semantic_models:"
    yield f"  - name: {page.name}"
    yield f"    model: {page.model.name}"
    yield f"    # {where} says when; {'it knows the hour' if board.has_clock else 'it is a day'}"
    yield f"    defaults: {{agg_time_dimension: {scalar(fields.time)}}}"
    yield "    dimensions:"
    yield f"      - name: {scalar(fields.time)}"
    yield "        type: time"
    yield from _expression(fields.time, indent=8)
    yield f"        type_params: {{time_granularity: {grain}}}"
    for split, name in page.dimensions:
        yield f"      - name: {scalar(name)}"
        yield "        type: categorical"
        yield from _expression(name, indent=8)
        yield f"        label: {scalar(split.label)}"
    yield "    measures:"
    for metric in page.metrics:
        if metric.parts is None:
            yield f"      - name: {scalar(metric.name)}"
            yield f"        agg: {metric.agg}"
            yield f"        expr: {scalar(written(metric.expr))}"


def _expression(name: str, *, indent: int) -> Iterator[str]:
    """Only where the name itself is no expression."""
    if written(name) != name:
        yield f"{' ' * indent}expr: {scalar(written(name))}"


def _metric_list(page: Page) -> Iterator[str]:
    for metric in page.metrics:
        yield f"  - name: {scalar(metric.name)}"
        yield f"    label: {scalar(metric.label)}"
        yield f"    description: {scalar(metric.description)}"
        if metric.parts is None:
            yield "    type: simple"
            yield f"    type_params: {{measure: {scalar(metric.name)}}}"
        else:
            over, under = map(scalar, metric.parts)
            yield "    type: ratio"
            yield f"    type_params: {{numerator: {over}, denominator: {under}}}"
        if metric.is_money:
            yield "    meta: {format: currency}"


def dashboard_file(page: Page) -> str:
    """``dashboards/NAME.yaml``."""
    return "\n".join(_dashboard(page)) + "\n"


def _dashboard(page: Page) -> Iterator[str]:
    board = page.board
    short = [(split, name) for split, name in page.dimensions if not split.is_long]
    yield f"title: {scalar(board.title)}"
    yield from _period(board)
    if short:
        yield "# few values each, so that one can choose among them"
        yield f"filters: [{', '.join(scalar(name) for _, name in short[:_MOST_FILTERS])}]"
    yield "tiles:"
    for metric in page.numbers:
        yield f"  - {{metric: {scalar(metric.name)}}}"
    main = scalar(page.main.name)
    if short:
        split, name = short[0]
        yield f"  # {_because(split)}"
        by = f"by: {scalar(name)}, over: time, as: stacked_area"
        yield f"  - {{metric: {main}, {by}}}"
    else:
        yield f"  - {{metric: {main}, over: time}}"
    for split, name in _bars(page):
        yield f"  # {_because(split)}"
        yield f"  - {{metric: {main}, by: {scalar(name)}, as: ranked_bars}}"


def _because(split: Split) -> str:
    where = f"{one_line(split.at.table.name)}.{one_line(split.column.name)}"
    return f"{where}: {one_line(split.reason)}"


def _period(board: Board) -> Iterator[str]:
    if board.is_recent:
        choices = (
            ["24h", "7d", "30d", "12m", "all"] if board.has_clock else ["7d", "30d", "12m", "all"]
        )
        yield f"period: {{default: 30d, choices: [{', '.join(choices)}]}}"
        yield "compare: previous_period # the same elapsed part of the period before"
        return
    latest = board.moment.column.latest
    until = f"; the last is of {latest:%Y-%m-%d}" if latest else ""
    yield f"# all of it at first, since nothing happened in the last 30 days{until}"
    yield "period: {default: all, choices: [30d, 12m, all]}"
    yield "compare: previous_period # the same elapsed part of the period before"


def _bars(page: Page) -> list[tuple[Split, str]]:
    """Rankings in pairs, since two stand side by side: the second dimension, what was sold, …"""
    short = [each for each in page.dimensions if not each[0].is_long]
    long = [each for each in page.dimensions if each[0].is_long]
    ranked = [*short[1:2], *long, *short[2:], *short[:1]]
    count = min(len(ranked), _MOST_BARS)
    return ranked[: count if count == 1 else count - count % 2]


def requirements_file(page: Page) -> str:
    """``requirements/NAME.yaml``."""
    by = [split.label.lower() for split, _ in page.dimensions[:2]]
    need = f"{page.main.label.lower()}{' by ' + ' and '.join(by) if by else ''}, over time"
    mark = page.name.upper().replace("_", "-")[:40]
    return f"""\
# Who needs this, and for which decision: nobody can read that off a database. Put it right;
# `upwell verify` holds what can be measured against what was measured.

stakeholder: Everyone who looks at {page.name.replace("_", " ")}
decision: to be said, what is decided by this page and how often
requirements:
  - id: {mark}-1
    kind: functional
    need: {scalar(one_line(need))}
    met_by: dashboard:{page.name}
  - id: {mark}-2
    kind: non-functional
    need: "what happens in the database shows before the next decision is made"
    measure: freshness
    of: dashboard:{page.name}
    target: "p99 <= 5 s"
    over: 7d
"""
