"""What a project could be made of: the decisions, each with its reason, before a file is written.

``propose`` decides everything that was not wished otherwise. Invariant: a proposal names only
tables and columns that the survey saw and that can be captured, so that what is written from it
passes ``upwell validate``. Refused: a wished table that is not there or cannot be captured, and a
database from which nothing can.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from upwell.core.errors import EnvironmentFault, UsageError
from upwell.project.draft import vocabulary as known
from upwell.project.draft.facts import Candidate, Event, Moment, candidates, event_of
from upwell.project.draft.names import identifier, label, noun, plural, singular, words
from upwell.project.draft.paths import Graph, Reached, graph_of
from upwell.project.draft.roles import Amount, has_clock, side_amounts
from upwell.project.draft.splits import Split, splits_of
from upwell.project.problems import choices
from upwell.project.survey import Obstacle, SeenColumn, SeenTable, Survey

_MANY_TABLES = 25  # beyond it, only what the model reads is captured
_MANY_ROWS = 1_000_000  # nor is a table of so many rows that nothing reads
_RECENT = timedelta(days=30)
_VAGUE = frozenset({"amount", "total", "value", "price", "sum", "line", "item", "gross", "payment"})


@dataclass(frozen=True, slots=True)
class Wishes:
    """What somebody wants of a project; None leaves a choice to the proposal.

    ``url`` is what ``upwell.yaml`` will say, never a text with a password in it. ``time`` is a
    column's name, with its table's before a dot where that is another one than the fact.
    """

    project: str
    source: str
    url: str
    url_note: str
    zone: str
    tables: tuple[str, ...] | None = None
    fact: str | None = None
    time: str | None = None


@dataclass(frozen=True, slots=True)
class Board:
    """The one page of a draft: what happens, when, how much, by what."""

    candidate: Candidate
    moment: Moment
    event: Event
    splits: tuple[Split, ...]
    sides: tuple[SeenColumn, ...]
    customers: tuple[Reached, SeenColumn] | None
    title: str
    amount_label: str
    is_recent: bool
    has_clock: bool

    @property
    def amount(self) -> Amount | None:
        return self.candidate.amount if self.candidate.has_money else None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A table that is not captured, and why."""

    table: str
    reason: str
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class Proposal:
    """The whole of it. Without a ``board`` there is one model, of ``main``, and no page."""

    survey: Survey
    wishes: Wishes
    graph: Graph
    tables: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    facts: tuple[Candidate, ...]
    board: Board | None
    main: SeenTable


def propose(survey: Survey, wishes: Wishes) -> Proposal:
    """Decide. Raises ``UsageError`` for a wish that cannot be, ``EnvironmentFault`` where there is
    nothing to capture.
    """
    fit, left_out = _fit(survey, wishes)
    graph = graph_of([_readable(table) for table in fit])
    facts = candidates(graph)
    board = _board(survey, graph, _chosen(facts, wishes, graph), wishes)
    main = board.candidate.table if board else _main_table(graph)
    needed = [main.name, *_read_by(graph, main, board)]
    captured, spared = _captured(fit, needed, is_wished=wishes.tables is not None)
    return Proposal(
        survey=survey,
        wishes=wishes,
        graph=graph,
        tables=tuple(table.name for table in captured),
        left_out=(*left_out, *spared),
        facts=tuple(facts),
        board=board,
        main=main,
    )


# ── tables ───────────────────────────────────────────────────────────────────────────────────────


