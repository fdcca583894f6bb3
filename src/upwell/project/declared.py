"""Everything a project declares, each value with the place it was read from.

This is what lies between the files and the finished ``Project``: the checks need to say where a
wrong name stands, the finished values need not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from upwell.project.document import Document, Place
from upwell.project.settings import Settings
from upwell.project.values import Dashboard, Metric, Model, RequirementsFile, SemanticModel

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Declared(Generic[T_co]):
    """A value and where it stands in its file."""

    value: T_co
    document: Document
    place: Place = ()

    def where(self, *inside: str | int) -> str:
        """``file:line`` of the value, or of a place inside it."""
        return self.document.where(*self.place, *inside)


@dataclass(frozen=True, slots=True)
class Declarations:
    """What could be read of a project. ``settings`` is None where that file does not hold.

    ``broken`` names the folders of which a file could not be read: a name that is missing may stand
    in there, so that no check calls it unknown.
    """

    settings: Declared[Settings] | None = None
    models: Mapping[str, Declared[Model]] = field(default_factory=dict)
    semantic_models: Mapping[str, Declared[SemanticModel]] = field(default_factory=dict)
    metrics: Mapping[str, Declared[Metric]] = field(default_factory=dict)
    dashboards: Mapping[str, Declared[Dashboard]] = field(default_factory=dict)
    requirements: Mapping[str, Declared[RequirementsFile]] = field(default_factory=dict)
    broken: frozenset[str] = frozenset()
