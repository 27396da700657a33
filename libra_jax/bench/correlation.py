"""How closely two figures of the same judges go together, with an interval that resamples judges.

For the claim that a judge's accuracy on the bench foretells what its pairs are worth to a policy (arXiv 2507.21645).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from libra_jax.bench import significance
from libra_jax.bench.significance import Bootstrap, Estimate

FEWEST = 3  # judges; two always lie on a line


def of(first: Sequence[float], second: Sequence[float], config: Bootstrap = Bootstrap()  # noqa: B008 (frozen)
       ) -> dict[str, Estimate]:
    """"pearson" and "spearman" (ties share their mean rank) of two figures [judges].

    Intervals are percentiles over resampled judges; a resample in which a figure does not vary counts for nothing. No
    value where a figure does not vary. ValueError for fewer than FEWEST judges, or lists of two lengths.
    """
    x, y = np.asarray(first, float), np.asarray(second, float)
    if x.shape != y.shape or x.ndim != 1 or len(x) < FEWEST:
        raise ValueError(f"figures of {len(x)} and {len(y)} judges: expected as many, at least {FEWEST}")
    chosen = np.random.default_rng(config.seed).integers(len(x), size=(config.num_resamples, len(x)))
    found = {}
    for name, change in (("pearson", lambda values: values), ("spearman", ranks)):
        value = _pearson(change(x[None]), change(y[None]))[0]
        low, high = significance.interval(_pearson(change(x[chosen]), change(y[chosen])), config.level)
        found[name] = Estimate(value=None) if np.isnan(value) else Estimate(value=float(value), low=low, high=high)
    return found


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks of each row of values [R, N], from 0; equal values share the mean of theirs. (10, 5, 5) is (2, .5, .5)."""
    below = (values[:, None, :] < values[:, :, None]).sum(axis=-1)
    same = (values[:, None, :] == values[:, :, None]).sum(axis=-1)
    return below + (same - 1) / 2


def _pearson(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[R] of rows [R, N]; NaN where one does not vary."""
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    scale = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    flat = scale <= 1e-12 * max(1.0, float(np.abs(x).max(initial=0) * np.abs(y).max(initial=0)))
    return np.where(flat, np.nan, (x * y).sum(axis=1) / np.where(flat, 1, scale))
