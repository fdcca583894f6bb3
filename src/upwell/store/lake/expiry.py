"""Old snapshots leave the metadata, so that a commit costs the same on any day.

Only the metadata forgets them. Their files stay until they are swept (``sweep.py``), so whoever
reads an old snapshot may finish. What a branch or a tag names is never forgotten.
"""

from __future__ import annotations

from pyiceberg.table.refs import MAIN_BRANCH

from upwell.store.lake.tables import LakeTable

#: Snapshots that a table keeps: ten minutes of rounds.
KEPT = 20


def forgettable(table: LakeTable, kept: int = KEPT) -> tuple[int, ...]:
    """The snapshots that the next commit may forget, so that ``kept`` are left after it."""
    references = table.metadata.refs.items()
    named = {each.snapshot_id for name, each in references if name != MAIN_BRANCH}
    excess = len(table.snapshots) + 1 - kept
    oldest = [each.snapshot_id for each in table.snapshots[: max(excess, 0)]]
    return tuple(each for each in oldest if each not in named)
