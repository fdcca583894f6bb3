"""Which tables record what happens: rows with a time and something to add up.

Every fit table with a time, its own or that of a row it belongs to, is a candidate; the best is
proposed, and a person may choose another. Lines go before their headers, since only lines reach
what was sold; money goes before pieces, and pieces before mere rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from upwell.project.draft import vocabulary as known
from upwell.project.draft.names import noun, plural, singular, words
from upwell.project.draft.paths import Graph, Reached
from upwell.project.draft.roles import Amount, amount_of, quantity_of, time_weight
from upwell.project.survey import SeenColumn, SeenTable

_TIME_HOPS = 2
_MOST_TIMES = 8
_STEM = 4  # letters by which "refund" and "refunded" are one word
_NAMED_AFTER_ROWS = 12
_TELLING = 6
_OWN = 3
_EMPTY = 6  # what counts against a table without rows, beside another that is as good
_LEAST_AMOUNT = 5  # of an amount that a page can be about


@dataclass(frozen=True, slots=True)
class Moment:
    """A time that can stand for when a row happened, and where it stands."""

    column: SeenColumn
    at: Reached
    weight: float


@dataclass(frozen=True, slots=True)
class Event:
    """What is counted: rows, or different values of a column of the fact where rows are parts."""

    column: SeenColumn
    is_distinct: bool
    noun: str

    @property
    def nouns(self) -> str:
        return plural(self.noun)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A table that may be the fact of a project. ``moments``: the likeliest first."""

    table: SeenTable
    amount: Amount | None
    quantity: SeenColumn | None
    moments: tuple[Moment, ...]
    weight: float

    @property
    def has_money(self) -> bool:
        return self.amount is not None and self.amount.weight >= _LEAST_AMOUNT

    @property
    def reason(self) -> str:
        """Why it looks like a fact, in a few words."""
        moment = self.moments[0]
        when = f"{moment.at.table.name}.{moment.column.name} says when"
        if self.amount is not None:
            return f"{self.amount.reason}; {when}"
        what = f"{self.quantity.name} counts pieces" if self.quantity else "its rows can be counted"
        return f"{what}; {when}"


def candidates(graph: Graph) -> list[Candidate]:
    """The tables that may be facts, the likeliest first."""
    found = [each for table in graph.tables.values() if (each := _candidate(graph, table))]
    worth = {each.table.name for each in found if each.has_money}
    lines = {
        reference.target
        for origin in worth
        for reference in graph.references[origin]
        if reference.target != origin
    }
    weighed = [(each.weight - (5 if each.table.name in lines else 0), each) for each in found]
    ranked = sorted(weighed, key=lambda pair: (-pair[0], pair[1].table.name))
    return [each for _, each in ranked]


def event_of(candidate: Candidate, moment: Moment) -> Event:
    """What one counts: the orders that lines belong to, else the rows themselves."""
    table = candidate.table
    if moment.at.hops == 1 and len(moment.at.by[0].columns) == 1:
        column = table.column(moment.at.by[0].columns[0])
        return Event(column, is_distinct=True, noun=singular(noun(moment.at.table.relation)))
    own = set(words(table.relation)) & (known.EVENTS - known.SALES)
    for column in () if own else table.columns:
        spoken = words(column.name)
        if spoken[-1:] in {("id",), ("no",), ("number",), ("nr",)} and len(spoken) > 1:
            stem = spoken[-2]
            if stem in known.EVENTS and table.key != (column.name,):
                return Event(column, is_distinct=True, noun=singular(stem))
    return Event(table.column(table.key[0]), is_distinct=False, noun=singular(noun(table.relation)))


def _candidate(graph: Graph, table: SeenTable) -> Candidate | None:
    moments = _moments(graph, table)
    if not moments:
        return None
    amount = amount_of(table, is_referenced=graph.is_referenced(table.name))
    quantity = quantity_of(table)
    weight = (
        (amount.weight if amount else 0)
        + (1 if quantity else 0)
        + moments[0].weight / 2
        + math.log10((table.rows or 0) + 1)
        + min(len(graph.references[table.name]), 3)
        + _weight_of_name(words(table.relation))
        - (_EMPTY if table.rows == 0 else 0)
    )
    return Candidate(table, amount, quantity, tuple(moments[:_MOST_TIMES]), weight)


def _weight_of_name(spoken: tuple[str, ...]) -> float:
    weight = 0.0
    if known.SALES & set(spoken):
        weight += 3
    if known.REVERSALS & set(spoken):
        weight -= 4
    if (known.PRODUCTS | known.CUSTOMERS | known.BACKGROUND) & set(spoken[-1:]):
        weight -= 0 if known.SALES & set(spoken) else 4
    return weight


def _moments(graph: Graph, table: SeenTable) -> list[Moment]:
    """The table's own times and those of the rows it belongs to, the likeliest first."""
    found = []
    for at in graph.reachable(table.name):
        if at.hops > _TIME_HOPS:
            break
        parent = _weight_of_parent(at)
        found += [
            Moment(column, at, _weight_of_time(column, at) + parent)
            for column in at.table.columns
            if column.family == "time"
        ]
    plausible = [each for each in found if each.weight > 0]
    return sorted(plausible, key=lambda each: -each.weight)


def _weight_of_time(column: SeenColumn, at: Reached) -> float:
    """A row's own time named after what the rows are is theirs: ``refunds.refunded_at``."""
    weight = time_weight(column)
    if at.hops:
        return weight
    stem = singular(noun(at.table.relation))[:_STEM]
    if weight and len(stem) == _STEM and any(word[:_STEM] == stem for word in words(column.name)):
        return max(weight, _NAMED_AFTER_ROWS)
    return weight + _OWN if weight >= _TELLING else weight


def _weight_of_parent(at: Reached) -> float:
    """A line happens when its order does; it does not happen when its product was created."""
    if not at.hops:
        return 0
    spoken = set(words(at.table.relation))
    weight = -1.5 * at.hops
    if known.EVENTS & spoken:
        return weight + 2
    return weight - 4
