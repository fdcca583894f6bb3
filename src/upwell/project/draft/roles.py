"""What a column looks like to somebody who adds up: an amount, a price, a quantity, a time.

Each answer carries the reason it was given for, in words that a drafted file repeats.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from typing import Literal

from upwell.project.draft import vocabulary as known
from upwell.project.draft.names import words
from upwell.project.survey import SeenColumn, SeenTable

#: How the price of a line is lowered: by a share of it, by a percentage, by an amount, or unknown.
DiscountKind = Literal["share", "percent", "amount", "unknown"]


@dataclass(frozen=True, slots=True)
class Discount:
    column: SeenColumn
    kind: DiscountKind


@dataclass(frozen=True, slots=True)
class Amount:
    """What one row is worth: a column, or quantity × price less the discount.

    ``weight`` says how sure it is that this is money somebody took.
    """

    weight: float
    reason: str
    column: SeenColumn
    quantity: SeenColumn | None = None
    discount: Discount | None = None

    @property
    def columns(self) -> tuple[SeenColumn, ...]:
        """All columns it is computed from."""
        lowered = (self.discount.column,) if self.is_lowered and self.discount else ()
        return (*((self.quantity,) if self.quantity else ()), self.column, *lowered)

    @property
    def is_lowered(self) -> bool:
        return self.discount is not None and self.discount.kind != "unknown"


def amount_of(table: SeenTable, *, is_referenced: bool) -> Amount | None:
    """The amount of a row, or None. ``is_referenced``: other tables point to this one."""
    numbers = _numbers(table)
    whole = _whole_amount(numbers)
    price = next((each for each in numbers if _is_price(each)), None)
    count = quantity_of(table)
    if whole is not None and whole.weight >= known.AMOUNTS["value"]:
        return whole
    if price is not None and count is not None:
        reason = f"{count.name} and {price.name} stand together, so one row is worth their product"
        return Amount(10, reason, price, count, _discount(table))
    if price is not None and not is_referenced:
        reason = f"{price.name} is a price, and nothing counts pieces: one row is one piece"
        return Amount(6, reason, price)
    return whole or _money_by_type(numbers)


def quantity_of(table: SeenTable) -> SeenColumn | None:
    """The column that counts pieces."""
    return next(
        (
            each
            for each in _numbers(table)
            if words(each.name)[-1:] and words(each.name)[-1] in known.QUANTITIES
        ),
        None,
    )


def side_amounts(table: SeenTable, main: Amount) -> list[SeenColumn]:
    """Other money of a row that is worth a number of its own: profit, freight, tax."""
    taken = {column.name for column in main.columns}
    found = [
        (rank, each)
        for each in _numbers(table)
        for rank, word in enumerate(known.SIDE_AMOUNTS)
        if each.name not in taken and word in words(each.name)
    ]
    return [each for _, each in sorted(found, key=lambda pair: pair[0])][:2]


def time_weight(column: SeenColumn) -> float:
    """How likely a time is the moment at which the row's event happened; 0 for no time at all."""
    if column.family != "time":
        return 0
    spoken = words(column.name)
    weight = max((known.EVENT_TIMES.get(word, 0) for word in spoken), default=0) or 3
    if any(word in known.OTHER_TIMES for word in spoken):
        weight = 1
    return max(weight - 4 * (column.null_share or 0) - (0.5 if column.is_nullable else 0), 0.1)


def has_clock(column: SeenColumn) -> bool:
    """Whether a time says more than the day."""
    if column.stored == "DATE":
        return False
    ends = [each for each in (column.earliest, column.latest) if each is not None]
    return not ends or any(each.astimezone(UTC).time().isoformat() != "00:00:00" for each in ends)


def _numbers(table: SeenTable) -> list[SeenColumn]:
    """The numbers that are neither keys nor measures of a state."""
    keys = {*table.key, *(name for each in table.foreign_keys for name in each.columns)}
    return [
        column
        for column in table.columns
        if column.family == "number"
        and column.name not in keys
        and words(column.name)[-1:] != ("id",)
        and not known.NOT_ADDED & set(words(column.name))
    ]


def _whole_amount(numbers: list[SeenColumn]) -> Amount | None:
    best: Amount | None = None
    for column in numbers:
        weight = max((known.AMOUNTS.get(word, 0) for word in words(column.name)), default=0)
        if any(word in known.SIDE_AMOUNTS for word in words(column.name)):
            weight = min(weight, 3)
        if known.QUANTITIES & set(words(column.name)) or not weight:
            continue
        if best is None or weight > best.weight:
            best = Amount(weight, f"{column.name} looks like money, by its name", column)
    return best


def _money_by_type(numbers: list[SeenColumn]) -> Amount | None:
    """A number with two decimals is mostly money, in whatever language it is called."""
    for column in numbers:
        if column.stored.startswith("DECIMAL") and column.stored.endswith(",2)"):
            return Amount(5, f"{column.name} looks like money: {column.declared}", column)
    sides = [each for each in numbers if set(known.SIDE_AMOUNTS) & set(words(each.name))]
    return Amount(3, f"{sides[0].name} looks like money, by its name", sides[0]) if sides else None


def _is_price(column: SeenColumn) -> bool:
    spoken = words(column.name)
    return bool(known.PRICES & set(spoken)) or "".join(spoken) in known.PRICES


def _discount(table: SeenTable) -> Discount | None:
    for column in table.columns:
        spoken = words(column.name)
        if column.family == "number" and "discount" in spoken:
            return Discount(column, _discount_kind(column, spoken))
    return None


def _discount_kind(column: SeenColumn, spoken: tuple[str, ...]) -> DiscountKind:
    """By its name, else by the values seen: shares lie between 0 and 1."""
    if {"percent", "pct", "percentage"} & set(spoken):
        return "percent"
    if {"amount", "value"} & set(spoken):
        return "amount"
    values = [float(value) for value in column.common if _is_number(value)]
    if any(value > 1 for value in values):
        return "amount"
    return "share" if any(0 < value < 1 for value in values) else "unknown"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
