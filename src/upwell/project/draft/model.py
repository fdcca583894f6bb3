"""The drafted model: one row a fact, with everything that describes it joined to it.

Invariant: the result has exactly the fact's rows. A join follows a reference to a key, so it finds
at most one row; it is an inner one only where the database itself sees to it that there is one.
Sums of it are exact: what is stored as text or as a floating-point number is cast to a decimal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from textwrap import wrap

from upwell.core.sql import literal
from upwell.project.draft import vocabulary as known
from upwell.project.draft.names import (
    Names,
    identifier,
    noun,
    one_line,
    plural,
    singular,
    words,
    written,
)
from upwell.project.draft.paths import Reached, Reference
from upwell.project.draft.proposal import Board, Proposal
from upwell.project.draft.roles import Amount
from upwell.project.draft.splits import Split, splits_of
from upwell.project.survey import SeenColumn

_MONEY = "decimal(18, 4)"
_INDENT = "    "
_WIDTH = 90


@dataclass(frozen=True, slots=True)
class Field:
    """A column of the model: its name there, the SQL it is, and why it is there."""

    name: str
    sql: str
    why: str


@dataclass(frozen=True, slots=True)
class Fields:
    """What the metrics find in the model, by the names it has there; None for what is not."""

    time: str = ""
    event: str = ""
    amount: str | None = None
    quantity: str | None = None
    sides: tuple[str, ...] = ()
    customer: str | None = None
    splits: tuple[tuple[Split, str], ...] = ()


@dataclass(frozen=True, slots=True)
class WideModel:
    """The model as a file, and what is where in it."""

    name: str
    text: str
    fields: Fields


def wide_model(proposal: Proposal) -> WideModel:
    """The one model of a draft."""
    return _Writer(proposal).model()


@dataclass
class _Writer:
    """Gathers fields, and the joins that they need, in the order they are asked for."""

    proposal: Proposal
    names: Names = field(default_factory=lambda: Names({"rowid"}))
    aliases: dict[tuple[Reference, ...], str] = field(default_factory=dict)
    taken: Names = field(default_factory=Names)
    columns: dict[tuple[tuple[Reference, ...], str], str] = field(default_factory=dict)
    fields: list[Field] = field(default_factory=list)

    def model(self) -> WideModel:
        board, fact = self.proposal.board, Reached(self.proposal.main)
        self.alias(fact)
        key = [self.take(fact, fact.table.column(name), "its key") for name in fact.table.key]
        found = self._of_board(board) if board else self._of_table(fact)
        name = _model_name(self.proposal)
        head = [f"-- {line}" for line in self._description(name)]
        head.append(f"-- key: {', '.join(key)}")
        body = ["", "select", *self._select(), *self._from(fact), *self._hints(board)]
        return WideModel(name, "\n".join([*head, *body]) + "\n", found)

    # ── fields ───────────────────────────────────────────────────────────────────────────────────

    def _of_board(self, board: Board) -> Fields:
        moment = board.moment
        event = self.take(Reached(self.proposal.main), board.event.column, "what is counted")
        time = self.take(moment.at, moment.column, "when it happened")
        customer = self.take(*board.customers, "who") if board.customers else None
        splits = tuple(
            (
                split,
                self.take(split.at, split.column, f"to split by: {split.reason}", name=split.name),
            )
            for split in board.splits
        )
        fact = Reached(self.proposal.main)
        quantity = board.candidate.quantity
        units = None
        if quantity is not None:
            units = self.put("units", self.exact(fact, quantity), f"pieces: {_plain(quantity)}")
        amount = None
        if board.amount is not None:
            sql = self.worth(fact, board.amount)
            amount = self.put(identifier(board.amount_label) or "amount", sql, _why(board.amount))
        sides = tuple(
            self.put(identifier(column.name) or "side", self.exact(fact, column), _plain(column))
            for column in board.sides
        )
        return Fields(time, event, amount, units, sides, customer, splits)

    def _of_table(self, fact: Reached) -> Fields:
        """Without a time, what there is: dimensions and numbers."""
        for split in splits_of(self.proposal.graph.reachable(fact.table.name), without=()):
            self.take(split.at, split.column, f"to split by: {split.reason}", name=split.name)
        for column in fact.table.columns:
            if column.family == "number":
                self.take(fact, column, "a number")
        return Fields()

    def take(self, at: Reached, column: SeenColumn, why: str, *, name: str = "") -> str:
        """The model's name of a column of some table; the column is added the first time."""
        place = (at.by, column.name)
        if place not in self.columns:
            name = name or column.name
            if words(name) == ("id",):
                name = f"{singular(noun(at.table.relation))} id"
            self.columns[place] = self.put(name, self.reference(at, column), why)
        return self.columns[place]

    def put(self, name: str, sql: str, why: str) -> str:
        self.fields.append(Field(self.names.take(name, otherwise="column"), sql, why))
        return self.fields[-1].name

    # ── SQL ──────────────────────────────────────────────────────────────────────────────────────

    def alias(self, at: Reached) -> str:
        """The name of a table in this statement; whatever leads to it is joined before it."""
        if at.by not in self.aliases:
            if at.by:
                self.alias(_before(self.proposal, at))
            relation = at.table.name.rpartition(".")[2]
            again = at.by and any(
                path and path[-1].target == at.table.name for path in self.aliases
            )
            if again:  # another reference to the same table: named by what it is to us
                relation = " ".join(words(at.by[-1].columns[0])).removesuffix(" id")
            self.aliases[at.by] = self.taken.take(relation, otherwise="joined")
        return self.aliases[at.by]

    def reference(self, at: Reached, column: SeenColumn) -> str:
        return f"{written(self.alias(at))}.{written(column.name)}"

    def exact(self, at: Reached, column: SeenColumn) -> str:
        sql = self.reference(at, column)
        return sql if column.is_exact else f"cast({sql} as {_MONEY})"

    def worth(self, fact: Reached, amount: Amount) -> str:
        """What a row is worth, rounded to four decimals where its parts have more."""
        price = self.exact(fact, amount.column)
        if amount.quantity is None:
            return price
        sql = f"{self.exact(fact, amount.quantity)} * {price}"
        rounded = not amount.column.is_exact or not amount.quantity.is_exact
        if amount.discount is not None and amount.is_lowered:
            off = self.exact(fact, amount.discount.column)
            if amount.discount.column.is_nullable:
                off = f"coalesce({off}, 0)"
            match amount.discount.kind:
                case "share":
                    sql, rounded = f"{sql}\n{_INDENT * 2}* (1 - {off})", True
                case "percent":
                    sql, rounded = f"{sql}\n{_INDENT * 2}* (100 - {off}) * 0.01", True
                case _:
                    sql = f"{sql} - {off}"
        return (
            f"cast(\n{_INDENT * 2}{sql}\n{_INDENT * 2}as {_MONEY}\n{_INDENT})" if rounded else sql
        )

    def _select(self) -> Iterator[str]:
        last = self.fields[-1]
        for why, group in groupby(self.fields, key=lambda each: each.why):
            yield from (f"{_INDENT}-- {line}" for line in wrap(one_line(why), _WIDTH))
            for each in group:
                own = each.sql.endswith(f".{written(each.name)}")
                named = each.sql if own else f"{each.sql} as {written(each.name)}"
                yield f"{_INDENT}{named}{'' if each is last else ','}"

    def _from(self, fact: Reached) -> Iterator[str]:
        yield f"from {self._table(fact.table.name, self.aliases[()])}"
        missing: set[tuple[Reference, ...]] = set()
        for path, alias in self.aliases.items():
            if not path:
                continue
            step = path[-1]
            may_miss = step.may_miss or path[:-1] in missing
            if may_miss:
                missing.add(path)
                yield f"-- left: {_why_left(step)}"
            origin = self.aliases[path[:-1]]
            pairs = " and ".join(
                f"{written(alias)}.{written(theirs)} = {written(origin)}.{written(ours)}"
                for ours, theirs in zip(step.columns, step.target_columns, strict=True)
            )
            kind = "left join" if may_miss else "join"
            yield f"{kind} {self._table(step.target, alias)} on {pairs}"

    def _table(self, name: str, alias: str) -> str:
        relation = self.proposal.survey.table(name).relation
        table = f"{written(self.proposal.wishes.source)}.{written(relation)}"
        return table if relation == alias else f"{table} as {written(alias)}"

    def _description(self, name: str) -> list[str]:
        main = self.proposal.main
        one = singular(" ".join(words(name)))
        if self.proposal.board is None:
            return [
                f"Every row of {one_line(main.name)} with what describes it. No table has a time,",
                "so nothing can be drawn over time: add a column that says when, then a metric.",
            ]
        return [
            f"One row for each {one}, with what it is about. What a row refers to is as",
            "it is today: when a description changes, past rows change with it.",
        ]

    def _hints(self, board: Board | None) -> Iterator[str]:
        """A condition that may be wanted, left for a person to decide."""
        if board is None:
            return
        for at in (Reached(self.proposal.main), board.moment.at):
            for column in at.table.columns:
                values = [value for value in column.common if value.lower() in known.CANCELLED]
                is_status = bool({"status", "state"} & set(words(column.name)))
                if column.family == "text" and is_status and values:
                    unwanted = ", ".join(map(literal, values))
                    yield "-- to leave out what was undone, take the dashes off:"
                    yield f"-- where ({self.reference(at, column)} in ({unwanted})) is not true"
                    return


