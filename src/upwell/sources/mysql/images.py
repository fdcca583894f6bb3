"""Row images of many events walked together.

An event holds images one behind the other, and where one begins follows from where the one before
it ends. So the first images of all events are walked together, then the second ones, and so on:
events are small (8 kB unless a row is longer), so the walk is as long as the longest event has
rows, however many events there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from upwell.core.protocols import Bools, Int64s
from upwell.sources.mysql.views import LittleViews
from upwell.sources.mysql.wires import Wire
from upwell.sources.postgres.frames import corrupt

_NO_BYTES = np.empty(0, np.uint8)


@dataclass(frozen=True, slots=True)
class Values:
    """Where a column's values lie: start and length of each, and which are there."""

    starts: Int64s
    lengths: Int64s
    present: Bools

    def where(self, rows: Bools | Int64s) -> Values:
        """The values of some rows."""
        return Values(self.starts[rows], self.lengths[rows], self.present[rows])


@dataclass(frozen=True, slots=True)
class Images:
    """Row images in the log's order: the event each is of, and where each column's value lies."""

    event: Int64s
    columns: Sequence[Values]


def walk(views: LittleViews, wires: Sequence[Wire], starts: Int64s, ends: Int64s) -> Images:
    """All images of the events whose rows lie from ``starts`` to ``ends``."""
    active = np.flatnonzero(starts < ends)
    places = starts[active]
    events: list[Int64s] = []
    begins: list[Int64s] = []
    steps: list[list[Values]] = []
    while len(active):
        limits = ends[active]
        columns, behind = _images(views, wires, places, limits)
        events.append(active)
        begins.append(places)
        steps.append(columns)
        goes_on = behind < limits
        active, places = active[goes_on], behind[goes_on]
    if not steps:
        nothing = Values(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.bool_))
        return Images(np.empty(0, np.int64), [nothing] * len(wires))
    if len(steps) == 1:
        return Images(events[0], steps[0])
    order = np.argsort(np.concatenate(begins), kind="stable")
    return Images(
        np.concatenate(events)[order],
        [
            Values(
                np.concatenate([step[at].starts for step in steps])[order],
                np.concatenate([step[at].lengths for step in steps])[order],
                np.concatenate([step[at].present for step in steps])[order],
            )
            for at in range(len(wires))
        ],
    )


def _images(
    views: LittleViews, wires: Sequence[Wire], places: Int64s, limits: Int64s
) -> tuple[list[Values], Int64s]:
    """One image of each event: its columns, and where it ends."""
    at = places + (len(wires) + 7) // 8
    if (at > limits).any():
        corrupt("a row that ends before its first column")
    columns: list[Values] = []
    all_present = np.ones(len(places), np.bool_)
    flags, is_any_null = _NO_BYTES, False
    for index, wire in enumerate(wires):
        if index % 8 == 0:
            flags = views.bytes[places + index // 8]
            is_any_null = bool(flags.any())
        present = all_present
        if is_any_null:
            present = (flags & (1 << index % 8)) == 0
        is_full = present is all_present or bool(present.all())
        if wire.width:
            lengths = np.full(len(places), wire.width, np.int64)
            starts = at
        else:
            if (at + wire.prefix > limits)[present].any():
                corrupt("a row that ends before its last column")
            lengths = _lengths(views, at if is_full else np.where(present, at, 0), wire.prefix)
            starts = at + wire.prefix
        if is_full:
            at = starts + lengths
        else:
            lengths = np.where(present, lengths, 0)
            starts = np.where(present, starts, at)
            at = starts + lengths
        if (at > limits).any():
            corrupt("a value longer than its row")
        columns.append(Values(starts, lengths, present))
    return columns, at


def _lengths(views: LittleViews, places: Int64s, width: int) -> Int64s:
    if width == 1:
        return views.bytes[places].astype(np.int64)
    if width == 2:
        return views.u2[places].astype(np.int64)
    lengths = views.u4[places].astype(np.int64)
    return lengths & 0xFFFFFF if width == 3 else lengths
