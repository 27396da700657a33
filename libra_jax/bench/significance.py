"""Intervals for statistics of judged examples: a percentile bootstrap that resamples problems, not examples.

Responses to one problem stand or fall together, so a problem is drawn with all its examples (a clustered bootstrap:
Field and Welsh, 2007, J. R. Statist. Soc. B 69). Problems are drawn within their stratum, the source, since how many
problems each source has is a choice of the bench and not chance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Statistic = Callable[[np.ndarray], dict[Any, np.ndarray]]  # names, mostly strings, to values
FEWEST = 30  # problems in a stratum; of fewer, equal judges differ at the level 0.05 in 8 to 10 % of benches
_CHUNK = 4_000_000  # weights held at a time: 32 MB


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """How intervals are made.

    Attributes:
      num_resamples: draws of problems, with replacement.
      level: the share of cases in which an interval should cover the truth.
      seed: of the draws.
    """

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
             config: Bootstrap) -> dict[Any, Estimate]:
    """Each statistic on all examples, with the percentile interval of its resamples.

    `statistic` maps weights [R, N] to {name: values [R]}, NaN where undefined; resamples where a statistic is undefined
    do not enter its interval. Where every stratum has a single problem no resampling varies anything: no interval.
    """
    drawn = draws(statistic, problems, strata, config)
    single = not varies(problems, strata)
    result = {}
    for name, value in statistic(np.ones((1, len(problems)))).items():
        low, high = (None, None) if single else interval(drawn[name], config.level)
        result[name] = Estimate(value=_number(value[0]), low=low, high=high)
    return result


def draws(statistic: Statistic, problems: Sequence[str], strata: Sequence[str],
          config: Bootstrap) -> dict[Any, np.ndarray]:
    """Each statistic on every resample, float64 [num_resamples]; a part of the resamples is in memory at a time."""
    every = weights(problems, strata, config)
    rows = max(1, _CHUNK // max(len(problems), 1))
    parts = [statistic(every[start:start + rows]) for start in range(0, len(every), rows)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def varies(problems: Sequence[str], strata: Sequence[str]) -> bool:
    """Whether resampling can change anything: some stratum has more than one problem."""
    clusters = set(zip(strata, problems, strict=True))
    return len(clusters) > len({stratum for stratum, _ in clusters})


def thin(problems: Sequence[str], strata: Sequence[str]) -> dict[str, int]:
    """The strata of fewer than FEWEST problems, with their number: there a bootstrap is too sure of itself."""
    members: dict[str, set[str]] = {}
    for stratum, problem in zip(strata, problems, strict=True):
        members.setdefault(stratum, set()).add(problem)
    return {stratum: len(some) for stratum, some in sorted(members.items()) if len(some) < FEWEST}


def interval(draws: np.ndarray, level: float) -> tuple[float | None, float | None]:
    """The percentile interval of `draws` [R]; NaN entries do not count, and without others there is none."""
    draws = draws[~np.isnan(draws)]
    if not len(draws):
        return None, None
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def p_value(drawn: np.ndarray) -> float | None:
    """Two-sided p of "the statistic is 0" from its resamples [R]: twice the smaller share on one side of 0, ties both.

    It is below 1 - level where the percentile interval of that level leaves out 0, up to one resample: one is added to
    each count (Davison and Hinkley, 1997, equation 4.11), so no p is below 2 / (R + 1). NaN entries do not count; None
    without others.
    """
    drawn = np.round(drawn[~np.isnan(drawn)], 12)  # equal judges differ by rounding alone
    if not len(drawn):
        return None
    side = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return float(min(1.0, 2 * (side + 1) / (len(drawn) + 1)))


def holm(values: Sequence[float | None]) -> list[float | None]:
    """p-values corrected for their number (Holm, 1979, Scand. J. Statist. 6): those below a are right together at a.

    The smallest of n is multiplied by n, the next by n - 1, and so on; none is below one before it or above 1. None is
    no test, does not count, and stays.
    """
    order = sorted((value, place) for place, value in enumerate(values) if value is not None)
    result: list[float | None] = [None] * len(values)
    least = 0.0
    for done, (value, place) in enumerate(order):
        least = max(least, min(1.0, (len(order) - done) * value))
        result[place] = least
    return result


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, NaN where below is 0."""
    return np.where(below > 0, above / np.where(below > 0, below, 1), np.nan)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
