"""From a view to its payload: which facts its tiles need, read once, and drawn.

Invariant: all tiles of a payload speak of one version and one window.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import duckdb
import numpy as np

from upwell.core.errors import Unavailable
from upwell.project.values import Dashboard, Project, SemanticModel
from upwell.serve.web.calendar import SECOND_US, Span, Window
from upwell.serve.web.facts import Cell, Cells, Cut, Held, next_arrival_us, read_facts, read_held
from upwell.serve.web.metrics import Number, define, dimension
from upwell.serve.web.payload import ActiveFilter, Payload, WindowTimes
from upwell.serve.web.period import parse_period
from upwell.serve.web.ranks import UNRANKED, Rank, Ranks
from upwell.serve.web.replica import Replica
from upwell.serve.web.tiles import BoardTile, Scene, draw, greatest, label_of, settled
from upwell.serve.web.view import Filter, View, token

_REFRESH_US = 30 * SECOND_US  # the period compared with moves along even when nothing happens


@dataclass(frozen=True, slots=True)
class Computed:
    """A payload, and when it is out of date even if nothing changes."""

    payload: Payload
    expires_at_us: int


class Boards:
    """All dashboards of a project over one replica. Safe to use from several threads."""

    def __init__(self, project: Project, replica: Replica) -> None:
        self.project = project
        self._replica = replica
        self._tiles = {name: board_tiles(project, name) for name in project.dashboards}
        self._ranks = Ranks(replica)

    def tables(self, dashboard: str) -> frozenset[str]:
        """The tables that a dashboard's numbers come from."""
        return frozenset(model.model for model in _models(self._tiles[dashboard]))

    def compute(self, view: View, now_us: int) -> Computed:
        """The view's numbers as of now. Raises Unavailable before all of it is there."""
        if self._replica.version is None:
            raise Unavailable(
                "no_data_yet",
                "the first data has not arrived yet",
                next_step="wait until the engine has loaded the source",
            )
        missing = sorted(self.tables(view.dashboard) - self._replica.tables)
        if missing:
            raise Unavailable(
                "not_there_yet",
                f"{', '.join(missing)} is not there yet",
                next_step="`upwell status` says what it waits for",
            )
        with self._replica.reader() as (connection, version):
            window, held = self._window(connection, view, now_us)
            shown = self._tiles[view.dashboard]
            ranks = [self._rank(connection, tile) for tile in shown]
            tiles = [
                settled(tile, view.period, window, self._replica.calendar, rank)
                for tile, rank in zip(shown, ranks, strict=True)
            ]
            facts = self._facts(connection, tiles, view.filters, window)
            scene = self._scene(view, tiles, facts, window, now_us)
            drawn = [
                draw(tile, self._narrowed(connection, tile, scene, rank, window), rank)
                for tile, rank in zip(tiles, ranks, strict=True)
            ]
            arrivals = [
                next_arrival_us(connection, model, now_us, now_us + _REFRESH_US)
                for model in _models(tiles)
            ]
        payload = Payload(
            dashboard=view.dashboard,
            version=version,
            period=view.period,
            zone=self.project.settings.time.zone,
            window=_times(window, held, now_us),
            filters=_active(view),
            tiles=drawn,
        )
        expires = [window.changes_at_us, now_us + _REFRESH_US, *filter(None, arrivals)]
        return Computed(payload, min(expires))

    def _window(
        self, connection: duckdb.DuckDBPyConnection, view: View, now_us: int
    ) -> tuple[Window, Held | None]:
        """The window of a view, without a previous one where nothing is compared.

        For ``all`` also what is held: whichever filters are set, so that they do not move the axis.
        """
        calendar = self._replica.calendar
        period = parse_period(view.period)
        if period.unit == "all":
            held = self._held(connection, view, now_us)
            return calendar.whole(held.span, now_us), held
        window = calendar.window(period, now_us)
        compares = self.project.dashboards[view.dashboard].compare is not None
        return window if compares else replace(window, previous=None), None

    def _held(self, connection: duckdb.DuckDBPyConnection, view: View, now_us: int) -> Held:
        """What all tables of a dashboard hold together, each by each time it is counted by."""
        models = {
            (model.model, model.defaults.agg_time_dimension): model
            for model in _models(self._tiles[view.dashboard])
        }
        begins_us = self._replica.calendar.span.start_us
        held = [read_held(connection, model, begins_us, now_us) for model in models.values()]
        spans = [each.span for each in held if each.span is not None]
        return Held(
            Span(min(each.start_us for each in spans), max(each.end_us for each in spans))
            if spans
            else None,
            sum(each.rows_left_out for each in held),
        )

    def _facts(
        self,
        connection: duckdb.DuckDBPyConnection,
        tiles: Iterable[BoardTile],
        filters: Sequence[Filter],
        window: Window,
    ) -> dict[Cut, Cells]:
        """The measures of all tiles by cut and cell, brought together over semantic models."""
        facts: dict[Cut, dict[Cell, dict[str, Number]]] = {}
        for model in _models(tiles):
            found = read_facts(
                connection,
                model,
                self._replica.schema(model.model),
                wanted=_wanted(tiles, model),
                filters=filters,
                window=window,
            )
            for cut, cells in found.items():
                together = facts.setdefault(cut, {})
                for cell, measures in cells.items():
                    together.setdefault(cell, {}).update(measures)
        return dict(facts)

    def _narrowed(
        self,
        connection: duckdb.DuckDBPyConnection,
        tile: BoardTile,
        scene: Scene,
        rank: Rank,
        window: Window,
    ) -> Scene:
        """The scene with the lines of a crowded timeline: of those values that it has room for."""
        by = tile.tile.by
        if not tile.is_crowded or by is None:
            return scene
        others = [each for each in scene.view.filters if each.dimension != by]
        among = Filter(by, greatest(tile, scene, rank))
        facts = self._facts(connection, [replace(tile, is_crowded=False)], [*others, among], window)
        return replace(scene, facts={**scene.facts, tile.lines: facts[tile.lines]})

    def _scene(
        self,
        view: View,
        tiles: Iterable[BoardTile],
        facts: Mapping[Cut, Cells],
        window: Window,
        now_us: int,
    ) -> Scene:
        calendar = self._replica.calendar
        grains = {tile.grain for tile in tiles if tile.grain}
        now = np.array([now_us])
        return Scene(
            view=view,
            facts=facts,
            buckets_us={grain: calendar.buckets(window.current, grain) for grain in grains},
            running_us={grain: int(calendar.starts(now, grain)[0]) for grain in grains},
            compares=window.previous is not None,
        )

    def _rank(self, connection: duckdb.DuckDBPyConnection, tile: BoardTile) -> Rank:
        by = tile.tile.by
        if by is None:
            return UNRANKED
        return self._ranks.rank(connection, tile.definition.models[0], by)


