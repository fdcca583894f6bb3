"""By what a page can split its numbers: columns of few values, and what was sold most.

A dimension is looked for in the fact and in everything reached from it. The title of a small table
(the name of a category) is as good a dimension as a column of few values. Of dimensions that mean
the same, such as the countries of a customer and of an address, the likelier one is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from upwell.project.draft import vocabulary as known
from upwell.project.draft.names import label, noun, one_line, singular, words
from upwell.project.draft.paths import Reached
from upwell.project.survey import SeenColumn

_FEW = 60
_MANY = 20_000
_WEIGHT_OF_FEW = ((12, 3.0), (30, 2.0))
_MOST_SPLITS = 5
_MOSTLY_EMPTY = 0.5
_LEAST_WEIGHT = 1


@dataclass(frozen=True, slots=True)
class Split:
    """A dimension: ``name`` as a project may call it, ``label`` as people do.

    ``is_long``: too many values to choose from, but a ranking of them is worth a look.
    """

    name: str
    label: str
    column: SeenColumn
    at: Reached
    weight: float
    reason: str
    is_long: bool = False

    @property
    def meaning(self) -> str:
        """What it is about, whatever table it stands in."""
        return (words(self.name) or (self.name,))[-1]


def splits_of(reached: Iterable[Reached], *, without: Iterable[str]) -> list[Split]:
    """The dimensions worth having, the best first; at most one of them is long.

    ``without``: columns of the fact that are used otherwise.
    """
    taken = set(without)
    found = [
        split
        for at in reached
        for column in at.table.columns
        if at.hops or column.name not in taken
        for split in _split(at, column)
    ]
    found.sort(key=lambda each: (-each.weight, each.at.hops, each.name))
    short = _different(each for each in found if not each.is_long)[:_MOST_SPLITS]
    meanings = {each.meaning for each in short}
    long = [each for each in found if each.is_long and each.meaning not in meanings]
    return [*short, *long[:1]]


def _different(splits: Iterable[Split]) -> list[Split]:
    by_meaning: dict[str, Split] = {}
    for split in splits:
        by_meaning.setdefault(split.meaning, split)
    return list(by_meaning.values())


def _split(at: Reached, column: SeenColumn) -> Iterator[Split]:
    if column.family not in {"text", "truth"} or column.distinct == 1:
        return
    if (column.null_share or 0) > _MOSTLY_EMPTY:
        return
    held = {name for key in at.table.foreign_keys for name in key.columns} | set(at.table.key)
    if column.name in held:
        return
    spoken = words(column.name)
    if _is_title(at, column):
        yield from _title(at, column)
    elif not known.NOT_SPLIT & set(spoken) and (column.distinct or 0) <= _FEW:
        yield from _attribute(at, column, spoken)


def _attribute(at: Reached, column: SeenColumn, spoken: tuple[str, ...]) -> Iterator[Split]:
    """A column of few values, weighed by its name and by how well it divides."""
    weight = max((known.SPLITS.get(word, 0) for word in spoken), default=0)
    if column.distinct is None or column.family == "truth":
        weight -= 1
    else:
        weight += next((bonus for most, bonus in _WEIGHT_OF_FEW if column.distinct <= most), 0)
    weight += _weight_of_place(at) - 4 * (column.null_share or 0)
    if weight < _LEAST_WEIGHT:
        return
    seen = "" if column.distinct is None else f"{column.distinct} different values"
    reason = seen or "a text, by its name one to group by"
    name = column.name
    if at.hops and set(spoken) <= known.GENERAL:
        name = f"{singular(noun(at.table.relation))} {column.name}"
    yield Split(name, label(name), column, at, weight, reason)


def _title(at: Reached, column: SeenColumn) -> Iterator[Split]:
    """The title of a table's rows stands for the rows themselves."""
    spoken = set(words(at.table.relation))
    name = singular(noun(at.table.relation)) if at.hops else " ".join(words(column.name)[:-1])
    if not at.hops:
        spoken |= set(words(column.name))
    rows = at.table.rows if at.hops else column.distinct
    if rows is None or rows > _MANY or rows == 1:
        return
    said = set(map(singular, words(name)))
    bonus = max((known.SPLITS.get(word, 0) for word in said - known.GENERAL), default=0)
    weight = bonus + 4 + _weight_of_place(at) - 4 * (column.null_share or 0)
    if weight < _LEAST_WEIGHT:
        return
    reason = f"names the {f'{rows:,} ' if rows else ''}rows of {one_line(at.table.name)}"
    if not at.hops:
        reason = f"{rows:,} different values"
    if known.PRODUCTS & spoken:
        yield Split(name, label(name), column, at, weight + 4, reason, is_long=not 0 < rows <= 12)
    elif rows <= _FEW:
        yield Split(name, label(name), column, at, weight + (2 if rows <= 12 else 0), reason)
    elif known.CUSTOMERS & spoken:
        yield Split(name, label(name), column, at, weight, reason, is_long=True)


def _is_title(at: Reached, column: SeenColumn) -> bool:
    """Whether a column names the rows it stands in: ``name``, ``category_name``, ``title``.

    In the fact itself, only what is named after things sold: ``product_name``.
    """
    spoken = words(column.name)
    if not spoken or spoken[-1] not in known.TITLES or column.family != "text":
        return False
    if any(
        {"first", "last", "firstname", "surname"} & set(words(c.name)) for c in at.table.columns
    ):
        return False  # people: their names are not shown on a page, their titles are jobs
    rest = set(spoken[:-1])
    if not at.hops:
        return bool(rest & known.PRODUCTS)
    of_table = set(words(at.table.relation)) | {singular(word) for word in words(at.table.relation)}
    titles = [
        each
        for each in at.table.columns
        if (last := words(each.name)[-1:]) and last[0] in known.TITLES and each.family == "text"
    ]
    own = [each for each in titles if set(words(each.name)[:-1]) <= of_table | {"company"}]
    if column not in own or known.NOT_SPLIT & (rest - of_table):
        return False
    rank = {word: place for place, word in enumerate(known.TITLES)}
    return column == min(own, key=lambda each: rank[words(each.name)[-1]])


def _weight_of_place(at: Reached) -> float:
    spoken = set(words(at.table.relation))
    weight = -0.7 * at.hops
    for step in at.by:
        if known.BACKGROUND & set(words(step.target)):
            weight -= 3
            break
    if known.CUSTOMERS & spoken:
        weight += 1
    return weight
