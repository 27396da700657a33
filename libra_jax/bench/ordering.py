"""Whether a judge puts a right response to a problem above a wrong one: pairs within problems, the use of best-of-n."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from libra_jax.bench.significance import ratio


def pairwise(scores: np.ndarray, labels: np.ndarray, problems: Sequence[str], strata: Sequence[str],
             weights: np.ndarray) -> np.ndarray:
    """Share of (right, wrong) pairs of responses to one problem where the right one scores higher; ties half.

    The mean over problems of each problem's share, so that a problem with many responses counts once; under weights
    [R, N], which are equal within a problem (and stratum). Problems with one kind do not count; NaN without others.
    """
    members: dict[tuple[str, str], list[int]] = {}
    for place, cluster in enumerate(zip(strata, problems, strict=True)):
        members.setdefault(cluster, []).append(place)
    firsts, shares = [], []
    for places in members.values():
        right, wrong = scores[[n for n in places if labels[n]]], scores[[n for n in places if not labels[n]]]
        if len(right) and len(wrong):
            above = right[:, None] - wrong[None, :]
            firsts.append(places[0])
            shares.append(((above > 0) + (above == 0) / 2).mean())
    if not firsts:
        return np.full(len(weights), np.nan)
    chosen = weights[:, firsts]
    return ratio(chosen @ np.array(shares), chosen.sum(axis=1))
