"""What each kind of tile shows of the facts: a number, a timeline, ranked bars.

Invariant: parts and whole agree. A timeline's layers add up to its totals and a list's rows to its
whole, also where the smallest are drawn as one "Other"; where a metric has no such sum (distinct
counts, ratios), there is no "Other" and the whole is computed on its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from upwell.core.protocols import Int64s
from upwell.project.values import Grain, Tile
from upwell.serve.web.calendar import parse_period
from upwell.serve.web.facts import Cell, Cells, Cut
from upwell.serve.web.metrics import Definition
from upwell.serve.web.metrics import Number as Value
from upwell.serve.web.payload import Bar, Bars, Number, Series, Timeline
from upwell.serve.web.view import View, token

SERIES_MAX = 8
BARS_MAX = 12

_OTHER_LABEL = "Other"
_OTHER_RANK = -1

#: The stable place of a dimension's value among all values.
Rank = Callable[[str | None], int]


@dataclass(frozen=True, slots=True)
class BoardTile:
    """A tile of a dashboard, with its metric looked up."""

    tile: Tile
    definition: Definition

    @property
    def kind(self) -> str:
        """``number``, ``timeline`` or ``bars``."""
        if self.tile.over:
            return "timeline"
        return "bars" if self.tile.by else "number"

    def grain(self, period: str) -> Grain:
        """What one point of a timeline covers."""
        return self.tile.grain.get(period, parse_period(period).usual_grain)

    def parts(self, period: str) -> Cut:
        """The cut that is drawn."""
        by = self.tile.by
        if self.kind == "timeline":
            return Cut(by=by, over=self.grain(period))
        return Cut(by=by, ignores=by)

    def whole(self, period: str) -> Cut:
        """The cut that the parts are parts of."""
        over = self.grain(period) if self.kind == "timeline" else None
        return Cut(over=over, ignores=self.parts(period).ignores)


@dataclass(frozen=True, slots=True)
class Scene:
    """All that the tiles of one view are drawn from."""

    view: View
    facts: Mapping[Cut, Cells]
    buckets_us: Mapping[Grain, Int64s]
    compares: bool


def draw(tile: BoardTile, scene: Scene, rank: Rank) -> Number | Timeline | Bars:
    """The tile as its reader gets it."""
    if tile.kind == "timeline":
        return _draw_timeline(tile, scene, rank)
    return _draw_bars(tile, scene, rank) if tile.kind == "bars" else _draw_number(tile, scene)


def label_of(value: str | None) -> str:
    """How people see a dimension's value."""
    if value is None:
        return "(none)"
    return value if value.strip() else "(empty)"


def change(value: Value | None, previous: Value | None) -> float | None:
    """The relative change; None where there is nothing to compare with."""
    if value is None or previous is None or previous == 0:
        return None
    return round((float(value) - float(previous)) / abs(float(previous)), 6)


def _draw_number(tile: BoardTile, scene: Scene) -> Number:
    cells = scene.facts[tile.whole(scene.view.period)]
    value = tile.definition.value(cells.get(Cell(is_current=True), {}))
    previous = tile.definition.value(cells.get(Cell(is_current=False), {}))
    return Number(
        metric=tile.tile.metric,
        value=value,
        previous=previous if scene.compares else None,
        change=change(value, previous) if scene.compares else None,
    )


