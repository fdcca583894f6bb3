"""Folders for a run, gone after it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def passing_folder() -> Iterator[Path]:
    """A folder that a database server may enter which root starts as somebody else.

    Otherwise the server would keep its data in a place of its own, and leave it there.
    """
    with tempfile.TemporaryDirectory(prefix="upwell-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
