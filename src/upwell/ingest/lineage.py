"""Which changes of a batch concern the same row, when keys move.

Within a batch a row is followed by its key. An UPDATE that moves a key breaks that: the row goes on
under another key, and its old key may be taken by a new row. A *lineage* is a row's life inside one
batch; ``start_keys`` says under which key its image before the batch is found, if it had one.

Keys are the numbers that stand for them (``keys.py``). Only batches with a key move come here, so a
loop over keys is affordable. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from upwell.core.protocols import Int64s


@dataclass(frozen=True, slots=True)
class Lineages:
    """``of_change[i]`` is change i's lineage; ``start_lineages[j]`` began as ``start_keys[j]``.

    Every key of the batch, before or after a change, is a start key once. Of several of one lineage
    the first is that of its row; what stood under the others ended when the row moved there.
    """

    of_change: Int64s
    start_lineages: Int64s
    start_keys: Int64s


def trace_lineages(keys: Sequence[int], old_keys: Mapping[int, int]) -> Lineages:
    """Follow rows through key moves.

    ``keys[i]`` is the key after change i; ``old_keys[i]`` the key before it, where they differ. A
    row made anew under the key of a deleted one goes on in its lineage.
    """
    owner: dict[int, int] = {}
    seen: set[int] = set()
    start_lineages: list[int] = []
    start_keys: list[int] = []
    of_change = np.empty(len(keys), np.int64)
    lineages = 0
    for index, key in enumerate(keys):
        before = old_keys.get(index, key)
        lineage = owner.pop(before, None)
        if lineage is None:
            lineage = lineages
            lineages += 1
            if before not in seen:
                start_lineages.append(lineage)
                start_keys.append(before)
        if key != before and key not in seen:
            # Nothing is there, unless this move was taken in before: then it ends here.
            start_lineages.append(lineage)
            start_keys.append(key)
        seen.update((before, key))
        owner[key] = lineage
        of_change[index] = lineage
    starts = np.array([start_lineages, start_keys], np.int64)
    return Lineages(of_change, *starts)
