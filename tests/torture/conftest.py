"""Shops to lay siege to: one that has just opened, and one with weeks of sales behind it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.running import ShopProject, release, shop_project
from upwell.demo.server import Server


@pytest.fixture
def shop(postgres: Server, tmp_path: Path) -> Iterator[ShopProject]:
    project = shop_project(postgres, tmp_path / "project")
    yield project
    release(project)


@pytest.fixture
def busy_shop(postgres: Server, tmp_path: Path) -> Iterator[ShopProject]:
    project = shop_project(postgres, tmp_path / "project", days_of_history=20)
    yield project
    release(project)
