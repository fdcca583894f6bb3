"""The HTML of a dashboard: its structure from the project, its first numbers inlined as data.

The server writes the frame (headings, tiles, definitions) and the page's script writes every number
in it, the first ones before anything is painted. Nothing is inline but data: the content security
policy forbids scripts and styles in the document.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jinja2
import msgspec

from upwell.core.errors import UpwellError
from upwell.project.values import Project
from upwell.serve.web.assets import Assets
from upwell.serve.web.board import board_tiles
from upwell.serve.web.metrics import Definition, dimension, formula
from upwell.serve.web.period import parse_period
from upwell.serve.web.tiles import BoardTile
from upwell.serve.web.view import View


@dataclass(frozen=True, slots=True)
class Heading:
    """What a reader learns of a metric when pointing at its name."""

    label: str
    description: str
    formula: str
    model: str


class Pages:
    """Renders the pages of a project."""

    def __init__(self, project: Project, assets: Assets) -> None:
        self._project = project
        self._environment = jinja2.Environment(
            loader=jinja2.PackageLoader("upwell.serve.web"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals.update(
            asset=assets.address,
            project=project.settings.name,
            boards=[(name, board.title) for name, board in project.dashboards.items()],
        )

    def board(self, view: View, payload_json: bytes | None) -> str:
        """The page of a view; without numbers while there are none yet."""
        board = self._project.dashboards[view.dashboard]
        tiles = board_tiles(self._project, view.dashboard)
        described = [self._describe(index, tile) for index, tile in enumerate(tiles)]
        return self._environment.get_template("board.html").render(
            board=board,
            name=view.dashboard,
            period=view.period,
            periods={text: parse_period(text) for text in board.period.choices},
            numbers=[each for each in described if each["kind"] == "number"],
            panels=[each for each in described if each["kind"] != "number"],
            setup=_inline(msgspec.json.encode(self._setup(view, tiles))),
            payload=_inline(payload_json or b"null"),
        )

    def fault(self, status: int, error: UpwellError) -> str:
        """The page that says what is wrong and what to do."""
        template = self._environment.get_template("fault.html")
        return template.render(status=status, what=error.what, next_step=error.next_step)

    def empty(self) -> str:
        """The page of a project without dashboards."""
        return self._environment.get_template("fault.html").render(
            status=None,
            what="This project has no dashboard yet",
            next_step="Write one in dashboards/ and start Upwell again: it appears here.",
        )

    def _describe(self, index: int, tile: BoardTile) -> dict[str, Any]:
        definition = tile.definition
        title = tile.tile.title or definition.metric.label
        if tile.tile.by and not tile.tile.title:
            title = f"{title} by {self._dimension_label(definition, tile.tile.by).lower()}"
        return {
            "index": index,
            "kind": tile.kind,
            "title": title,
            "heading": self._heading(definition),
        }

    def _heading(self, definition: Definition) -> Heading:
        labels = {name: metric.label for name, metric in self._project.metrics.items()}
        models = dict.fromkeys(model.model for model in definition.models)
        return Heading(
            label=definition.metric.label,
            description=definition.metric.description or definition.measures[0].description,
            formula=formula(definition, labels),
            model=", ".join(models),
        )

    def _dimension_label(self, definition: Definition, name: str) -> str:
        found = dimension(definition.models[0], name, where="")
        return found.label or name.replace("_", " ").capitalize()

    def _setup(self, view: View, tiles: tuple[BoardTile, ...]) -> dict[str, Any]:
        """What the script must know of the board beside its numbers."""
        board = self._project.dashboards[view.dashboard]
        named = [(name, tiles[0]) for name in board.filters]
        named += [(tile.tile.by, tile) for tile in tiles if tile.tile.by]
        return {
            "dashboard": view.dashboard,
            "title": board.title,
            "zone": self._project.settings.time.zone,
            "dayStarts": self._project.settings.time.day_starts,
            "weekStarts": self._project.settings.time.week_starts.capitalize(),
            "period": {"default": board.period.default, "choices": board.period.choices},
            "filters": board.filters,
            "dimensions": {
                name: self._dimension_label(tile.definition, name) for name, tile in named
            },
            "metrics": {
                tile.tile.metric: {
                    "label": tile.definition.metric.label,
                    "format": tile.definition.metric.meta.format,
                    "currency": tile.definition.metric.meta.currency,
                }
                for tile in tiles
            },
        }


def _inline(json: bytes) -> str:
    """JSON that stays data inside a script element, whatever text it holds."""
    text = json.decode()
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
