"""From a view to its payload: which facts its tiles need, read once, and drawn.

Invariant: all tiles of a payload speak of one version and one window.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import duckdb

from upwell.core.errors import Unavailable
from upwell.core.sql import quote_table
from upwell.project.values import Dashboard, Project, SemanticModel
from upwell.serve.web.calendar import SECOND_US, Window, parse_period
from upwell.serve.web.facts import Cell, Cells, Cut, next_arrival_us, read_facts
from upwell.serve.web.metrics import Number, define, dimension, expression
from upwell.serve.web.payload import ActiveFilter, Payload, WindowTimes
from upwell.serve.web.replica import Replica
from upwell.serve.web.tiles import BoardTile, Rank, Scene, draw, label_of
from upwell.serve.web.view import View, token

_REFRESH_US = 30 * SECOND_US  # the period compared with moves along even when nothing happens
_RANKED_VALUES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Computed:
    """A payload, and when it is out of date even if nothing changes."""

    payload: Payload
    expires_at_us: int


class Boards:
    """All dashboards of a project over one replica. Safe to use from several threads.

    The only state is the rank of dimension values: alphabetical when first asked, new values after
    them. It gives a category the same colour for as long as the process lives.
    """

    def __init__(self, project: Project, replica: Replica) -> None:
        self.project = project
        self._replica = replica
        self._tiles = {name: board_tiles(project, name) for name in project.dashboards}
        self._ranks: dict[tuple[str, str], dict[str | None, int]] = {}
        self._ranks_lock = threading.Lock()

    def tables(self, dashboard: str) -> frozenset[str]:
        """The tables that a dashboard's numbers come from."""
        return frozenset(model.model for model in _models(self._tiles[dashboard]))

    def compute(self, view: View, now_us: int) -> Computed:
        """The view's numbers as of now. Raises Unavailable before the first version."""
        if self._replica.version is None:
            raise Unavailable(
                "no_data_yet",
                "the first data has not arrived yet",
                next_step="wait until the engine has loaded the source",
            )
        tiles = self._tiles[view.dashboard]
        compares = self.project.dashboards[view.dashboard].compare is not None
        window = self._replica.calendar.window(parse_period(view.period), now_us)
        with self._replica.reader() as (connection, version):
            facts = self._facts(connection, view, window, compares=compares)
            ranks = [self._rank(connection, tile) for tile in tiles]
            arrivals = [
                next_arrival_us(connection, model, now_us, now_us + _REFRESH_US)
                for model in _models(tiles)
            ]
        buckets = self._replica.calendar.buckets
        grains = {tile.grain(view.period) for tile in tiles if tile.kind == "timeline"}
        scene = Scene(
            view=view,
            facts=facts,
            buckets_us={grain: buckets(window.current, grain) for grain in grains},
            compares=compares,
        )
        payload = Payload(
            dashboard=view.dashboard,
            version=version,
            period=view.period,
            zone=self.project.settings.time.zone,
            window=_times(window, compares=compares),
            filters=_active(view),
            tiles=[draw(tile, scene, rank) for tile, rank in zip(tiles, ranks, strict=True)],
        )
        expires = [window.changes_at_us, now_us + _REFRESH_US, *filter(None, arrivals)]
        return Computed(payload, min(expires))

    def _facts(
        self,
        connection: duckdb.DuckDBPyConnection,
        view: View,
        window: Window,
        *,
        compares: bool,
    ) -> dict[Cut, Cells]:
        """The measures of all tiles by cut and cell, brought together over semantic models."""
        facts: dict[Cut, dict[Cell, dict[str, Number]]] = {}
        tiles = self._tiles[view.dashboard]
        for model in _models(tiles):
            found = read_facts(
                connection,
                model,
                self._replica.schema(model.model),
                wanted=_wanted(tiles, model, view.period),
                filters=view.filters,
                window=window,
                compares=compares,
            )
            for cut, cells in found.items():
                together = facts.setdefault(cut, {})
                for cell, measures in cells.items():
                    together.setdefault(cell, {}).update(measures)
        return dict(facts)

    def _rank(self, connection: duckdb.DuckDBPyConnection, tile: BoardTile) -> Rank:
        """The stable order of the values of the tile's dimension."""
        by = tile.tile.by
        if by is None:
            return lambda _: 0
        model = tile.definition.models[0]
        with self._ranks_lock:
            ranks = self._ranks.get((model.name, by))
            if ranks is None:
                values = self._values(connection, model, by)
                ranks = {value: rank for rank, value in enumerate(values)}
                self._ranks[model.name, by] = ranks
        return self._appending(ranks)

    def _appending(self, ranks: dict[str | None, int]) -> Rank:
        def rank(value: str | None) -> int:
            with self._ranks_lock:
                return ranks.setdefault(value, len(ranks))

        return rank

    def _values(
        self, connection: duckdb.DuckDBPyConnection, model: SemanticModel, name: str
    ) -> Iterable[str | None]:
        where = f"semantic model {model.name}, dimension {name}"
        found = dimension(model, name, where=where)
        sql = expression(found.expr or name, self._replica.schema(model.model), where=where)
        rows = connection.execute(
            f"SELECT DISTINCT CAST({sql} AS VARCHAR) FROM {quote_table(model.model)} "
            f"ORDER BY 1 NULLS LAST LIMIT {_RANKED_VALUES_MAX}"
        ).fetchall()
        return [value for (value,) in rows]


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


def _wanted(
    tiles: Iterable[BoardTile], model: SemanticModel, period: str
) -> Mapping[Cut, set[str]]:
    """The cuts of one semantic model, each with the measures that are needed of it."""
    wanted: dict[Cut, set[str]] = {}
    for tile in tiles:
        for measure, owner in zip(tile.definition.measures, tile.definition.models, strict=True):
            if owner.name == model.name:
                for cut in (tile.parts(period), tile.whole(period)):
                    wanted.setdefault(cut, set()).add(measure.name)
    return wanted


def _times(window: Window, *, compares: bool) -> WindowTimes:
    return WindowTimes(
        starts_ms=window.current.start_us // 1000,
        ends_ms=window.current.end_us // 1000,
        previous_starts_ms=window.previous.start_us // 1000 if compares else None,
        previous_ends_ms=window.previous.end_us // 1000 if compares else None,
    )


def _active(view: View) -> list[ActiveFilter]:
    return [
        ActiveFilter(dimension=each.dimension, key=token(value), label=label_of(value))
        for each in view.filters
        for value in each.values
    ]