def _fit(survey: Survey, wishes: Wishes) -> tuple[list[SeenTable], list[LeftOut]]:
    """The tables that may be captured, and why the others may not."""
    if wishes.tables is not None:
        return _wished(survey, wishes.tables), []
    fit: list[SeenTable] = []
    left_out: list[LeftOut] = []
    taken: dict[str, str] = {}
    for table in survey.tables:
        name = table.relation.casefold()
        derived = (name, f"{name}__log", f"{name}__history")
        namesake = next((taken[each] for each in derived if each in taken), None)
        obstacles = _obstacles(table)
        if obstacles:
            first = obstacles[0]
            left_out.append(LeftOut(table.name, first.what, first.next_step))
        elif namesake is not None:
            reason = f"in SQL its name, or that of its log, would be the same as of {namesake}"
            left_out.append(LeftOut(table.name, reason, "rename one of the two"))
        else:
            taken |= dict.fromkeys(derived, table.name)
            fit.append(table)
    if not fit:
        raise _nothing_to_capture(survey, left_out)
    return fit, left_out


def _wished(survey: Survey, names: Sequence[str]) -> list[SeenTable]:
    known_names = [table.name for table in survey.tables]
    found = []
    for name in dict.fromkeys(each.removeprefix("public.") for each in names):
        if name not in known_names:
            raise UsageError(
                "table_unknown",
                f"the database has no table {name}",
                where=name,
                next_step=choices(name, known_names, nothing="the database has no tables"),
            )
        table = survey.table(name)
        for obstacle in _obstacles(table):
            raise EnvironmentFault(
                obstacle.code, obstacle.what, where=name, next_step=obstacle.next_step
            )
        found.append(table)
    return found


def _obstacles(table: SeenTable) -> list[Obstacle]:
    """What the survey found, and a key that no model could name."""
    found = list(table.obstacles)
    if "rowid" in map(str.lower, table.key):
        what = f"{table.name} has a key called rowid, which in SQL means something else"
        found.append(Obstacle("key_name_taken", what, f"rename the key's column of {table.name}"))
    return found


def _nothing_to_capture(survey: Survey, left_out: Sequence[LeftOut]) -> EnvironmentFault:
    if not survey.tables:
        return EnvironmentFault(
            "no_tables",
            "the database has no tables, or none that this role may see",
            where=survey.database,
            next_step="correct the database in the URL, or load it first",
        )
    first = next((each for each in left_out if each.next_step), left_out[0])
    return EnvironmentFault(
        "nothing_to_capture",
        f"none of the {len(survey.tables)} tables can be captured; of {first.table}: "
        f"{first.reason}",
        where=survey.database,
        next_step=f"{first.next_step}; `upwell doctor URL` lists every table with its remedy",
    )


def _readable(table: SeenTable) -> SeenTable:
    """The table without columns that no model may name."""
    columns = tuple(each for each in table.columns if each.name.lower() != "rowid")
    return replace(table, columns=columns)


def _captured(
    fit: Sequence[SeenTable], needed: Sequence[str], *, is_wished: bool
) -> tuple[list[SeenTable], list[LeftOut]]:
    """All that were wished; else what the model reads, and the rest where it is little."""
    if is_wished:
        return list(fit), []
    captured, spared = [], []
    for table in fit:
        if table.name in needed:
            captured.append(table)
        elif len(fit) > _MANY_TABLES:
            spared.append(LeftOut(table.name, "no model reads it, and there are many tables"))
        elif table.rows is not None and table.rows > _MANY_ROWS:
            spared.append(LeftOut(table.name, "no model reads it, and it is big"))
        else:
            captured.append(table)
    return captured, spared


def _main_table(graph: Graph) -> SeenTable:
    """Where nothing can be dated: the table that says most about others."""
    return max(
        graph.tables.values(),
        key=lambda table: (len(graph.references[table.name]), table.rows or 0, table.name),
    )


def _read_by(graph: Graph, main: SeenTable, board: Board | None) -> Iterator[str]:
    """The tables on the way to everything that the model shows."""
    if board is None:
        ends = [split.at for split in splits_of(graph.reachable(main.name), without=())]
    else:
        ends = [board.moment.at, *(split.at for split in board.splits)]
        ends += [board.customers[0]] if board.customers else []
    for end in ends:
        yield from (step.target for step in end.by)


# ── the page ─────────────────────────────────────────────────────────────────────────────────────


