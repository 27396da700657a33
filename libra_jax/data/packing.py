"""Packs rendered conversations into rows of one length, with segment ids that attention never crosses."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import numpy as np


def plan(sizes: Sequence[int], length: int) -> list[list[int]]:
    """Which examples share a row: best-fit packing, the largest first; equal sizes keep their order.

    ValueError for a size above `length`; cut the example or raise the length.
    """
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (free places, row), sorted
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        size = sizes[index]
        if size > length:
            raise ValueError(f"example {index} has {size} tokens, more than length={length}; "
                             "raise it or drop the example")
        at = bisect.bisect_left(room, (size, 0))
        if at == len(room):
            rows.append([])
            free, row = length, len(rows) - 1
        else:
            free, row = room.pop(at)
        rows[row].append(index)
        bisect.insort(room, (free - size, row))
    return rows


def pack(examples: Sequence[tuple[Sequence[int] | np.ndarray, Sequence[bool] | np.ndarray]], length: int
         ) -> dict[str, np.ndarray]:
    """Packs (tokens, loss_mask) pairs by `plan`.

    Returns int32 tokens, positions, segment_ids and bool loss_mask, all [rows, length]. Segment 0 is padding, segments
    of a row count from 1, positions from 0 in each.
    """
    rows = plan([len(tokens) for tokens, _ in examples], length)
    packed = empty(len(rows), length)
    for row, members in enumerate(rows):
        start = 0
        for segment, index in enumerate(members, 1):
            tokens, mask = examples[index]
            start = put(packed, row, start, segment, tokens, mask)
    return packed


def empty(num_rows: int, length: int) -> dict[str, np.ndarray]:
    """Rows of padding alone, as `pack` returns them."""
    rows = {name: np.zeros((num_rows, length), np.int32) for name in ("tokens", "positions", "segment_ids")}
    return rows | {"loss_mask": np.zeros((num_rows, length), bool)}


def put(packed: dict[str, np.ndarray], row: int, start: int, segment: int,
        tokens: Sequence[int] | np.ndarray, mask: Sequence[bool] | np.ndarray) -> int:
    """Writes one example into `packed`, in place, from `start` of `row`; returns where it ends."""
    end = start + len(tokens)
    packed["tokens"][row, start:end] = tokens
    packed["loss_mask"][row, start:end] = mask
    packed["positions"][row, start:end] = np.arange(len(tokens))
    packed["segment_ids"][row, start:end] = segment
    return end
