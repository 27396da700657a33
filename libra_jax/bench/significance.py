"""Intervals for statistics of judged examples: a percentile bootstrap that resamples problems, not examples.

Responses to one problem stand or fall together, so a problem is drawn with all its examples (a clustered bootstrap:
Field and Welsh, 2007, J. R. Statist. Soc. B 69). Problems are drawn within their stratum, the source, since how many
problems each source has is a choice of the bench and not chance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

Statistic = Callable[[np.ndarray], dict[str, np.ndarray]]
_CHUNK = 4_000_000  # weights held at a time: 32 MB


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """How intervals are made: `num_resamples` draws from `seed`; `level` is the share they should cover."""

    num_resamples: int = 2000
    level: float = 0.95
    seed: int = 0

    def __post_init__(self):
        if self.num_resamples < 1 or not 0 < self.level < 1:
            raise ValueError(f"num_resamples={self.num_resamples}, level={self.level}: expected at least 1 resample "
                             "and a level between 0 and 1, such as 0.95")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """A statistic and its interval; None where it is undefined, such as AUROC of a judge without scores."""

    value: float | None
    low: float | None = None
    high: float | None = None


def weights(problems: Sequence[str], strata: Sequence[str], config: Bootstrap) -> np.ndarray:
    """How often each example is in each resample: float64 [num_resamples, N].

    `problems` and `strata`, each of length N, name every example's problem and source. The examples of one problem have
    equal weights; in each stratum the drawn problems are as many as the stratum has. A problem that claims two strata
    is one problem in each. The draws depend on the seed and on the sets of problems alone, so judges of the same
    examples are compared on the same resamples.
    """
    clusters = list(zip(strata, problems, strict=True))
    names = sorted(set(clusters))
    index = {name: number for number, name in enumerate(names)}
    rng = np.random.default_rng(config.seed)
    counts = np.zeros((config.num_resamples, len(names)))
    for stratum in sorted({name[0] for name in names}):
        members = np.array([index[name] for name in names if name[0] == stratum])
        draw = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=config.num_resamples)
        counts[:, members] = draw
    return counts[:, [index[cluster] for cluster in clusters]]


def estimate(statistic: Statistic, problems: Sequence[str], strata: Sequence[str],
             config: Bootstrap) -> dict[str, Estimate]:
    """Each statistic on all examples, with the percentile interval of its resamples.

    `statistic` maps weights [R, N] to {name: values [R]}, NaN where undefined; resamples where a statistic is undefined
    do not enter its interval. Where every stratum has a single problem no resampling varies anything: no interval.
    """
    every = weights(problems, strata, config)
    rows = max(1, _CHUNK // max(len(problems), 1))
    parts = [statistic(every[start:start + rows]) for start in range(0, len(every), rows)]
    result = {}
    clusters = set(zip(strata, problems, strict=True))
    single = len(clusters) == len({stratum for stratum, _ in clusters})
    for name, value in statistic(np.ones((1, len(problems)))).items():
        draws = np.concatenate([part[name] for part in parts])
        low, high = (None, None) if single else interval(draws, config.level)
        result[name] = Estimate(value=_number(value[0]), low=low, high=high)
    return result


def interval(draws: np.ndarray, level: float) -> tuple[float | None, float | None]:
    """The percentile interval of `draws` [R]; NaN entries do not count, and without others there is none."""
    draws = draws[~np.isnan(draws)]
    if not len(draws):
        return None, None
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