def _draw_timeline(tile: BoardTile, scene: Scene, rank: Rank) -> Timeline:
    period = scene.view.period
    buckets = scene.buckets_us[tile.grain(period)].tolist()
    totals = _lines(tile, scene.facts[tile.whole(period)], buckets).get(None)
    totals = totals or _flat(tile, buckets)
    if tile.tile.by is None:
        metric = tile.definition.metric
        series = [Series(key=None, label=metric.label, rank=0, values=totals)]
    else:
        lines = _lines(tile, scene.facts[tile.parts(period)], buckets)
        series = _layers(tile, lines, totals, rank)
    return Timeline(
        metric=tile.tile.metric,
        by=tile.tile.by,
        grain=tile.grain(period),
        buckets_ms=[bucket // 1000 for bucket in buckets],
        totals=totals,
        series=series,
    )


def _lines(
    tile: BoardTile, cells: Cells, buckets: list[int]
) -> dict[str | None, list[Value | None]]:
    """One value a bucket for each value of the dimension."""
    places = {bucket: index for index, bucket in enumerate(buckets)}
    lines: dict[str | None, list[Value | None]] = {}
    for cell, measures in cells.items():
        place = places.get(cell.bucket_us) if cell.bucket_us is not None else None
        if place is not None and cell.is_current:
            line = lines.setdefault(cell.value, _flat(tile, buckets))
            line[place] = tile.definition.value(measures)
    return lines


def _flat(tile: BoardTile, buckets: list[int]) -> list[Value | None]:
    return [tile.definition.value({})] * len(buckets)


def _layers(
    tile: BoardTile,
    lines: Mapping[str | None, list[Value | None]],
    totals: list[Value | None],
    rank: Rank,
) -> list[Series]:
    """The greatest layers in order of rank; the others as one, where they can be added."""
    sizes = {value: sum(float(v) for v in line if v is not None) for value, line in lines.items()}
    by_size = sorted(lines, key=lambda value: (-sizes[value], rank(value)))
    drawn = sorted(by_size[:SERIES_MAX], key=rank)
    series = [
        Series(key=token(value), label=label_of(value), rank=rank(value), values=lines[value])
        for value in drawn
    ]
    if len(by_size) > SERIES_MAX and tile.definition.is_additive:
        rest = [
            sum((line or 0) for value in by_size[SERIES_MAX:] if (line := lines[value][place]))
            for place in range(len(totals))
        ]
        series.append(Series(key=None, label=_OTHER_LABEL, rank=_OTHER_RANK, values=[*rest]))
    return series


def _draw_bars(tile: BoardTile, scene: Scene, rank: Rank) -> Bars:
    period = scene.view.period
    cells = scene.facts[tile.parts(period)]
    whole = scene.facts[tile.whole(period)].get(Cell(is_current=True), {})
    whole_value = None if tile.definition.is_ratio else tile.definition.value(whole)
    chosen = scene.view.filter(tile.tile.by or "")
    selected = set(chosen.values) if chosen else set()

    def bar(value: str | None) -> Bar:
        current = tile.definition.value(cells.get(Cell(is_current=True, value=value), {}))
        before = tile.definition.value(cells.get(Cell(is_current=False, value=value), {}))
        return Bar(
            key=token(value),
            label=label_of(value),
            rank=rank(value),
            value=current,
            share=_share(current, whole_value),
            previous=before if scene.compares else None,
            change=change(current, before) if scene.compares else None,
            selected=value in selected,
        )

    values = {cell.value for cell in cells} | selected
    rows = sorted(map(bar, values), key=lambda row: (_order(row.value), row.label))
    shown = [row for place, row in enumerate(rows) if place < BARS_MAX or row.selected]
    hidden = [row for place, row in enumerate(rows) if place >= BARS_MAX and not row.selected]
    if hidden and tile.definition.is_additive:
        shown.append(_rest(hidden, whole_value, compares=scene.compares))
    return Bars(metric=tile.tile.metric, by=tile.tile.by or "", rows=shown, left_out=len(hidden))


def _rest(hidden: list[Bar], whole: Value | None, *, compares: bool) -> Bar:
    value = sum(row.value or 0 for row in hidden)
    previous = sum(row.previous or 0 for row in hidden)
    return Bar(
        key=None,
        label=_OTHER_LABEL,
        rank=_OTHER_RANK,
        value=value,
        share=_share(value, whole),
        previous=previous if compares else None,
        change=change(value, previous) if compares else None,
    )


def _order(value: Value | None) -> float:
    return float("inf") if value is None else -float(value)


def _share(part: Value | None, whole: Value | None) -> float | None:
    if part is None or not whole:
        return None
    return round(float(part) / float(whole), 6)