def _before(proposal: Proposal, at: Reached) -> Reached:
    """The table from which the last step leads to this one."""
    origin = proposal.graph.tables[at.by[-1].origin]
    return Reached(origin, at.by[:-1])


def _model_name(proposal: Proposal) -> str:
    """``order_lines`` for the parts of an order, else the rows' own name."""
    main, board = proposal.main, proposal.board
    rows = plural(noun(main.relation))
    if board is not None and board.amount is not None and board.event.is_distinct:
        is_line = {"detail", "line", "item"} & set(map(singular, words(main.relation)))
        if is_line or board.moment.at.hops == 0:
            rows = f"{board.event.noun} lines"
    name = identifier(rows) or "facts"
    taken = Names({proposal.wishes.source, "main", "upwell"})
    return taken.take(name if written(name) == name else f"{name}_rows", otherwise="facts")


def _why(amount: Amount) -> str:
    reason = amount.reason
    if amount.discount is not None:
        how = {
            "share": "less the discount, a share",
            "percent": "less the discount, a percentage",
            "amount": "less the discount, taken for an amount off the whole line",
            "unknown": "before discount: whether that is a share or an amount, nobody can tell yet",
        }
        reason = f"{reason}, {how[amount.discount.kind]}"
    if any(not column.is_exact for column in amount.columns):
        reason = f"{reason}; cast to decimals, so that sums are exact"
    elif amount.quantity is None and amount.column.stored in {"INTEGER", "BIGINT", "SMALLINT"}:
        reason = f"{reason}; whole numbers: if they are cents, write them * 0.01"
    return reason


def _plain(column: SeenColumn) -> str:
    return f"{column.name}, {column.declared}"


def _why_left(step: Reference) -> str:
    columns = ", ".join(map(one_line, step.columns))
    if not step.is_declared:
        return f"no foreign key says so, but {columns} is named after {one_line(step.target)}"
    if not step.is_sure:
        return f"the foreign key on {columns} was never checked"
    if step.is_nullable:
        return f"{columns} may be empty"
    return "what it hangs on may be missing"