def _chosen(facts: Sequence[Candidate], wishes: Wishes, graph: Graph) -> Candidate | None:
    """The fact that was wished, or the likeliest."""
    if wishes.fact is None:
        return facts[0] if facts else None
    wished = wishes.fact.removeprefix("public.")
    for candidate in facts:
        if candidate.table.name == wished:
            return candidate
    names = [each.table.name for each in facts]
    if wished in graph.tables:
        raise UsageError(
            "fact_without_time",
            f"{wished} has no time, neither its own nor that of a row it belongs to",
            where=wished,
            next_step=choices(wished, names, nothing="add a column that says when a row happened"),
        )
    raise UsageError(
        "table_unknown",
        f"there is no table {wished} that could be captured",
        where=wished,
        next_step=choices(wished, names, nothing="see `upwell doctor URL`"),
    )


def _board(
    survey: Survey, graph: Graph, candidate: Candidate | None, wishes: Wishes
) -> Board | None:
    if candidate is None:
        return None
    moment = _moment(candidate, wishes.time)
    event = event_of(candidate, moment)
    amount = candidate.amount if candidate.has_money else None
    used = [column.name for column in amount.columns] if amount else []
    splits = splits_of(graph.reachable(candidate.table.name), without=used)
    latest = moment.column.latest
    title, amount_label = _headings(candidate, moment, event)
    return Board(
        candidate=candidate,
        moment=moment,
        event=event,
        splits=tuple(splits),
        sides=tuple(side_amounts(candidate.table, amount)) if amount else (),
        customers=_customers(graph, candidate.table),
        title=title,
        amount_label=amount_label,
        is_recent=latest is None or latest >= survey.seen_at - _RECENT,
        has_clock=has_clock(moment.column),
    )


def _moment(candidate: Candidate, wished: str | None) -> Moment:
    if wished is None:
        return candidate.moments[0]
    names = {}
    for moment in candidate.moments:
        names[f"{moment.at.table.name}.{moment.column.name}"] = moment
        if not moment.at.hops:
            names[moment.column.name] = moment
    if wished not in names:
        raise UsageError(
            "time_unknown",
            f"{candidate.table.name} has no time {wished}",
            where=candidate.table.name,
            next_step=choices(wished, names, nothing="it has no time at all"),
        )
    return names[wished]


def _headings(candidate: Candidate, moment: Moment, event: Event) -> tuple[str, str]:
    """What the page is called, and its main amount."""
    relation = candidate.table.relation
    own, whole = set(words(relation)), set(words(relation)) | set(words(moment.at.table.relation))
    rows = label(plural(noun(relation)))
    is_sale = bool(known.SALES & own) or (
        bool(known.SALES & whole) and not (known.EVENTS | known.REVERSALS) & own
    )
    if not candidate.has_money or candidate.amount is None:
        return rows, ""
    title = "Sales" if is_sale else rows
    amount = candidate.amount
    telling = [word for word in words(amount.column.name) if word not in _VAGUE]
    if amount.quantity is not None:
        text = "Net sales" if amount.is_lowered and is_sale else title
    elif telling:
        text = label(amount.column.name)
    else:
        text = title
    if identifier(text) == identifier(event.nouns):
        text = f"{label(event.noun)} amount"
    return title, text


def _customers(graph: Graph, table: SeenTable) -> tuple[Reached, SeenColumn] | None:
    """The column that says who: a reference to customers, or a number of theirs."""
    for at in graph.reachable(table.name)[:20]:
        if at.hops > 1:
            return None
        for reference in graph.references[at.table.name]:
            if known.CUSTOMERS & set(words(reference.target)) and len(reference.columns) == 1:
                return at, at.table.column(reference.columns[0])
        for column in at.table.columns:
            spoken = words(column.name)
            is_who = spoken[-1:] == ("id",) and known.CUSTOMERS & set(map(singular, spoken))
            if is_who and (column.distinct or 2) > 1 and column.name not in at.table.key:
                return at, column
    return None