def board_tiles(project: Project, name: str) -> tuple[BoardTile, ...]:
    """The tiles of a dashboard with their metrics.

    Raises ProjectError for a metric or dimension that is not there: every tile must know the
    dimension it is split by and all that the dashboard filters by.
    """
    board: Dashboard = project.dashboards[name]
    where = f"dashboards/{name}.yaml"
    tiles = tuple(
        BoardTile(tile, define(project, tile.metric, where=where)) for tile in board.tiles
    )
    for tile in tiles:
        named = [*board.filters, *([tile.tile.by] if tile.tile.by else [])]
        for model in tile.definition.models:
            for each in named:
                dimension(model, each, where=f"{where}, metric {tile.tile.metric}")
    return tiles


def _models(tiles: Iterable[BoardTile]) -> list[SemanticModel]:
    """The semantic models behind the tiles, each once."""
    found = {model.name: model for tile in tiles for model in tile.definition.models}
    return list(found.values())


def _wanted(tiles: Iterable[BoardTile], model: SemanticModel) -> Mapping[Cut, set[str]]:
    """The cuts of one semantic model, each with the measures that are needed of it."""
    wanted: dict[Cut, set[str]] = {}
    for tile in tiles:
        for measure, owner in zip(tile.definition.measures, tile.definition.models, strict=True):
            if owner.name == model.name:
                for cut in (tile.parts, tile.whole):
                    wanted.setdefault(cut, set()).add(measure.name)
    return wanted


def _times(window: Window, held: Held | None, now_us: int) -> WindowTimes:
    previous = window.previous
    return WindowTimes(
        starts_ms=window.current.start_us // 1000,
        ends_ms=window.current.end_us // 1000,
        last_day_ms=window.last_day_us // 1000,
        is_running=window.current.end_us > now_us,
        previous_starts_ms=None if previous is None else previous.start_us // 1000,
        previous_ends_ms=None if previous is None else previous.end_us // 1000,
        is_empty=held is not None and held.span is None,
        rows_left_out=0 if held is None else held.rows_left_out,
    )


def _active(view: View) -> list[ActiveFilter]:
    return [
        ActiveFilter(dimension=each.dimension, key=token(value), label=label_of(value))
        for each in view.filters
        for value in each.values
    ]
