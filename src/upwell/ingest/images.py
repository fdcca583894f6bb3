"""The chain of images of every row that a batch touches.

For each touched row: its image before the batch, from the current table, then one image a change,
in source order. Each image knows the change that ended it, or is its row's last. Values the source
did not send because they did not change are filled from the image before; where there is none, the
change is *unfilled*, and storing it would invent data.

Images are numbered: those before the batch first, then one for each change. The chain is made of
such numbers, in NumPy; values move only where they are filled and where images are taken out.

Invariant: what the log takes in sums up to the net change. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from upwell.core.batch import add, consolidate, from_rows
from upwell.core.protocols import Bools, Int64s, Operation

#: In ``Images.ended_by``: nothing in the batch ended it.
STAYS = -1


@dataclass(frozen=True, slots=True)
class Touched:
    """The rows that a batch touches, by numbers that tell them apart.

    ``before``: their images as they were, ``row_before`` whose each is. ``row_after``: whose the
    image of each change is. A row has several images of before only where a key move is taken in
    again; the last of them is what unchanged values are filled from.
    """

    before: pa.Table
    row_before: Int64s
    row_after: Int64s


@dataclass(frozen=True, slots=True)
class Images:
    """Images by number, filled, and what became of each.

    ``rows``: the first ``before`` are of before the batch, then one a change. ``is_row``: False for
    what a DELETE leaves. ``ended_by``: the change that ended it, or ``STAYS``.
    ``unfilled``: changes that leave out values of rows nothing is known of.
    """

    rows: pa.Table
    before: int
    is_row: Bools
    ended_by: Int64s
    unfilled: Int64s


@dataclass(frozen=True, slots=True)
class LogRows:
    """What the change log takes in: an image, the change that let it begin (+1) or end (-1)."""

    rows: pa.Table
    change: Int64s
    weight: Int64s


def chain_images(
    touched: Touched,
    after: pa.Table,
    operations: npt.NDArray[np.int8],
    unchanged: Mapping[str, Bools],
) -> Images:
    """Chain the images of before and ``after``, in which every change has one.

    ``unchanged`` marks, by column, the values of ``after`` that were not sent.
    """
    before = touched.before.num_rows
    rows = np.concatenate([touched.row_before, touched.row_after])
    order = np.argsort(rows, kind="stable")  # by row, and in time: images are numbered so
    begins = np.flatnonzero(np.diff(rows[order], prepend=-1))
    lengths = np.diff(begins, append=len(rows))
    row_begins, row_ends = np.repeat(begins, lengths), np.repeat(begins + lengths, lengths)

    ended_by = np.empty(len(rows), np.int64)
    ended_by[order] = _ends(order, row_ends, before)
    there = np.ones(before, np.bool_)
    is_row = np.concatenate([there, operations != Operation.DELETE])
    is_unfilled = np.zeros(len(rows), np.bool_)
    table = pa.concat_tables([touched.before, after])
    for name, is_left_out in unchanged.items():
        # What a DELETE leaves ends what is known, also where a row was refused or left the table.
        is_known = np.concatenate([there, ~is_left_out]) | ~is_row
        last = _last_known(is_known[order], row_begins)
        is_lost = (last < 0) | ~is_row[order[last]]
        is_unfilled[order] |= is_lost
        source = np.empty(len(rows), np.int64)
        source[order] = np.where(is_lost, order, order[last])
        index = table.column_names.index(name)
        values = table.column(index).take(pa.array(source))
        table = table.set_column(index, table.schema.field(index), values)
    unfilled = np.flatnonzero((is_unfilled & is_row)[before:])
    return Images(table, before, is_row, ended_by, unfilled)


def _ends(order: Int64s, row_ends: Int64s, before: int) -> Int64s:
    """For each place in ``order``: the first change behind it of the same row, or ``STAYS``.

    Not merely the next image: of several of before, all end with the same change.
    """
    count = len(order)
    changes = np.where(order >= before, np.arange(count), count)
    behind = np.append(np.minimum.accumulate(changes[::-1])[::-1][1:], count)
    has_end = behind < row_ends
    ends = np.full(count, STAYS, np.int64)
    ends[has_end] = order[behind[has_end]] - before
    return ends


def _last_known(is_known: Bools, row_begins: Int64s) -> Int64s:
    """For each place: the last known one of its row up to it, or -1."""
    last = np.maximum.accumulate(np.where(is_known, np.arange(len(is_known)), -1))
    return np.where(last < row_begins, -1, last)


def log_rows(images: Images) -> LogRows:
    """Each image enters the log at +1 and leaves it at -1 with the change that ended it.

    In source order; of a change, what ends before what begins.
    """
    begun = np.flatnonzero(images.is_row[images.before :])
    ended = np.flatnonzero(images.is_row & (images.ended_by != STAYS))
    image = np.concatenate([begun + images.before, ended])
    change = np.concatenate([begun, images.ended_by[ended]])
    weight = np.repeat(np.array([1, -1], np.int64), [len(begun), len(ended)])
    order = np.lexsort((weight, change))
    return LogRows(images.rows.take(pa.array(image[order])), change[order], weight[order])


def net_change(images: Images) -> pa.Table:
    """First image out, last image in, for every touched row: a consolidated change batch.

    No image of before stays: its row is touched.
    """
    first = from_rows(images.rows.slice(0, images.before), -1)
    return consolidate(add([first, from_rows(last_images(images))]))


def last_images(images: Images) -> pa.Table:
    """The rows that touched rows are in the end."""
    stays = images.is_row & (images.ended_by == STAYS)
    return images.rows.filter(pa.array(stays))
