"""Whether a judge's scores are probabilities: Brier score, expected calibration error, reliability plot.

Bins hold about equally many examples (equal mass), and equal scores are never divided, so a judge with few different
scores has few bins.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from libra_jax.bench import significance
from libra_jax.bench.significance import Bootstrap, Estimate, ratio

NUM_BINS = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bin:
    """Examples of neighbouring scores: how many, their mean score, and the share of them that is correct."""

    num_examples: int
    score: float
    correct: Estimate


def brier(scores: np.ndarray | None, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean of (score - label)^2 under example weights [R, N]; 0.25 for a judge that always says 0.5. NaN unscored."""
    if scores is None:
        return np.full(len(weights), np.nan)
    return weights @ (scores - labels) ** 2 / weights.sum(axis=1)


def ece(scores: np.ndarray | None, labels: np.ndarray, weights: np.ndarray, num_bins: int = NUM_BINS) -> np.ndarray:
    """Expected calibration error under example weights [R, N]; NaN without scores.

    The mean over examples of |mean score - share correct| of their bin (Guo et al., 2017, equation 3), bins of equal
    mass over all examples. It is never below 0, so chance alone makes it positive, more so with fewer examples a bin.
    """
    if scores is None:
        return np.full(len(weights), np.nan)
    place = bins(scores, num_bins)
    members = place[:, None] == np.arange(place.max() + 1)  # [N, bins]
    return np.abs(weights @ (members * (scores - labels)[:, None])).sum(axis=1) / weights.sum(axis=1)


def bins(scores: np.ndarray, num_bins: int = NUM_BINS) -> np.ndarray:
    """The bin of each example, int [N], from 0, by rising score; equal scores go where their middle rank falls."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - counts / 2
    found = np.minimum(num_bins - 1, (num_bins * middle / len(scores)).astype(int))
    return np.unique(found, return_inverse=True)[1][place]


def reliability(scores: np.ndarray | None, labels: np.ndarray, problems: Sequence[str], strata: Sequence[str],
                config: Bootstrap) -> tuple[Bin, ...]:
    """The bins by rising score, with an interval for the share that is correct; none without scores."""
    if scores is None:
        return ()
    place = bins(scores)
    members = [(place == number).astype(float) for number in range(place.max() + 1)]

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {f"{number}": ratio(weights @ (mask * labels), weights @ mask) for number, mask in enumerate(members)}

    found = significance.estimate(statistic, problems, strata, config)
    return tuple(Bin(num_examples=int(mask.sum()), score=float(scores[mask > 0].mean()), correct=found[f"{number}"])
                 for number, mask in enumerate(members))
