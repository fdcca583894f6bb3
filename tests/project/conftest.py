"""The shop's project in a folder of its own, to be read as it is or spoilt first."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from upwell.core.errors import ProjectError
from upwell.project.problems import ProjectErrors
from upwell.project.read import read_project
from upwell.project.values import Project

ENVIRONMENT = {"SHOP_URL": "postgresql://reader:hunter2@localhost/shop"}


@dataclass(frozen=True)
class Shop:
    """A project folder in the making."""

    folder: Path

    def write(self, file: str, content: str | bytes) -> None:
        """Put a file there, or in place of another."""
        path = self.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def replace(self, file: str, old: str, new: str) -> None:
        """Change a piece of text that is there exactly once."""
        text = (self.folder / file).read_text()
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {file}"
        self.write(file, text.replace(old, new))

    def read(self) -> Project:
        return read_project(self.folder, environment=ENVIRONMENT)

    def problems(self) -> list[ProjectError]:
        """Everything that is wrong; at least one thing must be."""
        with pytest.raises(ProjectErrors) as caught:
            self.read()
        return list(caught.value.problems)

    def problem(self) -> ProjectError:
        """The one thing that is wrong."""
        (only,) = self.problems()
        return only


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    folder = tmp_path / "shop"
    shutil.copytree(Path(__file__).parent / "shop", folder)
    return Shop(folder)
