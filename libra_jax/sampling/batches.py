"""The short list of shapes that the engine's programs may have. Pure functions over whole numbers."""

from __future__ import annotations

SHRINK = 2  # a batch shrinks to half when no more rows than that are left
SMALLEST = 4  # rows on a device, and no further than this


def sizes(full: int, ways: int, tile: int = 0) -> list[int]:
    """Numbers of rows from `full` (rounded up) down by halves, largest first, each a multiple of `ways`.

    With tiles, whose rows are skipped where all have ended, there is one size, a multiple of `tile` on each device.
    """
    found = [-(-full // ways)]
    if tile:
        return [-(-found[0] // tile) * tile * ways]
    while found[-1] // SHRINK >= SMALLEST:
        found.append(found[-1] // SHRINK)
    return [ways * size for size in found]


def tile(model_size: int) -> int:
    """Rows that a CPU decodes at a time.

    XLA's products on a CPU add in another order for other numbers of rows, so a sample's bits would depend on the
    batch; products of one number of rows do not. (Larger models gain from larger products.)
    """
    return 16 if model_size <= 256 else 64


def bucket(length: int) -> int:
    """The smallest of 64, 96, 128, 192, 256, ... that holds `length`."""
    power = 64
    while power < length:
        power *= 2
    return power * 3 // 4 if power > 64 and power * 3 // 4 >= length else power
