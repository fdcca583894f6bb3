"""Lakes that the tests of readers share, one a module and place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.everything import EverythingLake


@pytest.fixture
def everything(tmp_path: Path) -> Iterator[EverythingLake]:
    """A lake in a folder, ``lake``, with nothing in its tables yet."""
    lake = EverythingLake(tmp_path)
    yield lake
    lake.close()
