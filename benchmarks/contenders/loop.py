"""One contender's process: it is told what to do line by line, and answers with what it took.

Commands and answers are JSON, one a line: ``start`` with the folder of the base tables, ``refresh``
with the folder of a batch, ``export`` with a folder to write both models to. What libraries print
goes to standard error, so that answers stay readable.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

Changes = Mapping[str, pa.Table]
"""By table: the changed rows and a column ``operation``: insert, update or delete."""


class Contender(Protocol):
    """A system over the base tables with both models in it, made in a folder of its own."""

    def start(self, base: Path) -> None:
        """Load the base tables, Parquet files in ``base``, and compute both models."""
        ...

    def take_in(self, changes: Changes) -> None:
        """Have the base tables follow; a system that refreshes as it writes does so here."""
        ...

    def refresh(self) -> None:
        """Have both models follow. When it returns, whoever reads them sees the batch."""
        ...

    def export(self, to: Path) -> None:
        """Write ``fact.parquet`` and ``hourly.parquet``."""
        ...

    def cpu_seconds(self) -> float:
        """Processor time so far, of all processes that belong to it."""
        ...


def serve(contender: Contender) -> None:
    """Answer commands until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        answers.write(json.dumps(_answer(contender, **json.loads(line))) + "\n")


def _answer(contender: Contender, *, do: str, folder: str) -> dict[str, Any]:
    match do:
        case "start":
            begun = time.perf_counter()
            contender.start(Path(folder))
            return {"seconds": time.perf_counter() - begun}
        case "refresh":
            return _refresh(contender, read_changes(Path(folder)))
        case _:
            contender.export(Path(folder))
            return {}


def _refresh(contender: Contender, changes: Changes) -> dict[str, float]:
    cpu, begun = contender.cpu_seconds(), time.perf_counter()
    contender.take_in(changes)
    taken_in = time.perf_counter()
    contender.refresh()
    fresh = time.perf_counter()
    return {
        "take_in_ms": (taken_in - begun) * 1e3,
        "refresh_ms": (fresh - taken_in) * 1e3,
        "cpu_ms": (contender.cpu_seconds() - cpu) * 1e3,
    }


def read_changes(folder: Path) -> Changes:
    return {file.stem: pq.read_table(file) for file in sorted(folder.glob("*.parquet"))}


if __name__ == "__main__":
    name, own_folder, *options = sys.argv[1:]
    module = importlib.import_module(f"benchmarks.contenders.{name}")
    serve(module.Contender(Path(own_folder), *options))
