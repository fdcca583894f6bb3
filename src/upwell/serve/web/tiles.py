"""What each kind of tile shows of the facts: a number, a timeline, ranked bars.

Invariant: parts and whole agree. A timeline's layers add up to its totals and a list's rows to its
whole, also where the smallest are drawn as one "Other"; where a metric has no such sum (distinct
counts, ratios), there is no "Other" and the whole is computed on its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from upwell.core.protocols import Int64s
from upwell.project.values import Grain, Tile
from upwell.serve.web.calendar import Calendar, Window
from upwell.serve.web.facts import Cell, Cells, Cut
from upwell.serve.web.metrics import Definition, time_dimension
from upwell.serve.web.metrics import Number as Value
from upwell.serve.web.payload import Bar, Bars, Number, Series, Timeline
from upwell.serve.web.period import GRAINS, POINTS_MAX, coarsest, parse_period
from upwell.serve.web.ranks import Rank
from upwell.serve.web.view import View, token

SERIES_MAX = 8
BARS_MAX = 12

_CROWDED_VALUES = 100
_OTHER_LABEL = "Other"
_OTHER_RANK = -1


@dataclass(frozen=True, slots=True)
class BoardTile:
    """A tile of a dashboard, with its metric looked up.

    ``grain`` is what one point of a timeline covers, once it is known what is looked at
    (``settled``); ``asked`` the finer one that the dashboard names, where that had too many points.
    ``is_crowded``: of a timeline, that its dimension has so many values that all of them over time
    would be far more than what is drawn.
    """

    tile: Tile
    definition: Definition
    grain: Grain | None = None
    asked: Grain | None = None
    is_crowded: bool = False

    @property
    def kind(self) -> str:
        """``number``, ``timeline`` or ``bars``."""
        if self.tile.over:
            return "timeline"
        return "bars" if self.tile.by else "number"

    @property
    def lines(self) -> Cut:
        """The cut that a timeline draws."""
        return Cut(by=self.tile.by, over=self.grain)

    @property
    def parts(self) -> Cut:
        """The cut that is drawn; of a crowded timeline, the one that says which lines will be."""
        by = self.tile.by
        if self.kind != "timeline":
            return Cut(by=by, ignores=by)
        return Cut(by=by) if self.is_crowded else self.lines

    @property
    def whole(self) -> Cut:
        """The cut that the parts are parts of."""
        return replace(self.parts, by=None, over=self.grain)


def settled(
    tile: BoardTile, period: str, window: Window, calendar: Calendar, rank: Rank
) -> BoardTile:
    """The tile with its grain for one period, as its window stands.

    The grain is the one the dashboard names, else the usual one, but never finer than the times
    themselves are known; and a coarser one where there would be more than ``POINTS_MAX`` points.
    """
    if tile.kind != "timeline":
        return tile
    asked = tile.tile.grain.get(period)
    days = len(calendar.buckets(window.current, "day"))
    wanted = asked or coarsest(parse_period(period).usual_grain(days), *_known_to(tile))
    grain = calendar.fitting(window.current, wanted, POINTS_MAX)
    return replace(
        tile,
        grain=grain,
        asked=asked if grain != asked else None,
        is_crowded=rank.count > _CROWDED_VALUES,
    )


def _known_to(tile: BoardTile) -> list[Grain]:
    """To which grain the times of the tile's metric are known, where a second is not."""
    units = {time_dimension(model).granularity for model in tile.definition.models}
    return [grain for grain in GRAINS if grain in units]


@dataclass(frozen=True, slots=True)
class Scene:
    """All that the tiles of one view are drawn from.

    ``running_us``: when that bucket of each grain began which holds now.
    """

    view: View
    facts: Mapping[Cut, Cells]
    buckets_us: Mapping[Grain, Int64s]
    running_us: Mapping[Grain, int]
    compares: bool


def greatest(tile: BoardTile, scene: Scene, rank: Rank) -> tuple[str | None, ...]:
    """The values of a crowded timeline's dimension that it has room for, greatest first."""
    sizes = {
        cell.value: float(tile.definition.value(measures) or 0)
        for cell, measures in scene.facts[tile.parts].items()
        if cell.is_current
    }
    return tuple(sorted(sizes, key=lambda value: (-sizes[value], rank.of(value)))[:SERIES_MAX])


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
    cells = scene.facts[tile.whole]
    value = tile.definition.value(cells.get(Cell(is_current=True), {}))
    previous = tile.definition.value(cells.get(Cell(is_current=False), {}))
    return Number(
        metric=tile.tile.metric,
        value=value,
        previous=previous if scene.compares else None,
        change=change(value, previous) if scene.compares else None,
    )


def _draw_timeline(tile: BoardTile, scene: Scene, rank: Rank) -> Timeline:
    assert tile.grain is not None  # noqa: S101 - a timeline is settled before it is drawn
    buckets = scene.buckets_us[tile.grain].tolist()
    totals = _lines(tile, scene.facts[tile.whole], buckets).get(None)
    totals = totals or _flat(tile, buckets)
    if tile.tile.by is None:
        metric = tile.definition.metric
        series = [Series(key=None, label=metric.label, rank=0, values=totals)]
    else:
        lines = _lines(tile, scene.facts[tile.lines], buckets)
        series = _layers(tile, lines, totals, rank)
    return Timeline(
        metric=tile.tile.metric,
        by=tile.tile.by,
        grain=tile.grain,
        asked=tile.asked,
        is_running=buckets[-1] == scene.running_us[tile.grain],
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
    by_size = sorted(lines, key=lambda value: (-sizes[value], rank.of(value)))
    drawn = sorted(by_size[:SERIES_MAX], key=rank.of)
    series = [
        Series(key=token(value), label=label_of(value), rank=rank.of(value), values=lines[value])
        for value in drawn
    ]
    if len(by_size) >= SERIES_MAX and tile.definition.is_additive:
        rest = _others(tile, [lines[value] for value in by_size], totals)
        if any(rest) or len(by_size) > SERIES_MAX:
            series.append(Series(key=None, label=_OTHER_LABEL, rank=_OTHER_RANK, values=[*rest]))
    return series


def _others(
    tile: BoardTile, lines: Sequence[list[Value | None]], totals: list[Value | None]
) -> list[Value]:
    """What the lines that are not drawn, the smallest, add up to in each bucket."""
    if not tile.is_crowded:
        return [
            sum(line[place] or 0 for line in lines[SERIES_MAX:]) for place in range(len(totals))
        ]
    drawn = (sum(line[place] or 0 for line in lines) for place in range(len(totals)))
    return [_difference(total or 0, part) for total, part in zip(totals, drawn, strict=True)]


def _difference(whole: Value, part: Value) -> Value:
    """Without the crumbs that differences of floats leave, which would be drawn as something."""
    if isinstance(whole, float) or isinstance(part, float):
        return round(float(whole) - float(part), 9) + 0.0
    return whole - part


def _draw_bars(tile: BoardTile, scene: Scene, rank: Rank) -> Bars:
    cells = scene.facts[tile.parts]
    whole = scene.facts[tile.whole].get(Cell(is_current=True), {})
    whole_value = None if tile.definition.is_ratio else tile.definition.value(whole)
    chosen = scene.view.filter(tile.tile.by or "")
    selected = set(chosen.values) if chosen else set()

    def bar(value: str | None) -> Bar:
        current = tile.definition.value(cells.get(Cell(is_current=True, value=value), {}))
        before = tile.definition.value(cells.get(Cell(is_current=False, value=value), {}))
        return Bar(
            key=token(value),
            label=label_of(value),
            rank=rank.of(value),
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
