"""Several kinds of examples in fixed proportion: how many of each kind a step takes, and which."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np


def counts(total: int, weights: Sequence[float]) -> list[int]:
    """How many of the first `total` places each kind has, in proportion to `weights` (above 0).

    The next place goes to the kind for which (places it has + 1/2) / weight is least, of equal ones to the first
    (Sainte-Lague's divisors). So counts never fall as `total` grows, and for up to three kinds each count differs from
    its exact share by less than one, whatever `total` is. Weights are taken as the decimal numbers they are written as.
    Worked: of weights (1, 1) 3 places are (2, 1); of (0.6, 0.3, 0.1) 10 places are (6, 3, 1), and 4 are (3, 1, 0).
    """
    parts = [Fraction(str(weight)) for weight in weights]
    have = [max(0, math.floor(total * part / sum(parts)) - len(parts) - 1) for part in parts]  # certainly not too many
    while sum(have) < total:
        have[min(range(len(parts)), key=lambda kind: ((2 * have[kind] + 1) / parts[kind], kind))] += 1
    return have


def indices(seed: int, start: int, stop: int, count: int, *, stream: int = 0, shuffle: bool = True) -> np.ndarray:
    """Places `start` to `stop` of an endless order of `count` examples: epochs of a new permutation each, joined.

    A function of its arguments; `stream` tells orders of one seed apart. Without `shuffle` every epoch is 0, 1, ...
    count - 1.
    """
    if count < 1:
        raise ValueError("no examples to draw a batch from")
    places = np.arange(start, stop)
    if not shuffle:
        return places % count
    streams = [stream] if stream else []
    epochs = {epoch: np.random.default_rng([seed, epoch, *streams]).permutation(count)
              for epoch in np.unique(places // count)}
    return np.array([epochs[place // count][place % count] for place in places], np.int64)
