"""Packs rendered conversations into rows of one length, with segment ids that attention never crosses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def pack(examples: Sequence[tuple[Sequence[int], Sequence[bool]]], length: int) -> dict[str, np.ndarray]:
    """First-fit packing of (tokens, loss_mask) pairs, the longest first; equal lengths keep their order.

    Returns int32 tokens, positions, segment_ids and bool loss_mask, all [rows, length]. Segment 0 is padding, segments
    of a row count from 1, positions from 0 in each. ValueError for an example longer than `length`; cut it or raise
    the length.
    """
    order = sorted(range(len(examples)), key=lambda i: -len(examples[i][0]))
    rows: list[list[int]] = []
    room: list[int] = []
    for index in order:
        size = len(examples[index][0])
        if size > length:
            raise ValueError(f"example {index} has {size} tokens, more than length={length}; raise it or drop the example")
        row = next((r for r, free in enumerate(room) if free >= size), None)
        if row is None:
            rows.append([])
            room.append(length)
            row = len(rows) - 1
        rows[row].append(index)
        room[row] -= size
    packed = {name: np.zeros((len(rows), length), np.int32) for name in ("tokens", "positions", "segment_ids")}
    packed["loss_mask"] = np.zeros((len(rows), length), bool)
    for row, members in enumerate(rows):
        start = 0
        for segment, index in enumerate(members, 1):
            tokens, mask = examples[index]
            here = slice(start, start + len(tokens))
            packed["tokens"][row, here] = tokens
            packed["loss_mask"][row, here] = mask
            packed["positions"][row, here] = np.arange(len(tokens))
            packed["segment_ids"][row, here] = segment
            start += len(tokens)
    return packed
