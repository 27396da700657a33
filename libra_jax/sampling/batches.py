"""Which rows make a batch, and the short list of shapes that batches may have. Pure functions over whole numbers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

SHRINK = 4  # a batch shrinks to a quarter when no more rows than that are left
SMALLEST = 8  # and no further than this


def plan(num_prompts: int, num_samples: int, batch_size: int) -> Iterator[list[tuple[int, int]]]:
    """Batches of (prompt, sample) in order: whole prompts, or parts of one whose samples do not fit a batch."""
    prompts, samples = per_batch(num_samples, batch_size)
    for first in range(0, num_prompts, prompts):
        for sample in range(0, num_samples, samples):
            part = range(sample, min(sample + samples, num_samples))
            yield [(prompt, s) for prompt in range(first, min(first + prompts, num_prompts)) for s in part]


def per_batch(num_samples: int, batch_size: int) -> tuple[int, int]:
    """How many prompts, and how many samples of each, make a batch."""
    return max(1, batch_size // num_samples), min(num_samples, batch_size)


def sizes(full: int, ways: int) -> list[int]:
    """Batch sizes from `full` down by quarters, largest first, each a multiple of `ways`."""
    found = [full]
    while found[-1] // SHRINK >= SMALLEST:
        found.append(found[-1] // SHRINK)
    return sorted({-(-size // ways) * ways for size in found}, reverse=True)


def at_least(sizes: list[int], number: int) -> int:
    """The smallest of `sizes` that holds `number`; ValueError when none does."""
    return min(size for size in sizes if size >= number)


def keep(done: np.ndarray, size: int) -> np.ndarray:
    """The rows that still run, in order, filled up to `size` with others."""
    return np.sort(np.argsort(done, kind="stable")[:size])


def bucket(length: int) -> int:
    """The smallest of 32, 48, 64, 96, 128, 192, 256, ... that holds `length`."""
    power = 32
    while power < length:
        power *= 2
    return power * 3 // 4 if power > 32 and power * 3 // 4 >= length else power
