"""Whether every tile of every dashboard can be drawn.

Invariant: on a dashboard without problems, each tile's metric exists, can be split as the tile
asks, and answers to every filter of the page; otherwise a filter would change some numbers and
leave others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import get_args

from upwell.core.errors import ProjectError
from upwell.project.declared import Declarations, Declared
from upwell.project.problems import problem, unknown_name
from upwell.project.values import Dashboard, Grain, Granularity, RatioMetric, SemanticModel, Tile

_GRANULARITIES = get_args(Granularity)  # from the finest to the coarsest; every grain is one


def check_dashboards(declared: Declarations) -> Iterator[ProjectError]:
    """Periods hold together, and every tile and filter fits its metric."""
    for board in declared.dashboards.values():
        yield from _check_period(board)
        for index, tile in enumerate(board.value.tiles):
            yield from _check_shape(board, index, tile)
            yield from _check_grain(board, index, tile)
        if "metrics" not in declared.broken:
            yield from _check_metrics(board, declared)


def semantic_models_of(metric: str, declared: Declarations) -> list[SemanticModel]:
    """The semantic models that a metric draws on: one, or two for some ratios; none if unknown."""
    item = declared.metrics.get(metric)
    if item is None:
        return []
    if isinstance(item.value, RatioMetric):
        parts = item.value.type_params
        found = [
            model
            for part in (parts.numerator, parts.denominator)
            if part != metric and not _is_ratio(part, declared)
            for model in semantic_models_of(part, declared)
        ]
        return list({model.name: model for model in found}.values())
    measure = item.value.type_params.measure
    return [
        semantic.value
        for semantic in declared.semantic_models.values()
        if any(each.name == measure for each in semantic.value.measures)
    ]


def _is_ratio(metric: str, declared: Declarations) -> bool:
    item = declared.metrics.get(metric)
    return item is not None and isinstance(item.value, RatioMetric)


def _check_period(board: Declared[Dashboard]) -> Iterator[ProjectError]:
    period = board.value.period
    if period.default not in period.choices:
        where = board.where("period", "default")
        yield unknown_name("period", period.default, period.choices, where, owner="the dashboard")
    for part, names in (("choices", period.choices), ("filters", board.value.filters)):
        for index, name in enumerate(names):
            if name in names[:index]:
                place = ("period", part, index) if part == "choices" else (part, index)
                yield problem(
                    "project_name_taken",
                    f"`{name}` is listed twice",
                    where=board.where(*place),
                    next_step="keep one of the two",
                )


def _check_shape(board: Declared[Dashboard], index: int, tile: Tile) -> Iterator[ProjectError]:
    """``as`` fits what ``by`` and ``over`` ask for."""
    has = (tile.by is not None, tile.over is not None)
    wanted, step = {
        None: (has, ""),
        "number": ((False, False), "remove `by` and `over`, or take another form"),
        "ranked_bars": ((True, False), "give it `by` and no `over`, or take another form"),
        "stacked_area": ((True, True), "give it both `by` and `over: time`, or take another form"),
    }[tile.show]
    if has != wanted:
        given = {
            (False, False): "without `by` and `over`",
            (True, False): "with `by` alone",
            (False, True): "with `over` alone",
            (True, True): "with `by` and `over`",
        }[has]
        yield problem(
            "project_mismatch",
            f"`as: {tile.show}` does not fit a tile {given}",
            where=board.where("tiles", index, "as"),
            next_step=step,
        )


def _check_grain(board: Declared[Dashboard], index: int, tile: Tile) -> Iterator[ProjectError]:
    if tile.grain and tile.over is None:
        yield problem(
            "project_mismatch",
            "`grain` says what a point of a timeline covers, and this tile has no timeline",
            where=board.where("tiles", index, "grain"),
            next_step="add `over: time` or remove `grain`",
        )
    for period in tile.grain:
        if period not in board.value.period.choices:
            where = board.where("tiles", index, "grain", period)
            choices = board.value.period.choices
            yield unknown_name("period", period, choices, where, owner="the dashboard")


def _check_metrics(board: Declared[Dashboard], declared: Declarations) -> Iterator[ProjectError]:
    for index, tile in enumerate(board.value.tiles):
        if tile.metric not in declared.metrics:
            where = board.where("tiles", index, "metric")
            yield unknown_name("metric", tile.metric, declared.metrics, where)
            continue
        semantic_models = semantic_models_of(tile.metric, declared)
        if not semantic_models:
            continue  # the metric itself is the problem, and is reported where it stands
        if tile.by is not None and tile.by not in (known := _categorical(semantic_models)):
            yield unknown_name(
                "categorical dimension",
                tile.by,
                known,
                board.where("tiles", index, "by"),
                owner=f"metric `{tile.metric}`",
            )
        yield from _check_time(board, index, tile, semantic_models)
    yield from _check_filters(board, declared)


def _check_filters(board: Declared[Dashboard], declared: Declarations) -> Iterator[ProjectError]:
    """One problem a filter: the first metric that it does not fit."""
    metrics = dict.fromkeys(tile.metric for tile in board.value.tiles)
    for index, name in enumerate(board.value.filters):
        for metric in metrics:
            semantic_models = semantic_models_of(metric, declared)
            known = _categorical(semantic_models)
            if semantic_models and name not in known:
                yield unknown_name(
                    "categorical dimension",
                    name,
                    known,
                    board.where("filters", index),
                    owner=f"metric `{metric}`",
                )
                break


def _check_time(
    board: Declared[Dashboard], index: int, tile: Tile, semantic_models: Sequence[SemanticModel]
) -> Iterator[ProjectError]:
    """No point of a timeline is finer than the times it is made of."""
    for semantic in semantic_models:
        name = semantic.defaults.agg_time_dimension
        times = [each for each in semantic.dimensions if each.type == "time"]
        unit = next((each.granularity for each in times if each.name == name), None)
        for period, grain in tile.grain.items():
            if unit is not None and _is_coarser(unit, grain):
                yield problem(
                    "project_mismatch",
                    f"time dimension `{name}` is only known to the {unit}, not to the {grain}",
                    where=board.where("tiles", index, "grain", period),
                    next_step=f"take a coarser grain, or give `{name}` its true time_granularity",
                )


def _is_coarser(unit: Granularity, grain: Grain) -> bool:
    return _GRANULARITIES.index(unit) > _GRANULARITIES.index(grain)


def _categorical(semantic_models: Sequence[SemanticModel]) -> list[str]:
    """The categorical dimensions that all of these have."""
    each = [
        {dimension.name for dimension in model.dimensions if dimension.type == "categorical"}
        for model in semantic_models
    ]
    return sorted(set.intersection(*each)) if each else []
