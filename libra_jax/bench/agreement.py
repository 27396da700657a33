"""Self-consistency: how often a judge that judges one example again says the same, and how much that beats chance."""

from __future__ import annotations

import numpy as np

from libra_jax.bench.significance import ratio


def rate(counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Chance that two judgements of one example have the same verdict, under example weights [R, N].

    `counts` [N, verdicts] are numbers of judgements; unparsed is a verdict like others here. The mean over the examples
    with at least two judgements; NaN without such.
    """
    totals = counts.sum(axis=1)
    repeated = totals > 1
    same = (counts * (counts - 1)).sum(axis=1) / np.where(repeated, totals * (totals - 1), 1)
    return ratio(weights @ (same * repeated), weights @ repeated)


def alpha(counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Krippendorff's alpha of nominal verdicts, under example weights [R, N]: 1 agrees always, 0 as chance would.

    1 - observed over expected disagreement, both from pairs of judgements of examples that have at least two
    (Krippendorff, 2011, "Computing Krippendorff's Alpha-Reliability", section C); numbers of judgements may differ
    between examples. NaN where all judgements say the same, or no example has two.
    """
    totals = counts.sum(axis=1)
    repeated = totals > 1
    counts = counts * repeated[:, None]
    same = (counts * (counts - 1)).sum(axis=1) / np.where(repeated, totals - 1, 1)
    each = weights @ counts  # [R, verdicts]
    everything = each.sum(axis=1)
    observed = everything - weights @ same
    expected = everything**2 - (each**2).sum(axis=1)
    return 1 - ratio((everything - 1) * observed, expected)
